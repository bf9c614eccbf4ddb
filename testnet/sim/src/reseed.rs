//! Contacts from outside of a swarm, as the simulator models them until the structured layer stands.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::link::mix;
use crate::machine::NodeId;

/// Contacts that are handed over at once: as many as a passive view holds, so that some live where many have died.
const DRAWN: usize = 30;

/// What a node that runs short of contacts can ask besides its swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Contacts {
    /// Nobody.
    #[default]
    Nobody,
    /// A routing table: so many nodes, drawn from all alike once for each node. It doesn't learn who has died.
    Table {
        /// How many.
        size: u32,
    },
}

impl Contacts {
    /// Draws some of a node's contacts.
    pub(crate) fn draw(
        &self,
        seed: u64,
        node: NodeId,
        nodes: u32,
        rng: &mut ChaCha8Rng,
    ) -> Vec<NodeId> {
        match *self {
            Self::Nobody => Vec::new(),
            Self::Table { size } if size == 0 || nodes == 0 => Vec::new(),
            Self::Table { size } => {
                let entry = |index: u32| {
                    let place = (u64::from(node) << 32) | u64::from(index);
                    let drawn = mix(seed ^ mix(place ^ 0x7ab1_e000)) % u64::from(nodes);
                    NodeId::try_from(drawn).unwrap_or(0)
                };
                let mut drawn: Vec<NodeId> = (0..DRAWN)
                    .map(|_| entry(rng.random_range(0..size)))
                    .filter(|peer| *peer != node)
                    .collect();
                drawn.sort_unstable();
                drawn.dedup();
                drawn
            }
        }
    }
}
