//! The life of a connection: it is established, chosen, carries a link, and is let go.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId as NetPeerId};
use tokio::time::Instant;
use weft_core::wire::Decoder;
use weft_core::{Address, DialError, Direction, DownReason};
use weft_identity::PeerId;

use super::super::address::{net_peer, pack, split_peer, transport_name, weft_peer};
use super::super::choice::{Act, Standing};
use super::super::handler::HandlerEvent;
use super::super::link::{Link, LinkId};
use super::super::{LinkEvent, Up, identity_of, network_of, reader, writer};
use super::Driver;

/// How long a connection that was dialled to another network stays, so that the other side learns of the mismatch as well.
const FOREIGN_GRACE: Duration = Duration::from_millis(500);

/// One connection.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) direction: Direction,
    pub(super) address: Multiaddr,
    /// When it is given up unless it carries a link.
    pub(super) deadline: Instant,
    inbound: Option<Stream>,
    outbound: Option<Stream>,
    pub(super) link: Option<Arc<Link>>,
    /// Tasks of its link that have not ended.
    tasks: u8,
    /// Whether the peer speaks for another network, or speaks no link protocol at all.
    is_foreign: bool,
    /// Whether it was made to ask something: this side doesn't begin a link on it.
    is_to_ask: bool,
    /// Streams of the kad protocol that the peer has opened.
    pub(super) kad_inbound: usize,
    /// Where the peer says that it serves the kad protocol, once it has.
    pub(super) serves_at: Arc<OnceLock<Vec<Address>>>,
    /// Whether it has been told to close: it counts for nothing any more, however long that takes.
    pub(super) dropped: bool,
}

impl Connection {
    /// Whether it stands, and carries no link.
    pub(super) fn is_without_link(&self) -> bool {
        self.link.is_none() && !self.dropped
    }

    /// Whether it may still become a link.
    pub(super) fn is_pending(&self) -> bool {
        self.is_without_link() && !self.is_foreign && !self.is_to_ask
    }

    /// Lets it stay a little longer.
    pub(super) fn linger(&mut self, time: Duration) {
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

impl Driver {
    pub(super) fn on_established(
        &mut self,
        id: ConnectionId,
        peer: &NetPeerId,
        endpoint: ConnectedPoint,
    ) {
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
                    Some(link) => link.end(DownReason::Broken(
                        "the peer came back on a new connection".to_owned(),
                    )),
                    None => self.drop_connection(old),
                }
                self.open(new);
            }
            None => {}
        }
    }

    pub(super) fn open(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id) {
            let peer = net_peer(connection.peer);
            self.swarm.behaviour_mut().open(peer, id);
        }
    }

    pub(super) fn on_stream(&mut self, id: ConnectionId, event: HandlerEvent) {
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

    pub(super) fn start(&mut self, id: ConnectionId) {
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

    pub(super) fn on_task_end(&mut self, done: Result<ConnectionId, tokio::task::JoinError>) {
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

    pub(super) fn on_identified(&mut self, id: ConnectionId, speaks: &str) {
        if speaks == identity_of(&self.network) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let network = network_of(speaks);
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

    pub(super) fn on_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.fail_asks(connection.peer, Some(id));
        let act = self.choice.closed(connection.peer, id);
        match connection.link {
            None => self.dials.closed(connection.peer, Instant::now()),
            Some(link) if connection.tasks == 0 && !connection.dropped => {
                // Its tasks were still to start.
                link.end(DownReason::Broken("the connection was closed".to_owned()));
                self.out.push_back(LinkEvent::Ended(link));
            }
            Some(_) => {}
        }
        self.act(act);
    }

    /// Closes a connection without waiting for it: a hung peer may take as long as it likes.
    pub(super) fn drop_connection(&mut self, id: ConnectionId) {
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

    pub(super) fn is_linked(&self, peer: PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.peer == peer && connection.standing() == Standing::Linked)
    }

    pub(super) fn is_pending(&self, peer: PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.peer == peer && connection.is_pending())
    }
}
