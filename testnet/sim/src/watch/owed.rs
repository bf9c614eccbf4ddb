//! What members are owed, and what of it is missing.

use super::{Stream, Watch};
use crate::machine::NodeId;

/// What members were owed in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Messages that were published by a run that still runs, while the member was subscribed, a delivery each.
    pub owed: u64,
    /// Those of them that it hasn't got.
    pub missing: u64,
    /// Members that lack something.
    pub members: u32,
}

impl Watch {
    /// Counts what the members of today were owed by the publishers of today.
    ///
    /// A member is owed what is published after it has begun, for as long as it runs. What a publisher published that has
    /// died since may have died with it.
    pub fn owed(&self) -> Owed {
        let mut sum = Owed::default();
        for (node, member) in (0..).zip(&self.members) {
            let Some(based) = member.based.filter(|_| member.up) else {
                continue;
            };
            let missing_before = sum.missing;
            for ((publisher, epoch), stream) in &self.streams {
                if !self.still_runs(*publisher, stream) {
                    continue;
                }
                let first = stream
                    .messages
                    .partition_point(|message| message.at <= based)
                    as u64
                    + 1;
                let last = stream.messages.len() as u64;
                if first > last {
                    continue;
                }
                let owed = last + 1 - first;
                sum.owed += owed;
                sum.missing += owed - self.got(node, *publisher, *epoch, first).min(owed);
            }
            sum.members += u32::from(sum.missing > missing_before);
        }
        sum
    }

    /// Returns how many messages of a stream from `first` on a member has got.
    fn got(&self, node: NodeId, publisher: NodeId, epoch: u64, first: u64) -> u64 {
        let reached = &self.members[node as usize].reached;
        let found =
            reached.binary_search_by_key(&(publisher, epoch), |at| (at.publisher, at.epoch));
        let Ok(at) = found else {
            return 0;
        };
        let reached = &reached[at];
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
