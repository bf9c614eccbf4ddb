//! What the core shows of itself: the node, its peers, its swarms and topics.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::{Bundle, Now};

use super::Core;
use super::swarms::Entry;
use crate::TopicName;
use crate::views::{
    ActiveView, Equivocation, MemberView, PeerView, StatusView, SwarmCounters, SwarmView,
    TopicStatsView, TopicView, TreeView,
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
    pub fn topics(&self, now: Now) -> Vec<TopicView> {
        let own = self.swarms.iter().filter(|(topic, _)| **topic != self.root);
        let own = own.map(|(_, entry)| (&entry.name, Some(entry)));
        let mut topics: BTreeMap<&TopicName, Option<&Entry>> = own.collect();
        for name in self.members.topics() {
            topics.entry(name).or_default();
        }
        let view = |(name, entry): (&TopicName, Option<&Entry>)| TopicView {
            topic: name.clone(),
            subscriptions: entry.map_or(0, |entry| entry.subscriptions),
            members_known: self.members_known(name, entry, now).len(),
        };
        topics.into_iter().map(view).collect()
    }

    /// Returns who else is known to be a member of a topic, in ascending order of peer; none where the node neither is a
    /// member nor knows one.
    pub fn topic_members(&self, name: &TopicName, now: Now) -> Option<Vec<MemberView>> {
        let entry = self.topic(name);
        let members = self.members_known(name, entry, now);
        let is_known = !members.is_empty() || entry.is_some();
        is_known.then(|| members.into_values().collect())
    }

    /// Returns what the node holds and has counted of a topic; none where it neither is a member nor knows one.
    pub fn topic_stats(&self, name: &TopicName, now: Now) -> Option<TopicStatsView> {
        let entry = self.topic(name);
        let stats = TopicStatsView {
            members_known: self.members_known(name, entry, now).len(),
            ..TopicStatsView::default()
        };
        let Some(entry) = entry else {
            return (stats.members_known > 0).then_some(stats);
        };
        let history = entry.swarm.history();
        let span = history.span();
        Some(TopicStatsView {
            is_member: true,
            keeps: entry.keeps,
            keepers_known: entry.rendezvous.keepers.len(),
            subscriptions: entry.subscriptions,
            streams: history.stream_count(),
            bundles_held: history.bundles() as u64,
            messages_held: history.messages(),
            bytes_held: history.bytes(),
            oldest: span.map(|(oldest, _)| oldest),
            newest: span.map(|(_, newest)| newest),
            counters: entry.counters(),
            ..stats
        })
    }

    fn topic(&self, name: &TopicName) -> Option<&Entry> {
        self.swarms.get(&name.id(&self.network))
    }

    /// Gathers the members that have announced themselves, the keepers, and those that the topic's views hold.
    fn members_known(
        &self,
        name: &TopicName,
        entry: Option<&Entry>,
        now: Now,
    ) -> BTreeMap<PeerId, MemberView> {
        let announced = self.members.current(name, now.time).map(|(peer, member)| {
            let view = MemberView {
                peer: *peer,
                subscribed: Some(member.subscribed),
                is_neighbour: false,
                is_keeper: false,
                age: now.time.since(member.heard_at),
            };
            (*peer, view)
        });
        let mut members: BTreeMap<_, _> = announced.collect();
        let Some(entry) = entry else {
            return members;
        };
        let mut hear = |peer, age, mark: fn(&mut MemberView)| {
            let member = members.entry(peer).or_insert(MemberView {
                peer,
                subscribed: None,
                is_neighbour: false,
                is_keeper: false,
                age,
            });
            member.age = member.age.min(age);
            mark(member);
        };
        for (peer, keeper) in &entry.rendezvous.keepers {
            let age = now.time.since(keeper.heard_at);
            hear(*peer, age, |member| member.is_keeper = true);
        }
        let membership = entry.swarm.membership();
        for passive in membership.passive_view() {
            hear(passive.peer, now.time.since(passive.heard_at), |_| ());
        }
        for peer in membership.active() {
            hear(peer, Duration::ZERO, |member| member.is_neighbour = true);
        }
        members
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
