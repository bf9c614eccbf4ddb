//! What callers ask of the core's task, and the answers that are still owed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weft_core::input::{Ack, Reach, Via};
use weft_core::{
    AddPeerError, Address, Command, Core, Message, PublishError, Published, Reply, RequestId,
    TopicName,
};
use weft_dht::Key;
use weft_dht::dht::Call as DhtCall;
use weft_dht::store::{Call as KvCall, DiskError, Outcome as KvOutcome};
use weft_identity::PeerId;
use weft_overlay::Now;
use weft_rpc::Start;

use crate::arrivals::{Arrivals, Log};
use crate::handle::{DhtAnswer, SubscribeError, Subscription};

/// A look at the core; sends its answer itself.
type Look = Box<dyn FnOnce(&Core, Now) + Send>;

/// A call of a handle.
pub(crate) enum Call {
    /// The core must do something, now or later.
    Ask { request: RequestId, ask: Ask },
    /// Somebody looks at the core.
    Look(Look),
    /// Somebody reads a topic's arrival log; none where there is none.
    Log {
        topic: TopicName,
        reply: oneshot::Sender<Option<Arc<Log>>>,
    },
    /// From now on these peers are refused, and no others.
    Refuse {
        peers: BTreeSet<PeerId>,
        reply: oneshot::Sender<()>,
    },
    /// The node stops.
    Stop,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { request, .. } => write!(f, "Ask({request:?})"),
            Self::Look(_) => f.write_str("Look"),
            Self::Log { topic, .. } => write!(f, "Log({topic:?})"),
            Self::Refuse { peers, .. } => write!(f, "Refuse({peers:?})"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

/// What the core must do, and where its answer goes.
pub(crate) enum Ask {
    Publish {
        topic: TopicName,
        messages: Vec<Message>,
        via: Via,
        ack: Ack,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    Subscribe {
        topic: TopicName,
        start: Start,
        reply: oneshot::Sender<Result<Subscription, SubscribeError>>,
    },
    KeepLog {
        topic: TopicName,
        reply: oneshot::Sender<Result<(), DiskError>>,
    },
    AddPeer {
        address: Address,
        reply: oneshot::Sender<Result<PeerId, AddPeerError>>,
    },
    RemovePeer {
        peer: PeerId,
        reply: oneshot::Sender<bool>,
    },
    Ping {
        peer: PeerId,
        reply: oneshot::Sender<Option<Duration>>,
    },
    Dht {
        call: DhtCall<PeerId>,
        reply: oneshot::Sender<DhtAnswer>,
    },
    StopProviding {
        key: Key,
        reply: oneshot::Sender<bool>,
    },
    Kv {
        call: KvCall<PeerId>,
        reply: oneshot::Sender<KvOutcome<PeerId>>,
    },
}

/// Returns how far before this node's own log a reader begins.
const fn reach(start: &Start) -> Reach {
    match start {
        // A cursor is a place in the log.
        Start::Latest | Start::After(_) => Reach::Base,
        Start::Last(messages) => Reach::Last(*messages),
        // When what came, the log doesn't know of what it hasn't got.
        Start::Earliest | Start::Since(_) => Reach::All,
    }
}

/// What has gone without a word.
#[derive(Debug)]
pub(crate) enum Gone {
    /// A caller that waited for an answer.
    Caller(RequestId),
    /// A subscription.
    Unsubscribed(TopicName),
    /// A named consumer, which may have been the last of its topic.
    Consumer(TopicName),
}

/// Where the answer to a request goes.
enum Owed {
    Published(oneshot::Sender<Result<Published, PublishError>>),
    Subscribed(
        TopicName,
        Start,
        oneshot::Sender<Result<Subscription, SubscribeError>>,
    ),
    LogKept(oneshot::Sender<Result<(), DiskError>>),
    PeerAdded(oneshot::Sender<Result<PeerId, AddPeerError>>),
    PeerRemoved(oneshot::Sender<bool>),
    Pong(oneshot::Sender<Option<Duration>>),
    Dht(oneshot::Sender<DhtAnswer>),
    ProvidingStopped(oneshot::Sender<bool>),
    Kv(oneshot::Sender<KvOutcome<PeerId>>),
}

/// The answers that are owed. Bounded by the callers that wait: each is a future somebody holds.
pub(crate) struct Requests {
    owed: BTreeMap<RequestId, Owed>,
    /// Handed to each subscription.
    gone: mpsc::UnboundedSender<Gone>,
}

impl Requests {
    pub(crate) fn new(gone: mpsc::UnboundedSender<Gone>) -> Self {
        Self {
            owed: BTreeMap::new(),
            gone,
        }
    }

    /// Notes where the answer goes; returns what the core is told.
    pub(crate) fn begin(&mut self, request: RequestId, ask: Ask) -> Command {
        let (owed, command) = match ask {
            Ask::Publish {
                topic,
                messages,
                via,
                ack,
                reply,
            } => (
                Owed::Published(reply),
                Command::Publish {
                    request,
                    topic,
                    messages,
                    via,
                    ack,
                },
            ),
            Ask::Subscribe {
                topic,
                start,
                reply,
            } => {
                let reach = reach(&start);
                let owed = Owed::Subscribed(topic.clone(), start, reply);
                let command = Command::Subscribe {
                    request,
                    topic,
                    reach,
                };
                (owed, command)
            }
            Ask::KeepLog { topic, reply } => {
                (Owed::LogKept(reply), Command::KeepLog { request, topic })
            }
            Ask::AddPeer { address, reply } => (
                Owed::PeerAdded(reply),
                Command::AddPeer { request, address },
            ),
            Ask::RemovePeer { peer, reply } => (
                Owed::PeerRemoved(reply),
                Command::RemovePeer { request, peer },
            ),
            Ask::Ping { peer, reply } => (Owed::Pong(reply), Command::Ping { request, peer }),
            Ask::Dht { call, reply } => (Owed::Dht(reply), Command::Dht { request, call }),
            Ask::Kv { call, reply } => (Owed::Kv(reply), Command::Kv { request, call }),
            Ask::StopProviding { key, reply } => (
                Owed::ProvidingStopped(reply),
                Command::StopProviding { request, key },
            ),
        };
        self.owed.insert(request, owed);
        command
    }

    /// Forgets a request; returns whether its answer was still owed.
    pub(crate) fn forget(&mut self, request: RequestId) -> bool {
        self.owed.remove(&request).is_some()
    }

    /// Hands an answer on. A caller that has gone meanwhile drops what it would have got, and a subscription that is
    /// dropped unsubscribes.
    pub(crate) fn answer(&mut self, request: RequestId, reply: Reply, arrivals: &mut Arrivals) {
        let Some(owed) = self.owed.remove(&request) else {
            if let Reply::Subscribed { .. } = reply {
                tracing::error!(
                    ?request,
                    "a subscription that nobody asked for; this is a bug"
                );
            }
            return;
        };
        match (owed, reply) {
            (Owed::Published(to), Reply::Published(outcome)) => drop(to.send(outcome)),
            (Owed::Subscribed(topic, start, to), Reply::Subscribed { neighbours, heads }) => {
                let Some(log) = arrivals.log(&topic) else {
                    return tracing::error!(%topic, "a member without a log; this is a bug");
                };
                let subscription = Subscription::new(topic, log, neighbours, self.gone.clone());
                // One that can't begin where it should is dropped, and so unsubscribes.
                let begun = subscription.begin_at(&start, heads);
                drop(to.send(begun.map_err(SubscribeError::Cursor)));
            }
            (Owed::Subscribed(_, _, to), Reply::TooManyTopics) => {
                drop(to.send(Err(SubscribeError::TooMany)));
            }
            (Owed::LogKept(to), Reply::LogKept(result)) => drop(to.send(result)),
            (Owed::PeerAdded(to), Reply::PeerAdded(outcome)) => drop(to.send(outcome)),
            (Owed::PeerRemoved(to), Reply::PeerRemoved(removed)) => drop(to.send(removed)),
            (Owed::Pong(to), Reply::Pong(rtt)) => drop(to.send(rtt)),
            (Owed::Dht(to), Reply::Dht { outcome, stats }) => drop(to.send((outcome, stats))),
            (Owed::ProvidingStopped(to), Reply::ProvidingStopped(it)) => drop(to.send(it)),
            (Owed::Kv(to), Reply::Kv(outcome)) => drop(to.send(outcome)),
            (_, reply) => {
                tracing::error!(?request, ?reply, "an answer of another kind; this is a bug");
            }
        }
    }
}
