//! What a core is made with.

use std::collections::BTreeMap;

use weft_dht::store;
use weft_identity::Keypair;

use crate::log::RestoredTopic;
use crate::{Address, PeerContact, Roles, TopicName};

/// What a core is made with.
#[derive(Debug)]
pub struct Config {
    /// The node's key.
    pub keypair: Keypair,
    /// The network's name.
    pub network: String,
    /// Whom to join; tried for ever.
    pub join: Vec<Address>,
    /// Peers known from an earlier run.
    pub address_book: Vec<PeerContact>,
    /// This run's epoch, on disk already and larger than every earlier one.
    pub epoch: u64,
    /// The run before this one, if there was one.
    pub previous_run: Option<PreviousRun>,
    /// The node's part in the structured layer.
    pub roles: Roles,
    /// Whether this node begins a network: it waits for nobody who holds what the store holds. So does one that has nobody to
    /// join and knows nobody.
    pub found: bool,
    /// What is set of the replicated store; whether this node founded the network follows from the rest.
    pub store: store::Config,
    /// What the store's disk held when the node started.
    pub restored: store::Restored<PeerContact>,
    /// The topics' logs that the disk held when the node started.
    pub topics: Vec<RestoredTopic>,
    /// Topics whose logs stay though nothing may be left in them.
    pub kept_logs: Vec<TopicName>,
    /// Seeds every random choice of the core.
    pub seed: [u8; 32],
}

/// What is known of the run before this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousRun {
    /// Its epoch.
    pub epoch: u64,
    /// Whether it ended in a clean stop, so that `last_seqs` holds.
    pub clean: bool,
    /// The last seq it published on each topic; a topic that isn't named had none.
    pub last_seqs: BTreeMap<TopicName, u64>,
}
