//! Addresses at the border between libp2p and the core: multiaddresses here, opaque bytes there.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId as NetPeerId};
use weft_core::Address;
use weft_identity::PeerId;

/// Returns libp2p's form of a peer id.
pub(crate) fn net_peer(peer: PeerId) -> NetPeerId {
    NetPeerId::from_bytes(&peer.to_multihash())
        .expect("the multihash of an ed25519 key is a peer id")
}

/// Returns a peer's id; none for keys that aren't ed25519.
pub(crate) fn weft_peer(peer: &NetPeerId) -> Option<PeerId> {
    PeerId::from_multihash(&peer.to_bytes()).ok()
}

/// Packs a multiaddress for the core; none if it is longer than the core passes on.
pub(crate) fn pack(address: &Multiaddr) -> Option<Address> {
    Address::new(Bytes::copy_from_slice(address.as_ref()))
}

/// Unpacks an address that the core gave; none if it is no multiaddress.
pub(crate) fn unpack(address: &Address) -> Option<Multiaddr> {
    Multiaddr::try_from(address.as_bytes().to_vec()).ok()
}

/// Splits a peer id off the end of an address.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<NetPeerId>) {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, Some(peer))
        }
        _ => (address, None),
    }
}

/// Returns the name of an address's transport.
pub(crate) fn transport_name(address: &Multiaddr) -> &'static str {
    address
        .iter()
        .find_map(|part| match part {
            Protocol::Tcp(_) => Some("tcp"),
            Protocol::QuicV1 => Some("quic"),
            _ => None,
        })
        .unwrap_or("unknown")
}

/// Returns whether others can make sense of an address: not one of no interface in particular.
pub(crate) fn is_specific(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified(),
        _ => true,
    }
}

/// Why an address can't be listened on.
#[derive(Debug)]
pub(crate) enum ProbeError {
    /// Something listens there already.
    InUse,
    /// It is no address of a transport that this node has.
    Unsupported,
    /// The system refuses.
    Io(io::Error),
}

/// Binds an address for a moment without SO_REUSEPORT, which libp2p sets for TCP: with it "in use" would never be reported,
/// and two nodes would share a port.
pub(crate) fn probe(address: &Multiaddr) -> Result<(), ProbeError> {
    let (address, _) = split_peer(address.clone());
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Err(ProbeError::Unsupported),
    };
    let bound = match (parts.next(), parts.next()) {
        // The standard library sets SO_REUSEADDR, so that a port whose old connections linger in TIME_WAIT is free.
        (Some(Protocol::Tcp(port)), None) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) if parts.next().is_none() => {
            UdpSocket::bind(SocketAddr::new(ip, port)).map(drop)
        }
        _ => return Err(ProbeError::Unsupported),
    };
    match bound {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ProbeError::InUse),
        Err(error) => Err(ProbeError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_addresses_go_there_and_back() {
        let peer = weft_identity::Keypair::from_seed(&[4; 32]).peer_id();
        assert_eq!(weft_peer(&net_peer(peer)), Some(peer));
        assert_eq!(net_peer(peer).to_string(), peer.to_string());
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/9/p2p/{peer}").parse().unwrap();
        assert_eq!(unpack(&pack(&address).unwrap()), Some(address.clone()));
        let (bare, pinned) = split_peer(address);
        assert_eq!(bare.to_string(), "/ip4/127.0.0.1/tcp/9");
        assert_eq!(pinned, Some(net_peer(peer)));
    }

    #[test]
    fn a_port_in_use_is_seen() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        assert!(matches!(probe(&address), Err(ProbeError::InUse)));
        drop(taken);
        probe(&address).unwrap();
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
            .parse()
            .unwrap();
        assert!(matches!(probe(&address), Err(ProbeError::InUse)));
        assert_eq!(transport_name(&address), "quic");
        drop(taken);
        probe(&address).unwrap();
        let odd: Multiaddr = "/ip4/127.0.0.1/udp/9".parse().unwrap();
        assert!(matches!(probe(&odd), Err(ProbeError::Unsupported)));
    }
}
