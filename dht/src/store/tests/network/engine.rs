//! What moves the network on: nodes' orders are followed, and what is planned happens in its time.

use std::cmp::Reverse;
use std::time::Duration;

use rand::RngExt;

use super::{MS, Network, What};
use crate::store::{Event, Input, Message, Outcome, Output, Reach, Store};
use crate::testing::{TestContact, TestPeer, contact};
use crate::{Contact, Peer, RequestId, Time};

impl Network {
    pub(super) fn handle(&mut self, id: u32, input: Input<TestContact>) {
        let now = self.now(id);
        if let Some(store) = &mut self.nodes.get_mut(&id).unwrap().store {
            store.handle(input, now);
            self.drain(id);
        }
    }

    /// Follows a node's orders.
    pub(super) fn drain(&mut self, id: u32) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(output) = node.store.as_mut().and_then(Store::poll_output) else {
                return;
            };
            match output {
                Output::Send {
                    to,
                    request,
                    message,
                    ..
                } => self.send(id, to.0, request, &message),
                Output::Lookup {
                    id: order,
                    key,
                    reach,
                } => {
                    let mut contacts = self.view_of(id);
                    if self.nodes[&id].config.stores {
                        contacts.push(contact(id));
                    }
                    contacts.sort_by_key(|c| c.peer().point() ^ key.point());
                    let input = Input::Closest {
                        id: order,
                        contacts,
                    };
                    match reach {
                        Reach::Table => self.handle(id, input),
                        Reach::Network => self.deliver(id, 50 * MS, input),
                    }
                }
                Output::Sign {
                    id: call,
                    seq,
                    draft,
                } => {
                    let record = self.sign(id, seq, draft);
                    if let Ok(record) = &record {
                        self.signed.insert(record.header.id(), record.clone());
                        self.signed_for.insert(call, record.header.id());
                    }
                    self.handle(id, Input::Signed { id: call, record });
                }
                Output::Persist { id: order, ops } => {
                    let run = node.runs;
                    assert!(node.writing.is_none(), "one batch at a time");
                    node.writing = Some((order, ops));
                    let after = self.between(self.weather.sync);
                    let what = What::Persisted {
                        node: id,
                        run,
                        id: order,
                    };
                    self.plan(after, what);
                }
                Output::Load { id: order, wanted } => {
                    let records = wanted.iter().map(|at| node.disk.load(at)).collect();
                    self.deliver(id, MS / 10, Input::Loaded { id: order, records });
                }
                Output::Reply { id: call, outcome } => {
                    if outcome == Outcome::Left {
                        node.changed(self.time);
                        node.left = Some(self.time);
                    }
                    let before = self.outcomes.insert(call, (self.time, outcome));
                    assert!(before.is_none(), "a call is answered once");
                }
                Output::Event(event) => {
                    let settled = matches!(event, Event::Settled { .. });
                    node.events.push(event);
                    if settled {
                        if !node.leaving {
                            node.changed(self.time);
                        }
                        self.note_replaced();
                    }
                }
            }
        }
    }

    fn send(&mut self, from: u32, to: u32, request: RequestId, message: &Message<TestContact>) {
        self.bytes += message.bytes() as u64;
        if !self.nodes.contains_key(&to) {
            self.answers.push((request, message.clone()));
            return;
        }
        if !self.reach(from, to) {
            // A closed port says so, a split network or a dead machine says nothing.
            if self.rng.random_bool(0.5) {
                let peer = TestPeer(to);
                self.deliver(from, 3 * MS, Input::PeerLost { peer });
            }
            return;
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.doubled));
        for _ in 0..copies {
            if self.rng.random_bool(self.weather.loss) {
                continue;
            }
            let after = self.between(self.weather.delay);
            let input = Input::Received {
                from: TestPeer(from),
                request,
                message: message.clone(),
            };
            self.deliver(to, after, input);
        }
    }

    pub(super) fn deliver(&mut self, to: u32, after: Duration, input: Input<TestContact>) {
        let run = self.nodes[&to].runs;
        let input = Box::new(input);
        self.plan(after, What::Deliver { to, run, input });
    }

    /// Does the next thing, if there is one before a moment; else it is that moment.
    pub(in super::super) fn step(&mut self, until: Time) -> bool {
        let timers = self.nodes.iter().filter_map(|(&id, node)| {
            let store = node.store.as_ref()?;
            Some((store.poll_timeout(), id))
        });
        let timer = timers.min().filter(|(at, _)| *at <= until);
        let event = self.queue.peek().map(|&Reverse(event)| event);
        let event = event.filter(|(at, _)| *at <= until);
        match (timer, event) {
            (None, None) => {
                self.time = until;
                return false;
            }
            (Some((at, id)), event) if event.is_none_or(|(event_at, _)| at <= event_at) => {
                self.time = self.time.max(at);
                let now = self.now(id);
                let node = self.nodes.get_mut(&id).unwrap();
                let store = node.store.as_mut().unwrap();
                store.handle_timeout(now);
                let next = store.poll_timeout();
                assert!(next > now.time, "node {id} is woken for nothing at {at:?}");
                self.drain(id);
            }
            (_, Some((at, number))) => {
                self.queue.pop();
                self.time = self.time.max(at);
                let what = self.what.remove(&number).unwrap();
                self.happen(what);
            }
            (Some(_), None) => unreachable!("a timer without an event is handled above"),
        }
        true
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { to, run, input } => {
                if self.nodes[&to].runs == run && self.is_up(to) {
                    self.handle(to, *input);
                }
            }
            What::Persisted {
                node: id,
                run,
                id: order,
            } => {
                let node = self.nodes.get_mut(&id).unwrap();
                if node.runs != run || node.store.is_none() {
                    return;
                }
                let Some((writing, ops)) = node.writing.take() else {
                    return;
                };
                assert_eq!(writing, order);
                let result = node.disk.fails.map_or(Ok(()), Err);
                if result.is_ok() {
                    for op in ops {
                        node.disk.apply(op);
                    }
                }
                self.handle(id, Input::Persisted { id: order, result });
            }
            What::View { node } => {
                let contacts = self.view_of(node);
                self.handle(node, Input::View { contacts });
            }
        }
    }
}
