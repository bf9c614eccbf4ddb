//! What is watched in every simulation: that each subscriber gets what it is owed, in order and once, and what it costs.

mod history;
mod lookups;
mod owed;

use std::collections::BTreeMap;
use std::time::Duration;

use weft_overlay::Time;

pub use history::{Deed, History, Tally, mark_of};
pub use lookups::{LookedUp, Lookups};
pub use owed::Owed;

use crate::machine::{NodeId, Place, Weighed, Weight};

/// Violations that are told: the first says most, and a broken run makes thousands.
const VIOLATIONS_MAX: usize = 20;

/// A message that was published.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// When.
    pub at: Time,
    /// Tells its bytes from others'.
    mark: u64,
    /// Which part of the scenario it counts for.
    pub label: u16,
    /// Nodes that ran then.
    pub up: u32,
    /// Nodes that have got it, the publisher included.
    pub delivered: u32,
    /// The most links that it travelled to anybody.
    pub hops_max: u8,
    /// When the latest delivery so far was.
    pub last_at: Time,
    /// Copies of it that arrived anywhere.
    pub copies: u32,
}

/// What a publisher has published in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) messages: Vec<Message>,
    /// When the publisher's run ended.
    pub(crate) ended: Option<Time>,
}

/// Where a member stands with one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) publisher: NodeId,
    pub(crate) epoch: u64,
    pub(crate) from: u64,
    pub(crate) next: u64,
    /// Messages in between that it was told won't come.
    pub(crate) told_missing: u64,
    /// Messages that it has got, in any order.
    pub(crate) got: u64,
    /// Whether everything from the first on is owed, since an earlier run had what was before.
    pub(crate) is_resumed: bool,
}

/// A member, as the watch knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) up: bool,
    /// When its process was started.
    pub(crate) started: Time,
    /// Since when everything is owed to it.
    pub(crate) based: Option<Time>,
    /// Whether what was published before is owed to it as well.
    pub(crate) reads_all: bool,
    /// By publisher and epoch, ascending.
    pub(crate) reached: Vec<Reached>,
}

/// Frames and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames sent.
    pub frames: u64,
    /// Frames sent that carry messages.
    pub payload_frames: u64,
    /// Bytes of messages sent.
    pub payload_bytes: u64,
    /// Bytes sent around messages.
    pub header_bytes: u64,
    /// Bytes sent in frames without messages.
    pub control_bytes: u64,
    /// Those of them that arrived and belong to the topic's own swarm, where nodes have others beside it.
    pub topic_bytes: Option<u64>,
}

/// Everything that is watched.
#[derive(Clone, Debug)]
pub struct Watch {
    pub(crate) streams: BTreeMap<(NodeId, u64), Stream>,
    pub(crate) members: Vec<Member>,
    /// Labels of messages, by number.
    label: u16,
    up: u32,
    /// Whether deliveries are in order, as trees promise and epidemics don't.
    ordered: bool,
    /// What was sent.
    pub traffic: Traffic,
    /// Deliveries that skipped something without a word.
    pub order_violations: u64,
    /// Deliveries of what was delivered before.
    pub duplicates_delivered: u64,
    /// Messages that subscribers were told won't come.
    pub told_missing: u64,
    /// Accusations of honest peers.
    pub accusations: BTreeMap<&'static str, u64>,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// How many such things there were in all.
    pub violations_count: u64,
    /// How long deliveries took, in milliseconds, by label: a histogram.
    latencies: BTreeMap<u16, Vec<u32>>,
    /// What callers did with the replicated store.
    pub history: History,
    /// What nodes looked up.
    pub lookups: Lookups,
}

/// The longest latency that the histogram tells apart, in milliseconds.
const LATENCY_MAX_MS: usize = 60_000;

impl Watch {
    pub(crate) fn new(nodes: u32) -> Self {
        Self {
            streams: BTreeMap::new(),
            members: vec![Member::default(); nodes as usize],
            label: 0,
            up: 0,
            ordered: true,
            traffic: Traffic::default(),
            order_violations: 0,
            duplicates_delivered: 0,
            told_missing: 0,
            accusations: BTreeMap::new(),
            violations: Vec::new(),
            violations_count: 0,
            latencies: BTreeMap::new(),
            history: History::default(),
            lookups: Lookups::default(),
        }
    }

    /// Says which part of the scenario the messages to come count for.
    pub const fn label(&mut self, label: u16) {
        self.label = label;
    }

    /// Deliveries come in any order, and are only counted.
    pub const fn expect_no_order(&mut self) {
        self.ordered = false;
    }

    /// Returns how many nodes run.
    pub const fn up(&self) -> u32 {
        self.up
    }

    /// Returns the messages of a label.
    pub fn messages(&self, label: u16) -> impl Iterator<Item = &Message> {
        self.streams
            .values()
            .flat_map(|stream| &stream.messages)
            .filter(move |message| message.label == label)
    }

    /// Returns how many deliveries of a label took each number of milliseconds.
    pub fn latencies(&self, label: u16) -> &[u32] {
        self.latencies.get(&label).map_or(&[], Vec::as_slice)
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers format it")]
    pub(crate) fn violation(&mut self, time: Time, what: String) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("at {time:?}: {what}"));
        }
    }

    pub(crate) fn started(&mut self, time: Time, node: NodeId) {
        self.up += 1;
        self.members[node as usize] = Member {
            up: true,
            started: time,
            ..Member::default()
        };
    }

    pub(crate) fn ended(&mut self, time: Time, node: NodeId) {
        self.up -= 1;
        let own = self.streams.range_mut((node, 0)..=(node, u64::MAX));
        for (_, stream) in own {
            stream.ended.get_or_insert(time);
        }
        self.members[node as usize] = Member::default();
    }

    /// Returns whether a node has subscribed, or is about to.
    pub(crate) fn is_subscribed(&self, node: NodeId) -> bool {
        self.members[node as usize].based.is_some()
    }

    pub(crate) fn reads_all(&mut self, node: NodeId) {
        self.members[node as usize].reads_all = true;
    }

    pub(crate) fn based(&mut self, time: Time, node: NodeId) {
        let member = &mut self.members[node as usize];
        if member.based.replace(time).is_some() {
            self.violation(time, format!("n{node} has begun twice"));
        }
    }

    pub(crate) fn sent(&mut self, weight: Weight) {
        self.traffic.frames += 1;
        self.traffic.payload_frames += u64::from(weight.payload > 0);
        self.traffic.payload_bytes += u64::from(weight.payload);
        self.traffic.header_bytes += u64::from(weight.header);
        self.traffic.control_bytes += u64::from(weight.control);
    }

    pub(crate) fn arrived(&mut self, frame: &impl Weighed) {
        frame.carried(&mut |place| {
            if let Some(message) = self.message(place) {
                message.copies += 1;
            }
        });
    }

    /// A copy has arrived of which the frame didn't say what it carries.
    pub(crate) fn copy(&mut self, place: Place, payload: u32) {
        let payload = u64::from(payload);
        self.traffic.payload_bytes += payload;
        self.traffic.header_bytes = self.traffic.header_bytes.saturating_sub(payload);
        if let Some(message) = self.message(place) {
            message.copies += 1;
        }
    }

    fn message(&mut self, place: Place) -> Option<&mut Message> {
        let index = usize::try_from(place.seq.checked_sub(1)?).ok()?;
        let stream = self.streams.get_mut(&(place.publisher, place.epoch))?;
        stream.messages.get_mut(index)
    }

    pub(crate) fn published(&mut self, time: Time, first: Place, messages: u32, mark: u64) {
        let (up, label) = (self.up, self.label);
        let stream = self
            .streams
            .entry((first.publisher, first.epoch))
            .or_default();
        if stream.messages.len() as u64 + 1 != first.seq {
            let what = format!("n{} publishes {first:?} out of turn", first.publisher);
            return self.violation(time, what);
        }
        for index in 0..messages {
            stream.messages.push(Message {
                at: time,
                mark: mark.wrapping_add(u64::from(index)),
                label,
                up,
                delivered: 0,
                hops_max: 0,
                last_at: time,
                copies: 0,
            });
        }
    }

    pub(crate) fn delivered(
        &mut self,
        time: Time,
        node: NodeId,
        first: Place,
        last: u64,
        hops: u8,
        mark: u64,
    ) {
        let Place {
            publisher, epoch, ..
        } = first;
        match self.message(first) {
            None => {
                let what = format!("n{node} got {first:?}, which nobody has published");
                return self.violation(time, what);
            }
            Some(message) if message.mark != mark => {
                let what = format!("n{node} got other bytes than were published as {first:?}");
                return self.violation(time, what);
            }
            Some(_) => {}
        }
        let ordered = self.ordered;
        let reached = self.reached(node, first);
        reached.got += last + 1 - first.seq;
        let due = std::mem::replace(&mut reached.next, last + 1);
        if !ordered {
            reached.next = due.max(last + 1);
        } else if first.seq < due {
            reached.next = due.max(last + 1);
            self.duplicates_delivered += due - first.seq;
            self.violation(time, format!("n{node} got {first:?} again, {due} was due"));
        } else if first.seq > due {
            self.order_violations += 1;
            self.violation(time, format!("n{node} got {first:?}, {due} was due"));
        }
        for seq in first.seq..=last {
            let place = Place {
                publisher,
                epoch,
                seq,
            };
            let Some(message) = self.message(place) else {
                continue;
            };
            message.delivered += 1;
            message.hops_max = message.hops_max.max(hops);
            message.last_at = time;
            let (label, latency) = (message.label, time.since(message.at));
            if publisher != node {
                self.count_latency(label, latency);
            }
        }
    }

    fn count_latency(&mut self, label: u16, latency: Duration) {
        let millis = usize::try_from(latency.as_millis()).unwrap_or(LATENCY_MAX_MS);
        let histogram = self.latencies.entry(label).or_default();
        let index = millis.min(LATENCY_MAX_MS);
        if histogram.len() <= index {
            histogram.resize(index + 1, 0);
        }
        histogram[index] += 1;
    }

    /// Returns where a member stands with a stream; one that it has got nothing of begins with `first`.
    fn reached(&mut self, node: NodeId, first: Place) -> &mut Reached {
        let reached = &mut self.members[node as usize].reached;
        let key = (first.publisher, first.epoch);
        let at = match reached.binary_search_by_key(&key, |at| (at.publisher, at.epoch)) {
            Ok(at) => at,
            Err(at) => {
                let begun = Reached {
                    publisher: first.publisher,
                    epoch: first.epoch,
                    from: first.seq,
                    next: first.seq,
                    told_missing: 0,
                    got: 0,
                    is_resumed: false,
                };
                reached.insert(at, begun);
                at
            }
        };
        &mut reached[at]
    }

    pub(crate) fn resumed(&mut self, node: NodeId, last: Place) {
        let first = Place {
            seq: last.seq + 1,
            ..last
        };
        let reached = self.reached(node, first);
        (reached.from, reached.next) = (first.seq, first.seq);
        reached.is_resumed = true;
    }

    pub(crate) fn gap(&mut self, time: Time, node: NodeId, first: Place, last: u64) {
        self.told_missing += last + 1 - first.seq;
        // What comes late of an epoch that was left is told as it comes.
        let known = &self.members[node as usize].reached;
        let later = (first.publisher, first.epoch + 1)..=(first.publisher, u64::MAX);
        let is_left = known
            .iter()
            .any(|at| later.contains(&(at.publisher, at.epoch)));
        let reached = self.reached(node, first);
        if is_left {
            reached.told_missing += last + 1 - first.seq;
            return;
        }
        let due = reached.next;
        if first.seq != due {
            return self.violation(
                time,
                format!("n{node} was told of a gap at {first:?}, {due} was due"),
            );
        }
        reached.next = last + 1;
        reached.told_missing += last + 1 - first.seq;
    }

    pub(crate) fn accused(&mut self, what: &'static str) {
        *self.accusations.entry(what).or_default() += 1;
    }
}
