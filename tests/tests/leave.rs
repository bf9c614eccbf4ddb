//! A node that leaves for good takes no copy with it.

use serde_json::Value;
use weft_tests::command::{Done, SOON, Weft};
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
/// Keys that are written before a node leaves.
const KEYS: usize = 40;

fn on(weft: &Weft, node: &str, args: &[&str]) -> Done {
    weft.run([&["--node", node], args].concat())
}

/// How many nodes hold a version of a key.
fn holders(weft: &Weft, key: &str) -> usize {
    let located: Value = on(weft, "n1", &["kv", "locate", key, "--json"])
        .expect_code(0)
        .json();
    let replicas = located["replicas"].as_array().expect("replicas");
    let holds = |replica: &&Value| {
        let versions = replica["versions"].as_array();
        versions.is_some_and(|versions| !versions.is_empty())
    };
    replicas.iter().filter(holds).count()
}

#[test]
fn a_node_that_drains_leaves_every_key_with_all_its_copies() {
    let base = Base::new();
    let weft = base.weft(WEFT);
    weft.run(["testnet", "up", "--nodes", "6", "--detach"])
        .expect_code(0);
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key {number}")).collect();
    wait::until("replicas that are settled", SOON * 2, || {
        let put = [
            "put",
            &keys[0],
            "0",
            "--level",
            "all",
            "--strict",
            "--timeout",
            "2s",
        ];
        on(&weft, "n1", &put).succeeded().then_some(())
    });
    for key in &keys {
        on(&weft, "n2", &["put", key, key, "--level", "all"]).expect_code(0);
    }
    let left = on(&weft, "n4", &["leave", "--drain", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(left["drained"], true);
    assert!(
        left["records"].as_u64().is_some_and(|records| records > 0),
        "{left}"
    );
    wait::until("the end of the daemon", SOON, || {
        let status = on(&weft, "n4", &["status"]);
        status
            .stderr
            .contains("no daemon")
            .then(|| status.expect_code(3))
    });

    for key in &keys {
        assert!(holders(&weft, key) >= 3, "{key}");
        assert_eq!(on(&weft, "n3", &["get", key]).expect_code(0).text(), *key);
    }
    // Whoever has taken its place holds everything, and counts as a replica.
    for key in &keys {
        let got = on(&weft, "n3", &["get", key, "--level", "all", "--strict"]);
        assert_eq!(got.expect_code(0).text(), *key);
    }
    // One that is only stopped says so, and keeps what it has for its return.
    let left = on(&weft, "n5", &["leave"]).expect_code(0);
    assert!(
        left.text().contains("lie in its directory"),
        "{}",
        left.text()
    );
    weft.run(["testnet", "down"]).expect_code(0);
}
