//! The task that owns the core: everything that happens comes here, and every order leaves from here.
//!
//! A wake takes what has come from links and callers, tells the core first how its links stand, then each fact, and drains
//! the core's orders every few hundred facts. Frames go into the links' lanes; each writer and each subscriber is woken once
//! a wake. Time comes last, so that a node which was stopped for a while hears what came meanwhile before it judges anyone.
//!
//! **Invariant:** this task waits for nothing that a peer or a caller controls; all that it sends to goes without waiting.

mod clock;
mod keeper;
mod log;
mod requests;
mod run;

use std::sync::{Arc, Mutex};

use libp2p::Multiaddr;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use weft_core::wire::KnownBodies;
use weft_core::{Address, Core};

use crate::arrivals::Arrivals;
use crate::consumers::Consumers;
use crate::disk::{Disk, DiskError};
use crate::handle::{Config, StartError};
use crate::links::{self, Limits, ListenError, Setup};
use keeper::Keeper;

pub(crate) use clock::Clock;
pub(crate) use requests::{Ask, Call, Gone};
use run::Ended;

/// Calls that wait for the core's task; past it callers wait to ask.
const CALLS_MAX: usize = 256;
/// Bytes of a network's name: it stands in the name of a protocol.
const NETWORK_BYTES_MAX: usize = 64;

/// A node's task and how to reach it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) gone: mpsc::UnboundedSender<Gone>,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) listening: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) task: AbortHandle,
}

/// Starts a node: links first, so that a port in use leaves no trace, then the disk, then the core.
pub(crate) async fn start(config: Config) -> Result<Running, StartError> {
    check_network(&config.network)?;
    let join = config
        .join
        .iter()
        .map(pack)
        .collect::<Result<Vec<Address>, StartError>>()?;
    let known = Arc::new(Mutex::new(KnownBodies::new(&config.network)));
    let links = links::start(Setup {
        keypair: &config.keypair,
        network: &config.network,
        listen: &config.listen,
        known,
        limits: Limits::default(),
        serves_kad: config.roles.serves,
    })
    .await
    .map_err(|error| match error {
        ListenError::InUse(address) => StartError::PortInUse { address },
        ListenError::Failed(address, reason) => StartError::Listen { address, reason },
    })?;
    let clock = Clock::start();
    let peer = config.keypair.peer_id();
    let disk = Disk::new(config.dir.clone());
    let (opening, dir, network) = (disk.clone(), config.dir, config.network.clone());
    let unix_ms = clock.now().unix.0 / 1_000;
    let opened = tokio::task::spawn_blocking(move || {
        // No epoch is spent on a store that can't be used.
        let (keeper, outcomes, found) = Keeper::open(dir.as_deref(), &network, peer)?;
        let opened = opening
            .open(unix_ms)
            .map_err(|DiskError { path, reason }| StartError::Disk { path, reason })?;
        Ok((opened, keeper, outcomes, found))
    });
    let opened = opened
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let (opened, keeper, outcomes, found) = opened?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Config {
        reason: format!("the system gives no randomness: {error}"),
    })?;
    let core = Core::new(
        weft_core::Config {
            keypair: config.keypair,
            network: config.network,
            join,
            address_book: opened.address_book,
            epoch: opened.epoch,
            previous_run: opened.previous_run,
            seed,
            roles: config.roles,
            found: config.found,
            store: weft_dht::store::Config::default(),
            restored: found.records,
            topics: found.topics,
            kept_logs: found
                .consumers
                .iter()
                .map(|(key, _)| key.topic.clone())
                .collect(),
        },
        clock.now(),
    );
    let (calls, calls_taken) = mpsc::channel(CALLS_MAX);
    let (gone, gone_taken) = mpsc::unbounded_channel();
    let (stopped_told, stopped) = watch::channel(false);
    let listening = links.listening.clone();
    let arrivals = Arrivals::new(peer);
    let consumers = Arc::new(Consumers::new(found.consumers, gone.clone()));
    let actor = run::Actor::new(
        core,
        clock,
        links,
        (disk, keeper),
        (arrivals, consumers.clone()),
        gone.clone(),
    );
    let task = tokio::spawn(async move {
        // A channel that closes without this word says that the task has failed.
        if actor.run(calls_taken, gone_taken, outcomes).await == Ended::AsTold {
            stopped_told.send_replace(true);
        }
    });
    Ok(Running {
        calls,
        gone,
        consumers,
        listening,
        stopped,
        task: task.abort_handle(),
    })
}

/// Refuses a network's name that can't be part of a protocol's name: it has 1 to 64 of the characters `A-Z a-z 0-9 . _ -`.
pub fn check_network(network: &str) -> Result<(), StartError> {
    let fits = (1..=NETWORK_BYTES_MAX).contains(&network.len())
        && network
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if fits {
        return Ok(());
    }
    Err(StartError::Config {
        reason: format!(
            "a network's name has 1 to {NETWORK_BYTES_MAX} of the characters A-Z a-z 0-9 . _ -, and {network:?} does not fit"
        ),
    })
}

fn pack(address: &Multiaddr) -> Result<Address, StartError> {
    links::address::pack(address).ok_or_else(|| StartError::Config {
        reason: format!("the address to join is empty or too long: {address}"),
    })
}
