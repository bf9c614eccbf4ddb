//! The transports under a node's links, built in one place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, PortUse, TransportError, TransportEvent,
};
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::{self, Swarm};
use libp2p::{Multiaddr, PeerId, Transport, noise, quic, tcp, yamux};

use super::Limits;
use super::behaviour::Behaviour;

/// Streams of one connection: two of the link, identify's, and room for the requests of other protocols.
const STREAMS_MAX: usize = 64;
/// How long a connection that carries no link may stay: long enough for identify to name a mismatch, short enough that
/// strangers don't fill the table.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Inbound streams of one connection under negotiation.
const NEGOTIATING_MAX: usize = 16;

/// Silence after which a QUIC connection is dead: a process that was killed says nothing. It counts from the first packet
/// that is sent in vain; a link's heartbeat tells within 3 s in any case, and this ends what carries no link.
const QUIC_IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a QUIC connection at rest says that it lives: two may be lost.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Bytes of one QUIC stream that may wait to be read here, and that a peer with the same bound lets this node have on the
/// way: 10 MB/s at a round trip of 100 ms. A peer that allows more gets at most the 10 MB that libp2p fixes.
const QUIC_STREAM_BYTES_MAX: u32 = 1024 * 1024;
/// The same for all streams of a QUIC connection: the link's, and a quarter of it for the others, so that a full link
/// leaves them room.
const QUIC_CONNECTION_BYTES_MAX: u32 = QUIC_STREAM_BYTES_MAX + QUIC_STREAM_BYTES_MAX / 4;

/// Builds the swarm: TCP with Noise and Yamux, and QUIC. Where a peer has addresses of both, QUIC is dialled first and TCP
/// a moment later.
pub(super) fn swarm(
    key: &Keypair,
    network: &str,
    serves_kad: bool,
    limits: Limits,
) -> Result<Swarm<Behaviour>, String> {
    let behaviour = Behaviour::new(network, key.public(), serves_kad, limits);
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
        .with_smart_dial();
    let transport = transport(key).map_err(|error| error.to_string())?;
    Ok(Swarm::new(
        transport,
        behaviour,
        key.public().to_peer_id(),
        config,
    ))
}

fn transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_MAX);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer)
        .timeout(super::DIAL_TIMEOUT);
    let quic = OnePort(quic::tokio::Transport::new(quic_config(key)));
    let transport = tcp
        .or_transport(quic)
        .map(|connected, _| match connected {
            Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
            Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        })
        .map_err(io::Error::other);
    Ok(transport.boxed())
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.handshake_timeout = super::DIAL_TIMEOUT;
    config.max_idle_timeout = QUIC_IDLE_TIMEOUT.as_millis() as u32;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = STREAMS_MAX as u32;
    config.max_stream_data = QUIC_STREAM_BYTES_MAX;
    config.max_connection_data = QUIC_CONNECTION_BYTES_MAX;
    config
}

/// QUIC whose dials leave from the port that it listens on, whatever the order to dial says: TCP must dial from new ports
/// lest two peers' simultaneous dials become one connection, while QUIC tells connections apart by itself, and a socket a
/// dial would be a waste.
struct OnePort<T>(T);

impl<T: Transport + Unpin> Transport for OnePort<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let options = DialOpts {
            port_use: PortUse::Reuse,
            ..options
        };
        self.0.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
