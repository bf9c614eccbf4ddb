//! `weft status`: how a node does.

use weft_rpc::method::NodeStatus;
use weft_rpc::types::{DhtMode, NoParams, Status, StoreStatus, Verdict};

use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// Shows how the node does: links, views, topics, health and counters
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(global: &Global, _: &Args) -> Result<(), Failure> {
    let status = global.call::<NodeStatus>(NoParams {}).await?;
    if global.json {
        output::json(&status)
    } else {
        output::text(&describe(&status))
    }
}

fn describe(status: &Status) -> String {
    let mut verdict = match status.health.verdict {
        Verdict::Ok => "ok",
        Verdict::Alone => "alone",
        Verdict::Isolated => "isolated",
    }
    .to_owned();
    if !status.health.reasons.is_empty() {
        verdict += ": ";
        verdict += &status.health.reasons.join("; ");
    }
    let mut pairs = vec![
        ["peer id".to_owned(), status.peer_id.clone()],
        ["network".to_owned(), status.network.clone()],
        ["health".to_owned(), verdict],
        [
            "links".to_owned(),
            format!(
                "{} (views of the network: {} active, {} passive)",
                status.links, status.active, status.passive
            ),
        ],
        [
            "dht".to_owned(),
            format!(
                "{}, {} peers in its routing table",
                match status.dht.mode {
                    DhtMode::Server => "server",
                    DhtMode::Client => "client",
                },
                status.dht.peers
            ),
        ],
        ["store".to_owned(), describe_store(&status.store)],
        ["topics".to_owned(), output::list(&status.topics)],
        ["uptime".to_owned(), output::seconds(status.uptime_s)],
        [
            "version".to_owned(),
            format!("{}, pid {}", status.version, status.pid),
        ],
    ];
    pairs.extend(labelled("addresses", &status.addresses));
    let counters: Vec<String> = status
        .counters
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    pairs.extend(labelled("counters", &counters));
    output::pairs(&pairs)
}

fn describe_store(store: &StoreStatus) -> String {
    if !store.stores {
        return "holds no records".to_owned();
    }
    let settled = if store.settled {
        "settled"
    } else {
        "not settled yet: it doesn't count as a replica"
    };
    let mut text = format!("{}, {settled}", output::count(store.records, "record"));
    if store.hints > 0 {
        let hints = output::count(store.hints, "hint");
        text += &format!(", {hints} for replicas that are away");
    }
    text
}

/// Writes several values below each other, with their name beside the first.
pub(crate) fn labelled(name: &str, values: &[String]) -> Vec<[String; 2]> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names
        .zip(values)
        .map(|(name, value)| [name.to_owned(), value.clone()])
        .collect()
}

#[cfg(test)]
mod tests {
    use weft_rpc::types::{DhtStatus, Health};

    use super::*;

    #[test]
    fn a_status_reads_well() {
        let status = Status {
            peer_id: "12D3KooWA".into(),
            network: "home".into(),
            version: "0.1.0".into(),
            pid: 7,
            uptime_s: 62.5,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into(), "/ip4/127.0.0.1/tcp/2".into()],
            links: 1,
            active: 0,
            passive: 2,
            topics: Vec::new(),
            dht: DhtStatus {
                mode: DhtMode::Server,
                peers: 12,
                answers: 30,
                failures: 0,
            },
            store: StoreStatus {
                stores: true,
                settled: true,
                records: 7,
                hints: 1,
                ..StoreStatus::default()
            },
            health: Health {
                verdict: Verdict::Isolated,
                reasons: vec!["no neighbour answers".into()],
            },
            counters: [("bad_frames".to_owned(), 3)].into(),
        };
        let text = describe(&status);
        assert!(
            text.contains("health     isolated: no neighbour answers\n"),
            "{text}"
        );
        assert!(
            text.contains("links      1 (views of the network: 0 active, 2 passive)\n"),
            "{text}"
        );
        assert!(
            text.contains("addresses  /ip4/127.0.0.1/tcp/1\n           /ip4/127.0.0.1/tcp/2\n"),
            "{text}"
        );
        let dht = "dht        server, 12 peers in its routing table\n";
        assert!(text.contains(dht), "{text}");
        let store = "store      7 records, settled, 1 hint for replicas that are away\n";
        assert!(text.contains(store), "{text}");
        assert!(text.ends_with("counters   bad_frames 3\n"), "{text}");
    }
}
