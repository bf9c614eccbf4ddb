//! What comes from callers.

use std::time::Instant;

use tokio::sync::mpsc;
use weft_core::{Command, Input, RequestId};

use super::super::CALLS_MAX;
use super::super::requests::{Call, Gone};
use super::{Actor, EVENTS_A_WAKE, STOP_SLACK};
use crate::links::Order;

/// Names the request to stop; handles count theirs from 1.
const STOP: RequestId = RequestId(0);

impl Actor {
    /// Serves the callers that wait.
    pub(super) fn serve(&mut self, called: &mut Vec<Call>, calls: &mut mpsc::Receiver<Call>) {
        while called.len() < EVENTS_A_WAKE
            && let Ok(call) = calls.try_recv()
        {
            called.push(call);
        }
        for call in called.drain(..) {
            self.on_call(call);
        }
    }

    fn on_call(&mut self, call: Call) {
        match call {
            // A stopping node drops the place for the answer, and the caller knows.
            Call::Ask { .. } if self.stop_by.is_some() => {}
            Call::Ask { request, ask } => {
                let command = self.requests.begin(request, ask);
                self.tell(Input::Command(command));
            }
            Call::Look(look) => look(&self.core, self.clock.now()),
            Call::Log { topic, reply } => drop(reply.send(self.arrivals.log(&topic))),
            Call::Refuse { peers, reply } => {
                // Without the links' task the node is about to stop.
                let _ = self.links.orders.send(Order::Refuse(peers));
                let _ = reply.send(());
            }
            Call::Stop => self.stop(),
        }
    }

    pub(super) fn on_gone(&mut self, gone: Gone, calls: &mut mpsc::Receiver<Call>) {
        match gone {
            Gone::Caller(request) => {
                // The request itself may still lie on the other queue, among as many as that holds: it comes first.
                for _ in 0..CALLS_MAX {
                    let Ok(call) = calls.try_recv() else { break };
                    self.on_call(call);
                }
                self.drain();
                if self.requests.forget(request) {
                    self.tell(Input::Command(Command::Cancel { request }));
                }
            }
            Gone::Unsubscribed(topic) => {
                self.tell(Input::Command(Command::Unsubscribe { topic }));
            }
            Gone::Consumer(topic) if !self.consumers.has_any(&topic) => {
                self.tell(Input::Command(Command::FreeLog { topic }));
            }
            Gone::Consumer(_) => {}
        }
    }

    /// Begins to stop: the core says goodbye, links close, and when the last is down or time is up the task ends.
    pub(super) fn stop(&mut self) {
        if self.stop_by.is_some() {
            return;
        }
        self.drain();
        self.stop_by = Some(Instant::now() + STOP_SLACK);
        self.tell(Input::Command(Command::Stop { request: STOP }));
    }
}
