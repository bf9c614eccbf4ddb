//! What an application holds: start a node, publish, subscribe, look, stop.

mod config;
mod consumers;
mod dht;
mod error;
mod kv;
mod subscription;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use weft_core::{Core, DialError, RequestId};
use weft_identity::PeerId;
use weft_overlay::Now;
use weft_rpc::{Start, types};

pub use config::Config;
pub(crate) use dht::DhtAnswer;
pub(crate) use dht::hex;
pub use error::{
    AddPeerError, CursorError, DhtError, HistoryError, PingError, PublishError, StartError,
    SubscribeError,
};
pub use subscription::{Delivery, History, Item, Subscription};
pub(crate) use views::moment;
pub use weft_core::input::{Ack, Via};
pub use weft_core::{
    Attributes, AttributesError, Message, Published, Receipt, Roles, TopicName, TopicNameError,
};

use crate::actor::{self, Ask, Call, Gone};
use crate::arrivals::Log;
use crate::consumers::Consumers;
use crate::links::DIAL_TIMEOUT;
use crate::links::address::{net_peer, pack};

/// How long [`Node::shutdown`] takes at most: goodbyes take 3 s where a peer has just fallen silent, what remains
/// is for the disk.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// How long [`Node::add_peer`] takes at most: a dial, and a little for the link.
const ADD_PEER_MAX: Duration = DIAL_TIMEOUT.saturating_add(Duration::from_secs(2));
/// How long [`Node::ping`] waits: by then a silent link is down.
const PING_MAX: Duration = Duration::from_secs(4);

/// A running node. Clones share it; when the last one is dropped, the node stops as if told to.
#[derive(Debug, Clone)]
pub struct Node {
    calls: mpsc::Sender<Call>,
    /// Unbounded: each request and each subscription sends at most one.
    gone: mpsc::UnboundedSender<Gone>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    peer: PeerId,
    network: String,
    started: Instant,
    requests: AtomicU64,
    consumers: Arc<Consumers>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    stopped: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Node {
    /// Starts a node on the current tokio runtime: listens, puts a new epoch on disk, and joins in the background.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let peer = config.keypair.peer_id();
        let network = config.network.clone();
        let running = actor::start(config).await?;
        Ok(Self {
            calls: running.calls,
            gone: running.gone,
            shared: Arc::new(Shared {
                peer,
                network,
                started: Instant::now(),
                requests: AtomicU64::new(1),
                consumers: running.consumers,
                listening: running.listening,
                stopped: running.stopped,
                task: running.task,
            }),
        })
    }

    /// Returns the node's peer id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer
    }

    /// Returns the network's name.
    pub fn network(&self) -> &str {
        &self.shared.network
    }

    /// Returns the multiaddresses that the node listens on, each ending in `/p2p/PEER_ID`.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let peer = Protocol::P2p(net_peer(self.shared.peer));
        let listening = self.shared.listening.borrow();
        listening
            .iter()
            .map(|address| address.clone().with(peer.clone()))
            .collect()
    }

    /// Returns the node at a glance; none once it has stopped.
    pub async fn status(&self) -> Option<types::Status> {
        let status = self.look(|core, _| core.status()).await?;
        Some(types::Status {
            peer_id: self.shared.peer.to_string(),
            network: self.shared.network.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.shared.started.elapsed().as_secs_f64(),
            addresses: self.addresses().iter().map(ToString::to_string).collect(),
            links: status.links,
            active: status.active,
            passive: status.passive,
            topics: views::topic_names(&status),
            dht: views::dht(&status.dht),
            store: views::store(&status.store),
            health: views::health(&status),
            counters: status
                .counters
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        })
    }

    /// Returns the linked peers; none once the node has stopped.
    pub async fn peers(&self) -> Option<types::Peers> {
        let peers = self.look(|core, _| core.peers()).await?;
        Some(types::Peers {
            peers: peers.iter().map(views::peer).collect(),
        })
    }

    /// Returns a swarm's views (`network` is a swarm too); none where the node is no member or has stopped.
    pub async fn overlay_view(&self, topic: &str) -> Option<types::OverlayView> {
        let name = topic.to_owned();
        let view = self.look(move |core, now| core.swarm_view(&name, now));
        Some(views::swarm(topic, &view.await??))
    }

    /// Returns a swarm's trees as this node sees them; none where the node is no member or has stopped.
    pub async fn overlay_tree(&self, topic: &str) -> Option<types::OverlayTree> {
        let name = topic.to_owned();
        let trees = self.look(move |core, _| core.trees(&name));
        Some(views::trees(topic, trees.await??))
    }

    /// Returns the topics that the node is a member of or knows members of; none once it has stopped.
    pub async fn topics(&self) -> Option<types::Topics> {
        let topics = self.look(Core::topics).await?;
        Some(types::Topics {
            topics: topics.iter().map(views::topic).collect(),
        })
    }

    /// Returns who else is known to be a member of a topic; none where the node neither is a member nor knows one, or has
    /// stopped.
    pub async fn topic_members(&self, topic: &TopicName) -> Option<types::TopicMembers> {
        let name = topic.clone();
        let members = self.look(move |core, now| core.topic_members(&name, now));
        Some(views::members(topic.as_str(), &members.await??))
    }

    /// Returns what the node holds of a topic and has counted; none where it knows nothing of it, or has stopped.
    pub async fn topic_stats(&self, topic: &TopicName) -> Option<types::TopicStats> {
        let name = topic.clone();
        let stats = self.look(move |core, now| core.topic_stats(&name, now));
        let (stats, log) = (stats.await?, self.log(topic).await?);
        if stats.is_none() && log.is_none() {
            return None;
        }
        let log = log.map(|log| log.extent());
        Some(views::stats(
            topic.as_str(),
            &stats.unwrap_or_default(),
            log,
        ))
    }

    /// Dials a peer and keeps it in the address book; a peer id at the address's end pins who must answer.
    pub async fn add_peer(&self, address: Multiaddr) -> Result<PeerId, AddPeerError> {
        let Some(address) = pack(&address) else {
            return Err(AddPeerError::Unreachable {
                reason: "the address is too long".to_owned(),
            });
        };
        let answer = self.ask(|reply| Ask::AddPeer { address, reply });
        let outcome = match timeout(ADD_PEER_MAX, answer).await {
            Ok(outcome) => outcome.ok_or(AddPeerError::Stopped)?,
            Err(_) => {
                return Err(AddPeerError::Unreachable {
                    reason: format!("no link came up within {} s", ADD_PEER_MAX.as_secs()),
                });
            }
        };
        outcome.map_err(|error| match error {
            weft_core::AddPeerError::Dial(error) => self.dial_error(error),
            weft_core::AddPeerError::Busy => AddPeerError::Unreachable {
                reason: "as many dials as allowed are under way; try again".to_owned(),
            },
            weft_core::AddPeerError::Stopping => AddPeerError::Stopped,
        })
    }

    /// Closes the link to a peer and forgets its addresses (the peer may come back by itself); false: not linked and not
    /// known. None once the node has stopped.
    pub async fn remove_peer(&self, peer: PeerId) -> Option<bool> {
        self.ask(|reply| Ask::RemovePeer { peer, reply }).await
    }

    /// Has no connections with these peers from now on, and may have some with all others: what there is ends at once. Holds until it is
    /// called again or the node stops. None once the node has stopped.
    pub async fn refuse_peers(&self, peers: BTreeSet<PeerId>) -> Option<()> {
        let (reply, told) = oneshot::channel();
        self.calls.send(Call::Refuse { peers, reply }).await.ok()?;
        told.await.ok()
    }

    /// Measures a round trip over the link's heartbeat.
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, PingError> {
        let peers = self.look(|core, _| core.peers()).await;
        let peers = peers.ok_or(PingError::Stopped)?;
        if !peers.iter().any(|view| view.peer == peer) {
            return Err(PingError::NotLinked);
        }
        match timeout(PING_MAX, self.ask(|reply| Ask::Ping { peer, reply })).await {
            Ok(Some(Some(rtt))) => Ok(rtt),
            Ok(Some(None)) | Err(_) => Err(PingError::LinkLost),
            Ok(None) => Err(PingError::Stopped),
        }
    }

    /// Publishes messages in order; resolves once they are in history, queued to links, and acknowledged as `ack` says. None of them
    /// is published where it fails, unless the error says otherwise. Dropping the future gives up a batch of which nothing has been published yet; one that has begun is published whole.
    pub async fn publish(
        &self,
        topic: &TopicName,
        messages: impl IntoIterator<Item = impl Into<Message>>,
        via: Via,
        ack: Ack,
    ) -> Result<Published, PublishError> {
        let messages = messages.into_iter().map(Into::into).collect();
        let topic = topic.clone();
        let published = self.ask(|reply| Ask::Publish {
            topic,
            messages,
            via,
            ack,
            reply,
        });
        let outcome = published.await.ok_or(PublishError::Stopped)?;
        outcome.map_err(|error| match error {
            weft_core::PublishError::TooLarge { index, bytes } => {
                PublishError::TooLarge { index, bytes }
            }
            weft_core::PublishError::NoKeepers => PublishError::NoKeepers,
            weft_core::PublishError::NotWritten { full } => PublishError::NotWritten { full },
            weft_core::PublishError::Unacknowledged { ack, got, need } => {
                PublishError::Unacknowledged { ack, got, need }
            }
            weft_core::PublishError::Busy => PublishError::Busy,
            weft_core::PublishError::Stopping => PublishError::Stopped,
        })
    }

    /// Subscribes; resolves once the node is a member and its starting place is fixed.
    pub async fn subscribe(
        &self,
        topic: &TopicName,
        start: Start,
    ) -> Result<Subscription, SubscribeError> {
        let topic = topic.clone();
        let subscribed = self.ask(|reply| Ask::Subscribe {
            topic,
            start,
            reply,
        });
        subscribed.await.ok_or(SubscribeError::Stopped)?
    }

    /// Reads a topic's history, without a subscription that stays: at most `items_max` items with at most about `bytes_max`
    /// of payload, but at least one where there is one. Where it doesn't begin at a cursor or the end, what others say that they have is
    /// waited for, for five seconds at most.
    pub async fn history(
        &self,
        topic: &TopicName,
        start: &Start,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<History, HistoryError> {
        if !matches!(start, Start::Latest | Start::After(_)) {
            // What was there before this node was a member, keepers have: they are asked by whoever subscribes.
            let subscription = self.subscribe(topic, start.clone()).await?;
            return subscription.history(start, items_max, bytes_max).await;
        }
        let log = self.log(topic).await.ok_or(HistoryError::Stopped)?;
        let log = log.ok_or(HistoryError::None)?;
        Ok(History::read(&log, start, items_max, bytes_max)?)
    }

    /// Says goodbye to all neighbours and stops; resolves when all tasks have ended. Other clones' calls answer
    /// Stopped or none. May be called again.
    pub async fn shutdown(&self) {
        let stop = async {
            // A node that takes no calls any more is stopping already.
            let _ = self.calls.send(Call::Stop).await;
            self.stopped().await;
        };
        if timeout(SHUTDOWN_MAX, stop).await.is_err() {
            tracing::error!("the node did not stop in time; it is ended without goodbye");
            self.shared.task.abort();
        }
    }

    /// Resolves when the node has stopped.
    pub async fn stopped(&self) {
        let mut stopped = self.shared.stopped.clone();
        // An error means that the task is gone, which is what is waited for.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Returns whether the node has stopped though nobody told it to: a failure, of which the log says more.
    pub fn has_failed(&self) -> bool {
        let stopped = &self.shared.stopped;
        stopped.has_changed().is_err() && !*stopped.borrow()
    }

    /// Asks the core for something; none once the node has stopped. If the future is dropped, the core forgets the request.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let request = RequestId(self.shared.requests.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let ask = ask(reply);
        self.calls.send(Call::Ask { request, ask }).await.ok()?;
        let mut guard = CancelOnDrop {
            request: Some(request),
            gone: &self.gone,
        };
        let answer = answer.await.ok();
        guard.request = None;
        answer
    }

    /// Finds a topic's arrival log, which may not exist; none once the node has stopped.
    async fn log(&self, topic: &TopicName) -> Option<Option<Arc<Log>>> {
        let (reply, answer) = oneshot::channel();
        let topic = topic.clone();
        self.calls.send(Call::Log { topic, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Looks at the core; none once the node has stopped.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |core: &Core, now: Now| {
            // Whoever does not wait any more needs no answer.
            let _ = reply.send(look(core, now));
        });
        self.calls.send(Call::Look(look)).await.ok()?;
        answer.await.ok()
    }

    fn dial_error(&self, error: DialError) -> AddPeerError {
        match error {
            DialError::Unreachable(reason) => AddPeerError::Unreachable { reason },
            DialError::WrongNetwork(theirs) => AddPeerError::WrongNetwork {
                theirs,
                ours: self.shared.network.clone(),
            },
            DialError::OtherPeer(answered) => AddPeerError::OtherPeer { answered },
            DialError::SelfDial => AddPeerError::SelfDial,
        }
    }
}

/// Tells the core that a caller has gone before its answer came.
struct CancelOnDrop<'a> {
    request: Option<RequestId>,
    gone: &'a mpsc::UnboundedSender<Gone>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            // A node that has stopped has forgotten the request already.
            let _ = self.gone.send(Gone::Caller(request));
        }
    }
}
