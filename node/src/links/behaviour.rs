//! What libp2p's swarm runs on each connection: identify, the streams of a link, those of the kad protocol; and how many connections there may be.
//!
//! It is written out instead of derived, because it is small and the limits belong at the very places where libp2p asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identity::PublicKey;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify};

use super::handler::{Handler, HandlerEvent, OpenStream};
use super::{Limits, kad};

/// Connections that peers may have opened to this node: a view of five, topics, and many who only ask. A descriptor a
/// connection stays below the usual limit of 1,024.
const INBOUND_MAX: usize = 512;
/// Handshakes under way with peers that dialled: they cost memory before anyone is known.
const INBOUND_PENDING_MAX: usize = 128;
/// Connections with one peer: a simultaneous dial makes two, and one more is made to prove where it is.
const PER_PEER_MAX: usize = 3;

/// What the behaviour tells the owner of the swarm.
#[derive(Debug)]
pub(super) enum Event {
    /// Something happened to the streams of a link.
    Link(ConnectionId, HandlerEvent),
    /// Something happened to streams of the kad protocol.
    Kad(ConnectionId, kad::HandlerEvent),
    /// The peer said what it speaks.
    Identified(ConnectionId, Said),
}

/// What a peer says of itself by identify.
#[derive(Debug)]
pub(super) struct Said {
    /// Its `protocol_version`.
    pub(super) speaks: String,
    /// Whether it answers queries of this network's kad protocol.
    pub(super) serves_kad: bool,
    /// Where it listens.
    pub(super) listens: Vec<Multiaddr>,
}

/// Identify, link streams and kad streams on each connection.
pub(super) struct Behaviour {
    identify: identify::Behaviour,
    protocol: StreamProtocol,
    kad: StreamProtocol,
    serves_kad: bool,
    limits: Limits,
    connections: Connections,
    /// Peers with whom there are no connections.
    refused: BTreeSet<PeerId>,
    events: VecDeque<ToSwarm<Event, THandlerInEvent<Self>>>,
}

impl Behaviour {
    pub(super) fn new(network: &str, key: PublicKey, serves_kad: bool, limits: Limits) -> Self {
        let config = identify::Config::new(super::identity_of(network), key)
            .with_agent_version(concat!("weft/", env!("CARGO_PKG_VERSION")).to_owned())
            // Among nodes addresses travel in signed descriptors; other libp2p peers ask a server where it listens.
            .with_cache_size(0)
            .with_hide_listen_addrs(!serves_kad);
        let protocol = StreamProtocol::try_from_owned(format!("/weft/{network}/link/1"))
            .expect("it begins with a slash");
        Self {
            identify: identify::Behaviour::new(config),
            protocol,
            kad: kad::protocol(network),
            serves_kad,
            limits,
            connections: Connections::default(),
            refused: BTreeSet::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens this side's stream of a link.
    pub(super) fn open(&mut self, peer_id: PeerId, connection: ConnectionId) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: Either::Right(Either::Left(OpenStream)),
        });
    }

    /// Opens a stream of the kad protocol.
    pub(super) fn open_kad(&mut self, peer_id: PeerId, connection: ConnectionId) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: Either::Right(Either::Right(kad::OpenStream)),
        });
    }

    /// Refuses connections with these peers from now on, and with no others.
    pub(super) fn refuse(&mut self, peers: BTreeSet<PeerId>) {
        self.refused = peers;
    }

    fn admit(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        if self.refused.contains(peer) {
            return Err(ConnectionDenied::new("this peer is refused here"));
        }
        Ok(())
    }

    fn handler(&self) -> Streams {
        let link = Handler::new(self.protocol.clone(), self.limits.link_timeout);
        link.select(kad::Handler::new(self.kad.clone(), self.serves_kad))
    }

    /// Stops counting a connection toward its peer's: it is being closed, and closing may take as long as a hung peer likes.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.forget(connection);
    }
}

type Streams = ConnectionHandlerSelect<Handler, kad::Handler>;
type Joined = ConnectionHandlerSelect<THandler<identify::Behaviour>, Streams>;

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Joined;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.connections.pending_inbound(id)?;
        self.identify
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Joined, ConnectionDenied> {
        self.admit(&peer)?;
        self.connections.inbound(id, peer)?;
        let identify = self
            .identify
            .handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(identify.select(self.handler()))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.admit(&peer)?;
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Joined, ConnectionDenied> {
        self.admit(&peer)?;
        self.connections.outbound(id, peer)?;
        let identify = self
            .identify
            .handle_established_outbound_connection(id, peer, address, role, port_use)?;
        Ok(identify.select(self.handler()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.connections.closed(closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.connections.closed(failure.connection_id),
            FromSwarm::DialFailure(failure) => self.connections.closed(failure.connection_id),
            _ => {}
        }
        self.identify.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.identify.on_connection_handler_event(peer, id, event),
            Either::Right(event) => {
                let event = match event {
                    Either::Left(event) => Event::Link(id, event),
                    Either::Right(event) => Event::Kad(id, event),
                };
                self.events.push_back(ToSwarm::GenerateEvent(event));
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            // Whatever is pushed here is pushed by the swarm's own task, which polls again: no waker is needed.
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.identify.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(identify::Event::Received {
                    connection_id,
                    info,
                    ..
                })) => {
                    let said = Said {
                        serves_kad: info.protocols.contains(&self.kad),
                        speaks: info.protocol_version,
                        listens: info.listen_addrs,
                    };
                    let event = Event::Identified(connection_id, said);
                    return Poll::Ready(ToSwarm::GenerateEvent(event));
                }
                Poll::Ready(ToSwarm::GenerateEvent(_)) => {}
                Poll::Ready(other) => {
                    return Poll::Ready(
                        other
                            .map_in(Either::Left)
                            .map_out(|_| unreachable!("events are handled above")),
                    );
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Counts connections and refuses those over the limits.
#[derive(Debug, Default)]
struct Connections {
    inbound_pending: BTreeMap<ConnectionId, ()>,
    inbound: BTreeMap<ConnectionId, ()>,
    peers: BTreeMap<ConnectionId, PeerId>,
}

impl Connections {
    fn pending_inbound(&mut self, id: ConnectionId) -> Result<(), ConnectionDenied> {
        if self.inbound_pending.len() >= INBOUND_PENDING_MAX {
            return Err(ConnectionDenied::new("too many handshakes are under way"));
        }
        if self.inbound.len() >= INBOUND_MAX {
            return Err(ConnectionDenied::new("too many peers are connected"));
        }
        self.inbound_pending.insert(id, ());
        Ok(())
    }

    fn inbound(&mut self, id: ConnectionId, peer: PeerId) -> Result<(), ConnectionDenied> {
        self.inbound_pending.remove(&id);
        if self.inbound.len() >= INBOUND_MAX {
            return Err(ConnectionDenied::new("too many peers are connected"));
        }
        self.outbound(id, peer)?;
        self.inbound.insert(id, ());
        Ok(())
    }

    fn outbound(&mut self, id: ConnectionId, peer: PeerId) -> Result<(), ConnectionDenied> {
        if self.peers.values().filter(|&&other| other == peer).count() >= PER_PEER_MAX {
            return Err(ConnectionDenied::new(
                "three connections with this peer exist",
            ));
        }
        self.peers.insert(id, peer);
        Ok(())
    }

    fn forget(&mut self, id: ConnectionId) {
        self.peers.remove(&id);
    }

    fn closed(&mut self, id: ConnectionId) {
        self.inbound_pending.remove(&id);
        self.inbound.remove(&id);
        self.peers.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn connections_are_bounded_in_all_and_a_peer() {
        let mut connections = Connections::default();
        let peer = PeerId::random();
        connections.outbound(id(1), peer).unwrap();
        connections.inbound(id(2), peer).unwrap();
        connections.inbound(id(5), peer).unwrap();
        assert!(connections.inbound(id(3), peer).is_err());
        connections.forget(id(1));
        connections.inbound(id(4), peer).unwrap();
        for n in 10..10 + INBOUND_MAX {
            let _ = connections.inbound(id(n), PeerId::random());
        }
        assert_eq!(connections.inbound.len(), INBOUND_MAX);
        assert!(connections.pending_inbound(id(9_999)).is_err());
        connections.closed(id(2));
        connections.pending_inbound(id(9_999)).unwrap();
    }

    #[test]
    fn handshakes_under_way_are_bounded() {
        let mut connections = Connections::default();
        for n in 0..INBOUND_PENDING_MAX {
            connections.pending_inbound(id(n)).unwrap();
        }
        assert!(connections.pending_inbound(id(9_999)).is_err());
        connections.closed(id(0));
        connections.pending_inbound(id(9_999)).unwrap();
    }
}
