//! What members are owed, and what of it is missing.

use std::time::Duration;

use weft_overlay::Time;

use super::{Message, Reached, Stream, Watch};
use crate::machine::NodeId;

/// What members were owed in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Messages that were published by a run that still runs, while the member was subscribed, a delivery each.
    pub owed: u64,
    /// Those of them that it hasn't got.
    pub missing: u64,
    /// Those of them that it wasn't told of either.
    pub untold: u64,
    /// Members that lack something.
    pub members: u32,
    /// Some of what is missing, in words.
    pub examples: Vec<String>,
}

/// How long a publisher must live after a message for that to be owed to those who come later: several times what messages take,
/// and keepers to write them.
const SPREADS_WITHIN: Duration = Duration::from_secs(5);

/// Examples that are told.
const EXAMPLES_MAX: usize = 10;

impl Watch {
    /// Counts what the members of today were owed by the publishers of today.
    ///
    /// A member is owed what is published after it has begun, for as long as it runs, and one that reads from the beginning
    /// what was published before as well; where it goes on with the log of an earlier
    /// run, all that comes after that. What a publisher published that has
    /// died since may have died with it; whoever reads from the beginning is owed what it lived long enough after to spread.
    pub fn owed(&self) -> Owed {
        let mut sum = Owed::default();
        for (node, member) in (0..).zip(&self.members) {
            let Some(based) = member.based.filter(|_| member.up) else {
                continue;
            };
            let missing_before = sum.missing;
            for ((publisher, epoch), stream) in &self.streams {
                let runs = self.still_runs(*publisher, stream);
                if !runs && !member.reads_all {
                    continue;
                }
                let reached = self.reached_at(node, *publisher, *epoch);
                let first = match reached.filter(|reached| reached.is_resumed) {
                    Some(reached) => reached.from,
                    None if member.reads_all => 1,
                    None => {
                        let before = |message: &Message| message.at <= based;
                        stream.messages.partition_point(before) as u64 + 1
                    }
                };
                let last = if runs {
                    stream.messages.len() as u64
                } else {
                    stream.spread()
                };
                if first > last {
                    continue;
                }
                let owed = last + 1 - first;
                sum.owed += owed;
                let missing = owed - self.got(node, *publisher, *epoch, first).min(owed);
                sum.missing += missing;
                let told_missing = reached.map_or(0, |at| at.told_missing);
                sum.untold += missing.saturating_sub(told_missing);
                if missing > 0 && sum.examples.len() < EXAMPLES_MAX {
                    sum.examples.push(format!(
                        "n{node} lacks {missing} of {first} to {last} of n{publisher}, and was told so of {told_missing}"
                    ));
                }
            }
            sum.members += u32::from(sum.missing > missing_before);
        }
        sum
    }

    fn reached_at(&self, node: NodeId, publisher: NodeId, epoch: u64) -> Option<&Reached> {
        let reached = &self.members[node as usize].reached;
        let key = (publisher, epoch);
        let found = reached.binary_search_by_key(&key, |at| (at.publisher, at.epoch));
        found.ok().map(|at| &reached[at])
    }

    /// Returns how many messages of a stream from `first` on a member has got.
    fn got(&self, node: NodeId, publisher: NodeId, epoch: u64, first: u64) -> u64 {
        let Some(reached) = self.reached_at(node, publisher, epoch) else {
            return 0;
        };
        if !self.ordered {
            return reached.got;
        }
        let got = reached.next.saturating_sub(reached.from.max(first));
        got.saturating_sub(reached.told_missing)
    }

    /// Returns whether the run of a publisher that published a stream still runs.
    fn still_runs(&self, publisher: NodeId, stream: &Stream) -> bool {
        let member = &self.members[publisher as usize];
        let begun = stream.messages.first().map(|message| message.at);
        member.up && begun >= Some(member.started)
    }
}

impl Stream {
    /// Returns how many of its messages the publisher has outlived for long enough.
    fn spread(&self) -> u64 {
        let ended = self.ended.unwrap_or(Time::NEVER);
        let before = |message: &Message| message.at + SPREADS_WITHIN <= ended;
        self.messages.partition_point(before) as u64
    }
}
