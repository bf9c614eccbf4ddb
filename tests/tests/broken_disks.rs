//! Stores whose files are broken: what is found at a start and on a read, what is said of it, and what comes back from replicas.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use weft_rpc::Client;
use weft_rpc::method::KvGet;
use weft_rpc::types::{KvData, KvGetParams, KvLevel};
use weft_tests::kv::{Acknowledged, PATIENCE, client, put, settled, status, wait_held};
use weft_tests::net::{Net, names};
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// Two more than a key has replicas, so that each node lacks some keys.
const NODES: usize = 5;
const KEYS: usize = 60;
/// The first segment of a store; what the tests write fits it.
const SEGMENT: &str = "00000001.log";
/// How a file of redb begins (its `design.md`, "Super-header").
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// A settled network that holds values, and a node of it to read at whose disk stays whole.
struct Scene {
    net: Net,
    acknowledged: Acknowledged,
    reader: Client,
}

impl Scene {
    async fn up() -> Self {
        let net = Net::up(WEFT, NODES).await;
        settled(&net, &names(1..=NODES)).await;
        let reader = client(&net, "n1").await;
        let mut acknowledged = Acknowledged::default();
        for number in 0..KEYS {
            let key = format!("key {number}");
            let value = value(number);
            let by = put(&reader, &key, &value).await.expect("all are there");
            acknowledged.wrote(&key, value, by);
        }
        Self {
            net,
            acknowledged,
            reader,
        }
    }

    fn store(&self, node: &str) -> PathBuf {
        self.net.node_dir(node).join("store")
    }

    fn log(&self, node: &str) -> String {
        let log = self.net.node_dir(node).join("daemon.log");
        fs::read_to_string(log).expect("a daemon that was started has a log")
    }

    async fn peer_id(&self, node: &str) -> String {
        status(&client(&self.net, node).await).await.peer_id
    }

    async fn kill(&mut self, node: &str) {
        let killed = self.net.kill(&[node.to_owned()]).await;
        killed.expect("it runs");
    }

    async fn restart(&mut self, node: &str) {
        let restarted = self.net.restart(&[node.to_owned()]).await;
        restarted.expect("it starts on a store like this");
        settled(&self.net, &[node.to_owned()]).await;
    }

    /// Starts a node that must refuse its store; returns what it says.
    async fn refused(&mut self, node: &str) -> String {
        let restarted = self.net.restart(&[node.to_owned()]).await;
        restarted.expect_err("it can't use that").to_string()
    }

    async fn down(self) {
        drop(self.reader);
        self.net.down().await;
    }
}

/// A value that shows where it lies in a file.
fn value(number: usize) -> String {
    format!("value {number:03} ").repeat(100)
}

/// Flips a bit in the middle of each of the values that a file holds; returns of how many.
fn flip_values(file: &Path) -> usize {
    let bytes = fs::read(file).expect("a store has a segment");
    let file = fs::OpenOptions::new().write(true).open(file);
    let file = file.expect("it can be written");
    let mut flipped = 0;
    for number in 0..KEYS {
        let value = value(number);
        let places = bytes.windows(value.len()).enumerate();
        for (at, _) in places.filter(|(_, bytes)| *bytes == value.as_bytes()) {
            let at = at + value.len() / 2;
            file.write_all_at(&[bytes[at] ^ 1], at as u64)
                .expect("it can be written");
            flipped += 1;
        }
    }
    flipped
}

/// Bytes that look like nothing, the same each time (Knuth's MMIX generator).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_and_a_cut_end_are_named_and_come_back_from_replicas() {
    let mut scene = Scene::up().await;

    // Found at a start: all values of one replica at once.
    let (id, store) = (scene.peer_id("n2").await, scene.store("n2"));
    let held = scene.acknowledged.held(&scene.reader, &id).await;
    scene.kill("n2").await;
    assert_eq!(flip_values(&store.join(SEGMENT)), held.len());
    scene.restart("n2").await;
    let said = scene.log("n2");
    let named = store.join(SEGMENT).display().to_string();
    assert!(
        said.contains("the store is damaged here") && said.contains(&named),
        "{said}"
    );
    assert!(store.join(format!("{SEGMENT}.damaged-1")).exists());
    wait_held(&scene.reader, &id, &held).await;
    let own = client(&scene.net, "n2").await;
    scene.acknowledged.check_exactly(&own).await;

    // Found on a read, while it runs.
    let (id, store) = (scene.peer_id("n3").await, scene.store("n3"));
    let held = scene.acknowledged.held(&scene.reader, &id).await;
    assert_eq!(flip_values(&store.join(SEGMENT)), held.len());
    let own = client(&scene.net, "n3").await;
    // Nobody gets what is wrong, whomever it is asked of; asked of all replicas, this one finds each of its own.
    for key in &held {
        let params = KvGetParams {
            key: key.clone(),
            level: Some(KvLevel::All),
            ..KvGetParams::default()
        };
        let got = own.call::<KvGet>(params).await;
        let got = got.expect("the others have it, and this one has it again");
        let [value] = &got.values[..] else {
            panic!("{key} has {:?}", got.values);
        };
        let expected = KvData::Text(scene.acknowledged.value(key).to_owned());
        assert_eq!(value.data, expected, "{key}");
    }
    scene.acknowledged.check_exactly(&own).await;
    scene.acknowledged.check_exactly(&scene.reader).await;
    let said = scene.log("n3");
    let named = format!("file={}", store.join(SEGMENT).display());
    assert!(
        said.contains("a value is damaged in this file") && said.contains(&named),
        "{said}"
    );
    wait::until("each record to be here again", PATIENCE, || {
        let again = scene.log("n3").matches("is here again").count();
        (again == held.len()).then_some(())
    });
    wait_held(&scene.reader, &id, &held).await;

    // Cut: what lay behind can't be named, so the node fills as if it were new.
    let (id, store) = (scene.peer_id("n4").await, scene.store("n4"));
    let held = scene.acknowledged.held(&scene.reader, &id).await;
    scene.kill("n4").await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(store.join(SEGMENT))
        .unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes / 2).unwrap();
    scene.restart("n4").await;
    let said = scene.log("n4");
    let named = store.join(SEGMENT).display().to_string();
    assert!(
        said.contains("the store is damaged here") && said.contains(&named),
        "{said}"
    );
    wait_held(&scene.reader, &id, &held).await;
    let own = client(&scene.net, "n4").await;
    scene.acknowledged.check_exactly(&own).await;
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_file_in_the_stores_place_is_refused_left_alone_and_made_up_for_by_replicas() {
    let mut scene = Scene::up().await;
    let (id, store) = (scene.peer_id("n5").await, scene.store("n5"));
    let held = scene.acknowledged.held(&scene.reader, &id).await;
    let redb = [&REDB_MAGIC[..], &noise(100_000)].concat();
    let (segment, database) = (store.join(SEGMENT), store.join("data.redb"));
    let directory = || fs::create_dir(&store).unwrap();
    let foreign: [(&str, &Path, Vec<u8>); 4] = [
        ("random bytes for a segment", &segment, noise(100_000)),
        ("a database of redb for a segment", &segment, redb.clone()),
        (
            "a database of redb beside no segment",
            &database,
            redb.clone(),
        ),
        ("a database of redb for the directory", &store, redb),
    ];
    scene.kill("n5").await;
    for (nth, (what, file, bytes)) in foreign.iter().enumerate() {
        let away = scene.net.node_dir("n5").join(format!("away {nth}"));
        fs::rename(&store, &away).unwrap();
        if *file != store {
            directory();
        }
        fs::write(file, bytes).unwrap();
        let said = scene.refused("n5").await;
        assert!(
            said.contains(&store.display().to_string()) && said.contains("move"),
            "{what}: {said}"
        );
        assert!(
            fs::read(file).unwrap() == *bytes,
            "{what}: it was changed by a start that refused it"
        );
    }
    // As it says: moved away, the node begins with an empty store and fills.
    fs::rename(&store, scene.net.node_dir("n5").join("away last")).unwrap();
    scene.restart("n5").await;
    wait_held(&scene.reader, &id, &held).await;
    let own = client(&scene.net, "n5").await;
    scene.acknowledged.check_exactly(&own).await;
    scene.down().await;
}
