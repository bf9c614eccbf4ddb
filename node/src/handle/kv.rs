//! The replicated store, for whoever holds a node.

use std::time::Duration;

use tokio::time::timeout;
use weft_dht::store::{Call, Outcome};
use weft_identity::PeerId;

use super::Node;
use crate::actor::Ask;

impl Node {
    /// Does something with the replicated store: resolves when it is clear what became of it, within the call's own timeout.
    /// None once the node has stopped. A caller that goes away takes nothing back.
    pub async fn kv(&self, call: Call<PeerId>) -> Option<Outcome<PeerId>> {
        self.ask(|reply| Ask::Kv { call, reply }).await
    }

    /// Has others take this node's places in the store, so that it can stop without a copy missing; answers whether they have
    /// within this time. Until it stops, a node that leaves still answers; it can be asked again.
    pub async fn drain(&self, at_most: Duration) -> bool {
        let left = timeout(at_most, self.kv(Call::Leave)).await;
        matches!(left, Ok(Some(Outcome::Left)))
    }
}
