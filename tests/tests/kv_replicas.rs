//! Replicas of the store on real processes that were away, join and leave, while others write and read.
//!
//! `WEFT_KV_S` is how many seconds a replica is down and each part of the load lasts, `WEFT_KV_WRITES` how much is
//! written meanwhile:
//!
//! ```console
//! $ WEFT_KV_S=60 WEFT_KV_WRITES=1000 cargo test -p weft-tests --test kv_replicas -- --nocapture
//! ```

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use weft_rpc::method::NodeLeave;
use weft_rpc::types::LeaveParams;
use weft_rpc::{CallError, Client, Kind};
use weft_tests::daemon::Daemon;
use weft_tests::kv::{Acknowledged, By, PATIENCE, client, get, put, settled, status};
use weft_tests::net::{Net, names};
use weft_tests::{alone, setting, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// A value of the writes that a replica misses.
const VALUE_BYTES: usize = 1_024;
/// What a record takes beside its value: signature, keys, dots.
const HEAD_BYTES: usize = 200;
/// How soon a replica that is back holds all that it missed.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Keys that are written and read while nodes come and go.
const KEYS: usize = 60;
/// How long a part of the load lasts where nothing else is asked for, in seconds.
const PART_S: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_down_holds_what_it_missed_within_seconds_for_little_more_than_its_bytes()
 {
    let _alone = alone().await;
    // Three nodes, so that each is a replica of every key.
    let mut net = Net::up(WEFT, 3).await;
    let all = names(1..=3);
    settled(&net, &all).await;
    let others = [client(&net, "n1").await, client(&net, "n2").await];
    let down = names([3]);
    net.kill(&down).await.expect("it runs");

    let writes = setting("WEFT_KV_WRITES", 200);
    let span = Duration::from_secs(setting("WEFT_KV_S", PART_S));
    let mut pace = interval(span / u32::try_from(writes).expect("a number of writes"));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..writes {
        pace.tick().await;
        let by = put(&others[0], &format!("key {number}"), &value).await;
        assert_eq!(by.expect("two are enough"), By::Replicas);
    }
    let compared = async |clients: &[Client]| {
        let mut bytes = 0;
        for client in clients {
            bytes += status(client).await.store.sync_bytes;
        }
        bytes
    };
    let before = compared(&others).await;
    let begun = Instant::now();
    net.restart(&down).await.expect("it was killed");
    let back = client(&net, "n3").await;
    let records = usize::try_from(writes).expect("a number of writes");
    wait::until_async("all that was missed", PATIENCE, async || {
        (status(&back).await.store.records >= records).then_some(())
    })
    .await;
    let took = begun.elapsed();
    // Its own count began with its run.
    let sent = compared(&others).await - before + status(&back).await.store.sync_bytes;
    let missed = writes * (VALUE_BYTES + HEAD_BYTES) as u64;
    println!(
        "{writes} writes missed in {span:?}: held {took:?} after the start, {sent} bytes sent for {missed} missed"
    );
    assert!(took < BACK_WITHIN, "{took:?}");
    assert!(sent * 10 <= missed * 13, "{sent} bytes for {missed}");
    net.down().await;
}

/// Writes and reads by turns, and what came of the reads.
struct Load {
    writer: Client,
    reader: Client,
    acknowledged: Acknowledged,
    turn: usize,
    /// Reads that replicas alone answered, of what they alone took, and others.
    by_replicas: usize,
    by_stand_ins: usize,
}

impl Load {
    /// Writes one key and reads another one.
    async fn turn(&mut self) {
        self.turn += 1;
        let key = format!("key {}", self.turn * 7 % KEYS);
        let value = format!("value {}", self.turn);
        let by = put(&self.writer, &key, &value).await.expect("a quorum");
        self.acknowledged.wrote(&key, value, by);
        let key = format!("key {}", self.turn * 11 % KEYS);
        let got = match get(&self.reader, &key).await {
            Ok(got) => got,
            Err(CallError::Rpc(error)) if error.kind == Kind::NotFound => {
                let written = self.acknowledged.keys().any(|written| written == key);
                assert!(!written, "{key} was written, and is said not to be there");
                return;
            }
            Err(error) => panic!("{key}: {error}"),
        };
        // Only what replicas alone say of what replicas alone took is promised.
        if [got.by, self.acknowledged.written_by(&key)].contains(&By::StandIns) {
            self.by_stand_ins += 1;
            return;
        }
        self.by_replicas += 1;
        assert_eq!(
            got.values,
            [self.acknowledged.value(&key)],
            "{key} is stale"
        );
    }

    /// Goes on for a while.
    async fn last(&mut self) {
        let until = Instant::now() + Duration::from_secs(setting("WEFT_KV_S", PART_S));
        while Instant::now() < until {
            self.turn().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_joins_and_another_drains_no_read_at_a_quorum_of_replicas_fails_or_goes_stale() {
    let _alone = alone().await;
    let net = Net::up(WEFT, 10).await;
    settled(&net, &names(1..=10)).await;
    let mut load = Load {
        writer: client(&net, "n1").await,
        reader: client(&net, "n2").await,
        acknowledged: Acknowledged::default(),
        turn: 0,
        by_replicas: 0,
        by_stand_ins: 0,
    };
    load.last().await;

    let network = status(&load.writer).await.network;
    let address = status(&load.writer).await.addresses[0].clone();
    let home = tempfile::tempdir().expect("a temporary directory");
    let weft = net.weft(WEFT);
    let dir = home.path().join("eleventh");
    let starting = tokio::task::spawn_blocking(move || {
        let eleventh = Daemon::start(&weft, &dir, &network);
        eleventh.run(&["peer", "add", &address]).expect_code(0);
        eleventh
    });
    while !starting.is_finished() {
        load.turn().await;
    }
    let eleventh = starting.await.expect("a daemon that starts");
    let joined = Client::connect(eleventh.dir()).await.expect("a daemon");
    let deadline = Instant::now() + PATIENCE;
    while !status(&joined).await.store.settled {
        load.turn().await;
        assert!(Instant::now() < deadline, "the eleventh is not settled");
    }
    load.last().await;

    let leaver = client(&net, "n4").await;
    let leaving = tokio::spawn(async move {
        let params = LeaveParams { drain: true };
        leaver.call::<NodeLeave>(params).await
    });
    while !leaving.is_finished() {
        load.turn().await;
    }
    let left = leaving.await.expect("it ends").expect("others take over");
    assert!(left.drained);
    load.last().await;

    println!(
        "{} writes; {} reads by replicas alone, none failed or stale; {} with stand-ins; the eleventh holds {} records, the one that left held {}",
        load.turn,
        load.by_replicas,
        load.by_stand_ins,
        status(&joined).await.store.records,
        left.records
    );
    assert!(load.by_replicas > 10 * load.by_stand_ins);
}
