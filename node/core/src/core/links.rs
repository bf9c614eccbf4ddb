//! Links: whether a peer lives, how full its lanes are, and the dials that make links.
//!
//! Liveness is the link's, not a swarm's. A link on which nothing was heard for half a second is pinged, and is dead after 3 s of
//! silence; bytes count, not frames, so that a large frame on a slow link is no silence. Whoever pings first
//! spares the other its ping.

mod pings;
mod spare;

use std::collections::BTreeSet;
use std::time::Duration;

use weft_dht::dht;
use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::reach::{Proof, Question};
use super::swarms::Entry;
use super::{Core, peer_of};
use crate::wire::encode_hello;
use crate::{
    Address, Direction, DownReason, Event, Output, PeerContact, Reply, RequestId, TopicId,
};

/// How long a ping may go unanswered on a link on which bytes come: then the peer sends and doesn't read. As long as it may
/// leave a full stream unread (a guess, far beyond any round trip).
const UNANSWERED_AFTER: Duration = Duration::from_secs(10);
/// Silence after which a link is dead: with the clock's grain and a tick it is noticed by 3 s (the design's bound).
const DEAD_AFTER: Duration = Duration::from_millis(2_750);
/// How long an ordered end may take with a peer that is given up: it may be there all the same (a guess).
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A neighbour that stays congested is replaced after this long.
const REPLACE_AFTER: Duration = Duration::from_secs(10);
/// Frames for neighbours from a peer that is none, after which it is told of: honest ones cross with a goodbye, a few at a time.
const STRANGE_FRAMES_MAX: u32 = 64;

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) direction: Direction,
    pub(super) address: Option<Address>,
    pub(super) transport: &'static str,
    /// Smoothed as TCP's is (RFC 6298: an eighth of the new measurement).
    pub(super) rtt: Option<Duration>,
    pub(super) data_bytes: usize,
    pub(super) repair_bytes: usize,
    /// What the peer says of itself.
    pub(super) contact: Option<PeerContact>,
    /// Whether it has been reached where it says.
    pub(super) proof: Proof,
    pub(super) neighbour_in: BTreeSet<TopicId>,
    /// When it came up, if a swarm has waited for it.
    pub(super) made_for_swarm_at: Option<Time>,
    /// Swarms in which the peer waits for supplies.
    pub(super) owed_in: BTreeSet<TopicId>,
    /// The swarm in which it was supplied last.
    pub(super) supplied_last: Option<TopicId>,
    pub(super) congested_since: Option<Time>,
    /// Since when its lane for data holds more than publishers go on with.
    pub(super) busy_since: Option<Time>,
    pub(super) heard_at: Time,
    ping_at: Time,
    /// When the round trip is measured even though the other side pings.
    measure_at: Time,
    /// The ping that is under way: what to echo, and when it was first sent.
    pub(super) pinged: Option<(u64, Time)>,
    waiting: Vec<RequestId>,
    /// When all that it was supplied with lately is paid off.
    pub(super) supplies_paid_at: Time,
    /// When supplies go on that were held back.
    pub(super) supply_at: Time,
    /// Frames for a neighbour that came while it was none.
    strange_frames: u32,
    used_at: Time,
    /// The peer has said that it stops.
    peer_stops: bool,
    /// When it is looked at next: when something of it is due, or before that.
    timer: Time,
    /// Why it is used no more; its LinkDown is on its way.
    ended: Option<Ended>,
}

/// Why a link is used no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nobody needed it; whoever needs its peer after all waits for the next one.
    Spared,
    /// Its peer seems to be gone.
    GivenUp,
}

impl Link {
    pub(super) fn new(
        direction: Direction,
        address: Option<Address>,
        transport: &'static str,
        now: Now,
    ) -> Self {
        Self {
            direction,
            address,
            transport,
            rtt: None,
            data_bytes: 0,
            repair_bytes: 0,
            contact: None,
            proof: Proof::none(),
            neighbour_in: BTreeSet::new(),
            made_for_swarm_at: None,
            owed_in: BTreeSet::new(),
            supplied_last: None,
            congested_since: None,
            busy_since: None,
            heard_at: now.time,
            ping_at: now.time,
            measure_at: now.time,
            pinged: None,
            waiting: Vec::new(),
            supplies_paid_at: now.time,
            supply_at: Time::NEVER,
            strange_frames: 0,
            used_at: now.time,
            peer_stops: false,
            timer: Time::NEVER,
            ended: None,
        }
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether it is being closed though its peer is well.
    pub(super) fn is_closing(&self) -> bool {
        self.ended == Some(Ended::Spared)
    }

    /// How long an ordered end may take: until the peer would count as dead, for until then it lives and may be far or slow.
    /// One that has read all lets go at once.
    pub(super) fn ends_within(&self, now: Now) -> Duration {
        if !self.is_alive() {
            return LAST_WORDS;
        }
        let dead_at = self.heard_at + DEAD_AFTER;
        dead_at.since(now.time).max(LAST_WORDS)
    }

    /// This process was stopped: the silence was its own.
    pub(super) fn forgive(&mut self, now: Now) {
        self.heard_at = now.time;
        self.ping_at = now.time;
        self.pinged = None;
        if self.congested_since.is_some() {
            self.congested_since = Some(now.time);
        }
        if self.busy_since.is_some() {
            self.busy_since = Some(now.time);
        }
    }

    /// The peer has said who it is. Returns the questions that need not wait any more.
    fn introduce(&mut self, contact: PeerContact, is_proven: bool) -> Vec<Question> {
        let addresses = &contact.0.value.addresses;
        let told = self.contact.as_ref();
        let same = told.is_some_and(|told| told.0.value.addresses == *addresses);
        let dialled = self.direction == Direction::Outbound;
        let at = self.address.as_ref();
        let reached = is_proven || dialled && at.is_none_or(|at| addresses.contains(at));
        self.contact = Some(contact);
        match &mut self.proof {
            Proof::Open(held) if reached => {
                let held = std::mem::take(held);
                self.proof = Proof::Reached;
                return held;
            }
            Proof::Failed(_) if reached => self.proof = Proof::Reached,
            Proof::Reached | Proof::Failed(_) if !same && !reached => self.proof = Proof::none(),
            Proof::Open(_) | Proof::Trying(_) | Proof::Reached | Proof::Failed(_) => {}
        }
        Vec::new()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.waiting)
    }

    /// A swarm has used it.
    pub(super) const fn touch(&mut self, now: Now) {
        self.used_at = now.time;
    }

    /// It counts as used until then.
    pub(super) fn keep(&mut self, until: Time) {
        self.used_at = self.used_at.max(until);
    }

    fn next_tick(&self, idle_after: Duration) -> Time {
        if !self.is_alive() {
            return Time::NEVER;
        }
        let idle = if self.is_spare() {
            self.used_at + idle_after
        } else {
            Time::NEVER
        };
        let replace = self
            .congested_since
            .map_or(Time::NEVER, |since| since + REPLACE_AFTER);
        let unanswered = self
            .pinged
            .map_or(Time::NEVER, |(_, sent)| sent + UNANSWERED_AFTER);
        self.ping_at
            .min(unanswered)
            .min(self.heard_at + DEAD_AFTER)
            .min(idle)
            .min(replace)
            .min(self.supply_at)
    }
}

impl Core {
    pub(super) fn link_up(&mut self, peer: PeerId, mut link: Link, now: Now) {
        if peer == self.me {
            return;
        }
        let hello = encode_hello(Some(&self.contact));
        // Peers whose links come up together would ping in step; a little jitter spreads them and lets one side go first.
        link.ping_at = now.time + self.jitter(pings::PING_AFTER);
        if let Some(before) = self.links.insert(peer, link) {
            // The shell tells LinkDown first; should it ever not, nothing may outlive the link.
            self.link_timers.remove(&(before.timer, peer));
            self.lose_link(peer, before, true, now);
        }
        self.send_control(peer, hello);
        self.plan_link(peer, spare::IDLE_AFTER);
        let awaits = |entry: &Entry| entry.swarm.membership().awaits(peer);
        for topic in self.swarms_where(awaits) {
            self.tell_swarm(topic, swarm::Input::PeerUp(peer), now);
        }
        if let Some(pending) = self.pending.remove(&peer) {
            if let Some(link) = self.links.get_mut(&peer).filter(|_| pending.is_for_swarm()) {
                link.made_for_swarm_at = Some(now.time);
            }
            for frame in pending.frames {
                self.send_control(peer, frame);
            }
            let dialled = self.links.get_mut(&peer);
            let dialled = dialled.filter(|link| link.direction == Direction::Outbound);
            if let Some(link) = dialled.filter(|_| !pending.questions.is_empty()) {
                // It was dialled where its descriptor says.
                link.proof = Proof::Reached;
            }
            for question in pending.questions {
                self.ask_linked(peer, question, now);
            }
        }
        self.renew_over_link(peer, now);
        self.make_room(now);
    }

    pub(super) fn link_down(&mut self, peer: PeerId, reason: &DownReason, now: Now) {
        if matches!(reason, DownReason::BadFrame(_)) {
            self.count("bad_frames");
        }
        if let Some(link) = self.links.remove(&peer) {
            self.link_timers.remove(&(link.timer, peer));
            let was_alive = link.is_alive();
            // Who closes a link and stays needs it no more.
            let is_loss = !matches!(reason, DownReason::Closed) || link.peer_stops;
            self.lose_link(peer, link, is_loss, now);
            if was_alive && is_loss {
                self.doubt(peer, now);
            }
            self.dial_after_close(peer, now);
        }
    }

    fn lose_link(&mut self, peer: PeerId, link: Link, is_loss: bool, now: Now) {
        let was_alive = link.is_alive();
        for request in link.waiting {
            self.reply(request, Reply::Pong(None));
        }
        if was_alive {
            self.unlinked(peer, is_loss, now);
        }
    }

    /// A link is there no more; its peer may be, unless that is a loss.
    fn unlinked(&mut self, peer: PeerId, is_loss: bool, now: Now) {
        self.peer_lost(peer, now);
        self.store_lost(peer, now);
        if is_loss {
            self.dht_lost(peer, now);
            self.keeper_lost(peer, now);
        } else {
            self.tell_dht(dht::Input::Unlinked { peer }, now);
            self.keeper_unlinked(peer, now);
        }
    }

    /// Returns whether a link to a peer is being closed though the peer is well: a new one can be made once it is gone.
    pub(super) fn is_closing(&self, peer: PeerId) -> bool {
        self.links.get(&peer).is_some_and(Link::is_closing)
    }

    /// Returns the link to a peer, which may have been given up; none where it is being closed, and the next one is waited for.
    pub(super) fn link_to(&mut self, peer: PeerId) -> Option<&mut Link> {
        let link = self.links.get_mut(&peer);
        link.filter(|link| !link.is_closing())
    }

    /// Gives a link up before its LinkDown comes.
    pub(super) fn abandon(&mut self, peer: PeerId, reason: &'static str, now: Now) {
        self.close_link(peer, reason, Ended::GivenUp, now);
    }

    fn close_link(&mut self, peer: PeerId, reason: &'static str, why: Ended, now: Now) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        let within = match why {
            Ended::GivenUp => LAST_WORDS,
            Ended::Spared => link.ends_within(now),
        };
        link.ended = Some(why);
        self.outputs.push_back(Output::Close {
            peer,
            within,
            reason,
        });
        self.unlinked(peer, why == Ended::GivenUp, now);
    }

    pub(super) fn tick_links(&mut self, now: Now) {
        let due = self.link_timers.iter();
        let due = due.take_while(|(at, _)| *at <= now.time);
        let due: Vec<PeerId> = due.map(|(_, peer)| *peer).collect();
        if due.is_empty() {
            return;
        }
        let idle_after = self.idle_after();
        for peer in due {
            self.tick_link(peer, idle_after, now);
            self.plan_link(peer, idle_after);
        }
    }

    /// Fixes when a link is looked at next. What is heard and sent meanwhile puts that off, which shows then.
    fn plan_link(&mut self, peer: PeerId, idle_after: Duration) {
        if let Some(link) = self.links.get_mut(&peer) {
            self.link_timers.remove(&(link.timer, peer));
            link.timer = link.next_tick(idle_after);
            if link.timer != Time::NEVER {
                self.link_timers.insert((link.timer, peer));
            }
        }
    }

    /// A link is to be looked at by then.
    pub(super) fn hurry_link(&mut self, peer: PeerId, at: Time) {
        if let Some(link) = self.links.get_mut(&peer)
            && at < link.timer
        {
            self.link_timers.remove(&(link.timer, peer));
            link.timer = at;
            self.link_timers.insert((at, peer));
        }
    }

    fn tick_link(&mut self, peer: PeerId, idle_after: Duration, now: Now) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if now.time.since(link.heard_at) >= DEAD_AFTER {
            self.count("links_silent");
            self.abandon(peer, "nothing was heard for 3 s", now);
            return self.doubt(peer, now);
        }
        if link
            .pinged
            .is_some_and(|(_, sent)| now.time.since(sent) >= UNANSWERED_AFTER)
        {
            self.count("links_unanswered");
            // It reads nothing: whoever dials again at once would hold publishers up each time.
            self.replace_neighbour(peer, now);
            self.abandon(peer, "a ping was not answered for 10 s", now);
            return self.doubt(peer, now);
        }
        if link.is_spare() && now.time.since(link.used_at) >= idle_after {
            if !self.awaits(peer) {
                return self.close_link(peer, "nobody needs it", Ended::Spared, now);
            }
            self.touch_link(peer, now);
        }
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if link
            .congested_since
            .is_some_and(|since| now.time.since(since) >= REPLACE_AFTER)
        {
            link.congested_since = Some(now.time);
            self.count("neighbours_replaced");
            self.replace_neighbour(peer, now);
            return;
        }
        let supplies = link.supply_at <= now.time;
        if supplies {
            link.supply_at = Time::NEVER;
        }
        if link.ping_at <= now.time {
            self.send_ping(peer, now);
        }
        if supplies {
            self.supply(peer, now);
        }
    }

    pub(super) fn next_link_tick(&self) -> Time {
        self.link_timers.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    pub(super) fn peer_stops(&mut self, peer: PeerId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.peer_stops = true;
        }
    }

    pub(super) fn touch_link(&mut self, peer: PeerId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.touch(now);
        }
    }

    /// A peer sends what only a neighbour in a swarm may send: now and then that crosses with a goodbye.
    pub(super) fn strange_frame(&mut self, peer: PeerId) {
        self.count("frames_of_strangers");
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        link.strange_frames = link.strange_frames.saturating_add(1);
        if link.strange_frames == STRANGE_FRAMES_MAX {
            let what = "a neighbour's frames, though it is none";
            self.event(Event::Misbehaviour { peer, what });
        }
    }

    pub(super) fn neighbour_in(&self, peer: PeerId) -> Vec<TopicId> {
        self.links
            .get(&peer)
            .map_or_else(Vec::new, |link| link.neighbour_in.iter().copied().collect())
    }

    pub(super) fn remove_peer(&mut self, request: RequestId, peer: PeerId, now: Now) {
        let known = self.forget_peer(peer, now);
        let linked = self.links.get(&peer).is_some_and(Link::is_alive);
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Evict(peer), now);
        }
        self.dht_forget(peer, now);
        self.abandon(peer, "removed by the operator", now);
        self.reply(request, Reply::PeerRemoved(known || linked));
    }

    pub(super) fn hello(&mut self, peer: PeerId, contact: Option<PeerContact>, now: Now) {
        if let Some(contact) = contact.filter(|contact| peer_of(contact) == peer) {
            let is_proven = self.book.is_proven(&contact);
            let Some(link) = self.links.get_mut(&peer) else {
                return;
            };
            let questions = link.introduce(contact.clone(), is_proven);
            let direction = link.direction;
            for question in questions {
                self.send_question(peer, question, now);
            }
            self.prove(peer);
            self.remember(contact, direction, now);
            self.met(peer, now);
        }
    }
}
