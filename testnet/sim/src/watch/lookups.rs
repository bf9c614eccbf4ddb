//! What nodes look up, against where everybody stands.

use std::sync::Arc;
use std::time::Duration;

use weft_dht::lookup::Stats;
use weft_dht::{Key, Peer};
use weft_overlay::Time;

use super::Watch;
use crate::crowd::Crowd;
use crate::machine::NodeId;

/// How long a node has run before it should be found: its own lookup and the one after it, and somebody's ping.
const KNOWN_AFTER: Duration = Duration::from_secs(60);
/// How many a lookup returns.
const RETURNED: usize = weft_dht::table::K;

/// A lookup.
#[derive(Clone, Debug)]
struct Lookup {
    at: Time,
    by: NodeId,
    key: [u8; 32],
    label: u16,
    outcome: Option<LookedUp>,
}

/// What became of a lookup.
#[derive(Clone, Copy, Debug)]
pub struct LookedUp {
    /// How long it took.
    pub took: Duration,
    /// What it cost.
    pub stats: Stats,
    /// Whether the honest node closest to the key is among those found.
    pub success: bool,
    /// Whether exactly the closest were found, in order.
    pub exact: bool,
}

/// All lookups of a run.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    lookups: Vec<Lookup>,
    crowd: Arc<Crowd>,
}

impl Lookups {
    /// Says where everybody stands, and who lies.
    pub fn set_crowd(&mut self, crowd: &Arc<Crowd>) {
        self.crowd = Arc::clone(crowd);
    }

    /// Returns what became of the lookups of a label.
    pub fn ended(&self, label: u16) -> impl Iterator<Item = &LookedUp> {
        let of_label = self.lookups.iter().filter(move |it| it.label == label);
        of_label.filter_map(|it| it.outcome.as_ref())
    }
}

impl Watch {
    /// Returns how many lookups of a label somebody still waits for.
    pub fn lookups_waiting(&self, label: u16) -> usize {
        let of_label = self.lookups.lookups.iter().filter(|it| it.label == label);
        let waits = |it: &&Lookup| {
            let member = &self.members[it.by as usize];
            it.outcome.is_none() && member.up && member.started <= it.at
        };
        of_label.filter(waits).count()
    }

    /// A node begins a lookup; returns its number.
    pub(crate) fn look_up(&mut self, at: Time, by: NodeId, key: [u8; 32], label: u16) -> u32 {
        let lookups = &mut self.lookups.lookups;
        lookups.push(Lookup {
            at,
            by,
            key,
            label,
            outcome: None,
        });
        u32::try_from(lookups.len() - 1).unwrap_or(u32::MAX)
    }

    /// A lookup has ended. Nodes that don't answer now, being stopped, are nobody's to find.
    pub(crate) fn looked_up(
        &mut self,
        time: Time,
        number: u32,
        closest: &[NodeId],
        stats: Stats,
        answers: impl Fn(NodeId) -> bool,
    ) {
        let Some(lookup) = self.lookups.lookups.get(number as usize) else {
            return self.violation(time, format!("lookup {number} was never begun"));
        };
        let (at, by) = (lookup.at, lookup.by);
        if lookup.outcome.is_some() {
            return self.violation(time, format!("lookup {number} has ended twice"));
        }
        let crowd = &self.lookups.crowd;
        let target = Key::from_array(lookup.key).point();
        let counts = |node: NodeId| {
            let member = &self.members[node as usize];
            let is_known = member.up && member.started + KNOWN_AFTER <= at;
            is_known && node != by && !crowd.lies(node) && answers(node)
        };
        let truth = crowd.closest(target, RETURNED, counts);
        let success = truth.first().is_none_or(|id| closest.contains(&id.node));
        let mut expected = truth.iter().map(|id| id.node);
        let exact = closest.iter().all(|node| expected.next() == Some(*node));
        let ordered = closest.windows(2).all(|pair| {
            (crate::crowd::Id::of(pair[0]).point() ^ target)
                < (crate::crowd::Id::of(pair[1]).point() ^ target)
        });
        if closest.len() > RETURNED || !ordered || closest.contains(&by) {
            let what = format!("lookup {number} of n{by} found {closest:?}");
            return self.violation(time, what);
        }
        self.lookups.lookups[number as usize].outcome = Some(LookedUp {
            took: time.since(at),
            stats,
            success,
            exact,
        });
    }
}
