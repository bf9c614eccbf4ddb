//! The task that owns libp2p's swarm: it opens connections, chooses, brings links up and lets connections go.
//!
//! It tells the core's task what happened over the same bounded channel on which the readers hand over frames, so that a
//! link's frames come after its `Up`. The core's task never waits for this one, so waiting for it here is no deadlock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weft_core::DialId;
use weft_core::wire::KnownBodies;
use weft_identity::PeerId;

use super::address::{is_specific, pack, weft_peer};
use super::behaviour::{self, Behaviour};
use super::choice::Choice;
use super::dials::Dials;
use super::kad::Asks;
use super::{Limits, LinkEvent, Order};

mod connections;
mod dialling;
mod kad;
mod refuse;

use connections::Connection;
use dialling::dial_error;

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
}
