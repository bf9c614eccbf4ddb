//! How the owner of the swarm dials: one order may open several connections, and what already is on its way serves it too.

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{self, ConnectionId};
use libp2p::{Multiaddr, PeerId as NetPeerId};
use tokio::time::Instant;
use weft_core::{Address, DialError, DialId};
use weft_identity::PeerId;

use super::super::address::{net_peer, split_peer, unpack, weft_peer};
use super::super::{DIAL_TIMEOUT, DIALS_MAX, LinkEvent};
use super::Driver;

impl Driver {
    /// Begins an order's dial; it ends in a link or in an error, both told later, and in time.
    pub(super) fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: &[Address]) {
        let addresses: Vec<(Multiaddr, Option<NetPeerId>)> = addresses
            .iter()
            .filter_map(unpack)
            .map(split_peer)
            .collect();
        let pinned = addresses.iter().find_map(|(_, peer)| peer.as_ref());
        let peer = peer.or_else(|| pinned.and_then(weft_peer));
        let refuse = |error| LinkEvent::DialFailed { dial, error };
        if peer == Some(self.this) {
            return self.out.push_back(refuse(DialError::SelfDial));
        }
        if let Some(peer) = peer.filter(|&peer| self.is_linked(peer)) {
            return self.out.push_back(LinkEvent::Dialled { dial, peer });
        }
        if self.dials.len() >= DIALS_MAX {
            let error = DialError::Unreachable(format!("{DIALS_MAX} dials are under way"));
            return self.out.push_back(refuse(error));
        }
        if addresses.is_empty() {
            let error = DialError::Unreachable("no address that this node can dial".to_owned());
            return self.out.push_back(refuse(error));
        }
        let addresses = addresses.into_iter().map(|(address, _)| address);
        let (mut attempts, mut error) = (Vec::new(), None);
        match peer {
            // A connection of the peer's own is on its way to become a link.
            Some(peer) if self.is_pending(peer) => {}
            Some(peer) => {
                let options = DialOpts::peer_id(net_peer(peer))
                    .condition(PeerCondition::NotDialing)
                    .addresses(addresses.collect())
                    .allocate_new_port()
                    .build();
                self.attempt(options, &mut attempts, &mut error);
                if matches!(error, Some(swarm::DialError::DialPeerConditionFalse(_))) {
                    (attempts, error) = (self.dials.attempts_to(peer), None);
                }
            }
            None => {
                for address in addresses {
                    let options = DialOpts::unknown_peer_id()
                        .address(address)
                        .allocate_new_port()
                        .build();
                    self.attempt(options, &mut attempts, &mut error);
                }
            }
        }
        let error = error.as_ref().map(dial_error);
        let deadline = Instant::now() + DIAL_TIMEOUT;
        self.dials.begin(dial, peer, attempts, error, deadline);
    }

    fn attempt(
        &mut self,
        options: DialOpts,
        attempts: &mut Vec<ConnectionId>,
        failure: &mut Option<swarm::DialError>,
    ) {
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => attempts.push(id),
            Err(error) => *failure = Some(error),
        }
    }
}

/// Says in the core's terms why a connection could not be opened.
pub(super) fn dial_error(error: &swarm::DialError) -> DialError {
    match error {
        // Its own addresses are the only ones that libp2p leaves out.
        swarm::DialError::LocalPeerId { .. } | swarm::DialError::NoAddresses => DialError::SelfDial,
        swarm::DialError::WrongPeerId { obtained, .. } => match weft_peer(obtained) {
            Some(peer) => DialError::OtherPeer(peer),
            None => DialError::Unreachable(format!("another peer answered: {obtained}")),
        },
        swarm::DialError::Denied { cause } => DialError::Unreachable(cause.to_string()),
        swarm::DialError::Transport(errors) => {
            let reasons: Vec<String> = errors
                .iter()
                .map(|(address, error)| {
                    format!("{}: {}", split_peer(address.clone()).0, innermost(error))
                })
                .collect();
            DialError::Unreachable(reasons.join("; "))
        }
        other => DialError::Unreachable(other.to_string()),
    }
}

/// Returns what an error says at its root: libp2p wraps it in its own layers' words.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
