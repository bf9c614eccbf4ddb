//! The one table of methods: names, parameters and answers, for the server, the client and `rpc.discover`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::types;

/// A method of the control socket; one unit type each.
pub trait Method {
    /// The name on the wire.
    const NAME: &'static str;
    /// What it takes: a JSON object.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + Clone + Send + 'static;
}

/// A method as `rpc.discover` describes it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the wire.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
    /// The type of its answer in this crate's `types`.
    pub answer: &'static str,
}

/// A parameter as `rpc.discover` describes it.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its key in the object.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

const fn required(name: &'static str) -> Param {
    Param {
        name,
        required: true,
    }
}

const fn optional(name: &'static str) -> Param {
    Param {
        name,
        required: false,
    }
}

macro_rules! methods {
    ($($unit:ident = $name:literal ($params:ty) -> $answer:ty, [$($param:expr),*], $summary:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $summary)]
            #[derive(Debug, Clone, Copy)]
            pub struct $unit;

            impl Method for $unit {
                const NAME: &'static str = $name;
                type Params = $params;
                type Answer = $answer;
            }
        )*

        /// Every method, in the order in which people read them.
        pub const TABLE: &[Entry] = &[
            $(Entry { name: $name, summary: $summary, params: &[$($param),*], answer: stringify!($answer) }),*
        ];
    };
}

methods! {
    NodeStatus = "node_status" (types::NoParams) -> types::Status, [],
        "Answers who the node is, how it does and what it has counted.";
    NodeHealth = "node_health" (types::NoParams) -> types::Health, [],
        "Answers one verdict on the node, and why.";
    NodeIdentity = "node_identity" (types::NoParams) -> types::Identity, [],
        "Answers the node's peer id, network and addresses.";
    NodeShutdown = "node_shutdown" (types::NoParams) -> types::Stopping, [],
        "Makes the node say goodbye to its neighbours and stop.";
    NodeLeave = "node_leave" (types::LeaveParams) -> types::Left, [optional("drain")],
        "Makes the node stop for good: with `drain` it stops once others hold what it held.";
    NodeSetLogLevel = "node_setLogLevel" (types::LogLevel) -> types::LogLevel, [required("level")],
        "Changes what the daemon logs from now on.";
    PeerList = "peer_list" (types::NoParams) -> types::Peers, [],
        "Lists the linked peers.";
    PeerAdd = "peer_add" (types::PeerAddParams) -> types::PeerAdded, [required("address")],
        "Dials an address and answers once the peer there is linked.";
    PeerRemove = "peer_remove" (types::PeerParams) -> types::PeerRemoved, [required("peer_id")],
        "Closes the link to a peer and forgets its addresses.";
    PeerRefuse = "peer_refuse" (types::PeerRefuseParams) -> types::PeersRefused, [required("peer_ids")],
        "Sets which peers the node has no connections with, until it stops or is told other ones.";
    PeerPing = "peer_ping" (types::PeerParams) -> types::PeerPinged, [required("peer_id")],
        "Measures a round trip to a linked peer.";
    OverlayViews = "overlay_views" (types::OverlayViewsParams) -> types::OverlayView, [optional("topic")],
        "Answers a swarm's active and passive view; without a topic, the swarm `network`.";
    OverlayTree = "overlay_tree" (types::OverlayTreeParams) -> types::OverlayTree, [required("topic")],
        "Answers a swarm's broadcast trees as this node sees them.";
    TopicPublish = "topic_publish" (types::PublishParams) -> types::Published, [required("topic"), required("messages"), optional("request_id"), optional("via"), optional("ack")],
        "Publishes a batch of messages in order; one batch at a time on a connection.";
    TopicList = "topic_list" (types::NoParams) -> types::Topics, [],
        "Lists the topics that the node is a member of or knows members of.";
    TopicMembers = "topic_members" (types::TopicParams) -> types::TopicMembers, [required("topic")],
        "Lists the other members of a topic that the node knows of.";
    TopicStats = "topic_stats" (types::TopicParams) -> types::TopicStats, [required("topic")],
        "Answers what the node holds of a topic, and what it has counted.";
    TopicHistory = "topic_history" (types::HistoryParams) -> types::History, [required("topic"), optional("from"), optional("items_max")],
        "Reads what the node holds of a topic without subscribing, a page at a time.";
    TopicSubscribe = "topic_subscribe" (types::SubscribeParams) -> Value, [required("topic"), optional("from"), optional("consumer"), optional("reset")],
        "Subscribes over WebSocket; notifications `topic_event` follow, first `ready`, then `items`.";
    TopicUnsubscribe = "topic_unsubscribe" (types::UnsubscribeParams) -> bool, [required("subscription")],
        "Ends a subscription of this connection.";
    TopicCredit = "topic_credit" (types::CreditParams) -> types::Credited, [required("credit_id"), required("up_to")],
        "Tells that a subscription has been read up to a place, so that more may be sent.";
    TopicConfirm = "topic_confirm" (types::ConfirmParams) -> types::Confirmed, [required("credit_id"), required("cursor")],
        "Tells that a named subscription's client has handled what carries a cursor and all before it; answers once that is on disk.";
    TopicConsumers = "topic_consumers" (types::TopicParams) -> types::TopicConsumers, [required("topic")],
        "Lists who reads a topic by name, and how far each has come.";
    TopicForgetConsumer = "topic_forgetConsumer" (types::ForgetParams) -> types::Forgotten, [required("topic"), required("consumer")],
        "Forgets who reads a topic under a name.";
    DhtFindPeer = "dht_findPeer" (types::PeerParams) -> types::PeerFound, [required("peer_id")],
        "Finds where a peer is.";
    DhtClosest = "dht_closest" (types::KeyParams) -> types::Closest, [optional("key"), optional("key_base64")],
        "Finds the 20 peers closest to a key.";
    DhtProvide = "dht_provide" (types::KeyParams) -> types::Provided, [optional("key"), optional("key_base64")],
        "Makes the node known as a provider of a key, until it stops or is told to cease.";
    DhtStopProviding = "dht_stopProviding" (types::KeyParams) -> types::ProvidingStopped, [optional("key"), optional("key_base64")],
        "Ceases to provide a key; what others know of it expires there.";
    DhtProviders = "dht_providers" (types::KeyParams) -> types::Providers, [optional("key"), optional("key_base64")],
        "Finds up to 20 providers of a key.";
    DhtRoutingTable = "dht_routingTable" (types::NoParams) -> types::RoutingTable, [],
        "Answers the node's routing table.";
    KvGet = "kv_get" (types::KvGetParams) -> types::KvGot,
        [required("key"), optional("n"), optional("r"), optional("level"), optional("strict"), optional("timeout_ms")],
        "Reads a key's value, or its values where writers knew nothing of each other.";
    KvPut = "kv_put" (types::KvPutParams) -> types::KvWritten,
        [required("key"), optional("value"), optional("value_base64"), optional("ttl_ms"), optional("context"),
            optional("blind"), optional("if_absent"), optional("n"), optional("w"), optional("level"), optional("strict"),
            optional("timeout_ms"), optional("request_id")],
        "Writes a key's value in the place of what is there.";
    KvDelete = "kv_delete" (types::KvDeleteParams) -> types::KvWritten,
        [required("key"), optional("context"), optional("n"), optional("w"), optional("level"), optional("strict"),
            optional("timeout_ms"), optional("request_id")],
        "Deletes a key.";
    KvCas = "kv_cas" (types::KvCasParams) -> types::KvWritten,
        [required("key"), required("expect"), optional("value"), optional("value_base64"), optional("ttl_ms"),
            optional("n"), optional("w"), optional("level"), optional("strict"), optional("timeout_ms"),
            optional("request_id")],
        "Writes one of this node's own keys, if it has the version that is expected.";
    KvList = "kv_list" (types::KvListParams) -> types::KvKeys,
        [required("prefix"), optional("after"), optional("n"), optional("r"), optional("level"), optional("strict"),
            optional("timeout_ms")],
        "Lists keys with a tag by their beginning, a page at a time.";
    KvLocate = "kv_locate" (types::KvKeyParams) -> types::KvLocated,
        [required("key"), optional("n"), optional("timeout_ms")],
        "Answers where a key stands, who its replicas are and what each holds.";
    KvRepair = "kv_repair" (types::KvKeyParams) -> types::KvRepaired,
        [required("key"), optional("n"), optional("timeout_ms")],
        "Brings all replicas of a key what any of them has.";
    Discover = "rpc.discover" (types::NoParams) -> Value, [],
        "Answers this list as an OpenRPC document.";
}

/// The method of a subscription's notifications.
pub const TOPIC_EVENT: &str = "topic_event";

/// Finds a method by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name == name)
}

/// Writes the table as an OpenRPC document. Parameters have names and no schemas: types live in this crate's `types`.
pub fn openrpc() -> Value {
    let methods: Vec<Value> = TABLE
        .iter()
        .map(|entry| {
            let params: Vec<Value> = entry
                .params
                .iter()
                .map(
                    |param| json!({"name": param.name, "required": param.required, "schema": true}),
                )
                .collect();
            let answer = entry
                .answer
                .rsplit("::")
                .next()
                .unwrap_or(entry.answer)
                .trim();
            json!({
                "name": entry.name,
                "summary": entry.summary,
                "paramStructure": "by-name",
                "params": params,
                "result": {"name": answer, "schema": true},
            })
        })
        .collect();
    json!({
        "openrpc": "1.2.6",
        "info": {"title": "Weft", "version": env!("CARGO_PKG_VERSION")},
        "methods": methods,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = TABLE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert_eq!(find(NodeStatus::NAME).unwrap().name, "node_status");
        assert!(find("node_stat").is_none());
    }

    #[test]
    fn the_openrpc_document_lists_every_method() {
        let document = openrpc();
        let methods = document["methods"].as_array().unwrap();
        assert_eq!(methods.len(), TABLE.len());
        let publish = methods
            .iter()
            .find(|method| method["name"] == "topic_publish")
            .unwrap();
        assert_eq!(publish["params"][0]["name"], "topic");
        assert_eq!(publish["result"]["name"], "Published");
    }

    #[test]
    fn described_parameters_are_the_ones_that_the_types_know() {
        /// Feeds a type an object with one unknown key, and reads the known ones from the refusal.
        fn known<M: Method>() -> String {
            match serde_json::from_str::<M::Params>(r#"{"?": 0}"#) {
                Ok(_) => panic!("{} takes unknown parameters", M::NAME),
                Err(error) => error.to_string(),
            }
        }
        let refusals = [
            (PeerAdd::NAME, known::<PeerAdd>()),
            (PeerPing::NAME, known::<PeerPing>()),
            (PeerRefuse::NAME, known::<PeerRefuse>()),
            (OverlayViews::NAME, known::<OverlayViews>()),
            (OverlayTree::NAME, known::<OverlayTree>()),
            (TopicPublish::NAME, known::<TopicPublish>()),
            (TopicMembers::NAME, known::<TopicMembers>()),
            (TopicStats::NAME, known::<TopicStats>()),
            (TopicSubscribe::NAME, known::<TopicSubscribe>()),
            (TopicHistory::NAME, known::<TopicHistory>()),
            (TopicUnsubscribe::NAME, known::<TopicUnsubscribe>()),
            (TopicCredit::NAME, known::<TopicCredit>()),
            (TopicConfirm::NAME, known::<TopicConfirm>()),
            (TopicConsumers::NAME, known::<TopicConsumers>()),
            (TopicForgetConsumer::NAME, known::<TopicForgetConsumer>()),
            (NodeSetLogLevel::NAME, known::<NodeSetLogLevel>()),
            (NodeLeave::NAME, known::<NodeLeave>()),
            (NodeStatus::NAME, known::<NodeStatus>()),
            (KvGet::NAME, known::<KvGet>()),
            (KvPut::NAME, known::<KvPut>()),
            (KvDelete::NAME, known::<KvDelete>()),
            (KvCas::NAME, known::<KvCas>()),
            (KvList::NAME, known::<KvList>()),
            (KvLocate::NAME, known::<KvLocate>()),
            (KvRepair::NAME, known::<KvRepair>()),
        ];
        for (name, refusal) in refusals {
            // unknown field `?`, expected one of `topic`, `from`
            let known: BTreeSet<_> = refusal.split('`').skip(3).step_by(2).collect();
            let described = find(name).unwrap().params.iter();
            let described: BTreeSet<_> = described.map(|param| param.name).collect();
            assert_eq!(described, known, "{name}: {refusal}");
        }
    }
}
