//! A testnet of a test's own, gone when the test is, however it ends.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use weft_testnet::traffic::{Publisher, Subscriber};
use weft_testnet::{Lifetime, Options, Process, Testnet, Transport};

use crate::command::Weft;
use crate::wait;

/// A running testnet.
#[derive(Debug)]
pub struct Net {
    testnet: Testnet,
    base: Base,
}

/// A temporary base directory whose daemons end with it.
#[derive(Debug)]
pub struct Base {
    home: TempDir,
}

impl Base {
    /// Makes an empty home with room for a testnet.
    pub fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("weft-test-")
            .tempdir()
            .expect("the temporary directory is writable");
        Self { home }
    }

    /// The testnet's base directory.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("net")
    }

    /// The command, meaning this testnet.
    pub fn weft(&self, binary: &str) -> Weft {
        Weft::new(binary, self.home.path()).testnet(&self.dir())
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The processes that the testnet's record names and that are alive, in the order of nodes.
    pub fn processes(&self) -> Vec<Process> {
        let Ok(record) = std::fs::read(self.dir().join("testnet.json")) else {
            return Vec::new();
        };
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        let nodes = record["nodes"].as_array().cloned().unwrap_or_default();
        nodes
            .into_iter()
            .filter_map(|mut node| serde_json::from_value::<Process>(node["process"].take()).ok())
            .filter(Process::is_alive)
            .collect()
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // After a panic this is the only end that daemons get. SIGKILL ends stopped ones as well.
        for process in self.processes() {
            let _ = process.signal(Signal::KILL);
        }
    }
}

impl Net {
    /// Starts a testnet and waits until it is whole.
    pub async fn up(binary: &str, nodes: usize) -> Self {
        Self::up_over(binary, nodes, Transport::Tcp).await
    }

    /// Starts a testnet whose links go over a transport, and waits until it is whole.
    pub async fn up_over(binary: &str, nodes: usize, transport: Transport) -> Self {
        let base = Base::new();
        let options = Options {
            base_dir: base.dir(),
            binary: binary.into(),
            nodes,
            network: None,
            lifetime: Lifetime::Foreground,
            transport,
        };
        let testnet = match Testnet::up(options, &mut |_| {}).await {
            Ok(testnet) => testnet,
            Err(error) => panic!("no testnet of {nodes}: {error:#}"),
        };
        Self { testnet, base }
    }

    /// The command, meaning this testnet.
    pub fn weft(&self, binary: &str) -> Weft {
        self.base.weft(binary)
    }

    /// The processes of the testnet that are alive.
    pub fn processes(&self) -> Vec<Process> {
        self.base.processes()
    }

    /// A node's data directory.
    pub fn node_dir(&self, name: &str) -> PathBuf {
        Testnet::node_dir(self.testnet.base_dir(), name).expect("the test names nodes that exist")
    }

    /// Subscribes at each of the nodes, and keeps book.
    pub async fn subscribe(&self, names: &[String], topic: &str) -> Vec<Subscriber> {
        let mut subscribers = Vec::new();
        for name in names {
            let subscriber = Subscriber::start(name, &self.node_dir(name), topic).await;
            subscribers.push(subscriber.unwrap_or_else(|error| panic!("{error:#}")));
        }
        subscribers
    }

    /// Connects a publisher to each of the nodes.
    pub async fn publishers(&self, names: &[String], topic: &str) -> Vec<Publisher> {
        let mut publishers = Vec::new();
        for name in names {
            let publisher = Publisher::connect(name, &self.node_dir(name), topic).await;
            publishers.push(publisher.unwrap_or_else(|error| panic!("{error:#}")));
        }
        publishers
    }

    /// Waits until the nodes that are up form one symmetric component, and returns how long that took.
    pub async fn wait_whole(&self, at_most: Duration) -> Duration {
        let began = std::time::Instant::now();
        wait::until_async("one component with symmetric views", at_most, async || {
            let status = self.testnet.status().await;
            (status.components == 1 && status.symmetric).then_some(())
        })
        .await;
        began.elapsed()
    }

    /// Ends the testnet, and proves that nothing of it is left.
    pub async fn down(mut self) {
        let processes = self.base.processes();
        let ended = self.testnet.down().await.expect("a testnet can be ended");
        assert_eq!(ended, processes.len());
        assert!(
            processes.iter().all(|process| !process.is_alive()),
            "a daemon outlived its testnet"
        );
        assert!(
            !self.base.dir().exists(),
            "the base directory outlived its testnet"
        );
    }
}

impl Deref for Net {
    type Target = Testnet;

    fn deref(&self) -> &Testnet {
        &self.testnet
    }
}

impl DerefMut for Net {
    fn deref_mut(&mut self) -> &mut Testnet {
        &mut self.testnet
    }
}

/// Names the nodes with these numbers: `n1`, `n2`, ….
pub fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| format!("n{number}"))
        .collect()
}
