//! Links: one authenticated connection to a peer, with one long-lived stream a direction that carries all frames.
//!
//! [`start`] listens and spawns the owner of libp2p's swarm ([`driver`]). Which of two connections carries a peer's link
//! is decided in [`choice`]; peers without a link ask and are asked over streams of their own ([`kad`]); what a link is and how it ends stands in [`link`]; its two tasks are [`reader`] and [`writer`].
//! Everything that happens is told to the core's task as [`LinkEvent`]s on one bounded channel: a link's `Up`, then its
//! frames in order, then one `Ended`. What is sent goes straight into the link's lanes ([`lanes`]), which never wait.
//!
//! **Invariant:** payload never passes libp2p's own channels, and nobody waits for what a peer does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use weft_core::wire::{DecodeError, Frame, KnownBodies};
use weft_core::{Address, DialError, DialId, Direction, KadPeer};
use weft_dht::Message;
use weft_identity::{Keypair, PeerId};

pub(crate) mod address;
mod behaviour;
mod choice;
mod dials;
mod driver;
mod frames;
mod handler;
mod kad;
mod lanes;
mod link;
mod pace;
mod reader;
#[cfg(test)]
mod tests;
mod transport;
mod writer;

pub(crate) use kad::{Ask as KadAsk, Query as KadQuery};
pub(crate) use lanes::Waiting;
pub(crate) use link::Link;

/// How long a dial may take, from the order to the link.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Dials under way at a time, as many as the core orders at most: a joining node dials a handful, a healing one or one that
/// fills its routing table a few dozen.
const DIALS_MAX: usize = 128;
/// Events that may wait for the core's task. Frames are bounded in bytes by each link's credit; this bounds the rest.
const EVENTS_MAX: usize = 1_024;

/// How long a peer may keep a link from going on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a connection may stay without a link.
    pub(crate) link_timeout: Duration,
    /// How long a peer may take nothing of what is written to it.
    pub(crate) stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As long as a dial may take, for the other side waits no longer.
            link_timeout: DIAL_TIMEOUT,
            // No honest process that answers heartbeats reads nothing for so long, and the core replaces a neighbour whose
            // lane has been full for as long.
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// What the core's task is told of links.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The addresses that this node listens on have changed.
    Listening(Vec<Address>),
    /// A link is up.
    Up(Up),
    /// Frames came.
    Frames(ReadFrames),
    /// A link is over, and all that came before has been told; its reason stands in the link.
    Ended(Arc<Link>),
    /// A dial ended in a link.
    Dialled { dial: DialId, peer: PeerId },
    /// A dial failed.
    DialFailed { dial: DialId, error: DialError },
    /// A peer of another network came and was refused.
    Stranger { peer: PeerId, network: String },
    /// A peer asks over a stream of the kad protocol.
    KadQuery(KadQuery),
    /// A peer that was asked over one has answered.
    KadAnswer {
        peer: PeerId,
        request: u64,
        met_at: Address,
        message: Message<KadPeer>,
    },
    /// A peer that was asked over one can't be reached, or did not answer as it should.
    KadFailed { peer: PeerId },
    /// A peer sent what no honest one sends, and its stream was reset.
    KadRefused { peer: PeerId, error: DecodeError },
}

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) link: Arc<Link>,
    pub(crate) direction: Direction,
    pub(crate) address: Option<Address>,
    pub(crate) transport: &'static str,
}

/// Frames of one link in order. Give the cost back with [`Link::taken`] once they are handled.
#[derive(Debug)]
pub(crate) struct ReadFrames {
    pub(crate) link: Arc<Link>,
    pub(crate) frames: Vec<Frame>,
    /// Frames that were left out because a signature in them was not its author's.
    pub(crate) forged: u32,
    /// Whether the peer floods: it is read more slowly from here on.
    pub(crate) slowed: bool,
    pub(crate) cost: u32,
}

/// What the core's task orders. Unbounded where it is sent: a core has at most as many dials and questions out as it allows
/// itself.
#[derive(Debug)]
pub(crate) enum Order {
    Dial {
        dial: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Address>,
    },
    Prove {
        dial: DialId,
        peer: PeerId,
        addresses: Vec<Address>,
    },
    KadAsk(KadAsk),
    /// These peers are refused from now on, and no others.
    Refuse(BTreeSet<PeerId>),
}

/// What links are started with.
pub(crate) struct Setup<'a> {
    pub(crate) keypair: &'a Keypair,
    pub(crate) network: &'a str,
    pub(crate) listen: &'a [Multiaddr],
    pub(crate) known: Arc<Mutex<KnownBodies>>,
    pub(crate) limits: Limits,
    /// Whether the node answers queries of the structured layer.
    pub(crate) serves_kad: bool,
}

/// The running links of a node. Dropping `orders` ends the task, and with it every connection.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
    /// Told when a lane that was well filled has room again: the core has more for it.
    pub(crate) drained: Arc<Notify>,
    /// Where the node listens.
    pub(crate) listening: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) task: JoinHandle<()>,
}

/// Why links could not be started.
#[derive(Debug)]
pub(crate) enum ListenError {
    /// Something listens at the address already.
    InUse(Multiaddr),
    /// Listening failed, and why.
    Failed(Multiaddr, String),
}

/// Listens on every address and starts the task that owns the connections.
pub(crate) async fn start(setup: Setup<'_>) -> Result<Links, ListenError> {
    for wanted in setup.listen {
        address::probe(wanted).map_err(|error| {
            let reason = match error {
                address::ProbeError::InUse => return ListenError::InUse(wanted.clone()),
                address::ProbeError::Unsupported => {
                    "only addresses such as /ip4/127.0.0.1/tcp/4001 and /ip4/127.0.0.1/udp/4001/quic-v1 can be listened on".to_owned()
                }
                address::ProbeError::Io(error) => error.to_string(),
            };
            ListenError::Failed(wanted.clone(), reason)
        })?;
    }
    let mut seed = setup.keypair.to_seed();
    let key = identity::Keypair::ed25519_from_bytes(&mut seed)
        .expect("32 bytes are the seed of an ed25519 key");
    let swarm = transport::swarm(&key, setup.network, setup.serves_kad, setup.limits)
        .map_err(|reason| ListenError::Failed(Multiaddr::empty(), reason))?;
    let (orders, orders_taken) = mpsc::unbounded_channel();
    let (events_told, events) = mpsc::channel(EVENTS_MAX);
    let (listening_told, listening) = watch::channel(Vec::new());
    let drained = Arc::new(Notify::new());
    let mut driver = driver::Driver::new(driver::Parts {
        swarm,
        network: setup.network.to_owned(),
        known: setup.known,
        limits: setup.limits,
        orders: orders_taken,
        events: events_told,
        drained: drained.clone(),
        listening: listening_told,
    });
    driver
        .listen(setup.listen)
        .await
        .map_err(|(address, reason)| ListenError::Failed(address, reason))?;
    let task = tokio::spawn(driver.run());
    Ok(Links {
        orders,
        events,
        drained,
        listening,
        task,
    })
}

/// Returns what identify says of a network's nodes: it names the network to those who can't open a link.
fn identity_of(network: &str) -> String {
    format!("/weft/{network}/1")
}

/// Reads the network's name out of what identify says of a Weft node.
fn network_of(speaks: &str) -> Option<&str> {
    speaks.strip_prefix("/weft/")?.strip_suffix("/1")
}
