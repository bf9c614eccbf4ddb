//! A node whose disk is full, down to the last byte: it says so, serves what it has, starts again, and goes on once there is
//! room.
//!
//! The disk is a tmpfs in a mount namespace of the test's own. Where the system permits no such namespace (many containers
//! don't), the tests say so and do nothing; the store on a disk in memory that fills up is tested everywhere
//! (`node/src/store/tests/full.rs`).

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::process::Signal;
use weft_tests::command::{SOON, Weft};
use weft_tests::daemon::Daemon;
use weft_tests::kv::{Acknowledged, By, PATIENCE, client, put, settled, status, wait_held};
use weft_tests::net::{Base, Net, names};
use weft_tests::ramdisk::Ramdisk;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// Room for the 32 MiB that a store leaves free, and for what the test writes.
const DISK_BYTES: u64 = 48 << 20;
const KEYS: usize = 30;

/// Makes a small disk below a test's home, or says why there is none.
fn ramdisk(base: &Base) -> Option<Ramdisk> {
    let over = base.home().join("disk");
    fs::create_dir(&over).expect("a home is writable");
    match Ramdisk::mount(&over, DISK_BYTES) {
        Ok(disk) => Some(disk),
        Err(why) => {
            println!("skipped: this system mounts no tmpfs in a namespace of its own ({why})");
            None
        }
    }
}

/// Publishes at a node what another one hears, each way.
fn gossip(weft: &Weft, [one, other]: [&str; 2]) {
    for (from, to) in [(one, other), (other, one)] {
        let hear = ["--node", to, "sub", "gossip", "--count", "1"];
        let mut subscriber = weft.start(hear, Stdio::null());
        subscriber.wait_stderr("subscribed", SOON);
        let say = ["--node", from, "pub", "gossip", "heard", "--ack", "sent"];
        weft.run(say).expect_code(0);
        assert_eq!(subscriber.wait(SOON).expect_code(0).text(), "heard\n");
    }
}

/// Asks a node with which number its run began.
fn epoch(weft: &Weft, node: &str) -> u64 {
    let say = [
        "--node", node, "pub", "epochs", "which", "--ack", "sent", "--json",
    ];
    let receipt = weft.run(say).expect_code(0).json();
    receipt["epoch"].as_u64().expect("a receipt has an epoch")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_starts_again_and_recovers() {
    let base = Base::new();
    let Some(disk) = ramdisk(&base) else { return };
    let mut net = Net::up(WEFT, 3).await;
    let (all, n3) = (names(1..=3), names([3]));
    let weft = net.weft(WEFT);
    // The third node moves to the small disk.
    net.kill(&n3).await.expect("it runs");
    let (dir, moved) = (net.node_dir("n3"), disk.root().join("n3"));
    fs::create_dir(&moved).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), moved.join(entry.file_name())).unwrap();
        }
    }
    fs::remove_dir_all(&dir).unwrap();
    symlink(&moved, &dir).unwrap();
    net.restart(&n3).await.expect("it was killed");
    settled(&net, &all).await;
    let (n1, full) = (client(&net, "n1").await, client(&net, "n3").await);
    let id = status(&full).await.peer_id;
    let mut acknowledged = Acknowledged::default();
    for number in 0..KEYS {
        let key = format!("before {number}");
        let by = put(&n1, &key, "written").await.expect("all are there");
        acknowledged.wrote(&key, "written".to_owned(), by);
    }
    let before = acknowledged.held(&n1, &id).await;
    assert_eq!(before.len(), KEYS, "three nodes hold three copies");

    disk.fill();
    for number in 0..KEYS {
        let key = format!("meanwhile {number}");
        let by = put(&n1, &key, "written").await.expect("two are enough");
        acknowledged.wrote(&key, "written".to_owned(), by);
    }
    let put_everywhere = |node| {
        weft.run([
            "--node",
            node,
            "put",
            "everywhere",
            "?",
            "--level",
            "all",
            "--strict",
            "--timeout",
            "2s",
        ])
    };
    for node in ["n1", "n3"] {
        let refused = put_everywhere(node).expect_stderr("disk is full");
        assert!(!refused.succeeded(), "{refused}");
    }
    acknowledged.check_exactly(&full).await;
    gossip(&weft, ["n1", "n3"]);

    // It ends and begins again, more than once, each time as a new run.
    let mut last = epoch(&weft, "n3");
    for _ in 0..3 {
        net.kill(&n3).await.expect("it runs");
        net.restart(&n3).await.expect("it starts on a full disk");
        let this = epoch(&weft, "n3");
        assert!(this > last, "{this} after {last}");
        last = this;
        let full = client(&net, "n3").await;
        acknowledged.check_exactly(&full).await;
        gossip(&weft, ["n1", "n3"]);
    }

    disk.clear();
    wait::until("room to be made use of", PATIENCE, || {
        put_everywhere("n3").succeeded().then_some(())
    });
    settled(&net, &all).await;
    acknowledged.wrote("everywhere", "?".to_owned(), By::Replicas);
    let full = client(&net, "n3").await;
    acknowledged.check_exactly(&full).await;
    let held: Vec<String> = acknowledged.keys().map(str::to_owned).collect();
    // What it missed comes within the minute; a repair brings it at once.
    for key in &held {
        let repair = ["--node", "n3", "kv", "repair", key];
        weft.run(repair).expect_code(0);
    }
    wait_held(&n1, &id, &held).await;
    drop((n1, full));
    net.down().await;
}

#[test]
fn a_first_start_on_a_full_disk_says_what_it_needs_and_where() {
    let base = Base::new();
    let Some(disk) = ramdisk(&base) else { return };
    disk.fill();
    let weft = base.weft(WEFT);
    let dir = disk.root().join("node");
    let dir = dir.to_str().unwrap();
    let run = |more: &[&str]| {
        let start = ["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--dir", dir];
        weft.run([&start, more].concat()).expect_code(1)
    };
    let said = run(&[]).stderr;
    assert!(
        said.contains(&format!("{dir}/id_ed25519")) && said.contains("No space left"),
        "{said}"
    );
    // With a key from elsewhere.
    let other = base.home().join("other");
    let daemon = Daemon::start(&weft, &other, "net");
    drop(daemon.stop());
    let key = other.join("id_ed25519");
    let said = run(&["--key", key.to_str().unwrap()]).stderr;
    assert!(
        said.contains(&format!("{dir}/store")) && said.contains("No space left"),
        "{said}"
    );
    // With the room for a store, but not for the first epoch.
    disk.clear();
    let daemon = Daemon::start(&weft, disk.root().join("node").as_path(), "weft");
    drop(daemon.stop());
    for name in ["epoch", "epoch.spare"] {
        fs::remove_file(format!("{dir}/{name}")).unwrap();
    }
    disk.fill();
    let said = run(&[]).stderr;
    assert!(
        said.contains(&format!("{dir}/epoch")) && said.contains("a block of the disk (4 KiB"),
        "{said}"
    );
}

#[test]
fn a_log_on_a_full_disk_ends_no_daemon() {
    let base = Base::new();
    let dir = base.home().join("node");
    let dir = dir.to_str().unwrap();
    // The system's own full disk, for standard error alone.
    let shell = Weft::new("sh", base.home());
    let script = r#"exec "$@" 2> /dev/full"#;
    let listen = "/ip4/127.0.0.1/tcp/0";
    let mut daemon = shell.start(
        [
            "-c", script, "sh", WEFT, "run", "--log", "trace", "--listen", listen, "--dir", dir,
        ],
        Stdio::null(),
    );
    daemon.wait_stdout("ready", SOON);
    let weft = base.weft(WEFT);
    weft.run(["--dir", dir, "status"]).expect_code(0);
    daemon.signal(Signal::TERM);
    daemon.wait(SOON).expect_code(0);
}
