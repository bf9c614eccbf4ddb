//! Three honest nodes with a stream of messages, and what is measured of the one that is attacked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde_json::Value;
use tokio::task::JoinHandle;
use weft_core::wire::{Frame, encode_membership};
use weft_core::{Address, TopicId, TopicName};
use weft_identity::{Keypair, PeerId};
use weft_overlay::hyparview::{Message, Priority};
use weft_testnet::traffic::{Subscriber, quantile};
use weft_tests::command::Weft;
use weft_tests::daemon::Daemon;
use weft_tests::net::{Net, names};
use weft_tests::stream::Stream;
use weft_tests::wait;

use weft_tests::peer::{Connection, Lifeline, Manners, Peer, contact, key};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// The node that is attacked: it neither published first nor was joined through first.
pub(crate) const TARGET: &str = "n2";
const TOPIC: &str = "stream";
/// Honest messages a second.
const RATE: u32 = 50;
/// What a daemon's memory may grow by in a case.
const GROWTH_MAX: i64 = 16 * 1024 * 1024;
/// Warnings that one case may cost: a few kinds, whatever the count of frames and identities.
const WARNINGS_MAX: usize = 24;
/// How long the machine may take for what takes it well under a second when idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often `weft status` is asked while an attack runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Answers of each daemon that a case waits for where figures are wanted, attacking again until then: fewer have no p99.
const SAMPLES_MIN: u64 = 100;
/// Repeats from which on figures are wanted.
const REPEATS_FOR_FIGURES: u64 = 1_000;
/// What a loaded machine may add to the longest of a hundred commands.
const STATUS_SLACK: Duration = Duration::from_millis(300);

/// What a case must leave behind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    /// A counter of `status` that rises.
    pub(crate) counter: Option<&'static str>,
    /// What a warning says.
    pub(crate) warning: Option<&'static str>,
}

/// What a case has left behind.
struct Row {
    name: &'static str,
    counted: String,
    growth: i64,
    warnings: usize,
    /// The attacked daemon's, and that of one at rest in the same moments: what the machine itself costs.
    status_p99: Duration,
    calm_p99: Duration,
    attacks: u64,
    took: Duration,
}

/// Honest nodes under attack.
pub(crate) struct Scene {
    /// How often each case repeats its attack.
    pub(crate) repeats: u64,
    /// Where the attacked daemon listens, and who it is.
    pub(crate) daemon: (Multiaddr, PeerId),
    /// The network's name.
    pub(crate) network: String,
    /// The topic that honest nodes use.
    pub(crate) topic: TopicId,
    /// The swarm of all nodes.
    pub(crate) root: TopicId,
    /// The command, meaning these nodes.
    pub(crate) weft: Weft,
    pub(crate) net: Net,
    subscribers: Vec<Subscriber>,
    pub(crate) publishers: Vec<String>,
    stream: Stream,
    keys: AtomicU64,
    /// Keeps the peer that was linked last, until what it sent has been read.
    last: Mutex<Option<Lifeline>>,
    /// A daemon that nobody attacks or speaks to.
    idle: Daemon,
    _idle_dir: tempfile::TempDir,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Scene {
    /// Starts the nodes and the stream, and waits until it flows.
    pub(crate) async fn start() -> Self {
        let repeats = std::env::var("WEFT_HOSTILE_N")
            .ok()
            .map_or(8, |n| n.parse().expect("WEFT_HOSTILE_N is a number"));
        let net = Net::up(WEFT, 3).await;
        let weft = net.weft(WEFT);
        let all = names(1..=3);
        let subscribers = net.subscribe(&all, TOPIC).await;
        let publishers = net.publishers(&names([1, 2]), TOPIC).await;
        let ids = publishers.iter().map(|one| one.peer_id.clone()).collect();
        let stream = Stream::start(publishers, RATE);
        stream.wait_for(u64::from(RATE), PATIENCE).await;
        let status = status(&weft);
        let text = |value: &Value| value.as_str().expect("status names it").to_owned();
        let network = text(&status["network"]);
        let address: Multiaddr = text(&status["addresses"][0]).parse().expect("an address");
        // Who answers is known; the transport is told only where.
        let address = address
            .into_iter()
            .filter(|part| !matches!(part, Protocol::P2p(_)))
            .collect();
        let peer = text(&status["peer_id"]).parse().expect("a peer id");
        let id = |name: &str| name.parse::<TopicName>().expect("a name").id(&network);
        let idle_dir = tempfile::tempdir().expect("a temporary directory");
        let idle = Daemon::start(&weft, &idle_dir.path().join("idle"), "at-rest");
        Self {
            repeats,
            daemon: (address, peer),
            topic: id(TOPIC),
            root: TopicName::network().id(&network),
            network,
            weft,
            net,
            subscribers,
            publishers: ids,
            stream,
            keys: AtomicU64::new(1),
            last: Mutex::default(),
            idle,
            _idle_dir: idle_dir,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Makes a key that no other case has.
    pub(crate) fn new_key(&self) -> Keypair {
        key(self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Links a new peer to the attacked daemon.
    pub(crate) async fn peer(&self) -> Peer {
        self.peer_with(&Manners::default()).await
    }

    /// Links a new peer with manners of its own.
    pub(crate) async fn peer_with(&self, manners: &Manners) -> Peer {
        match Peer::link(self.new_key(), &self.daemon, &self.network, manners).await {
            Ok(peer) => {
                *self.last.lock().expect("no holder panics") = Some(peer.lifeline.clone());
                peer
            }
            Err(error) => panic!("no link to {TARGET}: {error}"),
        }
    }

    /// Connects a new peer without making a link.
    pub(crate) async fn connection(&self, manners: &Manners) -> Connection {
        let key = self.new_key();
        match Connection::open(&key, &self.daemon.0, &self.network, manners).await {
            Ok(connection) => connection,
            Err(error) => panic!("no connection to {TARGET}: {error}"),
        }
    }

    /// Links a new peer and makes it a neighbour in a swarm.
    pub(crate) async fn neighbour(&self, topic: TopicId) -> Peer {
        self.neighbour_at(topic, &[]).await
    }

    /// Links a new peer that says where it is reached, and makes it a neighbour in a swarm.
    pub(crate) async fn neighbour_at(&self, topic: TopicId, addresses: &[Address]) -> Peer {
        let mut peer = self.peer().await;
        let message = Message::Neighbor {
            sender: contact(&peer.key, addresses),
            priority: Priority::High,
        };
        assert!(peer.frame(&encode_membership(topic, &message)).await);
        let accepted = peer
            .wait_frame("the answer to a Neighbor", |frame| match frame {
                Frame::Membership {
                    topic: of,
                    message: Message::NeighborReply { accepted, .. },
                } if *of == topic => Some(*accepted),
                _ => None,
            })
            .await;
        assert!(accepted, "a neighbour is refused though there is room");
        peer
    }

    /// The attacked daemon's counters.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(status(&self.weft)["counters"].clone())
            .expect("counters are numbers")
    }

    /// How a node sees a swarm.
    pub(crate) fn view(&self, node: &str, topic: &str) -> Value {
        let args = ["--node", node, "overlay", "view", topic, "--json"];
        self.weft.run(args).expect_code(0).json()
    }

    /// The attacked daemon's log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.net.node_dir(TARGET).join("daemon.log")
    }

    fn rss(&self) -> i64 {
        let process = &self.net.processes()[1];
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid));
        let status = status.expect("the attacked daemon lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<i64>().ok())
            .expect("a process has memory")
            * 1_024
    }

    /// Runs one case and measures what it does to the daemon and to honest traffic.
    pub(crate) async fn case(
        &mut self,
        name: &'static str,
        expected: Expected,
        attack: impl AsyncFn(&Self),
    ) {
        if std::env::var("WEFT_HOSTILE_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let began = Instant::now();
        let (counters, rss, log) = (self.counters(), self.rss(), self.log().len());
        let sampler = Sampler::start(&self.weft, self.idle.dir());
        let mut attacks = 1;
        attack(self).await;
        self.read(expected, &counters).await;
        let growth = self.settled_growth(rss).await;
        while self.repeats >= REPEATS_FOR_FIGURES && sampler.count() < SAMPLES_MIN {
            attack(self).await;
            attacks += 1;
        }
        self.last.lock().expect("no holder panics").take();
        self.delivered(name).await;
        let [status_p99, calm_p99] = sampler.stop().await;
        let counted = self.counted(name, expected, &counters).await;
        let log_now = self.log();
        let warnings = log_now[log.min(log_now.len())..]
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .count();
        let row = Row {
            name,
            counted,
            growth,
            warnings,
            status_p99,
            calm_p99,
            attacks,
            took: began.elapsed(),
        };
        println!("{row}");
        let status_max = calm_p99 * 2 + STATUS_SLACK;
        for (wrong, what) in [
            (growth >= GROWTH_MAX, "its memory grew too much"),
            (warnings > WARNINGS_MAX, "its log was flooded"),
            (row.status_p99 > status_max, "`weft status` became slow"),
            (log_now.contains("panicked"), "it panicked"),
            (
                expected.warning.is_some_and(|text| !log_now.contains(text)),
                "its log has no warning of this",
            ),
        ] {
            if wrong {
                self.failures.push(format!("{name}: {what}"));
            }
        }
        self.rows.push(row);
    }

    /// Waits until every honest message so far was delivered everywhere.
    async fn delivered(&mut self, name: &str) {
        let accepted = self.stream.accepted();
        let missing = || {
            let mut missing = Vec::new();
            for subscriber in &self.subscribers {
                let book = subscriber.book();
                for (publisher, accepted) in self.publishers.iter().zip(&accepted) {
                    if !book.holds(publisher, 1, *accepted) {
                        let last = book
                            .stream(publisher)
                            .and_then(weft_testnet::traffic::StreamBook::last);
                        missing.push(format!(
                            "{} has {last:?} of {accepted} messages of {publisher}",
                            subscriber.name
                        ));
                    }
                }
            }
            missing
        };
        let deadline = Instant::now() + PATIENCE;
        let patience = PATIENCE + Duration::from_secs(1);
        let late = wait::until_async("honest deliveries", patience, async || {
            let missing = missing();
            (missing.is_empty() || Instant::now() > deadline).then_some(missing)
        })
        .await;
        if !late.is_empty() {
            self.failures
                .push(format!("{name}: not delivered: {}", late.join("; ")));
        }
    }

    /// Waits until memory has come down, and returns by how much it grew.
    async fn settled_growth(&self, before: i64) -> i64 {
        let deadline = Instant::now() + Duration::from_secs(5);
        wait::until_async("memory", PATIENCE, async || {
            let growth = self.rss() - before;
            (growth < GROWTH_MAX || Instant::now() > deadline).then_some(growth)
        })
        .await
    }

    /// Waits until the expected counter shows that the attack has been read; whether it ever does, is told later.
    async fn read(&self, expected: Expected, before: &BTreeMap<String, u64>) {
        let Some(name) = expected.counter else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        wait::until_async("the attack to be read", PATIENCE, async || {
            let risen = self.counters().get(name) > before.get(name);
            (risen || Instant::now() > deadline).then_some(())
        })
        .await;
    }

    /// Waits until the expected counter has risen, and says what all counters rose by.
    async fn counted(
        &mut self,
        name: &str,
        expected: Expected,
        before: &BTreeMap<String, u64>,
    ) -> String {
        let risen = |now: &BTreeMap<String, u64>| {
            let mut risen = now.clone();
            for (what, count) in before {
                risen.entry(what.clone()).and_modify(|now| *now -= count);
            }
            risen.retain(|_, count| *count > 0);
            risen
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let risen = wait::until_async("a counter", PATIENCE, async || {
            let risen = risen(&self.counters());
            let seen = expected.counter.is_none_or(|name| risen.contains_key(name));
            (seen || Instant::now() > deadline).then_some(risen)
        })
        .await;
        if let Some(counter) = expected.counter.filter(|name| !risen.contains_key(*name)) {
            self.failures
                .push(format!("{name}: {counter} did not rise: {risen:?}"));
        }
        let risen: Vec<String> = risen
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        risen.join(", ")
    }

    /// Ends the nodes and fails if any case went wrong.
    pub(crate) async fn finish(mut self) {
        let published = self.stream.total();
        self.delivered("at the end").await;
        println!(
            "{} cases, repeats {} (some cases end or cap theirs earlier); {published} honest messages, delivered everywhere",
            self.rows.len(),
            self.repeats,
        );
        for row in &self.rows {
            println!("{row}");
        }
        self.stream.stop().await;
        drop(self.subscribers);
        self.idle.stop();
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
        self.net.down().await;
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "| {:44} | {:+7.1} MiB | {:2} warnings | status p99 {:4} ms, at rest {:4} ms | {:3} times, {:5.1} s | {}",
            self.name,
            self.growth as f64 / (1024.0 * 1024.0),
            self.warnings,
            self.status_p99.as_millis(),
            self.calm_p99.as_millis(),
            self.attacks,
            self.took.as_secs_f64(),
            self.counted,
        )
    }
}

fn status(weft: &Weft) -> Value {
    let status = weft.run(["--node", TARGET, "status", "--json"]);
    status.expect_code(0).json()
}

/// Asks the attacked daemon and one at rest for their status, by turns, and notes how long each answer takes.
struct Sampler {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    task: JoinHandle<[Duration; 2]>,
}

impl Sampler {
    fn start(weft: &Weft, idle: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let (weft, idle, stopped) = (weft.clone(), idle.as_os_str().to_owned(), Arc::clone(&stop));
        let ask = move |which: usize| {
            let began = Instant::now();
            let whose = match which {
                0 => ["--node".into(), TARGET.into()],
                _ => ["--dir".into(), idle.clone()],
            };
            let asked = whose.into_iter().chain(["status".into(), "--json".into()]);
            weft.run(asked).expect_code(0);
            began.elapsed()
        };
        let task = tokio::spawn(async move {
            let mut samples = [Vec::new(), Vec::new()];
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            while !stopped.load(Ordering::Relaxed) {
                for (which, samples) in samples.iter_mut().enumerate() {
                    ticks.tick().await;
                    let ask = ask.clone();
                    let asked = tokio::task::spawn_blocking(move || ask(which));
                    samples.push(asked.await.expect("the daemon answers"));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            samples.map(|mut samples| {
                samples.sort_unstable();
                quantile(&samples, 0.99).unwrap_or_default()
            })
        });
        Self { stop, count, task }
    }

    /// How often each has answered.
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    async fn stop(self) -> [Duration; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the daemon answers")
    }
}
