//! A network of peers that run the crate libp2p-kad.

use std::num::NonZeroUsize;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, GetRecordOk, Mode, QueryId, QueryResult, Quorum, Record, RecordKey};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use weft_tests::wait;

use super::{AT_ONCE, CALLS, DEADLINE, NODES, PUTS, VALUE, millis};

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

/// How many copies its records have, and how many answers it waits for.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    replicas: NonZeroUsize,
    writes: NonZeroUsize,
    reads: usize,
}

impl Terms {
    /// Twenty copies, so that each of ten peers has every record and reads its own. A put waits for most of the nine others, for there
    /// are no twenty of which it could be a majority.
    pub(super) const AS_SHIPPED: Self = Self::new(20, 5, 1);
    /// Three copies, of which two must be written and read.
    pub(super) const AS_OURS: Self = Self::new(3, 2, 2);

    const fn new(replicas: usize, writes: usize, reads: usize) -> Self {
        Self {
            replicas: NonZeroUsize::new(replicas).expect("some"),
            writes: NonZeroUsize::new(writes).expect("some"),
            reads,
        }
    }
}

/// A query that runs, how many answers it still lacks, and where its outcome is said.
struct Waiting {
    query: QueryId,
    lacks: usize,
    answer: oneshot::Sender<bool>,
}

/// What a peer is to do, and where it says whether that was done.
enum Order {
    Put(Vec<u8>, oneshot::Sender<bool>),
    Get(Vec<u8>, oneshot::Sender<bool>),
    Peers(oneshot::Sender<usize>),
}

/// A peer, which runs until this is dropped.
pub(super) struct Rival {
    orders: mpsc::Sender<Order>,
    peer: PeerId,
    address: Multiaddr,
}

impl Rival {
    /// Starts peers that bootstrap through the first, and waits until each knows all others.
    pub(super) async fn network(count: usize, terms: Terms) -> Vec<Self> {
        let mut rivals: Vec<Self> = Vec::new();
        for _ in 0..count {
            let first = rivals.first().map(|it| (it.peer, it.address.clone()));
            rivals.push(Self::start(first, terms).await);
        }
        for rival in &rivals {
            wait::until_async("libp2p-kad to come together", DEADLINE, async || {
                let (answer, peers) = oneshot::channel();
                rival.orders.send(Order::Peers(answer)).await.ok()?;
                (peers.await.ok()? + 1 >= count).then_some(())
            })
            .await;
        }
        rivals
    }

    async fn start(first: Option<(PeerId, Multiaddr)>, terms: Terms) -> Self {
        let protocol = StreamProtocol::new("/bench/kad/1.0.0");
        let mut swarm = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("a transport")
            .with_behaviour(|key| {
                let peer = key.public().to_peer_id();
                let mut config = kad::Config::new(protocol);
                config.set_replication_factor(terms.replicas);
                let store = MemoryStoreConfig {
                    max_records: 1 << 20,
                    ..MemoryStoreConfig::default()
                };
                let store = MemoryStore::with_config(peer, store);
                let mut kad = kad::Behaviour::with_config(peer, store, config);
                kad.set_mode(Some(Mode::Server));
                let says = identify::Config::new("bench/1".to_owned(), key.public());
                Behaviour {
                    kad,
                    identify: identify::Behaviour::new(says),
                }
            })
            .expect("a behaviour")
            .build();
        let listen = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        swarm.listen_on(listen).expect("a port");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        if let Some((peer, address)) = first {
            swarm.behaviour_mut().kad.add_address(&peer, address);
            swarm.behaviour_mut().kad.bootstrap().expect("it knows one");
        }
        let peer = *swarm.local_peer_id();
        let (orders, taken) = mpsc::channel(AT_ONCE);
        tokio::spawn(run(swarm, taken, terms));
        Self {
            orders,
            peer,
            address,
        }
    }

    async fn put(&self, key: Vec<u8>) -> Result<(), String> {
        let (answer, done) = oneshot::channel();
        let sent = self.orders.send(Order::Put(key, answer)).await;
        let done = sent.is_ok() && done.await.unwrap_or(false);
        done.then_some(())
            .ok_or_else(|| "libp2p-kad's put failed".to_owned())
    }

    async fn get(&self, key: Vec<u8>) -> Result<(), String> {
        let (answer, done) = oneshot::channel();
        let sent = self.orders.send(Order::Get(key, answer)).await;
        let done = sent.is_ok() && done.await.unwrap_or(false);
        done.then_some(())
            .ok_or_else(|| "libp2p-kad's get failed".to_owned())
    }
}

async fn run(mut swarm: Swarm<Behaviour>, mut orders: mpsc::Receiver<Order>, terms: Terms) {
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let kad = &mut swarm.behaviour_mut().kad;
                match order {
                    None => return,
                    Some(Order::Put(key, answer)) => {
                        let record = Record::new(key, VALUE.to_vec());
                        if let Ok(query) = kad.put_record(record, Quorum::N(terms.writes)) {
                            waiting.push(Waiting { query, lacks: 1, answer });
                        }
                    }
                    Some(Order::Get(key, answer)) => {
                        let query = kad.get_record(RecordKey::new(&key));
                        waiting.push(Waiting { query, lacks: terms.reads, answer });
                    }
                    Some(Order::Peers(answer)) => {
                        let peers = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
                        // Whoever asked may have gone.
                        let _ = answer.send(peers);
                    }
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                    for address in info.listen_addrs {
                        swarm.behaviour_mut().kad.add_address(&peer_id, address);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, .. })) => {
                    let is_good = match result {
                        QueryResult::PutRecord(put) => put.is_ok(),
                        QueryResult::GetRecord(got) => matches!(got, Ok(GetRecordOk::FoundRecord(_))),
                        _ => continue,
                    };
                    if let Some(at) = waiting.iter().position(|it| it.query == id) {
                        waiting[at].lacks -= usize::from(is_good);
                        if !is_good || waiting[at].lacks == 0 {
                            // Whoever asked waits.
                            let _ = waiting.swap_remove(at).answer.send(is_good);
                        }
                    }
                }
                _ => {}
            },
        }
    }
}

fn key(what: &str, round: usize, index: usize) -> Vec<u8> {
    format!("{what} {round} {index}").into_bytes()
}

/// Returns the times of puts and of gets at another peer, in milliseconds, ascending.
pub(super) async fn latencies(
    rivals: &[Rival],
    round: usize,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for index in 0..CALLS {
        let begun = Instant::now();
        rivals[index % NODES]
            .put(key("latency", round, index))
            .await?;
        puts.push(millis(begun));
    }
    for index in 0..CALLS {
        let begun = Instant::now();
        rivals[(index + 3) % NODES]
            .get(key("latency", round, index))
            .await?;
        gets.push(millis(begun));
    }
    puts.sort_by(f64::total_cmp);
    gets.sort_by(f64::total_cmp);
    Ok((puts, gets))
}

pub(super) async fn throughput(rivals: &[Rival], round: usize) -> Result<f64, String> {
    let begun = Instant::now();
    let calls = (0..PUTS).map(|index| rivals[index % NODES].put(key("many", round, index)));
    let ended: Vec<Result<(), String>> = stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    ended.into_iter().collect::<Result<Vec<()>, String>>()?;
    Ok(PUTS as f64 / begun.elapsed().as_secs_f64())
}
