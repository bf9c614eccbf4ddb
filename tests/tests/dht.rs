//! The structured layer on real processes: lookups find what is there, through the real command, and what silent peers cost.

#![expect(clippy::unwrap_used, reason = "a test's harness fails by panicking")]

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_dht::{Key, Peer as _};
use weft_identity::PeerId;
use weft_rpc::Client;
use weft_rpc::method::{DhtClosest, NodeStatus};
use weft_rpc::types::{Closest, KeyParams, NoParams};
use weft_tests::net::{Net, names};
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 30;
/// Peers of a lookup's answer.
const K: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// What a loaded machine adds to a lookup of some milliseconds.
const NOISE_MS: f64 = 30.0;

/// A node of the network.
struct Member {
    name: String,
    peer: PeerId,
    client: Client,
}

impl Member {
    async fn closest(&self, key: &str) -> Closest {
        let key = KeyParams {
            key: Some(key.to_owned()),
            key_base64: None,
        };
        self.client.call::<DhtClosest>(key).await.unwrap()
    }
}

/// Connects to the nodes, and waits until each has filled its table.
async fn members(net: &Net, names: &[String]) -> Vec<Member> {
    let mut members = Vec::new();
    for name in names {
        let client = Client::connect(&net.node_dir(name)).await.unwrap();
        wait::until_async("the table is filled", PATIENCE, async || {
            let status = client.call::<NodeStatus>(NoParams {}).await.unwrap();
            (status.dht.peers >= K).then_some(())
        })
        .await;
        let status = client.call::<NodeStatus>(NoParams {}).await.unwrap();
        members.push(Member {
            name: name.clone(),
            peer: status.peer_id.parse().unwrap(),
            client,
        });
    }
    members
}

/// The peers closest to a key, the closest first.
fn truly_closest<'a>(members: impl IntoIterator<Item = &'a Member>, key: &str) -> Vec<String> {
    let point = Key::new(key.as_bytes()).unwrap().point();
    let mut peers: Vec<PeerId> = members.into_iter().map(|member| member.peer).collect();
    peers.sort_by_key(|peer| peer.point() ^ point);
    peers.iter().take(K).map(PeerId::to_string).collect()
}

fn ids(peers: &Value) -> Vec<String> {
    let peers = peers.as_array().unwrap().iter();
    peers
        .map(|peer| peer["peer_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_finds_the_closest_providers_and_peers() {
    let _alone = weft_tests::alone().await;
    let net = Net::up(WEFT, NODES).await;
    let members = members(&net, &names(1..=NODES)).await;
    let weft = net.weft(WEFT);

    for (name, key) in [("n1", "warp"), ("n9", "weft"), ("n30", "loom")] {
        // A node that is scheduled too late misses a lookup or two.
        let found = wait::until(format!("{name} finds {key}"), PATIENCE, || {
            let found = weft.run(["--node", name, "--json", "dht", "closest", key]);
            let found = found.expect_code(0).json();
            (ids(&found["peers"]) == truly_closest(&members, key)).then_some(found)
        });
        let own = found["peers"].as_array().unwrap().iter();
        let own: Vec<&Value> = own.filter(|peer| peer["this_node"] == true).collect();
        assert!(own.len() <= 1);
        assert!(
            found["lookup"]["answers"].as_u64().unwrap() >= 19,
            "{found}"
        );
    }

    let provided = weft.run(["--node", "n5", "--json", "dht", "provide", "cloth"]);
    let provided = provided.expect_code(0).json();
    assert_eq!(provided["told"].as_array().unwrap().len(), K, "{provided}");
    let n5 = members[4].peer.to_string();
    for name in ["n2", "n17"] {
        let found = weft.run(["--node", name, "--json", "dht", "providers", "cloth"]);
        let providers = ids(&found.expect_code(0).json()["providers"]);
        assert_eq!(providers, std::slice::from_ref(&n5));
        let found = weft.run(["--node", name, "--json", "dht", "find-peer", &n5]);
        let found = found.expect_code(0).json();
        assert_eq!(found["peer_id"], n5);
        assert_eq!(found["signed"], true);
        let addresses = found["addresses"].as_array().unwrap();
        assert!(!addresses.is_empty());
    }
    // In base64 the key is the same.
    let same = weft.run([
        "--node",
        "n3",
        "--json",
        "dht",
        "providers",
        "--base64",
        "Y2xvdGg=",
    ]);
    let providers = ids(&same.expect_code(0).json()["providers"]);
    assert_eq!(providers, std::slice::from_ref(&n5));
    weft.run(["--node", "n5", "dht", "provide", "cloth", "--stop"])
        .expect_code(0);
    weft.run(["--node", "n5", "dht", "provide", "cloth", "--stop"])
        .expect_code(5);

    weft.run(["--node", "n4", "dht", "providers", "nobody has this"])
        .expect_code(5)
        .expect_stderr("nobody provides the key");
    let stranger = weft_tests::peer::key(7).peer_id().to_string();
    weft.run(["--node", "n4", "dht", "find-peer", &stranger])
        .expect_code(5)
        .expect_stderr("nobody knows");
    weft.run(["--node", "n4", "dht", "find-peer", "me"])
        .expect_code(2)
        .expect_stderr("no peer id");
    weft.run(["--node", "n4", "dht", "closest", ""])
        .expect_code(2)
        .expect_stderr("1 to 256 bytes");

    let table = weft.run(["--node", "n7", "--json", "dht", "routing"]);
    let table = table.expect_code(0).json();
    let peers = table["peers"].as_array().unwrap();
    assert!(peers.len() >= K && peers.iter().all(|peer| peer["signed"] == true));
    let text = weft.run(["--node", "n7", "dht", "routing"]).expect_code(0);
    assert!(text.text().contains("BUCKET  PEER ID"));
    net.down().await;
}

/// What lookups took, in milliseconds, and what they cost.
struct Figures {
    took: Vec<f64>,
    requests: u32,
    slow: u32,
    failures: u32,
    hops: u32,
    right: usize,
}

impl Figures {
    /// Looks up keys, one after the other, from one node after the other.
    async fn of(members: &[Member], label: &str, keys: usize) -> Self {
        let mut figures = Self {
            took: Vec::new(),
            requests: 0,
            slow: 0,
            failures: 0,
            hops: 0,
            right: 0,
        };
        for n in 0..keys {
            let key = format!("{label}/{n}");
            let found = members[n % members.len()].closest(&key).await;
            figures.took.push(found.lookup.took_ms);
            figures.requests += found.lookup.requests;
            figures.slow += found.lookup.slow;
            figures.failures += found.lookup.failures;
            figures.hops += found.lookup.hops.unwrap_or(0);
            let found: Vec<String> = found.peers.into_iter().map(|peer| peer.peer_id).collect();
            figures.right += usize::from(found == truly_closest(members, &key));
        }
        figures.took.sort_by(f64::total_cmp);
        let keys = keys as f64;
        println!(
            "{label}: p50 {:.1} ms, p99 {:.1} ms; a lookup has {:.1} requests, {:.1} slow, {:.1} failed, {:.2} hops; {} of {keys} right",
            figures.at(0.5),
            figures.at(0.99),
            f64::from(figures.requests) / keys,
            f64::from(figures.slow) / keys,
            f64::from(figures.failures) / keys,
            f64::from(figures.hops) / keys,
            figures.right,
        );
        figures
    }

    fn at(&self, quantile: f64) -> f64 {
        let last = self.took.len() - 1;
        self.took[(last as f64 * quantile).round() as usize]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_fall_silent_cost_lookups_little() {
    const KEYS: usize = 100;
    let _alone = weft_tests::alone().await;
    let mut net = Net::up(WEFT, NODES).await;
    let all = members(&net, &names(1..=NODES)).await;
    // The first lookups make the links that the later ones use.
    Figures::of(&all, "first of each", NODES).await;
    let healthy = Figures::of(&all, "healthy", KEYS).await;

    let silent: Vec<String> = names((1..=NODES).filter(|n| n % 10 < 3));
    let is_silent = |member: &Member| silent.contains(&member.name);
    let (_, awake): (Vec<Member>, Vec<Member>) = all.into_iter().partition(is_silent);
    net.pause(&silent).await.expect("nodes can be paused");
    let begun = Instant::now();
    let at_once = Figures::of(&awake, "silent since now", KEYS).await;
    println!("all of them took {:?}", begun.elapsed());
    let later = Figures::of(&awake, "silent for a while", KEYS).await;
    // Each node has to find out for itself, once: a question's patience and again as much, for a few at a time.
    assert!(
        at_once.at(0.5) <= 2.0 * healthy.at(0.5) + NOISE_MS,
        "half are as fast as ever"
    );
    assert!(
        at_once.at(1.0) <= 3_000.0,
        "none waits for one after the other"
    );
    assert!(later.at(0.5) <= 2.0 * healthy.at(0.5) + NOISE_MS);
    assert!(later.at(0.99) <= 4.0 * healthy.at(0.99) + NOISE_MS);
    for (figures, what) in [(&healthy, "healthy"), (&later, "silent for a while")] {
        assert!(
            figures.right * 20 >= KEYS * 19,
            "{what}: {} right",
            figures.right
        );
    }
    net.resume(&silent).await.expect("nodes can be resumed");
    net.down().await;
}
