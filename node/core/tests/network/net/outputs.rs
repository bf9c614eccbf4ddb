//! What cores order, carried out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use weft_core::{Address, DialId, DownReason, Input, Output};
use weft_identity::PeerId;

use super::{Event, Net, index};

impl Net {
    fn order_dial(
        &mut self,
        from: usize,
        dial: DialId,
        expected: Option<PeerId>,
        addresses: &[Address],
    ) {
        let to = addresses.first().map(index);
        let rtt = to.map_or(Duration::from_millis(1), |to| self.latency(from, to) * 2);
        self.at(
            rtt,
            Event::Dial {
                from,
                dial,
                to,
                expected,
            },
        );
    }

    pub(super) fn carry_out(&mut self, node: usize) {
        let mut drained = BTreeSet::new();
        while let Some(output) = self.nodes[node]
            .as_mut()
            .and_then(|live| live.core.poll_output())
        {
            match output {
                Output::Send { peer, frame, .. } => {
                    let Some(to) = self.index_of(peer) else {
                        continue;
                    };
                    let Some(link) = self.link_between(node, to) else {
                        continue;
                    };
                    let bytes: Bytes = [&frame.head[..], &frame.tail[..]].concat().into();
                    let latency = self.latency(node, to);
                    self.at(
                        latency,
                        Event::Bytes {
                            from: node,
                            to,
                            link,
                            frame: bytes,
                        },
                    );
                    drained.insert(link);
                }
                Output::Dial {
                    dial,
                    peer,
                    addresses,
                } => self.order_dial(node, dial, peer, &addresses),
                Output::Prove {
                    dial,
                    peer,
                    addresses,
                } => self.order_dial(node, dial, Some(peer), &addresses),
                Output::KadAsk { peer, .. } => {
                    // Nobody here speaks without links.
                    self.at(Duration::from_millis(1), Event::KadFailed { node, peer });
                }
                // The store has a network of its own in crate dht, and whole nodes with disks in the simulator.
                // What nodes claim of the store is all that there is to be written.
                Output::Persist { id, .. } => {
                    let result = Ok(());
                    self.tell(node, Input::Persisted { id, result });
                }
                Output::Load { .. } => panic!("nobody has put anything"),
                Output::KadReply { .. } => panic!("nobody asks over streams"),
                Output::Close { peer, .. } => {
                    let to = self.index_of(peer);
                    if let Some(link) = to.and_then(|to| self.link_between(node, to)) {
                        let latency = self.latency(node, to.unwrap());
                        self.at(
                            latency,
                            Event::Down {
                                node: to.unwrap(),
                                link,
                                reason: DownReason::Closed,
                            },
                        );
                        self.at(
                            latency,
                            Event::Down {
                                node,
                                link,
                                reason: DownReason::Ordered,
                            },
                        );
                    }
                }
                Output::Deliver { topic, place, item } => {
                    self.gave_out(node, &topic, place);
                    self.deliver(node, &topic, item);
                }
                Output::Record { id, ops } => self.order_sync(node, id, ops),
                Output::BeginLog { topic, life, .. } => self.begin_log(node, topic, life),
                Output::Backfill { topic, items, .. } => self.backfill(node, &topic, items),
                Output::TrimLog { .. }
                | Output::LoseArrivals { .. }
                | Output::EndLog { .. }
                | Output::PersistAddressBook => {}
                Output::Reply { request, reply } => {
                    self.nodes[node]
                        .as_mut()
                        .unwrap()
                        .replies
                        .insert(request.0, reply);
                }
                Output::Event(event) => self.nodes[node].as_mut().unwrap().events.push(event),
            }
        }
        for link in drained {
            self.at(Duration::from_millis(1), Event::Drained { node, link });
        }
        let Some(live) = self.nodes[node].as_mut() else {
            return;
        };
        if let Some(at) = live.core.poll_timeout()
            && at < live.wake_at
        {
            let delay = at.since(self.time);
            live.wake_at = self.time + delay;
            self.at(delay, Event::Wake { node });
        }
    }
}
