//! How the owner of the swarm serves and asks over the kad protocol's streams, and how it reaches peers to prove where they are.

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId as NetPeerId};
use tokio::time::Instant;
use weft_core::wire::kad::PacketDecoder;
use weft_core::{Address, DialError, DialId, Direction};
use weft_identity::PeerId;

use super::super::LinkEvent;
use super::super::address::{net_peer, pack, split_peer, unpack};
use super::super::kad::{
    self, Ask, Begin, Failure, HandlerEvent, INBOUND_MAX, INBOUND_PER_CONNECTION_MAX,
};
use super::Driver;

/// How long a connection without a link stays after its last stream of the kad protocol: for the next question of the same lookup.
const LINGER: Duration = Duration::from_secs(3);

/// A stream to a peer that is asked.
pub(super) struct Asking {
    stream: Stream,
    /// Whether it has carried an exchange: the peer may have closed it since.
    used: bool,
}

/// What a task for a stream has come to.
pub(super) enum Done {
    /// A peer's stream has ended.
    Served(ConnectionId),
    /// An exchange has ended.
    Asked(Box<Asked>),
}

/// How an exchange has ended.
pub(super) struct Asked {
    peer: PeerId,
    connection: ConnectionId,
    /// Its stream, where that can be used again.
    stream: Option<Asking>,
    /// What is asked again, because it failed on a stream that had been used before.
    again: Option<Ask>,
}

impl Driver {
    pub(super) fn on_kad_stream(&mut self, id: ConnectionId, event: HandlerEvent) {
        let Some(connection) = self.connections.get(&id).filter(|c| !c.dropped) else {
            return;
        };
        let peer = connection.peer;
        match event {
            HandlerEvent::Inbound(stream) => self.serve(id, stream),
            HandlerEvent::Outbound(stream) => {
                let asking = Asking {
                    stream,
                    used: false,
                };
                let begin = self.asks.opened(peer, id, asking, Instant::now());
                self.begin(peer, begin);
            }
            HandlerEvent::OutboundFailed => self.fail_asks(peer, Some(id)),
        }
    }

    fn serve(&mut self, id: ConnectionId, stream: Stream) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.kad_inbound >= INBOUND_PER_CONNECTION_MAX || self.kad_inbound >= INBOUND_MAX {
            tracing::debug!(peer = %connection.peer, "too many kad streams; one is reset");
            return;
        }
        connection.kad_inbound += 1;
        self.kad_inbound += 1;
        let decoder = PacketDecoder::new(self.known.clone());
        let serves_at = Arc::clone(&connection.serves_at);
        let (peer, events) = (connection.peer, self.events.clone());
        self.kad_tasks.spawn(async move {
            kad::serve(stream, peer, decoder, serves_at, events).await;
            Done::Served(id)
        });
    }

    /// Takes a question that the core has for a peer.
    pub(super) fn ask(&mut self, ask: Ask) {
        let peer = ask.peer;
        let addresses = ask.addresses.clone();
        match self.asks.ask(ask) {
            Begin::Connect => self.connect_to_ask(peer, &addresses),
            begin => self.begin(peer, begin),
        }
    }

    pub(super) fn begin(&mut self, peer: PeerId, begin: Begin<ConnectionId, Asking>) {
        match begin {
            Begin::Nothing | Begin::Connect => {}
            Begin::Refuse => self.out.push_back(LinkEvent::KadFailed { peer }),
            Begin::Open(id) => self.swarm.behaviour_mut().open_kad(net_peer(peer), id),
            Begin::Exchange(id, asking, ask) => self.exchange(id, asking, ask),
        }
    }

    /// Finds or makes a connection that proves where the peer is: one that this node has dialled.
    fn connect_to_ask(&mut self, peer: PeerId, addresses: &[Address]) {
        let mut connections = self.connections.iter();
        let made = connections
            .find(|(_, c)| c.peer == peer && c.direction == Direction::Outbound && !c.dropped);
        if let Some((&id, _)) = made {
            let begin = self.asks.connected(peer, id);
            return self.begin(peer, begin);
        }
        match self.reach(peer, addresses) {
            Ok(id) => {
                self.reaching_to_ask.insert(id, peer);
            }
            Err(_) => self.fail_asks(peer, None),
        }
    }

    /// Opens a connection to a peer, whatever others there are.
    fn reach(&mut self, peer: PeerId, addresses: &[Address]) -> Result<ConnectionId, DialError> {
        let addresses: Vec<Multiaddr> = addresses
            .iter()
            .filter_map(unpack)
            .map(|address| split_peer(address).0)
            .collect();
        if addresses.is_empty() {
            let reason = "no address that this node can dial".to_owned();
            return Err(DialError::Unreachable(reason));
        }
        if peer == self.this {
            return Err(DialError::SelfDial);
        }
        let options = DialOpts::peer_id(net_peer(peer))
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        let id = options.connection_id();
        let dialled = self.swarm.dial(options);
        dialled.map(|()| id).map_err(|e| super::dial_error(&e))
    }

    fn exchange(&mut self, id: ConnectionId, mut asking: Asking, ask: Ask) {
        let Some(connection) = self.connections.get(&id) else {
            return self.fail_asks(ask.peer, Some(id));
        };
        let met_at = pack(&connection.address);
        let mut decoder = PacketDecoder::new(self.known.clone());
        let events = self.events.clone();
        self.kad_tasks.spawn(async move {
            let peer = ask.peer;
            let exchanged = kad::exchange(
                &mut asking.stream,
                &ask.packet,
                ask.is_answered,
                &mut decoder,
            )
            .await;
            let (stream, again, event) = match (exchanged, met_at) {
                (Ok(Some(message)), Some(met_at)) => {
                    asking.used = true;
                    let request = ask.request;
                    let answer = LinkEvent::KadAnswer {
                        peer,
                        request,
                        met_at,
                        message,
                    };
                    (Some(asking), None, Some(answer))
                }
                (Ok(_), _) => (None, None, None),
                (Err(Failure::Gone(_)), _) if asking.used => (None, Some(ask), None),
                (Err(failure), _) => {
                    tracing::debug!(%peer, %failure, "a question was not answered");
                    (None, None, Some(LinkEvent::KadFailed { peer }))
                }
            };
            if let Some(event) = event {
                // The core's task ends after this one or does not care any more.
                let _ = events.send(event).await;
            }
            Done::Asked(Box::new(Asked {
                peer,
                connection: id,
                stream,
                again,
            }))
        });
    }

    pub(super) fn on_kad_done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Served(id)) => {
                self.kad_inbound = self.kad_inbound.saturating_sub(1);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.kad_inbound = connection.kad_inbound.saturating_sub(1);
                    connection.linger(LINGER);
                }
            }
            Ok(Done::Asked(asked)) => {
                let Asked {
                    peer,
                    connection,
                    stream,
                    again,
                } = *asked;
                let now = Instant::now();
                let begin = self.asks.ended(peer, connection, stream, now);
                self.begin(peer, begin);
                if let Some(ask) = again {
                    self.ask(ask);
                }
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.linger(LINGER);
                }
            }
            Err(error) => tracing::error!(%error, "a kad stream's task failed; this is a bug"),
        }
    }

    /// Fails all questions that wait for a peer.
    pub(super) fn fail_asks(&mut self, peer: PeerId, connection: Option<ConnectionId>) {
        if !self.asks.failed(peer, connection).is_empty() {
            self.out.push_back(LinkEvent::KadFailed { peer });
        }
    }

    /// A connection that this node has dialled stands: does a question wait for it, or was it made for proof alone? Returns
    /// whether it has served its purpose.
    pub(super) fn reached(&mut self, id: ConnectionId, peer: PeerId) -> bool {
        if let Some(dial) = self.proving.remove(&id) {
            self.out.push_back(LinkEvent::Dialled { dial, peer });
            return true;
        }
        false
    }

    /// A connection could not be made.
    pub(super) fn not_reached(&mut self, id: ConnectionId, error: &DialError) {
        if let Some(dial) = self.proving.remove(&id) {
            let error = error.clone();
            self.out.push_back(LinkEvent::DialFailed { dial, error });
        }
        if let Some(peer) = self.reaching_to_ask.remove(&id) {
            self.fail_asks(peer, None);
        }
    }

    /// Begins to reach a peer at an address of its own.
    pub(super) fn prove(&mut self, dial: DialId, peer: PeerId, addresses: &[Address]) {
        match self.reach(peer, addresses) {
            Ok(id) => {
                self.proving.insert(id, dial);
            }
            Err(error) => self.out.push_back(LinkEvent::DialFailed { dial, error }),
        }
    }

    /// A peer has said what it speaks and where it listens.
    pub(super) fn on_kad_known(&mut self, id: ConnectionId, listens: &[Multiaddr]) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let this_peer: NetPeerId = net_peer(connection.peer);
        let of_peer = |address: &Multiaddr| {
            let (bare, peer) = split_peer(address.clone());
            peer.is_none_or(|peer| peer == this_peer).then_some(bare)
        };
        let addresses = listens.iter().filter_map(of_peer);
        let packed = addresses.filter_map(|address| pack(&address));
        let packed = packed.take(weft_core::address::ADDRESSES_MAX).collect();
        // What it said first holds for this connection.
        let _ = connection.serves_at.set(packed);
    }
}
