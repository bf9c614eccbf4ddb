//! What the core shows of itself: the node, its peers, its swarms and topics.

use std::collections::BTreeMap;

use weft_identity::PeerId;
use weft_overlay::{Bundle, Now};

use super::Core;
use super::swarms::Entry;
use crate::TopicName;
use crate::views::{
    ActiveView, Equivocation, PeerView, StatusView, SwarmCounters, SwarmView, TopicView, TreeView,
};

impl Core {
    /// Returns the node at a glance.
    pub fn status(&self) -> StatusView {
        let membership = self
            .swarms
            .get(&self.root)
            .map(|entry| entry.swarm.membership());
        let passive = membership.map_or(0, |membership| membership.passive_view().count());
        StatusView {
            links: self.links.values().filter(|link| link.is_alive()).count(),
            active: membership.map_or(0, |membership| membership.active().count()),
            passive,
            knows_others: passive > 0
                || !self.book.is_empty()
                || self.joins.iter().any(|join| !join.is_own()),
            topics: self
                .swarms
                .iter()
                .filter(|(topic, _)| **topic != self.root)
                .map(|(_, entry)| entry.name.clone())
                .collect(),
            dht: self.dht(),
            store: self.store(),
            counters: self.counters.clone(),
        }
    }

    /// Returns the linked peers.
    pub fn peers(&self) -> Vec<PeerView> {
        self.links
            .iter()
            .filter(|(_, link)| link.is_alive())
            .map(|(peer, link)| PeerView {
                peer: *peer,
                addresses: self
                    .book
                    .addresses(*peer)
                    .unwrap_or_else(|| link.address.iter().cloned().collect()),
                direction: link.direction,
                transport: link.transport,
                rtt: link.rtt,
                swarms: link
                    .neighbour_in
                    .iter()
                    .filter_map(|topic| self.swarms.get(topic))
                    .map(|entry| entry.name.clone())
                    .collect(),
            })
            .collect()
    }

    /// Returns a swarm's views; none where the node is no member.
    pub fn swarm_view(&self, topic: &str, now: Now) -> Option<SwarmView> {
        let entry = self.entry_named(topic)?;
        let membership = entry.swarm.membership();
        let shared: Vec<PeerId> = entry.swarm.trees().shared().collect();
        Some(SwarmView {
            active: membership
                .active_view()
                .map(|active| {
                    let link = self.links.get(&active.peer);
                    ActiveView {
                        peer: active.peer,
                        since: now.time.since(active.since),
                        rtt: link.and_then(|link| link.rtt),
                        eager: shared.contains(&active.peer),
                        lane_bytes: link.map_or(0, |link| link.data_bytes + link.repair_bytes),
                    }
                })
                .collect(),
            passive: membership
                .passive_view()
                .map(|passive| (passive.peer, now.time.since(passive.heard_at)))
                .collect(),
            counters: entry.counters(),
            equivocations: entry
                .swarm
                .history()
                .proofs()
                .map(|(_, second)| {
                    let header = second.header();
                    Equivocation {
                        publisher: header.stream.publisher,
                        epoch: header.stream.epoch,
                        seq: header.first,
                    }
                })
                .collect(),
        })
    }

    /// Returns a swarm's trees, the shared one first; none where the node is no member.
    pub fn trees(&self, topic: &str) -> Option<Vec<TreeView>> {
        let entry = self.entry_named(topic)?;
        let active: Vec<PeerId> = entry.swarm.membership().active().collect();
        let view = |publisher, parent, eager: Vec<PeerId>| TreeView {
            publisher,
            parent,
            lazy: active
                .iter()
                .copied()
                .filter(|peer| !eager.contains(peer) && Some(*peer) != parent)
                .collect(),
            eager,
        };
        let trees = entry.swarm.trees();
        let shared = view(None, None, trees.shared().collect());
        let own = trees.publishers().map(|(publisher, tree)| {
            view(Some(publisher), tree.parent(), tree.pushes_to().collect())
        });
        Some(std::iter::once(shared).chain(own).collect())
    }

    /// Returns the topics that the node is a member of or knows members of, by name.
    pub fn topics(&self) -> Vec<TopicView> {
        let mut topics: BTreeMap<&TopicName, TopicView> = BTreeMap::new();
        for (name, members_known) in self.members.topics() {
            topics.insert(
                name,
                TopicView {
                    topic: name.clone(),
                    subscriptions: 0,
                    members_known,
                },
            );
        }
        for (_, entry) in self.swarms.iter().filter(|(topic, _)| **topic != self.root) {
            let view = topics.entry(&entry.name).or_insert_with(|| TopicView {
                topic: entry.name.clone(),
                subscriptions: 0,
                members_known: 0,
            });
            view.subscriptions = entry.subscriptions;
        }
        topics.into_values().collect()
    }
}

impl Entry {
    fn counters(&self) -> SwarmCounters {
        let broadcast = self.swarm.counters();
        SwarmCounters {
            bundles_new: broadcast.bundles_new,
            bundles_duplicate: broadcast.bundles_duplicate,
            messages_delivered: self.messages_delivered,
            bundles_pushed: broadcast.bundles_pushed,
            bundles_supplied: broadcast.bundles_supplied,
            digests_sent: broadcast.digests_sent,
            grafts_sent: broadcast.grafts_sent,
            prunes_sent: broadcast.prunes_sent,
            messages_lost: self.messages_lost,
            equivocations: broadcast.equivocations,
            bundles_refused: broadcast.bundles_refused,
        }
    }
}
