//! The structured layer, as applications hold it.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use weft_core::{KadContact, PeerContact};
use weft_dht::dht::{Call, Outcome};
use weft_dht::lookup::Stats;
use weft_dht::table::{K, Standing};
use weft_dht::{Contact as _, Key, Peer as _, Point};
use weft_identity::PeerId;
use weft_rpc::types;

use super::{DhtError, Node, views};
use crate::actor::Ask;

/// How long a call may take at most. A lookup ends by itself, and has no more than 400 questions of 3 s, 10 at a time.
const CALL_MAX: Duration = Duration::from_secs(60);

/// What became of a call, and what it cost.
pub(crate) type DhtAnswer = (Outcome<KadContact>, Stats);

impl Node {
    /// Finds a peer; none where nobody knows it, or it doesn't answer.
    pub async fn find_peer(&self, peer: PeerId) -> Result<Option<types::PeerFound>, DhtError> {
        let (outcome, lookup) = self.call_dht(Call::FindPeer(peer)).await?;
        let Outcome::Peer { contact } = outcome else {
            return Err(DhtError::Stopped);
        };
        Ok(contact.map(|contact| types::PeerFound {
            peer: self.found(&contact),
            lookup,
        }))
    }

    /// Finds the 20 peers closest to a key, this node among them where it serves and belongs there.
    pub async fn closest(&self, key: Key) -> Result<types::Closest, DhtError> {
        let point = key.point();
        let (outcome, lookup) = self.call_dht(Call::Closest(key)).await?;
        let Outcome::Closest { contacts } = outcome else {
            return Err(DhtError::Stopped);
        };
        let mut peers: Vec<_> = contacts
            .iter()
            .map(|it| (it.peer(), self.found(it)))
            .collect();
        if let Some(own) = self.own().await {
            peers.push((self.peer_id(), self.found_self(&own)));
        }
        peers.sort_by_key(|(peer, _)| peer.point() ^ point);
        peers.truncate(K);
        Ok(types::Closest {
            point: hex(point),
            peers: peers.into_iter().map(|(_, found)| found).collect(),
            lookup,
        })
    }

    /// Makes this node known as a provider of a key, until [`Node::stop_providing`] or its end.
    pub async fn provide(&self, key: Key) -> Result<types::Provided, DhtError> {
        let point = hex(key.point());
        let (outcome, lookup) = self.call_dht(Call::Provide(key)).await?;
        let Outcome::Provided { told } = outcome else {
            return Err(DhtError::Stopped);
        };
        let told = told.iter().map(ToString::to_string).collect();
        Ok(types::Provided {
            point,
            told,
            lookup,
        })
    }

    /// Ceases to provide a key; what others know of it expires with them.
    pub async fn stop_providing(&self, key: Key) -> Result<types::ProvidingStopped, DhtError> {
        let point = hex(key.point());
        let stopped = self.ask(|reply| Ask::StopProviding { key, reply });
        let provided = stopped.await.ok_or(DhtError::Stopped)?;
        Ok(types::ProvidingStopped { point, provided })
    }

    /// Finds up to 20 providers of a key.
    pub async fn providers(&self, key: Key) -> Result<types::Providers, DhtError> {
        let point = hex(key.point());
        let (outcome, lookup) = self.call_dht(Call::Providers(key)).await?;
        let Outcome::Providers { providers, .. } = outcome else {
            return Err(DhtError::Stopped);
        };
        Ok(types::Providers {
            point,
            providers: providers.iter().map(|it| self.found(it)).collect(),
            lookup,
        })
    }

    /// Returns the routing table; none once the node has stopped.
    pub async fn routing_table(&self) -> Option<types::RoutingTable> {
        let look = self.look(|core, now| (core.routing_table(now), core.dht().provider_records));
        let (table, provider_records) = look.await?;
        let peers = table.entries.iter().map(|entry| types::RoutingPeer {
            peer_id: entry.contact.peer().to_string(),
            addresses: views::addresses(entry.contact.known().addresses()),
            signed: entry.contact.descriptor().is_some(),
            bucket: entry.bucket,
            standing: match entry.standing {
                Standing::Live => types::Standing::Live,
                Standing::Suspect => types::Standing::Suspect,
                Standing::Stale => types::Standing::Stale,
            },
            rtt_ms: entry.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            heard_s: entry.seen.as_secs_f64(),
        });
        Some(types::RoutingTable {
            peer_id: self.peer_id().to_string(),
            peers: peers.collect(),
            spares: table.spares,
            provider_records,
        })
    }

    async fn call_dht(
        &self,
        call: Call<PeerId>,
    ) -> Result<(Outcome<KadContact>, types::Lookup), DhtError> {
        let begun = Instant::now();
        let answer = timeout(CALL_MAX, self.ask(|reply| Ask::Dht { call, reply })).await;
        let (outcome, stats) = match answer {
            Ok(Some((Outcome::Busy, _))) => return Err(DhtError::Busy),
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(DhtError::Stopped),
            Err(_) => return Err(DhtError::Timeout),
        };
        let lookup = types::Lookup {
            requests: stats.requests,
            answers: stats.answers,
            slow: stats.slow,
            failures: stats.failures,
            hops: stats.closest.map(|found| found.hops),
            took_ms: begun.elapsed().as_secs_f64() * 1_000.0,
        };
        Ok((outcome, lookup))
    }

    /// Returns this node's own descriptor if it serves.
    async fn own(&self) -> Option<PeerContact> {
        let own = self.look(|core, _| core.own_contact().clone()).await?;
        own.0.value.roles.serves.then_some(own)
    }

    fn found(&self, contact: &KadContact) -> types::FoundPeer {
        types::FoundPeer {
            peer_id: contact.peer().to_string(),
            addresses: views::addresses(contact.known().addresses()),
            signed: contact.descriptor().is_some(),
            this_node: contact.peer() == self.peer_id(),
        }
    }

    fn found_self(&self, own: &PeerContact) -> types::FoundPeer {
        types::FoundPeer {
            peer_id: self.peer_id().to_string(),
            addresses: views::addresses(&own.0.value.addresses),
            signed: true,
            this_node: true,
        }
    }
}

pub(crate) fn hex(point: Point) -> String {
    let bytes = point.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
