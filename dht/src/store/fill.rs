//! How a node becomes settled: it reads what the replicas before it hold, says so, and reads once more.
//!
//! A *fill* ends in a new claim (`claim.rs`). It goes like this:
//!
//! 1. The claims of all neighbours are known, and nothing has changed for a moment.
//! 2. What they hold is read (`sync.rs`).
//! 3. The claim is told to all of them. Those that acknowledge have it on disk, and show it to everybody from then on.
//! 4. What those hold is read once more, which is little. Those that were read count as *reached*.
//! 5. The claim is on disk and holds.
//!
//! Why both: let a write be acknowledged by a quorum of the replicas before. One of them was reached. Either it had the
//! record when it was read the second time, or it acknowledged the write after the claim, and then it has shown the new
//! replica to the coordinator, which counts another quorum. The same holds for reads that find nothing.
//!
//! A node that was restarted holds what it acknowledged, and counts for itself, unless others have taken its place or
//! have forgotten it, as they say when it asks for their claims: then it is filled as if it were new. A node that never was settled waits for one that is; only
//! the network's founder has nobody to wait for. Where nobody was told to found it, one of them does after a while.

mod claims;
mod draft;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Contact, Now, Peer, Time};

use super::claim::{CLAIM_PEERS_MAX, Claim, Round};
use super::config::{CALM, OFFER_AFTER, RETRY};
use super::disk::{Then, Write};
use super::sync::Why;
use super::{Event, Restored, Store};

/// Peers of a view at which it is full: those beyond are far, not gone (a lookup's k).
const VIEW_FULL: usize = 20;

/// The longest pause before a peer that can't be read is tried again.
const UNREAD_AFTER_MAX: Duration = Duration::from_secs(60);

/// How long a fill waits for the claims of peers that are there: somewhat longer than a request can take.
const CLAIMS_AWAITED: Duration = Duration::from_secs(4);

/// Where a fill stands.
#[derive(Debug)]
enum Stage<P> {
    Idle,
    /// What these hold is being read, for the first or the second time.
    Reads {
        claim: Claim<P>,
        left: BTreeSet<P>,
        read: BTreeSet<P>,
        told: bool,
    },
    /// The claim was told to these.
    Tells {
        claim: Claim<P>,
        left: BTreeSet<P>,
        acked: BTreeSet<P>,
    },
    /// It is being written.
    Keeps(Claim<P>),
}

/// A node's fills.
#[derive(Debug)]
pub(super) struct Fill<P> {
    stage: Stage<P>,
    wake: Time,
    /// Whose claims were asked for and didn't come yet.
    asking: BTreeSet<P>,
    /// Whose are to be asked for again.
    again: BTreeSet<P>,
    /// The newest round of this node's own claims that anybody knows.
    heard: Round,
    /// When a peer that is there and couldn't be read is read again, and how long after that if it can't.
    unread_at: Time,
    unread_after: Duration,
    /// Somebody doesn't remember this node's claim: it was away for too long.
    forgotten: bool,
    /// Since when a fill waits for claims.
    waits_since: Option<Time>,
    /// Since when it has neighbours none of whom has been settled.
    unsettled_since: Option<Time>,
}

impl<P: Peer> Fill<P> {
    pub(super) fn new(now: Time) -> Self {
        Self {
            stage: Stage::Idle,
            wake: now + RETRY,
            asking: BTreeSet::new(),
            again: BTreeSet::new(),
            heard: 0,
            unread_at: now,
            unread_after: RETRY,
            forgotten: false,
            waits_since: None,
            unsettled_since: None,
        }
    }

    pub(super) fn wake_at(&self) -> Time {
        self.wake
    }

    /// Returns the peers among which the claim that is being made reckons the replicas, without this node.
    pub(super) fn among(&self) -> Option<Vec<P>> {
        let Stage::Reads { claim, .. } = &self.stage else {
            return None;
        };
        let here = claim.known.iter().filter(|known| !known.gone);
        Some(here.map(|known| known.peer).collect())
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }
}

impl<C: Contact> Store<C> {
    /// Takes what lay on disk.
    pub(super) fn restore(&mut self, restored: Restored<C>, now: Now) {
        let mut keys: BTreeMap<_, crate::kv::Siblings<_>> = BTreeMap::new();
        for header in restored.records {
            let siblings = keys.entry(header.key.clone()).or_default();
            let _what_was_kept_fits = siblings.merge(header, now.unix);
        }
        for (key, siblings) in keys {
            self.holding.index.replace(&key, siblings);
        }
        for (replica, key, id) in restored.hints {
            self.holding.hint(replica, key, id);
        }
        for header in restored.owned {
            self.owned.restore(&header);
        }
        let mut dots = restored.dots;
        dots.sort_unstable_by_key(|&(_, seq)| seq);
        for (key, seq) in dots {
            if let Some(forgotten) = self.dots.restore(&key, seq) {
                self.disk.write(Write::Dot(forgotten, None), Then::Nothing);
            }
        }
        for (key, id) in restored.lost {
            self.counters.lost += 1;
            self.loads.lose(key.clone(), id);
            self.event(Event::Lost {
                key: key.clone(),
                id,
            });
            // What covers it may have been written just before.
            self.found_again(&key);
        }
        let me = self.members.me();
        let mut others = Vec::new();
        for (contact, claim) in restored.claims {
            if contact.peer() == me {
                self.members.restore_own(claim);
            } else {
                others.push((contact, claim));
            }
        }
        for (contact, claim) in others {
            let peer = contact.peer();
            self.members.restore(contact, claim, now.time);
            self.note(peer);
        }
    }

    /// Takes whom the owner believes to be there.
    pub(super) fn on_view(&mut self, contacts: Vec<C>, now: Now) {
        let me = self.members.me();
        let contacts: Vec<C> = contacts
            .into_iter()
            .filter(|contact| contact.peer() != me)
            .take(VIEW_FULL)
            .collect();
        let own = me.point();
        let farthest = contacts.iter().map(|c| c.peer().point() ^ own).max();
        let full = contacts.len() >= VIEW_FULL;
        let here: BTreeSet<C::Peer> = contacts.iter().map(Contact::peer).collect();
        for contact in contacts {
            self.appeared(contact, now);
        }
        let missing = self
            .members
            .alive()
            .filter(|(peer, _)| !here.contains(peer));
        let missing: Vec<(C::Peer, bool)> = missing
            .map(|(peer, m)| (peer, full && Some(m.point ^ own) > farthest))
            .collect();
        for (peer, far) in missing {
            self.vanished(peer, now);
            if far {
                self.forget(peer);
            }
        }
    }

    fn appeared(&mut self, contact: C, now: Now) {
        let peer = contact.peer();
        if self.members.get(peer).is_none() && self.members.iter().count() >= CLAIM_PEERS_MAX {
            let away = self.members.iter().filter(|(_, member)| !member.alive);
            let longest = away.min_by_key(|(_, member)| member.since);
            let Some(longest) = longest.map(|(peer, _)| peer) else {
                return;
            };
            self.forget(longest);
        }
        if self.members.appeared(contact, now.time) {
            self.sync.plan_at(peer, now.time + OFFER_AFTER);
            self.fill.unread_at = now.time;
            self.ask_claim(peer, now);
            self.fill_soon(now);
        }
    }

    fn vanished(&mut self, peer: C::Peer, now: Now) {
        if self.members.vanished(peer, now.time) {
            self.fill.asking.remove(&peer);
            self.fill.again.remove(&peer);
            self.end_session(peer, false, now);
            self.on_told(peer, false, now);
            self.fill_soon(now);
        }
    }

    fn forget(&mut self, peer: C::Peer) {
        self.members.forget(peer);
        self.disk.write(Write::DropClaim(peer), Then::Nothing);
    }

    fn fill_soon(&mut self, now: Now) {
        self.fill.wake = self.fill.wake.min(now.time + CALM);
    }

    /// Does what is due for the neighbourhood.
    pub(super) fn fill_due(&mut self, now: Now) {
        if self.fill.wake > now.time {
            return;
        }
        self.fill.wake = Time::NEVER;
        let again = std::mem::take(&mut self.fill.again);
        for peer in again {
            self.ask_claim(peer, now);
        }
        self.forget_the_dead(now);
        if self.fill.is_idle() {
            self.begin_fill(now);
        }
        let next = self.next_absence(now).min(self.next_reading(now));
        self.fill.wake = self.fill.wake.min(next);
    }

    /// Returns whether this node sees so many of its neighbours that those it doesn't see are away, and not itself.
    fn sees_most(&self) -> bool {
        let claimed = self.members.iter().filter(|(_, m)| m.region.is_some());
        let (alive, all) = claimed.fold((1, 1), |(alive, all), (_, member)| {
            (alive + usize::from(member.alive), all + 1)
        });
        2 * alive >= all
    }

    fn forget_the_dead(&mut self, now: Now) {
        if !self.sees_most() {
            return;
        }
        let after = self.config.forget_after;
        let dead = self
            .members
            .iter()
            .filter(|(_, m)| !m.alive && m.since + after <= now.time);
        let dead: Vec<C::Peer> = dead.map(|(peer, _)| peer).collect();
        for peer in dead {
            self.forget(peer);
        }
    }

    /// Returns when somebody will have been away for long enough to be replaced or forgotten.
    fn next_absence(&self, now: Now) -> Time {
        let away = self.members.iter().filter(|(_, member)| !member.alive);
        let ends = away.flat_map(|(_, member)| {
            let after = [self.config.replace_after, self.config.forget_after];
            after.map(|after| member.since + after)
        });
        ends.filter(|&at| at > now.time)
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// Returns whether claims that were asked for may still come. One that doesn't come keeps nobody from being filled.
    fn waits_for_claims(&mut self, now: Now) -> bool {
        if self.fill.asking.is_empty() {
            self.fill.waits_since = None;
            return false;
        }
        let until = *self.fill.waits_since.get_or_insert(now.time) + CLAIMS_AWAITED;
        if now.time < until {
            self.fill.wake = self.fill.wake.min(until);
        }
        now.time < until
    }

    fn begin_fill(&mut self, now: Now) {
        // Whoever leaves takes nobody's place, and a newer claim of its own would take its own places back.
        if !self.config.stores || self.members.leaving() || self.waits_for_claims(now) {
            return;
        }
        let draft = self.draft_claim(now);
        if !self.wants_fill(&draft, now) {
            return;
        }
        let known = draft.known.iter().map(|known| known.peer);
        let left: BTreeSet<C::Peer> = known.filter(|&peer| self.members.is_alive(peer)).collect();
        let first = self.members.own().is_none() && self.fill.heard == 0;
        if left.is_empty() && first && !self.config.founder && !self.may_found(now) {
            // Nobody is settled yet, or nobody is there: whoever appears wakes this node.
            return;
        }
        self.fill.stage = Stage::Reads {
            claim: draft,
            left: left.clone(),
            read: BTreeSet::new(),
            told: false,
        };
        self.read(left, now);
    }

    /// Returns whether this node begins the store: for a while it has had neighbours, none of whom has ever been settled,
    /// and of all of them its id is the smallest.
    ///
    /// Nodes that were told of each other and of nobody who began first would otherwise wait for ever. The while is long
    /// enough for a node that joins a network to have found its true neighbours.
    fn may_found(&mut self, now: Now) -> bool {
        let mut others = self.members.alive().map(|(peer, _)| peer).peekable();
        if others.peek().is_none() {
            self.fill.unsettled_since = None;
            return false;
        }
        let me = self.members.me();
        let is_first = others.all(|peer| me < peer);
        let since = *self.fill.unsettled_since.get_or_insert(now.time);
        let at = since + self.config.found_after;
        if at > now.time {
            self.fill.wake = self.fill.wake.min(at);
            return false;
        }
        is_first
    }

    fn read(&mut self, peers: BTreeSet<C::Peer>, now: Now) {
        if peers.is_empty() {
            self.next_stage(now);
            return;
        }
        for peer in peers {
            self.sync.plan(peer, Why::Fill);
        }
        self.start_sessions(now);
    }

    /// Takes that what a peer holds was read, or couldn't be.
    pub(super) fn on_read(&mut self, peer: C::Peer, whole: bool, now: Now) {
        if let Stage::Reads { left, read, .. } = &mut self.fill.stage
            && left.remove(&peer)
        {
            if whole {
                read.insert(peer);
            }
            if left.is_empty() {
                self.next_stage(now);
            }
        }
    }

    /// Takes that a peer acknowledged a claim, or didn't.
    fn on_told(&mut self, peer: C::Peer, acked_it: bool, now: Now) {
        if let Stage::Tells { left, acked, .. } = &mut self.fill.stage
            && left.remove(&peer)
        {
            if acked_it {
                acked.insert(peer);
            }
            if left.is_empty() {
                self.next_stage(now);
            }
        }
    }

    fn next_stage(&mut self, now: Now) {
        match std::mem::replace(&mut self.fill.stage, Stage::Idle) {
            Stage::Idle | Stage::Keeps(_) => {}
            Stage::Reads {
                mut claim,
                read,
                told,
                ..
            } => {
                for known in &mut claim.known {
                    known.reached = read.contains(&known.peer);
                }
                if told {
                    self.keep_claim(claim);
                } else {
                    self.tell(claim, now);
                }
            }
            Stage::Tells { claim, acked, .. } => {
                let known = claim.known.iter().map(|known| known.peer);
                let left: BTreeSet<C::Peer> = known.filter(|peer| acked.contains(peer)).collect();
                self.fill.stage = Stage::Reads {
                    claim,
                    left: left.clone(),
                    read: BTreeSet::new(),
                    told: true,
                };
                self.read(left, now);
            }
        }
    }

    fn tell(&mut self, claim: Claim<C::Peer>, now: Now) {
        let alive: BTreeSet<C::Peer> = self.members.alive().map(|(peer, _)| peer).collect();
        self.fill.stage = Stage::Tells {
            claim,
            left: alive.clone(),
            acked: BTreeSet::new(),
        };
        if alive.is_empty() {
            self.next_stage(now);
        }
        for peer in alive {
            // An older claim under way is no acknowledgement of this one.
            self.fill.asking.remove(&peer);
            self.ask_claim(peer, now);
        }
    }

    /// Returns whether somebody is there who couldn't be read for this node's claim, and must be.
    pub(super) fn has_unread(&self) -> bool {
        let own = self.members.own().map(super::claim::Region::claim);
        let mut unread = own.into_iter().flat_map(Claim::unread);
        unread.any(|known| self.members.is_alive(known.peer))
    }

    /// Returns when those are read again who couldn't be, if that is still to come.
    fn next_reading(&self, now: Now) -> Time {
        if self.fill.unread_at > now.time && self.has_unread() {
            self.fill.unread_at
        } else {
            Time::NEVER
        }
    }

    /// Plans when those are read again that couldn't be, although they are there: ever more rarely.
    fn plan_unread(&mut self, now: Now) {
        if self.has_unread() {
            self.fill.unread_at = now.time + self.fill.unread_after;
            self.fill.unread_after = (self.fill.unread_after * 2).min(UNREAD_AFTER_MAX);
        } else {
            self.fill.unread_after = RETRY;
        }
    }

    fn keep_claim(&mut self, claim: Claim<C::Peer>) {
        let me = self.members.contact().clone();
        self.fill.stage = Stage::Keeps(claim.clone());
        self.disk.write(Write::Claim(me, claim), Then::Settle);
    }

    /// Takes that this node's claim is on disk and holds, or isn't.
    pub(super) fn on_settled(&mut self, kept: bool, now: Now) {
        self.fill.stage = Stage::Idle;
        self.fill.wake = self.fill.wake.min(now.time + RETRY);
        if !kept {
            return;
        }
        self.fill.forgotten = false;
        self.plan_unread(now);
        let round = self.members.own().map_or(0, |own| own.claim().round);
        let records = self.holding.index.len();
        self.event(Event::Settled { round, records });
        let alive: Vec<C::Peer> = self.members.alive().map(|(peer, _)| peer).collect();
        for peer in alive {
            self.ask_claim(peer, now);
        }
    }
}
