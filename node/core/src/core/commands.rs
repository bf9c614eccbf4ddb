//! What callers order: each goes to the part that does it, and once the node stops to none.

use std::time::Duration;

use weft_dht::store;
use weft_identity::PeerId;
use weft_overlay::Now;

use super::dials::Dial;
use super::links::Link;
use super::{Core, dht};
use crate::wire::encode_stopping;
use crate::{AddPeerError, Command, Output, PublishError, Reply, RequestId, TopicId};

impl Core {
    pub(super) fn command(&mut self, command: Command, now: Now) {
        if self.stopping {
            return self.refuse(&command);
        }
        match command {
            Command::Publish {
                request,
                topic,
                messages,
                via,
                ack,
            } => self.publish(request, topic, messages, (via, ack), now),
            Command::Subscribe {
                request,
                topic,
                reach,
            } => self.subscribe(request, &topic, reach, now),
            Command::Unsubscribe { topic } => self.unsubscribe(&topic, now),
            Command::KeepLog { request, topic } => self.keep_log(request, &topic),
            Command::FreeLog { topic } => self.free_log(&topic),
            Command::AddPeer { request, address } => self.add_peer(request, address, now),
            Command::RemovePeer { request, peer } => self.remove_peer(request, peer, now),
            Command::Ping { request, peer } => self.ping(request, peer, now),
            Command::Dht { request, call } => self.call_dht(request, call, now),
            Command::StopProviding { request, key } => self.stop_providing(request, key, now),
            Command::Kv { request, call } => self.call_store(request, call, now),
            Command::Cancel { request } => self.cancel(request, now),
            Command::Stop { request } => self.stop(request, now),
        }
    }

    /// Answers what comes after Stop.
    fn refuse(&mut self, command: &Command) {
        let (&request, reply) = match command {
            Command::Publish { request, .. } => {
                (request, Reply::Published(Err(PublishError::Stopping)))
            }
            Command::Subscribe { request, .. } => (request, Reply::TooManyTopics),
            Command::KeepLog { request, .. } => {
                let failed = store::DiskError::Failed;
                (request, Reply::LogKept(Err(failed)))
            }
            Command::AddPeer { request, .. } => {
                (request, Reply::PeerAdded(Err(AddPeerError::Stopping)))
            }
            Command::RemovePeer { request, .. } => (request, Reply::PeerRemoved(false)),
            Command::Ping { request, .. } => (request, Reply::Pong(None)),
            Command::Dht { request, .. } => (request, dht::busy()),
            Command::StopProviding { request, .. } => (request, Reply::ProvidingStopped(false)),
            Command::Kv { request, .. } => (request, Reply::Kv(store::Outcome::Busy)),
            Command::Stop { request } => (request, Reply::Stopped(self.this_run())),
            Command::Unsubscribe { .. } | Command::FreeLog { .. } | Command::Cancel { .. } => {
                return;
            }
        };
        self.reply(request, reply);
    }

    fn stop(&mut self, request: RequestId, now: Now) {
        self.end_publishing(now);
        self.end_acks(now);
        self.end_handing();
        self.end_keeping();
        self.refuse_waiting();
        // From here on nothing is dialled, and the neighbours that go are no loss.
        self.stopping = true;
        let topics: Vec<TopicId> = self.swarms.keys().copied().collect();
        for topic in topics {
            self.close_swarm(topic, now);
        }
        self.end_logs(now);
        let links = self.links.iter();
        let peers: Vec<(PeerId, Duration)> = links
            .map(|(peer, link)| (*peer, link.ends_within(now)))
            .collect();
        for (peer, within) in peers {
            self.send_control(peer, encode_stopping());
            self.outputs.push_back(Output::Close {
                peer,
                within,
                reason: "this node stops",
            });
        }
        let run = self.this_run();
        self.reply(request, Reply::Stopped(run));
    }

    /// Answers everybody else who waits.
    fn refuse_waiting(&mut self) {
        let swarms = self.swarms.values_mut();
        let subscribers: Vec<RequestId> = swarms
            .flat_map(|entry| std::mem::take(&mut entry.waiting))
            .map(|waiting| waiting.request)
            .collect();
        for request in subscribers {
            self.reply(request, Reply::TooManyTopics);
        }
        let links = self.links.values_mut();
        let pings: Vec<RequestId> = links.flat_map(Link::take_waiting).collect();
        for request in pings {
            self.reply(request, Reply::Pong(None));
        }
        self.refuse_calls();
        self.refuse_store_calls();
        for dial in std::mem::take(&mut self.dials).into_values() {
            if let Dial::Add(request) = dial {
                self.reply(request, Reply::PeerAdded(Err(AddPeerError::Stopping)));
            }
        }
    }

    /// A caller has gone.
    fn cancel(&mut self, request: RequestId, now: Now) {
        self.forget_ping(request);
        self.forget_dial(request);
        self.forget_call(request);
        self.forget_store_call(request);
        self.forget_subscriber(request, now);
        self.forget_publish(request);
        self.forget_keeping(request);
    }
}
