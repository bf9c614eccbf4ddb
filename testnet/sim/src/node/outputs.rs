//! What a core orders, done as its shell does it.

use std::time::Duration;

use bytes::Bytes;
use weft_core::wire;
use weft_core::{Address, DialError, DialId, Event, Input, Lane, Output, Reply, RequestId};
use weft_identity::PeerId;
use weft_overlay::Now;

use super::disk::DiskOrder;
use super::{Frame, Member, TOPIC, node_at};
use crate::machine::{NodeId, Order, Place};

/// How long bytes lie in a link's lanes before the shell has written them.
const WRITTEN_AFTER: Duration = Duration::from_millis(1);

impl Member {
    pub(super) fn drain(&mut self, now: Now) {
        // A receipt may come after the delivery to the publisher's own subscription: it goes first.
        let mut delivered = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send { peer, lane, frame } => self.send(peer, lane, &frame, now),
                Output::Dial {
                    dial, addresses, ..
                } => self.dial(dial, &addresses, now),
                Output::Prove {
                    dial,
                    peer,
                    addresses,
                } => {
                    // Whoever is linked here is where it says; what matters is whether it says so.
                    let named = addresses.first().and_then(node_at);
                    if named.is_some_and(|named| self.keys.peer(named) == peer) {
                        self.tell(Input::Dialled { dial, peer }, now);
                    } else {
                        let error = DialError::Unreachable("no address".to_owned());
                        self.tell(Input::DialFailed { dial, error }, now);
                    }
                }
                // All here have links.
                Output::KadAsk { peer, .. } => self.tell(Input::KadFailed { peer }, now),
                Output::KadReply { .. } => {}
                Output::Close { peer, .. } => {
                    if let Some(peer) = self.keys.node(peer) {
                        self.orders.push_back(Order::Close { peer });
                    }
                }
                Output::Deliver { topic, item, .. } if topic.as_str() != TOPIC => {
                    if matches!(item, weft_core::Delivered::Bundle { .. }) {
                        self.topics.delivered(&topic);
                    }
                }
                Output::Backfill { topic, .. }
                | Output::TrimLog { topic, .. }
                | Output::LoseArrivals { topic, .. }
                | Output::EndLog { topic, .. }
                    if topic.as_str() != TOPIC => {}
                Output::Deliver { place, item, .. } => {
                    delivered.extend(self.reader.arrived(place, item));
                }
                Output::Backfill {
                    first_place, items, ..
                } => self.reader.put_in_front(first_place, items),
                Output::TrimLog { below, .. } => self.reader.trim(below),
                Output::LoseArrivals { places, .. } => self.reader.lose(&places),
                Output::EndLog { .. } => self.reader.end(),
                Output::Record { id, ops } => {
                    self.disk_orders.push(DiskOrder::Log(id, ops), now.time);
                }
                Output::BeginLog { .. } | Output::PersistAddressBook => {}
                Output::Persist { id, ops } => {
                    self.disk_orders.push(DiskOrder::Write(id, ops), now.time);
                }
                Output::Load { id, wanted } => {
                    self.disk_orders.push(DiskOrder::Read(id, wanted), now.time);
                }
                Output::Reply { request, reply } => self.reply(request, reply),
                Output::Event(event) => self.event(&event),
            }
        }
        for item in delivered {
            self.deliver(item);
        }
    }

    fn send(&mut self, peer: PeerId, lane: Lane, frame: &wire::OutFrame, now: Now) {
        let Some(to) = self
            .keys
            .node(peer)
            .filter(|to| self.links.contains_key(to))
        else {
            return;
        };
        let bytes: Bytes = [&frame.head[..], &frame.tail[..]].concat().into();
        self.orders.push_back(Order::Send {
            to,
            frame: Frame { bytes, lane },
            dial: false,
        });
        if lane != Lane::Control {
            self.unwritten.push(to);
            self.written_at = self.written_at.min(now.time + WRITTEN_AFTER);
        }
    }

    fn dial(&mut self, dial: DialId, addresses: &[Address], now: Now) {
        let Some(to) = addresses.first().and_then(node_at) else {
            let error = DialError::Unreachable("no address".to_owned());
            return self.tell(Input::DialFailed { dial, error }, now);
        };
        if to == self.me {
            let error = DialError::SelfDial;
            return self.tell(Input::DialFailed { dial, error }, now);
        }
        if self.links.contains_key(&to) {
            let peer = self.keys.peer(to);
            return self.tell(Input::Dialled { dial, peer }, now);
        }
        self.dials.push((dial, to));
        self.orders.push_back(Order::Dial { to });
    }

    pub(super) fn dials_to(&mut self, peer: NodeId) -> Vec<DialId> {
        let ended = self.dials.extract_if(.., |(_, to)| *to == peer);
        ended.map(|(dial, _)| dial).collect()
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        match reply {
            Reply::Published(Ok(published)) => {
                let marks = self.publishing.remove(&request.0).unwrap_or_default();
                for (receipt, mark) in published.receipts.iter().zip(marks) {
                    let first = Place {
                        publisher: self.me,
                        epoch: receipt.epoch,
                        seq: receipt.seq,
                    };
                    self.orders.push_back(Order::Published {
                        first,
                        messages: 1,
                        mark,
                    });
                }
            }
            Reply::Published(Err(_)) => {
                self.publishing.remove(&request.0);
            }
            Reply::Subscribed { .. } if self.topics.based(request) => {}
            Reply::Subscribed { .. } => self.subscribed(),
            Reply::Kv(outcome) => {
                if let Some(deed) = self.deeds.remove(&request.0) {
                    let outcome = Box::new(outcome);
                    self.orders.push_back(Order::KvEnded { deed, outcome });
                }
            }
            Reply::TooManyTopics
            | Reply::LogKept(_)
            | Reply::PeerAdded(_)
            | Reply::PeerRemoved(_)
            | Reply::Pong(_)
            | Reply::Dht { .. }
            | Reply::ProvidingStopped(_)
            | Reply::Stopped(_) => {}
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Misbehaviour { what, .. } => self.orders.push_back(Order::Accused { what }),
            Event::Equivocation { publisher, .. } => {
                let what = format!("an equivocation of {publisher}");
                self.orders.push_back(Order::Violation(what));
            }
            Event::Store(_)
            | Event::Joined { .. }
            | Event::Isolated
            | Event::JoinFailed { .. }
            | Event::Lost { .. }
            | Event::LogsFellBehind { .. }
            | Event::Stalled { .. } => {}
        }
    }
}
