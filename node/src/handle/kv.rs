//! The replicated store, for whoever holds a node.

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
}
