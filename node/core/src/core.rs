//! The node as a value (skeleton).
use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use crate::views::{PeerView, StatusView, SwarmView, TopicView, TreeView};
use crate::{Config, Input, Output, PeerContact};

/// The node as a value.
#[derive(Debug)]
pub struct Core;

impl Core {
    /// Makes a core.
    pub fn new(_config: Config, _now: Now) -> Self {
        Self
    }
    /// Takes a fact.
    pub fn handle(&mut self, _input: Input, _now: Now) {}
    /// Lets time pass; call it when `poll_timeout` has come.
    pub fn handle_timeout(&mut self, _now: Now) {}
    /// Returns the next order; none when all are given.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }
    /// Returns when to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
    /// Returns the node's id.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_bytes([0; 32])
    }
    /// Counts something that the shell saw, under a name that `status` shows.
    pub fn count(&mut self, _name: &'static str) {}
    /// Returns the node at a glance.
    pub fn status(&self) -> StatusView {
        StatusView::default()
    }
    /// Returns the linked peers.
    pub fn peers(&self) -> Vec<PeerView> {
        Vec::new()
    }
    /// Returns a swarm's views; none where the node is no member.
    pub fn swarm_view(&self, _topic: &str, _now: Now) -> Option<SwarmView> {
        None
    }
    /// Returns a swarm's trees; none where the node is no member.
    pub fn trees(&self, _topic: &str) -> Option<Vec<TreeView>> {
        None
    }
    /// Returns the topics that the node is a member of or knows members of.
    pub fn topics(&self) -> Vec<TopicView> {
        Vec::new()
    }
    /// Returns the proven peers to be written to the address book, best first, at most 256.
    pub fn address_book(&self) -> Vec<PeerContact> {
        Vec::new()
    }
}
