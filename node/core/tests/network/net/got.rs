//! What subscribers have got, in order and once.

use bytes::Bytes;
use weft_core::{Delivered, TopicName};
use weft_identity::PeerId;

use super::Net;

/// What a subscriber has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Message {
        publisher: PeerId,
        epoch: u64,
        seq: u64,
        data: Bytes,
    },
    Gap {
        publisher: PeerId,
        epoch: u64,
        from: u64,
        to: u64,
    },
    /// What the disk had and has no longer.
    Missed { places: u64 },
}

impl Net {
    pub(super) fn backfill(&mut self, node: usize, topic: &TopicName, items: Vec<Delivered>) {
        let live = self.got(node, topic);
        let since = std::mem::take(live);
        for item in items {
            self.deliver(node, topic, item);
        }
        self.got(node, topic).extend(since);
    }

    fn got(&mut self, node: usize, topic: &TopicName) -> &mut Vec<Got> {
        let node = self.nodes[node].as_mut().unwrap();
        node.got.entry(topic.clone()).or_default()
    }

    pub(in super::super) fn deliver(&mut self, node: usize, topic: &TopicName, item: Delivered) {
        let got = self.got(node, topic);
        match item {
            Delivered::Bundle { bundle, from, .. } => {
                let value = &bundle.0.value;
                got.extend(
                    bundle
                        .messages()
                        .filter(|(seq, _)| *seq >= from)
                        .map(|(seq, data)| Got::Message {
                            publisher: value.publisher,
                            epoch: value.epoch,
                            seq,
                            data: data.clone(),
                        }),
                );
            }
            Delivered::Gap {
                publisher,
                epoch,
                from,
                to,
            } => got.push(Got::Gap {
                publisher,
                epoch,
                from,
                to,
            }),
            Delivered::Missed { places } => got.push(Got::Missed { places }),
        }
    }

    /// The messages that a node has got on a topic from one publisher, checked to be in order and once.
    pub(crate) fn messages(&self, node: usize, topic: &str, publisher: PeerId) -> Vec<Bytes> {
        let topic: TopicName = topic.parse().unwrap();
        let mut last = (0, 0);
        let mut messages = Vec::new();
        for got in self.node(node).got.get(&topic).into_iter().flatten() {
            match got {
                Got::Message {
                    publisher: of,
                    epoch,
                    seq,
                    data,
                } if *of == publisher => {
                    assert!(
                        (*epoch, *seq) > last,
                        "seed {}: {:?} after {last:?}",
                        self.seed,
                        (epoch, seq)
                    );
                    assert!(
                        *epoch > last.0 || *seq == last.1 + 1 || last.1 == 0,
                        "seed {}: a hole before {seq}",
                        self.seed
                    );
                    last = (*epoch, *seq);
                    messages.push(data.clone());
                }
                Got::Gap {
                    publisher: of,
                    epoch,
                    to,
                    ..
                } if *of == publisher => last = last.max((*epoch, *to)),
                _ => {}
            }
        }
        messages
    }

    pub(crate) fn gaps(&self, node: usize, topic: &str) -> Vec<Got> {
        let topic: TopicName = topic.parse().unwrap();
        let got = self.node(node).got.get(&topic).into_iter().flatten();
        got.filter(|got| matches!(got, Got::Gap { .. }))
            .cloned()
            .collect()
    }
}
