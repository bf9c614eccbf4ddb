//! The replicated store against libp2p-kad's records, in one process and one run: ten nodes each, on loopback.
//!
//! All put values under keys of their own and read them from other nodes, turn and turn about, in several rounds. libp2p-kad runs twice.
//! As it is shipped it puts to the 20 closest peers, here all nine others, so that each reads its own copy; with the terms of ours it has
//! three copies, of which two are written and read. It keeps records in memory; a put here is synced on two of three disks.
//!
//! ```console
//! $ cargo bench -p weft-tests --bench store
//! ```

mod rival;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use rival::Rival;
use weft_dht::kv::KvKey;
use weft_dht::store::{Basis, Call, Outcome, Terms, Written};
use weft_identity::Keypair;
use weft_node::{Config, Node, Roles};
use weft_tests::wait;

/// Nodes of each kind.
const NODES: usize = 10;
/// Rounds of each measure; the median of their medians is told.
const ROUNDS: usize = 5;
/// Calls of a round, one after the other.
const CALLS: usize = 100;
/// Puts of the throughput's rounds, and how many of them are under way at once.
const PUTS: usize = 640;
const AT_ONCE: usize = 64;
/// Bytes of a value.
const VALUE: [u8; 256] = [7; 256];
/// No network takes as long to come together.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Called by `cargo test --benches` with this flag: there is nothing to test.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    println!(
        "fdatasync of 400 bytes: median {:.2} ms",
        fdatasync(dir.path())?
    );
    let nodes = weft(dir.path()).await?;
    let shipped = Rival::network(NODES, rival::Terms::AS_SHIPPED).await;
    let alike = Rival::network(NODES, rival::Terms::AS_OURS).await;
    let mut ours = Measured::default();
    let mut rivals = [
        ("libp2p-kad", shipped, Measured::default()),
        ("libp2p-kad 3,2,2", alike, Measured::default()),
    ];
    for round in 0..ROUNDS {
        ours.add(latencies_of_weft(&nodes, round).await?);
        for (_, rivals, measured) in &mut rivals {
            measured.add(rival::latencies(rivals, round).await?);
        }
        ours.rates.push(throughput_of_weft(&nodes, round).await?);
        for (_, rivals, measured) in &mut rivals {
            let rate = rival::throughput(rivals, round).await?;
            measured.rates.push(rate);
        }
    }
    println!(
        "fdatasync of 400 bytes: median {:.2} ms",
        fdatasync(dir.path())?
    );
    ours.print("weft");
    for (name, _, measured) in &rivals {
        measured.print(name);
    }
    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}

/// What the rounds took.
#[derive(Default)]
struct Measured {
    /// Of each round the times of puts in milliseconds, ascending.
    puts: Vec<Vec<f64>>,
    gets: Vec<Vec<f64>>,
    /// Puts a second.
    rates: Vec<f64>,
}

impl Measured {
    fn add(&mut self, (puts, gets): (Vec<f64>, Vec<f64>)) {
        self.puts.push(puts);
        self.gets.push(gets);
    }

    fn print(&self, name: &str) {
        let quantile = |rounds: &[Vec<f64>], share| {
            median(rounds.iter().map(|round| at_share(round, share)).collect())
        };
        let [put, get] = [&self.puts, &self.gets].map(|it| (quantile(it, 0.5), quantile(it, 0.99)));
        println!(
            "{name}: put p50 {:.3} ms, p99 {:.3} ms; get p50 {:.3} ms, p99 {:.3} ms; puts a second with {AT_ONCE} at once {:.0}",
            put.0,
            put.1,
            get.0,
            get.1,
            median(self.rates.clone())
        );
    }
}

/// Starts nodes that join through the first, and waits until each is settled among all others.
async fn weft(dir: &Path) -> Result<Vec<Node>, Box<dyn std::error::Error>> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 0..NODES {
        let own = dir.join(format!("n{seed}"));
        fs::create_dir(&own)?;
        let config = Config {
            keypair: Keypair::from_seed(&[u8::try_from(seed)? + 1; 32]),
            network: "bench".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            join: nodes.first().map(Node::addresses).unwrap_or_default(),
            dir: Some(own),
            roles: Roles::SERVER,
            found: false,
        };
        nodes.push(Node::start(config).await?);
    }
    for node in &nodes {
        wait::until_async("a node that is settled among all", DEADLINE, async || {
            let status = node.status().await?;
            (status.dht.peers >= NODES - 1 && status.store.settled).then_some(())
        })
        .await;
    }
    Ok(nodes)
}

fn key(what: &str, round: usize, index: usize) -> KvKey {
    KvKey::new(&format!("{what} {round} {index}")).expect("a plain key")
}

async fn put(node: &Node, key: KvKey) -> Result<(), String> {
    let call = Call::Put {
        key,
        content: Written::Value(VALUE.to_vec().into()),
        ttl: None,
        // As the rival does: it doesn't look first.
        basis: Basis::Blind,
        terms: Terms::default(),
    };
    match node.kv(call).await {
        Some(Outcome::Put { .. }) => Ok(()),
        other => Err(format!("a put ended in {other:?}")),
    }
}

async fn get(node: &Node, key: KvKey) -> Result<(), String> {
    let terms = Terms::default();
    match node.kv(Call::Get { key, terms }).await {
        Some(Outcome::Got { records, .. }) if records.len() == 1 => Ok(()),
        other => Err(format!("a get ended in {other:?}")),
    }
}

/// Returns the times of puts and of gets at another node, in milliseconds, ascending.
async fn latencies_of_weft(nodes: &[Node], round: usize) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for index in 0..CALLS {
        let begun = Instant::now();
        put(&nodes[index % NODES], key("latency", round, index)).await?;
        puts.push(millis(begun));
    }
    for index in 0..CALLS {
        let begun = Instant::now();
        get(&nodes[(index + 3) % NODES], key("latency", round, index)).await?;
        gets.push(millis(begun));
    }
    puts.sort_by(f64::total_cmp);
    gets.sort_by(f64::total_cmp);
    Ok((puts, gets))
}

async fn throughput_of_weft(nodes: &[Node], round: usize) -> Result<f64, String> {
    let begun = Instant::now();
    let calls = (0..PUTS).map(|index| put(&nodes[index % NODES], key("many", round, index)));
    let ended: Vec<Result<(), String>> = stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    ended.into_iter().collect::<Result<Vec<()>, String>>()?;
    Ok(PUTS as f64 / begun.elapsed().as_secs_f64())
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn at_share(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns how long this disk takes to sync what one record takes, in milliseconds.
fn fdatasync(dir: &Path) -> std::io::Result<f64> {
    let mut file = File::create(dir.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[1; 400])?;
        file.sync_data()?;
        times.push(millis(begun));
    }
    Ok(median(times))
}
