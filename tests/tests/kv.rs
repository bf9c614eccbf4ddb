//! The replicated store on real processes, through the real command.

use std::time::Duration;

use serde_json::Value;
use weft_tests::command::{Done, SOON, Weft};
use weft_tests::net::Base;
use weft_tests::wait;

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");

/// How long replicas may take to make sure that they have everything: they begin once nobody comes or goes.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A testnet whose store takes writes, and the command that means it.
struct Store {
    base: Base,
    weft: Weft,
}

impl Store {
    fn up(nodes: usize) -> Self {
        let base = Base::new();
        let weft = base.weft(WEFT);
        let nodes = nodes.to_string();
        let up = ["testnet", "up", "--nodes", &nodes, "--detach"];
        weft.run(up).expect_code(0);
        let store = Self { base, weft };
        wait::until("replicas that are settled", SETTLED_WITHIN, || {
            let put = [
                "put",
                "settled",
                "yes",
                "--level",
                "all",
                "--strict",
                "--timeout",
                "2s",
            ];
            let put = store.on("n1", put);
            put.succeeded().then_some(())
        });
        store
    }

    fn on<'a>(&self, node: &'a str, args: impl IntoIterator<Item = &'a str>) -> Done {
        let args = ["--node", node].into_iter().chain(args);
        self.weft.run(args)
    }

    fn json<'a>(&self, node: &'a str, args: impl IntoIterator<Item = &'a str>) -> Value {
        let args = args.into_iter().chain(["--json"]);
        self.on(node, args).expect_code(0).json()
    }

    fn peer_id(&self, node: &str) -> String {
        let id = self.json(node, ["id"]);
        id["peer_id"].as_str().expect("a peer id").to_owned()
    }

    fn down(self) {
        self.weft.run(["testnet", "down"]).expect_code(0);
        assert_eq!(self.base.processes().len(), 0);
    }
}

#[test]
fn what_one_node_writes_another_reads_and_writers_that_knew_nothing_stand_side_by_side() {
    let store = Store::up(5);

    // Any bytes, by standard input and back.
    let bytes: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let put = ["--node", "n1", "put", "bytes", "-"];
    store.weft.run_with_input(put, &bytes).expect_code(0);
    let got = store.on("n4", ["get", "bytes"]).expect_code(0);
    assert!(got.stdout == bytes, "{} bytes came back", got.stdout.len());
    let too_large = vec![0; 64 * 1024 + 1];
    let put = ["--node", "n1", "put", "bytes", "-"];
    store.weft.run_with_input(put, &too_large).expect_code(1);

    // The keys of JSON that scripts rely on.
    let put = store.json("n1", ["kv", "put", "colour", "blue", "--ttl", "1h"]);
    assert_eq!((&put["key"], &put["need"]), (&"colour".into(), &2.into()));
    assert_eq!(put["writer"], store.peer_id("n1"));
    assert!(put["got"].as_u64().is_some_and(|got| got >= 2), "{put}");
    let replicas = put["replicas"].as_array().expect("replicas");
    assert!(
        replicas.iter().all(|replica| replica["durable"] == true),
        "{put}"
    );
    let got = store.json("n2", ["kv", "get", "colour"]);
    let value = &got["values"][0];
    assert_eq!(
        (&value["value"], &value["version"]),
        (&"blue".into(), &put["version"])
    );
    assert!(
        value["expires_at"].is_string() && got["context"].is_string(),
        "{got}"
    );

    // A key that nobody wrote, and a text that is none.
    store
        .on("n3", ["get", "nothing"])
        .expect_code(5)
        .expect_stderr("no value");
    store.on("n3", ["get", ""]).expect_code(2);
    store.on("n3", ["put", "@me/colour", "x"]).expect_code(2);

    // Siblings, until a write cites both.
    store
        .on("n3", ["put", "colour", "red", "--blind"])
        .expect_code(0);
    let got = store.json("n4", ["get", "colour"]);
    let values = got["values"].as_array().expect("values");
    let mut colours: Vec<_> = values
        .iter()
        .filter_map(|value| value["value"].as_str())
        .collect();
    colours.sort_unstable();
    assert_eq!(colours, ["blue", "red"]);
    let printed = store
        .on("n4", ["get", "colour"])
        .expect_code(0)
        .expect_stderr("2 values");
    assert_eq!(printed.text(), "red");
    let context = got["context"].as_str().expect("a context");
    store
        .on("n5", ["put", "other", "x", "--context", context])
        .expect_code(2);
    store
        .on("n5", ["put", "colour", "green", "--context", context])
        .expect_code(0);
    let got = store.on("n1", ["get", "colour"]).expect_code(0);
    assert_eq!((got.text().as_str(), got.stderr.as_str()), ("green", ""));

    // Deleted is not found, and may be written again.
    store.on("n2", ["kv", "del", "colour"]).expect_code(0);
    store.on("n3", ["get", "colour"]).expect_code(5);
    store.on("n4", ["put", "colour", "white"]).expect_code(0);
    assert_eq!(
        store.on("n5", ["get", "colour"]).expect_code(0).text(),
        "white"
    );

    // What has expired is not found either.
    store
        .on("n1", ["put", "soon", "gone", "--ttl", "1s"])
        .expect_code(0);
    wait::until("an expired value", SOON, || {
        let got = store.on("n2", ["get", "soon"]);
        (!got.succeeded()).then(|| got.expect_code(5))
    });

    // A write that is repeated under one name is the same write.
    let put = ["put", "named", "x", "--request-id", "7"];
    let first = store.json("n1", put);
    assert_eq!(store.json("n1", put), first);
    let another = ["put", "named", "y", "--request-id", "7"];
    store
        .on("n1", another)
        .expect_code(2)
        .expect_stderr("request_id");

    // Keys of one tag lie together and are listed.
    for key in ["{users}/ada", "{users}/bob", "{users}/eve"] {
        store.on("n2", ["put", key, "x"]).expect_code(0);
    }
    store.on("n2", ["kv", "del", "{users}/bob"]).expect_code(0);
    let listed = store.on("n5", ["kv", "ls", "{users}/"]).expect_code(0);
    assert_eq!(listed.text(), "{users}/ada\n{users}/eve\n");
    store
        .on("n5", ["kv", "ls", "users"])
        .expect_code(2)
        .expect_stderr("{tag}");

    store.down();
}

#[test]
fn a_nodes_own_keys_are_compared_and_set_by_its_daemon_alone() {
    let store = Store::up(4);
    let key = format!("@{}/lock", store.peer_id("n2"));

    let put = store.json("n2", ["put", &key, "one", "--if-absent"]);
    let version = put["version"].as_str().expect("a version");
    let refused = store.on("n2", ["put", &key, "two", "--if-absent"]);
    refused.expect_code(7).expect_stderr(version);
    let set = store.json("n2", ["kv", "cas", &key, version, "two"]);
    store
        .on("n2", ["kv", "cas", &key, version, "three"])
        .expect_code(7);
    store
        .on("n2", ["kv", "cas", &key, "absent", "three"])
        .expect_code(7);
    let got = store.json("n4", ["get", &key]);
    let values = got["values"].as_array().expect("values");
    assert_eq!((values.len(), &values[0]["value"]), (1, &"two".into()));
    assert_eq!(values[0]["version"], set["version"]);

    // Neither anybody else's nor everybody's.
    store
        .on("n1", ["put", &key, "mine"])
        .expect_code(4)
        .expect_stderr("owner");
    store
        .on("n1", ["kv", "cas", "shared", "absent", "x"])
        .expect_code(4);

    // The daemon knows its key after a restart, from its own disk.
    store.weft.run(["testnet", "kill", "n2"]).expect_code(0);
    store.weft.run(["testnet", "restart", "n2"]).expect_code(0);
    store
        .on("n2", ["kv", "cas", &key, version, "four"])
        .expect_code(7);
    let version = set["version"].as_str().expect("a version");
    wait::until("a quorum after the restart", SETTLED_WITHIN, || {
        store.on("n2", ["get", &key]).succeeded().then_some(())
    });
    store
        .on("n2", ["kv", "cas", &key, version, "four"])
        .expect_code(0);
    let got = store.on("n3", ["get", &key]).expect_code(0);
    assert_eq!(got.text(), "four");
    store.down();
}

#[test]
fn values_outlive_a_killed_replica() {
    let store = Store::up(5);
    store
        .on("n1", ["put", "durable", "yes", "--level", "all"])
        .expect_code(0);
    let located = store.json("n1", ["kv", "locate", "durable"]);
    assert_eq!(located["slot"], 1_389, "{located}");
    let replicas = located["replicas"].as_array().expect("replicas");
    let holds = replicas.iter().filter(|replica| {
        let versions = replica["versions"].as_array();
        versions.is_some_and(|versions| versions.len() == 1)
    });
    assert!(holds.count() >= 3, "{located}");

    // One of the replicas dies at once, and whoever is left is asked.
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let dies = names
        .iter()
        .find(|name| store.peer_id(name) == replicas[0]["peer_id"]);
    let dies = dies.expect("a replica of this testnet");
    let asked = names
        .iter()
        .find(|name| name != &dies)
        .expect("another node");
    store.weft.run(["testnet", "kill", dies]).expect_code(0);
    assert_eq!(
        store.on(asked, ["get", "durable"]).expect_code(0).text(),
        "yes"
    );
    let put = store.json(asked, ["put", "durable", "still"]);
    assert!(put["got"].as_u64().is_some_and(|got| got >= 2), "{put}");

    // It comes back and has what it missed.
    store.weft.run(["testnet", "restart", dies]).expect_code(0);
    let back = replicas[0]["peer_id"].clone();
    let has_it = |located: &Value| {
        let replicas = located["replicas"].as_array().expect("replicas");
        let back = replicas.iter().find(|replica| replica["peer_id"] == back);
        back.is_some_and(|back| back["versions"][0]["version"] == put["version"])
    };
    wait::until("what the replica missed", SETTLED_WITHIN, || {
        let located = store.on(asked, ["kv", "locate", "durable", "--json"]);
        (located.succeeded() && has_it(&located.json())).then_some(())
    });
    let repaired = store.json(asked, ["kv", "repair", "durable"]);
    assert_eq!(repaired["records"], 1, "{repaired}");
    assert_eq!(
        store.on(dies, ["get", "durable"]).expect_code(0).text(),
        "still"
    );
    store.down();
}
