//! A libp2p peer that runs the crate libp2p-kad.

use std::time::Duration;

use futures::StreamExt;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, Mode, QueryId, QueryResult};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, identity, noise, tcp, yamux};
use tokio::time::timeout;
use weft_node::Node;
use weft_tests::wait;

use super::DEADLINE;

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

/// What a query has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Closest(Vec<PeerId>),
    Providers(Vec<PeerId>),
    Told,
}

/// The peer.
pub(crate) struct Stranger {
    swarm: Swarm<Behaviour>,
    address: Multiaddr,
}

impl Stranger {
    /// Starts a server of a network's kad protocol that knows nobody.
    pub(crate) async fn start(network: &str) -> Self {
        let mut swarm = swarm(network);
        swarm
            .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        Self { swarm, address }
    }

    /// Starts one that says that it listens where nobody does.
    pub(crate) async fn hidden(network: &str) -> Self {
        let mut swarm = swarm(network);
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        swarm.add_external_address(address.clone());
        Self { swarm, address }
    }

    /// Makes up peers, which it will name to others.
    pub(crate) fn invent(&mut self, count: u16) {
        for port in 1..=count {
            let key = identity::Keypair::generate_ed25519();
            let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
            let kad = &mut self.swarm.behaviour_mut().kad;
            kad.add_address(&key.public().to_peer_id(), address);
        }
    }

    pub(crate) fn peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    pub(crate) fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Is told of a node.
    pub(crate) fn add(&mut self, node: &Node) {
        let peer: PeerId = node.peer_id().to_string().parse().unwrap();
        for address in node.addresses() {
            self.swarm.behaviour_mut().kad.add_address(&peer, address);
        }
        // A peer in the table that was never dialled is nobody that could know of it.
        let _ = self.swarm.dial(peer);
    }

    pub(crate) async fn bootstrap(&mut self) {
        let query = self
            .swarm
            .behaviour_mut()
            .kad
            .bootstrap()
            .expect("it knows a node");
        self.answer(query).await;
    }

    pub(crate) async fn closest(&mut self, key: &[u8]) -> Found {
        let query = self
            .swarm
            .behaviour_mut()
            .kad
            .get_closest_peers(key.to_vec());
        self.answer(query).await
    }

    pub(crate) async fn providers(&mut self, key: &[u8]) -> Found {
        let query = self
            .swarm
            .behaviour_mut()
            .kad
            .get_providers(key.to_vec().into());
        self.answer(query).await
    }

    pub(crate) async fn provide(&mut self, key: &[u8]) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let query = kad.start_providing(key.to_vec().into()).unwrap();
        assert_eq!(self.answer(query).await, Found::Told);
    }

    /// Runs until a query has ended.
    async fn answer(&mut self, query: QueryId) -> Found {
        let mut providers = Vec::new();
        let answered = async {
            loop {
                let Some((id, result, is_last)) = self.step().await else {
                    continue;
                };
                if id != query {
                    continue;
                }
                let found = match result {
                    QueryResult::Bootstrap(done) => done.map(|_| Found::Told).ok(),
                    QueryResult::GetClosestPeers(Ok(found)) => {
                        let peers = found.peers.into_iter();
                        Some(Found::Closest(peers.map(|peer| peer.peer_id).collect()))
                    }
                    QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders {
                        providers: found,
                        ..
                    })) => {
                        providers.extend(found);
                        None
                    }
                    QueryResult::GetProviders(Ok(_)) => None,
                    QueryResult::StartProviding(done) => done.map(|_| Found::Told).ok(),
                    other => panic!("{other:?}"),
                };
                if !is_last {
                    continue;
                }
                providers.sort();
                providers.dedup();
                return found.unwrap_or(Found::Providers(providers));
            }
        };
        timeout(DEADLINE, answered).await.expect("the query ends")
    }

    /// Runs until its swarm has something to tell, and does what an application does: what identify says is told to kad.
    async fn step(&mut self) -> Option<(QueryId, QueryResult, bool)> {
        match self.swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result,
                step,
                ..
            })) => Some((id, result, step.last)),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                for address in info.listen_addrs {
                    self.swarm
                        .behaviour_mut()
                        .kad
                        .add_address(&peer_id, address);
                }
                None
            }
            _ => None,
        }
    }

    /// Runs while something else is done.
    pub(crate) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                _ = self.step() => {}
            }
        }
    }

    /// Runs until a condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let holds = async || condition().await.then_some(());
        self.meanwhile(wait::until_async(what, DEADLINE, holds))
            .await;
    }
}

/// Makes a swarm that serves a network's kad protocol and listens nowhere yet.
fn swarm(network: &str) -> Swarm<Behaviour> {
    let protocol = format!("/weft/{network}/kad/1.0.0");
    let protocol = StreamProtocol::try_from_owned(protocol).unwrap();
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|key| {
            let peer = key.public().to_peer_id();
            let mut config = kad::Config::new(protocol);
            config.set_query_timeout(Duration::from_secs(20));
            let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
            // Without an address that others have confirmed it would be a client.
            kad.set_mode(Some(Mode::Server));
            let says = identify::Config::new("stranger/1".to_owned(), key.public());
            Behaviour {
                kad,
                identify: identify::Behaviour::new(says),
            }
        })
        .unwrap()
        .build()
}
