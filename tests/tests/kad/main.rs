//! The kad protocol held against the crate libp2p-kad, in both directions, and against peers that mean harm.

#![expect(clippy::unwrap_used, reason = "a test's harness fails by panicking")]

mod hostile;
mod stranger;

use std::time::Duration;

use libp2p::{Multiaddr, PeerId as NetPeerId};
use stranger::{Found, Stranger};
use tokio::time::Instant;
use weft_dht::Peer as _;
use weft_identity::{Keypair, PeerId};
use weft_node::{Config, Key, Node, Roles};
use weft_tests::wait;

/// The network of these tests.
const NETWORK: &str = "kad-test";
/// No test takes a tenth of it; one that hangs fails here.
const DEADLINE: Duration = Duration::from_secs(60);

fn config(seed: u8, join: Vec<Multiaddr>) -> Config {
    Config {
        keypair: Keypair::from_seed(&[seed; 32]),
        network: NETWORK.to_owned(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        join,
        dir: None,
        roles: Roles::SERVER,
        found: false,
    }
}

/// Starts nodes that join through the first, and waits until each knows all others.
async fn network(count: u8) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=count {
        let join = nodes.first().map(Node::addresses).unwrap_or_default();
        nodes.push(Node::start(config(seed, join)).await.unwrap());
    }
    for node in &nodes {
        until("each knows all others", async || {
            node.status().await.unwrap().dht.peers >= usize::from(count) - 1
        })
        .await;
    }
    nodes
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait::until_async(what, DEADLINE, async || condition().await.then_some(())).await;
}

fn ids(nodes: &[Node]) -> Vec<String> {
    let mut ids: Vec<String> = nodes
        .iter()
        .map(|node| node.peer_id().to_string())
        .collect();
    ids.sort();
    ids
}

fn sorted(peers: &[NetPeerId]) -> Vec<String> {
    let mut ids: Vec<String> = peers.iter().map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn key(text: &str) -> Key {
    Key::new(text.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_libp2p_peer_bootstraps_off_one_node_and_finds_all_and_their_providers() {
    let nodes = network(6).await;
    let told = nodes[4].provide(key("song")).await.unwrap().told;
    assert_eq!(told.len(), 5);

    let mut stranger = Stranger::start(NETWORK).await;
    let begun = Instant::now();
    stranger.add(&nodes[0]);
    stranger.bootstrap().await;
    println!("libp2p-kad bootstrapped in {:?}", begun.elapsed());

    // It knows one node; a lookup tells it of the others, and where they are.
    let Found::Closest(closest) = stranger.closest(b"anything").await else {
        panic!("closest peers");
    };
    assert_eq!(sorted(&closest), ids(&nodes));

    let begun = Instant::now();
    let Found::Providers(providers) = stranger.providers(b"song").await else {
        panic!("providers");
    };
    println!("libp2p-kad found a provider in {:?}", begun.elapsed());
    assert_eq!(sorted(&providers), [nodes[4].peer_id().to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_a_libp2p_peer_what_it_provides_and_whom_it_knows() {
    let nodes = network(4).await;
    let mut stranger = Stranger::start(NETWORK).await;
    stranger.add(&nodes[0]);
    stranger.bootstrap().await;
    let peer: PeerId = stranger.peer().to_string().parse().unwrap();

    // It has asked them, so they ask it back where it says that it is, and give it a place.
    stranger
        .until("every node knows it", async || {
            for node in &nodes {
                let table = node.routing_table().await.unwrap();
                let entry = table.peers.iter().find(|it| it.peer_id == peer.to_string());
                if entry.is_none_or(|it| it.standing != weft_rpc::types::Standing::Live) {
                    return false;
                }
            }
            true
        })
        .await;
    let table = nodes[3].routing_table().await.unwrap();
    let entry = table.peers.iter().find(|it| it.peer_id == peer.to_string());
    let entry = entry.unwrap();
    assert!(!entry.signed, "nobody signs for it");
    assert_eq!(entry.addresses, [stranger.address().to_string()]);

    // What it provides, all nodes find.
    stranger.provide(b"film").await;
    for node in &nodes {
        let found = stranger
            .meanwhile(node.providers(key("film")))
            .await
            .unwrap();
        let found: Vec<&str> = found
            .providers
            .iter()
            .map(|it| it.peer_id.as_str())
            .collect();
        assert_eq!(found, [peer.to_string()]);
    }

    // A node that knows the libp2p peer alone finds the others through it.
    let lonely = Node::start(config(99, Vec::new())).await.unwrap();
    stranger.add(&lonely);
    stranger
        .until("the lonely one knows all", async || {
            let _ = lonely.closest(key("x")).await;
            lonely.status().await.unwrap().dht.peers == nodes.len() + 1
        })
        .await;
    let closest = stranger.meanwhile(lonely.closest(key("y"))).await.unwrap();
    let mut found: Vec<String> = closest.peers.into_iter().map(|it| it.peer_id).collect();
    let mut all = ids(&nodes);
    all.extend([peer.to_string(), lonely.peer_id().to_string()]);
    all.sort();
    found.sort();
    assert_eq!(found, all);
    let there = stranger
        .meanwhile(lonely.find_peer(nodes[2].peer_id()))
        .await;
    let there = there.unwrap().expect("it is found");
    assert_eq!(there.peer.peer_id, nodes[2].peer_id().to_string());
    let providers = stranger
        .meanwhile(lonely.providers(key("film")))
        .await
        .unwrap();
    assert_eq!(providers.providers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_answers_is_that_of_distance_to_the_key() {
    let nodes = network(8).await;
    let mut stranger = Stranger::start(NETWORK).await;
    stranger.add(&nodes[0]);
    stranger.bootstrap().await;
    for text in ["a", "b", "c", "d"] {
        let Found::Closest(found) = stranger.closest(text.as_bytes()).await else {
            panic!("closest peers");
        };
        let mut truly: Vec<PeerId> = nodes.iter().map(Node::peer_id).collect();
        truly.sort_by_key(|peer| peer.point() ^ key(text).point());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let truly: Vec<String> = truly.iter().map(ToString::to_string).collect();
        assert_eq!(found, truly);
    }
}
