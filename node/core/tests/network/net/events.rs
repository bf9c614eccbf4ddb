//! What happens to nodes, each thing when it is due.

use std::sync::Arc;

use bytes::Bytes;
use weft_core::keeping::{Message, Query};
use weft_core::log::{LogOp, WriteId};
use weft_core::wire::{Decoder, Frame};
use weft_core::{DialError, DialId, Direction, DownReason, Input};
use weft_identity::PeerId;
use weft_overlay::Time;

use super::{LinkEnd, Net};

#[derive(Debug)]
pub(crate) enum Event {
    Bytes {
        from: usize,
        to: usize,
        link: u64,
        frame: Bytes,
    },
    Drained {
        node: usize,
        link: u64,
    },
    Dial {
        from: usize,
        dial: DialId,
        to: Option<usize>,
        expected: Option<PeerId>,
    },
    Down {
        node: usize,
        link: u64,
        reason: DownReason,
    },
    KadFailed {
        node: usize,
        peer: PeerId,
    },
    Synced {
        node: usize,
        epoch: u64,
        id: WriteId,
        ops: Vec<LogOp>,
    },
    Wake {
        node: usize,
    },
}

impl Event {
    fn node(&self) -> usize {
        match self {
            Self::Bytes { to, .. } => *to,
            Self::Drained { node, .. }
            | Self::Down { node, .. }
            | Self::KadFailed { node, .. }
            | Self::Synced { node, .. }
            | Self::Wake { node } => *node,
            Self::Dial { from, .. } => *from,
        }
    }
}

impl Net {
    pub(super) fn happen(&mut self, event: Event) {
        let at = event.node();
        let Some(node) = self.nodes[at].as_mut() else {
            return;
        };
        if let Some(until) = node.hung_until {
            if until > self.time {
                self.order += 1;
                self.queue.insert((until, self.order), event);
                return;
            }
            node.hung_until = None;
        }
        match event {
            Event::Bytes {
                from,
                to,
                link,
                frame,
            } => self.bytes(from, to, link, &frame),
            Event::Drained { node, link } => {
                if let Some(peer) = self.other_end(link, node) {
                    self.link_state(node, peer, false);
                }
            }
            Event::Dial {
                from,
                dial,
                to,
                expected,
            } => self.dial(from, dial, to, expected),
            Event::Down { node, link, reason } => {
                let Some(peer) = self.other_end(link, node) else {
                    return;
                };
                let Some(end) = self.links.get_mut(&link) else {
                    return;
                };
                let at = end.ends.iter().position(|end| *end == node).unwrap();
                if !std::mem::replace(&mut end.down[at], true) {
                    self.tell(node, Input::LinkDown { peer, reason });
                }
            }
            Event::KadFailed { node, peer } => self.tell(node, Input::KadFailed { peer }),
            Event::Synced {
                node,
                epoch,
                id,
                ops,
            } => {
                if self.node(node).epoch == epoch {
                    let result = self.sync(node, ops);
                    self.tell(node, Input::Recorded { id, result });
                }
            }
            Event::Wake { node } => {
                let now = self.now();
                if let Some(live) = self.nodes[node].as_mut()
                    && live.wake_at <= now.time
                {
                    live.wake_at = Time::NEVER;
                    live.core.handle_timeout(now);
                    self.carry_out(node);
                }
            }
        }
    }

    fn bytes(&mut self, from: usize, to: usize, link: u64, frame: &Bytes) {
        let Some(end) = self.links.get_mut(&link) else {
            return;
        };
        let at = end.ends.iter().position(|end| *end == to).unwrap();
        if end.down[at] {
            return;
        }
        let (prefix, len) = weft_core::wire::parse_prefix(frame)
            .unwrap()
            .expect("a whole frame");
        assert_eq!(prefix + len, frame.len());
        let decoded = end.decoders[at]
            .decode(&frame[prefix..])
            .expect("an honest frame");
        self.frames += 1;
        self.kad_frames += u64::from(matches!(decoded, Frame::Kad { .. }));
        if let Frame::Topics { message, .. } = &decoded {
            match &**message {
                Message::Query(Query::Hand { .. }) => self.hands += 1,
                Message::Query(Query::Confirm { .. }) => self.confirms += 1,
                _ => {}
            }
        }
        let peer = self.peer_at(from);
        self.link_state(to, peer, true);
        self.tell(
            to,
            Input::Frame {
                peer,
                frame: decoded,
            },
        );
    }

    fn link_state(&mut self, node: usize, peer: PeerId, heard: bool) {
        let data_bytes = self.stuck.get(&(node, peer)).copied().unwrap_or(0);
        self.tell(
            node,
            Input::LinkState {
                peer,
                heard,
                data_bytes,
                repair_bytes: 0,
            },
        );
    }

    fn dial(&mut self, from: usize, dial: DialId, to: Option<usize>, expected: Option<PeerId>) {
        let reachable = to.filter(|to| {
            self.nodes
                .get(*to)
                .is_some_and(|node| node.as_ref().is_some_and(|node| node.hung_until.is_none()))
                && !self.cut.contains(&(from, *to))
        });
        let Some(to) = reachable else {
            let error = DialError::Unreachable("connection refused".to_owned());
            return self.tell(from, Input::DialFailed { dial, error });
        };
        if to == from {
            let error = DialError::SelfDial;
            return self.tell(from, Input::DialFailed { dial, error });
        }
        let (here, there) = (self.node(from).peer, self.node(to).peer);
        if expected.is_some_and(|expected| expected != there) {
            let error = DialError::OtherPeer(there);
            return self.tell(from, Input::DialFailed { dial, error });
        }
        if self.link_between(from, to).is_none() {
            self.next_link += 1;
            let decoders = [
                Decoder::new(there, Arc::clone(&self.node(from).known)),
                Decoder::new(here, Arc::clone(&self.node(to).known)),
            ];
            let ends = [from, to];
            self.links.insert(
                self.next_link,
                LinkEnd {
                    ends,
                    decoders,
                    down: [false; 2],
                },
            );
            self.tell(from, up(there, Direction::Outbound));
            self.tell(to, up(here, Direction::Inbound));
        }
        self.tell(from, Input::Dialled { dial, peer: there });
    }
}

fn up(peer: PeerId, direction: Direction) -> Input {
    Input::LinkUp {
        peer,
        direction,
        address: None,
        transport: "virtual",
    }
}
