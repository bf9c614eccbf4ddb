//! A core's views in the words of the RPC contract.

use std::time::Duration;

use libp2p::Multiaddr;
use weft_core::topic::NETWORK;
use weft_core::{Address, Direction, views};
use weft_identity::PeerId;
use weft_overlay::UnixMicros;
use weft_rpc::types;

use crate::arrivals::system_time;
use crate::links::address::unpack;

pub(super) fn health(status: &views::StatusView) -> types::Health {
    let (verdict, reason) = if status.active > 0 {
        (types::Verdict::Ok, None)
    } else if status.knows_others {
        let reason = "no neighbour, although other nodes are known; the node keeps trying to join";
        (types::Verdict::Isolated, Some(reason))
    } else {
        let reason =
            "no neighbour, and no other node is known; start it with --join or use `weft peer add`";
        (types::Verdict::Alone, Some(reason))
    };
    types::Health {
        verdict,
        reasons: reason.into_iter().map(str::to_owned).collect(),
    }
}

pub(super) fn dht(view: &views::DhtView) -> types::DhtStatus {
    types::DhtStatus {
        mode: if view.serves {
            types::DhtMode::Server
        } else {
            types::DhtMode::Client
        },
        peers: view.live,
        answers: view.counters.answers,
        failures: view.counters.failures,
    }
}

pub(super) fn store(view: &views::StoreView) -> types::StoreStatus {
    let counters = &view.counters;
    types::StoreStatus {
        stores: view.stores,
        settled: view.settled,
        records: view.records,
        hints: view.hints,
        puts: counters.puts,
        gets: counters.gets,
        quorums_missed: counters.quorums_missed,
        sloppy: counters.sloppy,
        hints_kept: counters.hints_kept,
        read_repairs: counters.read_repairs,
        sync_bytes: counters.sync_bytes,
        damaged: counters.lost,
        held_back: counters.held_back,
    }
}

pub(super) fn peer(view: &views::PeerView) -> types::Peer {
    types::Peer {
        peer_id: view.peer.to_string(),
        addresses: addresses(&view.addresses),
        direction: match view.direction {
            Direction::Inbound => types::Direction::In,
            Direction::Outbound => types::Direction::Out,
        },
        transport: view.transport.to_owned(),
        rtt_ms: view.rtt.map(milliseconds),
        score: None,
        swarms: view
            .swarms
            .iter()
            .map(|topic| topic.as_str().to_owned())
            .collect(),
    }
}

pub(super) fn swarm(topic: &str, view: &views::SwarmView) -> types::OverlayView {
    types::OverlayView {
        topic: topic.to_owned(),
        active: view
            .active
            .iter()
            .map(|active| types::ActivePeer {
                peer_id: active.peer.to_string(),
                since_s: active.since.as_secs_f64(),
                rtt_ms: active.rtt.map(milliseconds),
                eager: active.eager,
                lane_bytes: active.lane_bytes as u64,
            })
            .collect(),
        passive: view
            .passive
            .iter()
            .map(|(peer, age)| types::PassivePeer {
                peer_id: peer.to_string(),
                age_s: age.as_secs_f64(),
            })
            .collect(),
        counters: counters(&view.counters),
        equivocations: view
            .equivocations
            .iter()
            .map(|proof| types::Equivocation {
                publisher: proof.publisher.to_string(),
                epoch: proof.epoch,
                seq: proof.seq,
            })
            .collect(),
    }
}

fn counters(view: &views::SwarmCounters) -> types::SwarmCounters {
    types::SwarmCounters {
        bundles_new: view.bundles_new,
        bundles_duplicate: view.bundles_duplicate,
        messages_delivered: view.messages_delivered,
        bundles_pushed: view.bundles_pushed,
        bundles_supplied: view.bundles_supplied,
        announcements_sent: view.digests_sent,
        grafts_sent: view.grafts_sent,
        prunes_sent: view.prunes_sent,
        messages_lost: view.messages_lost,
    }
}

pub(super) fn trees(topic: &str, views: Vec<views::TreeView>) -> types::OverlayTree {
    let texts = |peers: Vec<PeerId>| peers.iter().map(ToString::to_string).collect();
    types::OverlayTree {
        topic: topic.to_owned(),
        trees: views
            .into_iter()
            .map(|tree| types::Tree {
                publisher: tree.publisher.map(|peer| peer.to_string()),
                parent: tree.parent.map(|peer| peer.to_string()),
                eager: texts(tree.eager),
                lazy: texts(tree.lazy),
            })
            .collect(),
    }
}

pub(super) fn topic(view: &views::TopicView) -> types::Topic {
    types::Topic {
        topic: view.topic.as_str().to_owned(),
        subscriptions: view.subscriptions,
        members_known: view.members_known,
    }
}

pub(super) fn members(topic: &str, views: &[views::MemberView]) -> types::TopicMembers {
    let member = |view: &views::MemberView| types::TopicMember {
        peer_id: view.peer.to_string(),
        subscribed: view.subscribed,
        neighbour: view.is_neighbour,
        keeper: view.is_keeper,
        age_s: view.age.as_secs_f64(),
    };
    types::TopicMembers {
        topic: topic.to_owned(),
        members: views.iter().map(member).collect(),
    }
}

pub(super) fn stats(
    topic: &str,
    view: &views::TopicStatsView,
    log: Option<types::TopicLog>,
) -> types::TopicStats {
    types::TopicStats {
        topic: topic.to_owned(),
        member: view.is_member,
        keeps: view.keeps,
        subscriptions: view.subscriptions,
        members_known: view.members_known,
        keepers_known: view.keepers_known,
        streams: view.streams,
        bundles_held: view.bundles_held,
        messages_held: view.messages_held,
        bytes_held: view.bytes_held as u64,
        oldest: view.oldest.map(moment),
        newest: view.newest.map(moment),
        delivered: view.counters.messages_delivered,
        lost: view.counters.messages_lost,
        duplicates: view.counters.bundles_duplicate,
        log,
    }
}

/// Writes a moment as RFC 3339 has it, in UTC. What peers say stays before the year 10000, where that ends: the wire refuses
/// what lies beyond.
pub(crate) fn moment(at: UnixMicros) -> String {
    humantime::format_rfc3339_micros(system_time(at)).to_string()
}

/// Returns the topics of a node without the swarm that every node is in.
pub(super) fn topic_names(status: &views::StatusView) -> Vec<String> {
    let names = status.topics.iter().map(|topic| topic.as_str().to_owned());
    names.filter(|name| name != NETWORK).collect()
}

pub(super) fn addresses(addresses: &[Address]) -> Vec<String> {
    addresses.iter().filter_map(address).collect()
}

fn address(address: &Address) -> Option<String> {
    unpack(address).map(|address: Multiaddr| address.to_string())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
