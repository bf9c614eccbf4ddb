//! Links: whether a peer lives, how full its lanes are, and the dials that make links.
//!
//! Liveness is the link's, not a swarm's. A link on which nothing was heard for half a second is pinged, and is dead after 3 s of
//! silence; bytes count, not frames, so that a large frame on a slow link is no silence. Whoever pings first
//! spares the other its ping.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use weft_identity::PeerId;
use weft_overlay::{Now, Time, swarm};

use super::{Core, peer_of};
use crate::wire::{OutFrame, encode_hello, encode_ping, encode_pong};
use crate::{
    AddPeerError, Address, DialError, DialId, Direction, DownReason, Lane, Output, PeerContact,
    Reply, RequestId, TopicId,
};

/// Silence after which a link is pinged (the design's bound).
const PING_AFTER: Duration = Duration::from_millis(500);
/// The side that was dialled leaves the pinging to the other, as long as that does it.
const PING_AFTER_INBOUND: Duration = Duration::from_millis(800);
/// How soon a ping is repeated that has not been answered.
const PING_AGAIN: Duration = Duration::from_millis(500);
/// How often the side that was dialled pings all the same, to know the round trip.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Silence after which a link is dead: with the clock's grain and a tick it is noticed by 3 s (the design's bound).
const DEAD_AFTER: Duration = Duration::from_millis(2_750);
/// A link that no swarm needs is closed after this long: longer than a join's walk and a shuffle take.
const IDLE_AFTER: Duration = Duration::from_secs(15);
/// A lane for data that holds this much takes no pushes: half of what the link queues, so that one more bundle always fits.
const CONGESTED_BYTES: usize = 2 * 1024 * 1024;
/// A lane that holds this much makes this node's own publishers wait, until it is clear.
const BUSY_BYTES: usize = CONGESTED_BYTES / 2;
/// How long publishers wait for a busy lane: whoever needs longer than this for half a mebibyte is left to fill its lane, which
/// turns it lazy, and holds up nobody else (a guess).
const BUSY_MAX: Duration = Duration::from_secs(1);
/// A congested or busy lane takes pushes again below this.
const CLEAR_BYTES: usize = 512 * 1024;
/// A neighbour that stays congested is replaced after this long.
const REPLACE_AFTER: Duration = Duration::from_secs(10);
/// Supplies are queued to a link up to this much, so that what is asked for later doesn't wait long.
const REPAIR_BYTES: usize = 1024 * 1024;
/// Dials under way: more than an active and a passive view together need at once.
const DIALS_MAX: usize = 128;
/// Frames that wait for one dial: a request or two of each shared swarm.
const PENDING_FRAMES_MAX: usize = 64;
/// Callers that wait for one link's echo.
const PINGS_MAX: usize = 64;

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
    pub(super) neighbour_in: BTreeSet<TopicId>,
    /// Swarms in which the peer waits for supplies.
    owed_in: BTreeSet<TopicId>,
    pub(super) congested_since: Option<Time>,
    /// Since when its lane for data holds more than publishers go on with.
    busy_since: Option<Time>,
    heard_at: Time,
    ping_at: Time,
    /// When the round trip is measured even though the other side pings.
    measure_at: Time,
    /// The ping that is under way: what to echo, and when it was sent.
    pinged: Option<(u64, Time)>,
    waiting: Vec<RequestId>,
    used_at: Time,
    /// It was closed or given up; its LinkDown is on its way.
    dead: bool,
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
            neighbour_in: BTreeSet::new(),
            owed_in: BTreeSet::new(),
            congested_since: None,
            busy_since: None,
            heard_at: now.time,
            ping_at: now.time,
            measure_at: now.time,
            pinged: None,
            waiting: Vec::new(),
            used_at: now.time,
            dead: false,
        }
    }

    pub(super) const fn is_alive(&self) -> bool {
        !self.dead
    }

    /// Something was heard or answered: the next ping can wait.
    fn plan_ping(&mut self, now: Now) {
        let (silence, measure) = match self.direction {
            Direction::Outbound => (PING_AFTER, Time::NEVER),
            Direction::Inbound => (PING_AFTER_INBOUND, self.measure_at.max(now.time)),
        };
        self.ping_at = measure.min(now.time + silence);
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

    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.waiting)
    }

    /// A swarm has used it.
    pub(super) const fn touch(&mut self, now: Now) {
        self.used_at = now.time;
    }

    fn next_tick(&self) -> Time {
        if self.dead {
            return Time::NEVER;
        }
        let idle = if self.neighbour_in.is_empty() {
            self.used_at + IDLE_AFTER
        } else {
            Time::NEVER
        };
        let replace = self
            .congested_since
            .map_or(Time::NEVER, |since| since + REPLACE_AFTER);
        self.ping_at
            .min(self.heard_at + DEAD_AFTER)
            .min(idle)
            .min(replace)
    }
}

/// Why something is dialled.
#[derive(Debug)]
pub(super) enum Dial {
    /// A swarm has something to send.
    Peer(PeerId),
    /// One of the addresses to join, by index.
    Join(usize),
    /// A peer of the address book, dialled by a node without neighbours.
    Book,
    /// A caller wants the peer.
    Add(RequestId),
}

/// What waits for a dial: frames, and which swarms to tell if it fails.
#[derive(Debug, Default)]
pub(super) struct PendingDial {
    frames: VecDeque<OutFrame>,
    swarms: BTreeSet<TopicId>,
}

impl Core {
    pub(super) fn link_up(&mut self, peer: PeerId, mut link: Link, now: Now) {
        if peer == self.me {
            return;
        }
        let hello = encode_hello(Some(&self.contact));
        // Peers whose links come up together would ping in step; a little jitter spreads them and lets one side go first.
        link.ping_at = now.time + self.jitter(PING_AFTER);
        if let Some(before) = self.links.insert(peer, link) {
            // The shell tells LinkDown first; should it ever not, nothing may outlive the link.
            self.lose_link(peer, before, now);
        }
        self.send_control(peer, hello);
        for topic in self.swarms.keys().copied().collect::<Vec<_>>() {
            self.tell_swarm(topic, swarm::Input::PeerUp(peer), now);
        }
        if let Some(pending) = self.pending.remove(&peer) {
            for frame in pending.frames {
                self.send_control(peer, frame);
            }
        }
    }

    pub(super) fn link_down(&mut self, peer: PeerId, reason: &DownReason, now: Now) {
        if matches!(reason, DownReason::BadFrame(_)) {
            self.count("bad_frames");
        }
        if let Some(link) = self.links.remove(&peer) {
            self.lose_link(peer, link, now);
        }
    }

    fn lose_link(&mut self, peer: PeerId, link: Link, now: Now) {
        for request in link.waiting {
            self.reply(request, Reply::Pong(None));
        }
        if !link.dead {
            self.peer_lost(peer, now);
        }
    }

    /// Gives a link up before its LinkDown comes.
    pub(super) fn abandon(&mut self, peer: PeerId, reason: &'static str, now: Now) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        link.dead = true;
        self.outputs.push_back(Output::Close { peer, reason });
        self.peer_lost(peer, now);
    }

    pub(super) fn link_state(
        &mut self,
        peer: PeerId,
        heard: bool,
        data_bytes: usize,
        repair_bytes: usize,
        now: Now,
    ) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        if heard {
            link.heard_at = now.time;
            if link.pinged.is_none() {
                link.plan_ping(now);
            }
        }
        link.data_bytes = data_bytes;
        link.repair_bytes = repair_bytes;
        if data_bytes <= CLEAR_BYTES {
            link.busy_since = None;
        } else if data_bytes > BUSY_BYTES {
            link.busy_since.get_or_insert(now.time);
        }
        if link.congested_since.is_some() && data_bytes <= CLEAR_BYTES {
            link.congested_since = None;
            self.tell_congested(peer, false, now);
        }
        self.supply(peer, now);
    }

    pub(super) fn tick_links(&mut self, now: Now) {
        let due: Vec<PeerId> = self
            .links
            .iter()
            .filter(|(_, link)| link.next_tick() <= now.time)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            self.tick_link(peer, now);
        }
    }

    fn tick_link(&mut self, peer: PeerId, now: Now) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if now.time.since(link.heard_at) >= DEAD_AFTER {
            self.count("links_silent");
            return self.abandon(peer, "nothing was heard for 3 s", now);
        }
        if link.neighbour_in.is_empty() && now.time.since(link.used_at) >= IDLE_AFTER {
            return self.abandon(peer, "no swarm needs it", now);
        }
        if link
            .congested_since
            .is_some_and(|since| now.time.since(since) >= REPLACE_AFTER)
        {
            link.congested_since = Some(now.time);
            self.count("neighbours_replaced");
            self.replace_neighbour(peer, now);
            return;
        }
        if link.ping_at <= now.time {
            self.send_ping(peer, now);
        }
    }

    fn send_ping(&mut self, peer: PeerId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            // A repetition asks the same: where the way is longer than its pace, the first answer still counts.
            let (nonce, _) = *link.pinged.get_or_insert_with(|| {
                self.next_nonce += 1;
                (self.next_nonce, now.time)
            });
            link.ping_at = now.time + PING_AGAIN;
            self.send_control(peer, encode_ping(nonce));
        }
    }

    pub(super) fn next_link_tick(&self) -> Time {
        self.links
            .values()
            .map(Link::next_tick)
            .min()
            .unwrap_or(Time::NEVER)
    }

    pub(super) fn ping_came(&mut self, peer: PeerId, nonce: u64) {
        self.send_control(peer, encode_pong(nonce));
    }

    pub(super) fn pong_came(&mut self, peer: PeerId, nonce: u64, now: Now) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let Some((_, sent)) = link.pinged.filter(|(expected, _)| *expected == nonce) else {
            return;
        };
        let measured = now.time.since(sent);
        let rtt = link
            .rtt
            .map_or(measured, |rtt| rtt - rtt / 8 + measured / 8);
        link.rtt = Some(rtt);
        link.pinged = None;
        link.measure_at = now.time + MEASURE_EVERY;
        link.plan_ping(now);
        let waiting = link.take_waiting();
        let swarms: Vec<TopicId> = link.neighbour_in.iter().copied().collect();
        for request in waiting {
            self.reply(request, Reply::Pong(Some(measured)));
        }
        for topic in swarms {
            self.tell_swarm(topic, swarm::Input::Rtt { peer, rtt }, now);
        }
    }

    pub(super) fn ping(&mut self, request: RequestId, peer: PeerId, now: Now) {
        match self.links.get_mut(&peer).filter(|link| link.is_alive()) {
            Some(link) if link.waiting.len() < PINGS_MAX => {
                link.waiting.push(request);
                // The answer to one that is under way serves as well.
                if link.pinged.is_none() {
                    self.send_ping(peer, now);
                }
            }
            _ => self.reply(request, Reply::Pong(None)),
        }
    }

    pub(super) fn forget_ping(&mut self, request: RequestId) {
        for link in self.links.values_mut() {
            link.waiting.retain(|waiting| *waiting != request);
        }
    }

    pub(super) fn send_control(&mut self, peer: PeerId, frame: OutFrame) {
        self.outputs.push_back(Output::Send {
            peer,
            lane: Lane::Control,
            frame,
        });
    }

    /// Sends a bundle unless the lane is full: what is left out is announced, and supplied when it is asked for.
    pub(super) fn send_bundle(&mut self, peer: PeerId, lane: Lane, frame: OutFrame, now: Now) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_alive()) else {
            return;
        };
        let bytes = frame.len();
        match lane {
            Lane::Data => {
                if link.data_bytes >= CONGESTED_BYTES {
                    self.count("pushes_left_out");
                    return;
                }
                link.data_bytes += bytes;
                if link.data_bytes > BUSY_BYTES {
                    link.busy_since.get_or_insert(now.time);
                }
                if link.data_bytes >= CONGESTED_BYTES && link.congested_since.is_none() {
                    link.congested_since = Some(now.time);
                    self.count("links_congested");
                    self.newly_congested.push(peer);
                }
            }
            Lane::Control | Lane::Repair => link.repair_bytes += bytes,
        }
        self.outputs.push_back(Output::Send { peer, lane, frame });
    }

    /// Tells the swarms of links that filled up while they were being drained.
    pub(super) fn tell_newly_congested(&mut self, now: Now) {
        while let Some(peer) = self.newly_congested.pop() {
            self.tell_congested(peer, true, now);
        }
    }

    fn tell_congested(&mut self, peer: PeerId, congested: bool, now: Now) {
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Congested { peer, congested }, now);
        }
    }

    fn replace_neighbour(&mut self, peer: PeerId, now: Now) {
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Evict(peer), now);
        }
    }

    /// A peer has asked for supplies in a swarm.
    pub(super) fn owe(&mut self, peer: PeerId, topic: TopicId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed_in.insert(topic);
        }
        self.supply(peer, now);
    }

    /// Supplies what a peer asked for, as far as its lane for repair has room.
    fn supply(&mut self, peer: PeerId, now: Now) {
        // Follows every word of every link: it looks at the swarms in which something is owed, not at all that are shared.
        let Some(owed) = self.links.get(&peer).map(|link| &link.owed_in) else {
            return;
        };
        for topic in owed.iter().copied().collect::<Vec<_>>() {
            let Some(link) = self.links.get(&peer) else {
                return;
            };
            let room = REPAIR_BYTES.saturating_sub(link.repair_bytes);
            if room == 0 {
                return;
            }
            if let Some(entry) = self.swarms.get_mut(&topic) {
                entry.swarm.supply(peer, room, now);
                self.drain(topic, now);
            }
            let entry = self.swarms.get(&topic);
            if !entry.is_some_and(|entry| entry.swarm.owes(peer))
                && let Some(link) = self.links.get_mut(&peer)
            {
                link.owed_in.remove(&topic);
            }
        }
    }

    pub(super) fn touch_link(&mut self, peer: PeerId, now: Now) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.touch(now);
        }
    }

    pub(super) fn neighbour_in(&self, peer: PeerId) -> Vec<TopicId> {
        self.links
            .get(&peer)
            .map_or_else(Vec::new, |link| link.neighbour_in.iter().copied().collect())
    }

    /// Returns until when a publisher waits for a neighbour's lane at most; none where the lane isn't busy.
    pub(super) fn busy_until(&self, peer: PeerId) -> Option<Time> {
        Some(self.links.get(&peer)?.busy_since? + BUSY_MAX)
    }

    /// Sends a swarm's control frame, over a link that is made for it if there is none.
    pub(super) fn send_or_dial(
        &mut self,
        topic: TopicId,
        to: PeerId,
        contact: Option<PeerContact>,
        frame: OutFrame,
        now: Now,
    ) {
        if let Some(link) = self.links.get_mut(&to) {
            if link.dead {
                return self.unreachable(topic, to);
            }
            link.touch(now);
            return self.send_control(to, frame);
        }
        if let Some(pending) = self.pending.get_mut(&to) {
            if pending.frames.len() < PENDING_FRAMES_MAX {
                pending.frames.push_back(frame);
            }
            pending.swarms.insert(topic);
            return;
        }
        let addresses = contact
            .map(|contact| contact.0.value.addresses.clone())
            .filter(|addresses| !addresses.is_empty())
            .or_else(|| self.book.addresses(to))
            .unwrap_or_default();
        if addresses.is_empty() || self.dials.len() >= DIALS_MAX || self.stopping {
            return self.unreachable(topic, to);
        }
        let pending = self.pending.entry(to).or_default();
        pending.frames.push_back(frame);
        pending.swarms.insert(topic);
        self.dial(Dial::Peer(to), Some(to), addresses);
    }

    pub(super) fn dial(&mut self, dial: Dial, peer: Option<PeerId>, addresses: Vec<Address>) {
        self.next_dial += 1;
        let id = DialId(self.next_dial);
        self.dials.insert(id, dial);
        self.outputs.push_back(Output::Dial {
            dial: id,
            peer,
            addresses,
        });
    }

    pub(super) fn add_peer(&mut self, request: RequestId, address: Address, _now: Now) {
        if self.dials.len() >= DIALS_MAX {
            return self.reply(request, Reply::PeerAdded(Err(AddPeerError::Busy)));
        }
        self.dial(Dial::Add(request), None, vec![address]);
    }

    pub(super) fn dialled(&mut self, dial: DialId, peer: PeerId, now: Now) {
        match self.dials.remove(&dial) {
            None => {}
            Some(Dial::Peer(expected)) if expected == peer => {}
            Some(Dial::Peer(expected)) => self.dial_lost(expected, now),
            Some(Dial::Join(index)) => self.joined(index, peer, now),
            Some(Dial::Book) => self.tell_swarm(self.root, swarm::Input::Join { via: peer }, now),
            Some(Dial::Add(request)) => {
                self.tell_swarm(self.root, swarm::Input::Join { via: peer }, now);
                self.reply(request, Reply::PeerAdded(Ok(peer)));
            }
        }
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, error: DialError, now: Now) {
        match self.dials.remove(&dial) {
            None | Some(Dial::Book) => {}
            Some(Dial::Peer(peer)) => self.dial_lost(peer, now),
            Some(Dial::Join(index)) => self.join_failed(index, error, now),
            Some(Dial::Add(request)) => {
                self.reply(request, Reply::PeerAdded(Err(AddPeerError::Dial(error))));
            }
        }
    }

    /// A dial ended without the peer. It may have dialled us meanwhile: then what waited has been sent.
    fn dial_lost(&mut self, peer: PeerId, now: Now) {
        if let Some(pending) = self.pending.remove(&peer) {
            for topic in pending.swarms {
                self.tell_swarm(topic, swarm::Input::PeerLost(peer), now);
            }
        }
    }

    pub(super) fn forget_dial(&mut self, request: RequestId) {
        self.dials
            .retain(|_, dial| !matches!(dial, Dial::Add(waiting) if *waiting == request));
    }

    pub(super) fn remove_peer(&mut self, request: RequestId, peer: PeerId, now: Now) {
        let known = self.forget_peer(peer, now);
        let linked = self.links.get(&peer).is_some_and(Link::is_alive);
        for topic in self.neighbour_in(peer) {
            self.tell_swarm(topic, swarm::Input::Evict(peer), now);
        }
        self.abandon(peer, "removed by the operator", now);
        self.reply(request, Reply::PeerRemoved(known || linked));
    }

    pub(super) fn hello(&mut self, peer: PeerId, contact: Option<PeerContact>, now: Now) {
        if let Some(contact) = contact.filter(|contact| peer_of(contact) == peer) {
            self.remember(contact, now);
        }
    }

    /// Returns a duration between half and the whole of `of`.
    pub(super) fn jitter(&mut self, of: Duration) -> Duration {
        let micros = u64::try_from(of.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(micros / 2..=micros))
    }
}
