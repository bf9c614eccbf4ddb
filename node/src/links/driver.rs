//! The task that owns libp2p's swarm: it opens connections, chooses, brings links up and lets connections go.
//!
//! It tells the core's task what happened over the same bounded channel on which the readers hand over frames, so that a
//! link's frames come after its `Up`. The core's task never waits for this one, so waiting for it here is no deadlock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, Stream, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId as NetPeerId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weft_core::wire::{Decoder, KnownBodies};
use weft_core::{Address, DialError, DialId, Direction};
use weft_identity::PeerId;

use super::address::{is_specific, net_peer, pack, split_peer, transport_name, weft_peer};
use super::behaviour::{self, Behaviour};
use super::choice::{Act, Choice, Standing};
use super::dials::Dials;
use super::handler::HandlerEvent;
use super::kad::Asks;
use super::link::{Link, LinkId};
use super::{Limits, LinkEvent, Order, Up, reader, writer};

mod dialling;
mod kad;
mod refuse;

use dialling::dial_error;

/// How long a connection that was dialled to another network stays, so that the other side learns of the mismatch as well.
const FOREIGN_GRACE: Duration = Duration::from_millis(500);

/// One connection.
struct Connection {
    peer: PeerId,
    direction: Direction,
    address: Multiaddr,
    /// When it is given up unless it carries a link.
    deadline: Instant,
    inbound: Option<Stream>,
    outbound: Option<Stream>,
    link: Option<Arc<Link>>,
    /// Tasks of its link that have not ended.
    tasks: u8,
    /// Whether the peer speaks for another network, or speaks no link protocol at all.
    is_foreign: bool,
    /// Whether it was made to ask something: this side doesn't begin a link on it.
    is_to_ask: bool,
    /// Streams of the kad protocol that the peer has opened.
    kad_inbound: usize,
    /// Where the peer says that it serves the kad protocol, once it has.
    serves_at: Arc<OnceLock<Vec<Address>>>,
    /// Whether it has been told to close: it counts for nothing any more, however long that takes.
    dropped: bool,
}

/// What the owner of the swarm is given.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) network: String,
    pub(super) known: Arc<Mutex<KnownBodies>>,
    pub(super) limits: Limits,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) drained: Arc<Notify>,
    pub(super) listening: watch::Sender<Vec<Multiaddr>>,
}

/// The owner of the swarm.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    this: PeerId,
    network: String,
    known: Arc<Mutex<KnownBodies>>,
    limits: Limits,
    orders: mpsc::UnboundedReceiver<Order>,
    events: mpsc::Sender<LinkEvent>,
    drained: Arc<Notify>,
    listening: watch::Sender<Vec<Multiaddr>>,
    connections: BTreeMap<ConnectionId, Connection>,
    choice: Choice<ConnectionId>,
    dials: Dials<ConnectionId>,
    links_made: u64,
    /// What the core's task is told next.
    out: VecDeque<LinkEvent>,
    /// Links whose tasks start once their `Up` has been told.
    starting: Vec<ConnectionId>,
    /// Readers and writers; both end with their link.
    tasks: JoinSet<ConnectionId>,
    asks: Asks<ConnectionId, kad::Asking>,
    /// Connections that are being made to ask a peer.
    reaching_to_ask: BTreeMap<ConnectionId, PeerId>,
    /// Connections that are being made to prove where a peer is.
    proving: BTreeMap<ConnectionId, DialId>,
    /// Streams of the kad protocol that peers have opened.
    kad_inbound: usize,
    /// When a stream to a peer has been free for long enough.
    tidy_asks_at: Option<Instant>,
    /// One a stream in use.
    kad_tasks: JoinSet<kad::Done>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let this = weft_peer(parts.swarm.local_peer_id()).expect("a node's key is ed25519");
        Self {
            swarm: parts.swarm,
            this,
            network: parts.network,
            known: parts.known,
            limits: parts.limits,
            orders: parts.orders,
            events: parts.events,
            drained: parts.drained,
            listening: parts.listening,
            connections: BTreeMap::new(),
            choice: Choice::new(this),
            dials: Dials::default(),
            links_made: 0,
            out: VecDeque::new(),
            starting: Vec::new(),
            tasks: JoinSet::new(),
            asks: Asks::default(),
            reaching_to_ask: BTreeMap::new(),
            proving: BTreeMap::new(),
            kad_inbound: 0,
            tidy_asks_at: None,
            kad_tasks: JoinSet::new(),
        }
    }

    /// Listens, and returns once each address has been reported.
    pub(super) async fn listen(
        &mut self,
        addresses: &[Multiaddr],
    ) -> Result<(), (Multiaddr, String)> {
        for address in addresses {
            let failed = |reason: String| (address.clone(), reason);
            let listener = self
                .swarm
                .listen_on(address.clone())
                .map_err(|error| failed(error.to_string()))?;
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == listener => {
                        break;
                    }
                    SwarmEvent::ListenerClosed {
                        listener_id,
                        reason,
                        ..
                    } if listener_id == listener => {
                        let reason = reason.err().map(|error| error.to_string());
                        return Err(failed(reason.unwrap_or_else(|| "it was closed".to_owned())));
                    }
                    event => self.on_swarm(event),
                }
            }
        }
        self.tell_listening();
        Ok(())
    }

    /// Runs until nobody gives orders any more.
    pub(super) async fn run(mut self) {
        loop {
            if self.tell().await.is_err() {
                return;
            }
            let deadline = self.deadline();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Dial { dial, peer, addresses }) => self.dial(dial, peer, &addresses),
                    Some(Order::Prove { dial, peer, addresses }) => self.prove(dial, peer, &addresses),
                    Some(Order::KadAsk(ask)) => self.ask(ask),
                    Some(Order::Refuse(peers)) => self.refuse(&peers),
                    None => return,
                },
                Some(done) = self.tasks.join_next() => self.on_task_end(done),
                Some(done) = self.kad_tasks.join_next() => self.on_kad_done(done),
                event = self.swarm.select_next_some() => self.on_swarm(event),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            self.give_up_late();
        }
    }

    /// Tells what has happened, then starts the links that this brought up.
    async fn tell(&mut self) -> Result<(), mpsc::error::SendError<LinkEvent>> {
        while let Some(event) = self.out.pop_front() {
            self.events.send(event).await?;
        }
        for id in std::mem::take(&mut self.starting) {
            self.start(id);
        }
        Ok(())
    }

    fn on_swarm(&mut self, event: SwarmEvent<behaviour::Event>) {
        match event {
            SwarmEvent::Behaviour(behaviour::Event::Link(id, event)) => self.on_stream(id, event),
            SwarmEvent::Behaviour(behaviour::Event::Kad(id, event)) => {
                self.on_kad_stream(id, event);
            }
            SwarmEvent::Behaviour(behaviour::Event::Identified(id, said)) => {
                if said.serves_kad {
                    self.on_kad_known(id, &said.listens);
                }
                self.on_identified(id, &said.speaks);
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.on_established(connection_id, &peer_id, endpoint),
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.on_closed(connection_id),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                let error = dial_error(&error);
                self.not_reached(connection_id, &error);
                self.dials.attempt_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "a handshake failed");
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => self.tell_listening(),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "accepting a connection failed; is the limit of open files reached?");
            }
            _ => {}
        }
    }

    fn tell_listening(&mut self) {
        let mut addresses: Vec<Multiaddr> = self
            .swarm
            .listeners()
            .filter(|address| is_specific(address))
            .cloned()
            .collect();
        addresses.sort();
        let packed = addresses.iter().filter_map(pack).collect();
        self.out.push_back(LinkEvent::Listening(packed));
        self.listening.send_replace(addresses);
    }

    // The life of a connection.

    fn on_established(&mut self, id: ConnectionId, peer: &NetPeerId, endpoint: ConnectedPoint) {
        let Some(peer) = weft_peer(peer) else {
            tracing::debug!(%peer, "a peer whose key is not ed25519 is refused");
            self.swarm.close_connection(id);
            return;
        };
        if self.reached(id, peer) {
            self.swarm.behaviour_mut().forget(id);
            self.swarm.close_connection(id);
            return;
        }
        let is_to_ask = self.reaching_to_ask.remove(&id).is_some();
        let (direction, address) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (Direction::Outbound, split_peer(address).0),
            ConnectedPoint::Listener { send_back_addr, .. } => (Direction::Inbound, send_back_addr),
        };
        let connection = Connection {
            peer,
            direction,
            address,
            deadline: Instant::now() + self.limits.link_timeout,
            inbound: None,
            outbound: None,
            link: None,
            tasks: 0,
            is_foreign: false,
            is_to_ask,
            kad_inbound: 0,
            serves_at: Arc::default(),
            dropped: false,
        };
        self.connections.insert(id, connection);
        if is_to_ask {
            // If the peer has links, it may bring one up on this connection; this side doesn't wait for it.
            let begin = self.asks.connected(peer, id);
            return self.begin(peer, begin);
        }
        self.dials.established(id, peer);
        if self.is_linked(peer) {
            // Whom an address belongs to shows only now, and the peer's own connection was faster.
            self.end_dials(peer);
        }
        let connections = &self.connections;
        let act = self.choice.established(peer, id, |chosen| {
            let chosen = connections.get(&chosen);
            chosen.map_or(Standing::Dead, Connection::standing)
        });
        self.act(act);
    }

    fn act(&mut self, act: Option<Act<ConnectionId>>) {
        match act {
            Some(Act::Open(id)) => self.open(id),
            Some(Act::Drop(id)) => self.drop_connection(id),
            Some(Act::Replace(old, new)) => {
                match self.connections.get(&old).and_then(|c| c.link.as_ref()) {
                    Some(link) => link.end(weft_core::DownReason::Broken(
                        "the peer came back on a new connection".to_owned(),
                    )),
                    None => self.drop_connection(old),
                }
                self.open(new);
            }
            None => {}
        }
    }

    fn open(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id) {
            let peer = net_peer(connection.peer);
            self.swarm.behaviour_mut().open(peer, id);
        }
    }

    fn on_stream(&mut self, id: ConnectionId, event: HandlerEvent) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| !c.dropped) else {
            return;
        };
        let peer = connection.peer;
        match event {
            HandlerEvent::Inbound(stream) => {
                connection.inbound = Some(stream);
                let act = self.choice.opened_by_peer(peer, id);
                self.act(act);
            }
            HandlerEvent::Outbound(stream) => connection.outbound = Some(stream),
            HandlerEvent::OutboundFailed(reason) => {
                // Identify may yet say that the network is another: the connection keeps its time.
                tracing::debug!(%peer, reason, "no link");
                self.dials.note(peer, &DialError::Unreachable(reason));
            }
        }
        self.bring_up(id);
    }

    /// Tells that a link is up, once both its streams are there.
    fn bring_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let peer = connection.peer;
        let whole = connection.inbound.is_some() && connection.outbound.is_some();
        if !whole || connection.link.is_some() || !self.choice.is_chosen(peer, id) {
            return;
        }
        self.links_made += 1;
        let link = Arc::new(Link::new(
            LinkId(self.links_made),
            peer,
            self.drained.clone(),
        ));
        connection.link = Some(link.clone());
        self.out.push_back(LinkEvent::Up(Up {
            link,
            direction: connection.direction,
            address: pack(&connection.address),
            transport: transport_name(&connection.address),
        }));
        self.end_dials(peer);
        self.starting.push(id);
        let act = self.choice.linked(peer);
        self.act(act);
    }

    fn end_dials(&mut self, peer: PeerId) {
        for dial in self.dials.linked(peer) {
            self.out.push_back(LinkEvent::Dialled { dial, peer });
        }
    }

    fn start(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            // It closed before it began: the link has no reader that would say so.
            return;
        };
        let (Some(inbound), Some(outbound), Some(link)) = (
            connection.inbound.take(),
            connection.outbound.take(),
            connection.link.clone(),
        ) else {
            return;
        };
        connection.tasks = 2;
        let decoder = Decoder::new(connection.peer, self.known.clone());
        let (events, writing) = (self.events.clone(), link.clone());
        let stall_timeout = self.limits.stall_timeout;
        self.tasks.spawn(async move {
            reader::run(inbound, link, decoder, events).await;
            id
        });
        self.tasks.spawn(async move {
            writer::run(outbound, writing, stall_timeout).await;
            id
        });
    }

    fn on_task_end(&mut self, done: Result<ConnectionId, tokio::task::JoinError>) {
        let id = match done {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, "a link's task failed; this is a bug");
                return;
            }
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.tasks = connection.tasks.saturating_sub(1);
        if connection.tasks == 0 {
            self.drop_connection(id);
        }
    }

    fn on_identified(&mut self, id: ConnectionId, speaks: &str) {
        if speaks == super::identity_of(&self.network) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let network = super::network_of(speaks);
        let theirs = network.unwrap_or(speaks);
        let peer = connection.peer;
        tracing::debug!(%peer, theirs, ours = self.network, "a peer of another network");
        self.dials
            .note(peer, &DialError::WrongNetwork(theirs.to_owned()));
        // The peer should learn this node's network, too, before the connection's time is up.
        connection.is_foreign = true;
        match connection.direction {
            Direction::Outbound => connection.deadline = Instant::now() + FOREIGN_GRACE,
            // Any libp2p peer may ask over the kad protocol's streams.
            Direction::Inbound if network.is_none() => {}
            Direction::Inbound => self.out.push_back(LinkEvent::Stranger {
                peer,
                network: theirs.to_owned(),
            }),
        }
    }

    fn on_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.fail_asks(connection.peer, Some(id));
        let act = self.choice.closed(connection.peer, id);
        match connection.link {
            None => self.dials.closed(connection.peer, Instant::now()),
            Some(link) if connection.tasks == 0 && !connection.dropped => {
                // Its tasks were still to start.
                link.end(weft_core::DownReason::Broken(
                    "the connection was closed".to_owned(),
                ));
                self.out.push_back(LinkEvent::Ended(link));
            }
            Some(_) => {}
        }
        self.act(act);
    }

    /// Closes a connection without waiting for it: a hung peer may take as long as it likes.
    fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut connection.dropped, true) {
            return;
        }
        (connection.inbound, connection.outbound) = (None, None);
        let peer = connection.peer;
        self.fail_asks(peer, Some(id));
        let act = self.choice.closed(peer, id);
        self.swarm.behaviour_mut().forget(id);
        self.swarm.close_connection(id);
        self.act(act);
    }

    // Time.

    fn deadline(&self) -> Option<Instant> {
        let connections = self.connections.iter();
        connections
            .filter(|(id, connection)| self.is_unused(**id, connection))
            .map(|(_, connection)| connection.deadline)
            .chain(self.dials.deadline())
            .chain(self.tidy_asks_at)
            .min()
    }

    /// Whether a connection carries neither a link nor streams of the kad protocol.
    fn is_unused(&self, id: ConnectionId, connection: &Connection) -> bool {
        let asks = self.asks.uses(connection.peer, id);
        connection.is_without_link() && connection.kad_inbound == 0 && !asks
    }

    fn give_up_late(&mut self) {
        let now = Instant::now();
        self.tidy_asks_at = self.asks.tidy(now);
        let late: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(id, connection)| {
                self.is_unused(**id, connection) && connection.deadline <= now
            })
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            tracing::debug!(connection = %id, "given up: it carries nothing");
            self.drop_connection(id);
        }
        let connections = &self.connections;
        let pending = |peer| {
            connections
                .values()
                .any(|connection| connection.peer == peer && connection.is_pending())
        };
        for (dial, error) in self.dials.failed(now, pending) {
            self.out.push_back(LinkEvent::DialFailed { dial, error });
        }
    }

    fn is_linked(&self, peer: PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.peer == peer && connection.standing() == Standing::Linked)
    }

    fn is_pending(&self, peer: PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.peer == peer && connection.is_pending())
    }
}

impl Connection {
    /// Whether it stands, and carries no link.
    fn is_without_link(&self) -> bool {
        self.link.is_none() && !self.dropped
    }

    /// Whether it may still become a link.
    fn is_pending(&self) -> bool {
        self.is_without_link() && !self.is_foreign && !self.is_to_ask
    }

    /// Lets it stay a little longer.
    fn linger(&mut self, time: Duration) {
        self.deadline = self.deadline.max(Instant::now() + time);
    }

    fn standing(&self) -> Standing {
        match &self.link {
            _ if self.dropped => Standing::Dead,
            None => Standing::Pending,
            Some(link) if link.is_ended() => Standing::Dead,
            Some(_) => Standing::Linked,
        }
    }
}
