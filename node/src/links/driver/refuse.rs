//! How the owner of the swarm keeps peers away.

use std::collections::BTreeSet;

use libp2p::swarm::ConnectionId;
use weft_core::DownReason;
use weft_identity::PeerId;

use super::super::address::net_peer;
use super::Driver;

impl Driver {
    /// Ends what there is with these peers, and lets no connection with them come about; others aren't refused any more.
    pub(super) fn refuse(&mut self, peers: &BTreeSet<PeerId>) {
        let refused = peers.iter().map(|&peer| net_peer(peer)).collect();
        self.swarm.behaviour_mut().refuse(refused);
        let with_them: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| peers.contains(&connection.peer))
            .map(|(&id, _)| id)
            .collect();
        for id in with_them {
            let link = self.connections.get(&id).and_then(|it| it.link.as_ref());
            match link {
                // Its tasks end, and the connection with them.
                Some(link) => link.end(DownReason::Broken("the peer is refused here".to_owned())),
                None => self.drop_connection(id),
            }
        }
    }
}
