//! The transports under a node's links, built in one place.

use std::io;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::{self, Swarm};
use libp2p::{PeerId, Transport, noise, tcp, yamux};

use super::behaviour::Behaviour;

/// Streams of one connection: two of the link, identify's, and room for the requests of other protocols.
const STREAMS_MAX: usize = 64;
/// How long a connection that carries no link may stay: long enough for identify to name a mismatch, short enough that
/// strangers don't fill the table.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Inbound streams of one connection under negotiation.
const NEGOTIATING_MAX: usize = 16;

/// Builds the swarm: TCP, Noise, Yamux.
pub(super) fn swarm(key: &Keypair, network: &str) -> Result<Swarm<Behaviour>, String> {
    let behaviour = Behaviour::new(network, key.public());
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
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
    let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer)
        .timeout(super::DIAL_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .map_err(io::Error::other);
    Ok(transport.boxed())
}
