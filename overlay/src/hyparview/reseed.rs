//! Contacts from outside of the swarm: the address book, announcements, the other layer.
//!
//! A member that is short of neighbours and knows nobody to ask wants them, ever more rarely while they don't help. And one
//! that is well wants them at each promotion, for two groups that have fallen apart without anybody's loss, as happens while
//! many join at once, know nobody of each other from inside.

use std::time::Duration;

use super::{Membership, Output};
use crate::{Contact, Now, Peer, Time};

/// The first wait of a member that is short; doubles (a guess).
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Where that doubling ends: for ever (a guess).
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Where contacts come from when a swarm has none: whoever owns it asks one of these for [`super::Input::Learned`].
pub trait ContactSource {
    /// What it gives.
    type Contact: Contact;

    /// Returns contacts that are worth trying, the most promising first; of the swarm or not.
    fn contacts(&mut self, now: Now) -> Vec<Self::Contact>;
}

/// When contacts are wanted next.
#[derive(Clone, Debug)]
pub(super) struct Reseed {
    at: Time,
    wait: Duration,
    is_short: bool,
    /// The next contacts are for a swap.
    for_swap: bool,
}

impl Reseed {
    pub(super) const fn new() -> Self {
        Self {
            at: Time::NEVER,
            wait: WAIT_MIN,
            is_short: false,
            for_swap: false,
        }
    }

    pub(super) const fn next(&self) -> Time {
        self.at
    }
}

impl<P: Peer, C: Contact<Peer = P>> Membership<P, C> {
    /// Plans when to want contacts; the end of every input.
    pub(super) fn plan_reseed(&mut self, now: Now) {
        let is_short = self.wants_contacts(now);
        if is_short == self.reseed.is_short {
            return;
        }
        self.reseed.is_short = is_short;
        self.reseed.wait = WAIT_MIN;
        self.reseed.at = if is_short {
            self.later(now, WAIT_MIN)
        } else {
            Time::NEVER
        };
    }

    pub(super) fn want_contacts(&mut self, now: Now) {
        self.outputs.push_back(Output::WantContacts);
        self.reseed.wait = (self.reseed.wait * 2).min(WAIT_MAX);
        self.reseed.at = self.later(now, self.reseed.wait);
    }

    /// A promotion is due: somebody from outside may be swapped in.
    pub(super) fn want_contacts_for_swap(&mut self) {
        self.reseed.for_swap = true;
        self.outputs.push_back(Output::WantContacts);
    }

    pub(super) fn on_learned(&mut self, contacts: Vec<C>, now: Now) {
        let for_swap = std::mem::take(&mut self.reseed.for_swap);
        let mut news: Vec<C> = contacts
            .into_iter()
            .filter(|contact| self.is_news(contact, now))
            .collect();
        if for_swap && self.vacancies() == 0 {
            // Those that are known from inside are no way to another group.
            let knows_linked = self
                .candidates(now)
                .iter()
                .any(|peer| self.is_linked(*peer));
            let of_outside: Vec<usize> = (0..news.len())
                .filter(|index| self.passive.contact(news[*index].peer()).is_none())
                .filter(|index| !knows_linked || self.is_linked(news[*index].peer()))
                .collect();
            if let Some(index) = super::views::choose(&of_outside, &mut self.rng) {
                self.swap_in_contact(news.swap_remove(index), now);
            }
        }
        for contact in news {
            self.passive.fill(contact, now, &mut self.rng);
        }
    }
}
