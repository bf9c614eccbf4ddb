//! A neighbour that reads nothing, and what it costs the others: pairs of runs at full rate, without it and with it.
//!
//! `WEFT_SLOW_S` says how long each run lasts (3 s by default, 60 for the figures), `WEFT_SLOW_PAIRS` how many pairs (3).

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, outside functions that are marked as tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::task::JoinHandle;
use weft_core::wire::{encode_broadcast, encode_membership, encode_ping};
use weft_core::{TopicBundle, TopicId, TopicName};
use weft_identity::{Keypair, PeerId};
use weft_overlay::hyparview::{Message, Priority};
use weft_overlay::plumtree::Message as Broadcast;
use weft_tests::load::{Load, TOPIC, median};
use weft_tests::peer::{Manners, Peer, contact, key};
use weft_tests::{alone, setting};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// How often the slow peer says that it lives.
const SPEAK_EVERY: Duration = Duration::from_millis(500);
/// What a peer that reads nothing may take of the others' throughput on a machine that does other things (the goal is 5 % of a
/// minute), and the second for which a publisher waits for it once.
const COST_MAX: f64 = 0.3;
const HELD_UP: Duration = Duration::from_millis(1_500);
/// What it may take of the daemon's memory. Stated: 4 MiB of its link's lane for data, 1 MiB of that for supplies, and what the
/// connection buffers.
const GROWTH_MAX: i64 = 12 * 1024 * 1024;

/// Links a peer that reads nothing to the publisher, for as long as it is wanted.
async fn slow_peer(load: &Load, number: u64) -> Slow {
    let weft = load.net.weft(WEFT);
    let status = weft.run(["--node", "n1", "status", "--json"]);
    let status = status.expect_code(0).json();
    let network = status["network"].as_str().unwrap().to_owned();
    let address: Multiaddr = status["addresses"][0].as_str().unwrap().parse().unwrap();
    let address = address.into_iter();
    let address = address
        .filter(|part| !matches!(part, Protocol::P2p(_)))
        .collect();
    let daemon: (Multiaddr, PeerId) = (
        address,
        status["peer_id"].as_str().unwrap().parse().unwrap(),
    );
    let topic = TOPIC.parse::<TopicName>().unwrap().id(&network);
    let wanted = Arc::new(AtomicBool::new(true));
    let task = tokio::spawn(read_nothing(
        key(number),
        daemon,
        network,
        topic,
        Arc::clone(&wanted),
    ));
    let slow = key(number).peer_id().to_string();
    load.wait_for_neighbour(WEFT, &slow).await;
    Slow { wanted, task }
}

struct Slow {
    wanted: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Slow {
    /// Lets it go, and returns how often it was linked.
    async fn end(self) -> u32 {
        self.wanted.store(false, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Is a neighbour that speaks and never reads; dials again when it is cut off.
async fn read_nothing(
    key: Keypair,
    daemon: (Multiaddr, PeerId),
    network: String,
    topic: TopicId,
    wanted: Arc<AtomicBool>,
) -> u32 {
    let manners = Manners {
        reads: false,
        ..Manners::default()
    };
    let mut links = 0;
    let mut ticks = tokio::time::interval(SPEAK_EVERY);
    while wanted.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Ok(peer) = Peer::link(key.clone(), &daemon, &network, &manners).await else {
            continue;
        };
        links += 1;
        let neighbour = Message::Neighbor {
            sender: contact(&peer.key, &[]),
            priority: Priority::High,
        };
        // It asks for everything: a neighbour that is only announced to is sent next to nothing.
        let graft = Broadcast::<PeerId, TopicBundle>::Graft {
            trees: vec![daemon.1],
        };
        while wanted.load(Ordering::Relaxed) && !peer.is_ended() {
            let told = peer.frame(&encode_membership(topic, &neighbour)).await
                && peer.frame(&encode_broadcast(topic, &graft)).await
                && peer.frame(&encode_ping(links.into())).await;
            if !told {
                break;
            }
            ticks.tick().await;
        }
    }
    links
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_that_reads_nothing_costs_the_others_little() {
    let _alone = alone().await;
    let lasts = Duration::from_secs(setting("WEFT_SLOW_S", 3));
    let pairs = setting("WEFT_SLOW_PAIRS", 3);
    let mut load = Load::start(WEFT, 4, 4).await;
    // What a full history takes, both runs of the first pair shall have alike.
    load.run(lasts).await;
    let (mut costs, mut growths, mut links) = (Vec::new(), Vec::new(), 0);
    for pair in 0..pairs {
        let plain = load.run(lasts).await;
        let slow = slow_peer(&load, 100 + pair).await;
        let slowed = load.run(lasts).await;
        links += slow.end().await;
        println!(
            "{:.0} messages/s without, {:.0} with; {:.1} MiB without, {:.1} with",
            plain.rate,
            slowed.rate,
            plain.rss as f64 / (1 << 20) as f64,
            slowed.rss as f64 / (1 << 20) as f64,
        );
        costs.push(1.0 - slowed.rate / plain.rate);
        growths.push((slowed.rss - plain.rss) as f64);
    }
    let status = load
        .net
        .weft(WEFT)
        .run(["--node", "n1", "status", "--json"]);
    let counters = status.expect_code(0).json()["counters"].clone();
    println!("the publisher's counters: {counters}");
    assert!(
        counters["links_congested"].as_u64() >= Some(pairs),
        "nobody was pushed to in vain"
    );
    let (cost, growth) = (median(&costs), median(&growths));
    println!(
        "a neighbour that reads nothing, {pairs} pairs of {lasts:?}, linked {links} times: costs {:.1} % of throughput and {:.1} MiB (medians)",
        cost * 100.0,
        growth / (1 << 20) as f64,
    );
    let cost_max = COST_MAX + HELD_UP.as_secs_f64() / lasts.as_secs_f64();
    assert!(cost < cost_max, "{:.1} % of throughput", cost * 100.0);
    assert!(growth < GROWTH_MAX as f64, "{growth} bytes");
    load.end().await;
}
