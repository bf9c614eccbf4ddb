//! Bundles on their way: taken in, pushed along their publisher's tree, and what the trees order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::message::{Message, Push};
use super::trees::Order;
use super::{Broadcast, Output, Reach};
use crate::history::{Admission, Refusal};
use crate::{Bundle, Header, Now, StreamId, Time};

impl<B: Bundle> Broadcast<B> {
    /// Returns whether anything of a publisher was seen, or it is this member.
    pub(super) fn knows(&self, publisher: B::Peer) -> bool {
        publisher == self.me || self.history.epochs(publisher).next().is_some()
    }

    pub(super) fn publish(&mut self, bundle: &B, now: Now) {
        let header = bundle.header();
        debug_assert_eq!(
            header.stream.publisher, self.me,
            "a member publishes its own"
        );
        if let Some(from) = self.history.disown_claim(&header) {
            let stream = header.stream;
            self.outputs.push_back(Output::BaseLowered { stream, from });
        }
        self.history.admit(bundle, 0, None, now);
        self.reach = self.spread(bundle, &header, 0, None, now);
        self.outputs.push_back(Output::New(header));
    }

    pub(super) fn bundle(&mut self, from: B::Peer, bundle: &B, hops: u8, push: Push, now: Now) {
        let header = bundle.header();
        let id = header.stream;
        self.weigh_base(from, bundle, push, now);
        self.hand_on(from, bundle, hops, now);
        match self.history.admit(bundle, hops, Some(from), now) {
            Admission::New => {}
            Admission::BeforeBase => {
                self.showed(from, &header);
                self.wants.progress(&header, from, now.time);
                return self.settle_wants(id, now);
            }
            Admission::Duplicate => return self.duplicate(from, &header, push, now),
            Admission::Equivocation => {
                self.counters.equivocations += 1;
                self.wants.refused(&header);
                self.outputs.push_back(Output::Equivocation(header));
                return;
            }
            Admission::Refused(refusal) => {
                self.counters.bundles_refused += 1;
                match refusal {
                    Refusal::TooOld | Refusal::RetiredEpoch | Refusal::BrokenChain => {
                        self.wants.refused(&header);
                    }
                    // Time, a hole that is filled, or a stream that is dropped may let it in later.
                    Refusal::Future | Refusal::TooManyHoles | Refusal::TooManyStreams => {}
                }
                self.outputs.push_back(Output::Refused { from, refusal });
                return;
            }
        }
        self.counters.bundles_new += 1;
        self.showed(from, &header);
        if push == Push::Eager {
            self.trees.pushed_first(id.publisher, from, now.time);
        }
        self.compare_all_arrivals(id, now);
        self.wants.progress(&header, from, now.time);
        self.settle_wants(id, now);
        self.spread(bundle, &header, hops, Some(from), now);
        self.outputs.push_back(Output::New(header));
    }

    pub(super) fn duplicate(
        &mut self,
        from: B::Peer,
        header: &Header<B::Peer>,
        push: Push,
        now: Now,
    ) {
        self.counters.bundles_duplicate += 1;
        self.showed(from, header);
        let id = header.stream;
        self.wants.progress(header, from, now.time);
        if push == Push::Eager && self.neighbours.contains_key(&from) {
            self.trees
                .pushed_again(id.publisher, from, now.time, &mut self.orders);
        }
    }

    pub(super) fn showed(&mut self, from: B::Peer, header: &Header<B::Peer>) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.showed(header);
        }
    }

    /// Pushes a new bundle along its publisher's tree and plans to tell everybody of it.
    fn spread(
        &mut self,
        bundle: &B,
        header: &Header<B::Peer>,
        hops: u8,
        from: Option<B::Peer>,
        now: Now,
    ) -> Reach {
        let id = header.stream;
        let targets = self.trees.targets(id.publisher, from);
        let mut reach = Reach::default();
        let bytes = bundle.cost_bytes();
        for (peer, neighbour) in self.neighbours.iter_mut() {
            let has = neighbour.has(id, header.first, header.last);
            let on_tree = targets.contains(peer);
            if on_tree && !has && !neighbour.congested {
                reach.eager += 1;
                self.outputs.push_back(Output::Send {
                    to: *peer,
                    message: Message::Bundle {
                        bundle: bundle.clone(),
                        hops: hops.saturating_add(1),
                        push: Push::Eager,
                    },
                });
            } else if !has {
                reach.lazy += 1;
            }
            let delay = if has || on_tree {
                self.config.acknowledge_delay
            } else {
                self.config.announce_delay
            };
            neighbour.untold_bytes += bytes;
            // Digests are cumulative: a stream under load needs no more of them than one that rests.
            let apart = self.config.announce_interval;
            let next = neighbour.announced_at.map(|last| last + apart);
            let at = if neighbour.untold_bytes >= self.config.tell_bytes {
                now.time
            } else {
                (now.time + delay).max(next.unwrap_or(now.time))
            };
            neighbour.mark_untold(id, at);
            let interval = self.config.exchange_interval_min;
            neighbour.exchange_interval = interval;
            neighbour.exchange_at = neighbour.exchange_at.min(now.time + interval * 2);
        }
        self.counters.bundles_pushed += reach.eager as u64;
        reach
    }

    pub(super) fn carry_out_orders(&mut self, now: Now) {
        if self.orders.is_empty() {
            return;
        }
        let mut grafts: BTreeMap<B::Peer, Vec<B::Peer>> = BTreeMap::new();
        let mut prunes: BTreeMap<B::Peer, Vec<B::Peer>> = BTreeMap::new();
        let mut at = 0;
        while let Some(order) = self.orders.get(at).copied() {
            at += 1;
            match order {
                Order::Graft(to, tree) => grafts.entry(to).or_default().push(tree),
                Order::Prune(to, tree) => prunes.entry(to).or_default().push(tree),
                Order::Orphaned(tree) => {
                    if let Some(to) = self.best_parent(tree, now) {
                        self.trees.graft(tree, to, &mut self.orders);
                    }
                }
            }
        }
        self.orders.clear();
        for (to, trees) in prunes {
            self.counters.prunes_sent += trees.len() as u64;
            self.send(to, Message::Prune { trees });
        }
        for (to, trees) in grafts {
            self.counters.grafts_sent += trees.len() as u64;
            self.send(to, Message::Graft { trees });
        }
    }

    /// Returns who shall push along a tree that has lost its source: of those that aren't pushed to themselves, the one that is
    /// furthest and got there first. Where all are, one of them has to find another way; nobody who has lost its own.
    fn best_parent(&self, publisher: B::Peer, now: Now) -> Option<B::Peer> {
        if publisher == self.me {
            return None;
        }
        let epoch = self.history.epochs(publisher).next_back();
        let newest = epoch.map(|epoch| StreamId { publisher, epoch });
        let (_, tree) = self.trees.publishers().find(|(of, _)| *of == publisher)?;
        let others = self.neighbours.iter();
        let others = others.filter(|(peer, other)| !other.congested && !tree.is_astray(**peer));
        let best = others.min_by_key(|(peer, other)| {
            let is_child = tree.pushes_to().any(|child| child == **peer);
            let furthest = newest.map_or(0, |id| other.can_supply(id).last().unwrap_or(0));
            let head_at = newest.and_then(|id| other.head_at(id, furthest));
            let head_at = head_at.filter(|_| !tree.doubts(**peer, now.time));
            (
                is_child,
                Reverse(furthest),
                head_at.unwrap_or(Time::NEVER),
                other.since,
            )
        });
        best.map(|(peer, _)| *peer)
    }
}
