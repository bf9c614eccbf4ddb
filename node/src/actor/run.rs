//! The loop of the core's task.

mod callers;
mod disk;
mod links;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use weft_core::config::PreviousRun;
use weft_core::{Core, Input, KadQueryId, Lane, Output, Reply, RequestId};
use weft_identity::PeerId;
use weft_overlay::Now;

use super::clock::Clock;
use super::keeper::{Keeper, Outcomes};
use super::log::EventLog;
use super::requests::{Call, Gone, Requests};
use crate::arrivals::Arrivals;
use crate::consumers::Consumers;
use crate::disk::Disk;
use crate::links::{KadAsk, Link, Links, Order, Waiting};

/// Link events, calls and departures that one wake takes: what has come meanwhile, without letting one kind keep another waiting.
const EVENTS_A_WAKE: usize = 64;
/// Facts after which the core's orders are drained within a wake, so that they don't pile up in it.
const FACTS_A_DRAIN: usize = 256;
/// How soon lanes that hold something are looked at again: nobody says that a writer has emptied one, and publishers and supplies
/// wait for that. At 100 MB/s a lane that is half full lasts twice as long.
const LANES_INTERVAL: Duration = Duration::from_millis(5);
/// How soon an address book that could not be written is tried again.
const BOOK_RETRIED: Duration = Duration::from_secs(10);
/// How long a stopping node waits for its links beyond the time that they have for their ends: for the tasks to be run.
const STOP_SLACK: Duration = Duration::from_millis(300);

/// How the task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to stop, or no handle was left.
    AsTold,
    /// What it needs is gone.
    Failed,
}

/// A link as the core's task sees it.
struct Linked {
    link: Arc<Link>,
    /// What the core was told last of its lanes; none where something was queued since.
    told: Option<Waiting>,
    /// Whether frames were queued since its writer was woken.
    is_dirty: bool,
}

/// The core and all that its orders need.
pub(super) struct Actor {
    core: Core,
    clock: Clock,
    links: Links,
    disk: Disk,
    keeper: Keeper,
    peers: BTreeMap<PeerId, Linked>,
    /// Links whose writers must be woken when the wake is over.
    dirty: Vec<PeerId>,
    requests: Requests,
    arrivals: Arrivals,
    consumers: Arc<Consumers>,
    log: EventLog,
    kad_queries: u64,
    /// Where answers go: the core gives each at once, in the orders that follow the query.
    kad_replies: BTreeMap<KadQueryId, oneshot::Sender<Option<Bytes>>>,
    facts: usize,
    retry_at: Instant,
    /// The address book on its way to disk.
    writing: Option<JoinHandle<std::io::Result<()>>>,
    /// Whether the book has changed since that began.
    write_again: bool,
    /// Whether the last attempt to write the address book failed.
    write_failed: bool,
    /// Whether anybody may still call.
    has_handles: bool,
    /// By when a stopping node ends.
    stop_by: Option<Instant>,
    this_run: Option<PreviousRun>,
}

impl Actor {
    pub(super) fn new(
        core: Core,
        clock: Clock,
        links: Links,
        (disk, keeper): (Disk, Keeper),
        (arrivals, consumers): (Arrivals, Arc<Consumers>),
        gone: mpsc::UnboundedSender<Gone>,
    ) -> Self {
        Self {
            log: EventLog::new(disk.dir()),
            core,
            clock,
            links,
            disk,
            keeper,
            peers: BTreeMap::new(),
            dirty: Vec::new(),
            requests: Requests::new(gone),
            arrivals,
            consumers,
            kad_queries: 0,
            kad_replies: BTreeMap::new(),
            facts: 0,
            retry_at: Instant::now() + BOOK_RETRIED,
            writing: None,
            write_again: false,
            write_failed: false,
            has_handles: true,
            stop_by: None,
            this_run: None,
        }
    }

    /// Runs until told to stop, or until no handle is left.
    pub(super) async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut gone: mpsc::UnboundedReceiver<Gone>,
        mut outcomes: Outcomes,
    ) -> Ended {
        let mut ended = Ended::AsTold;
        let mut events = Vec::with_capacity(EVENTS_A_WAKE);
        let mut called = Vec::with_capacity(EVENTS_A_WAKE);
        let mut left = Vec::new();
        let consumers = self.consumers.clone();
        self.drain();
        while !self.is_over() {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                count = self.links.events.recv_many(&mut events, EVENTS_A_WAKE) => {
                    if count == 0 {
                        tracing::error!("the links' task has ended; the node stops");
                        self.stop_by = Some(Instant::now());
                        ended = Ended::Failed;
                    }
                }
                count = calls.recv_many(&mut called, EVENTS_A_WAKE), if self.has_handles => {
                    if count == 0 {
                        tracing::debug!("no handle is left; the node stops");
                        self.has_handles = false;
                        self.stop();
                    }
                }
                // Which link it was shows when the core is told how its links stand.
                () = self.links.drained.notified() => {}
                Some(gone) = gone.recv() => left.push(gone),
                Some(outcome) = outcomes.recv() => self.on_outcome(outcome),
                // What is due shows when this wake is over.
                () = consumers.changed() => {}
                () = sleep_until(wake_at.into()) => {}
            }
            // Whatever woke it: everything that is there gets its turn in each wake.
            self.tell_links();
            for event in events.drain(..) {
                self.on_event(event);
                // Each event is a batch of frames at most; callers don't wait for all of a flood.
                self.serve(&mut called, &mut calls);
            }
            self.serve(&mut called, &mut calls);
            while left.len() < EVENTS_A_WAKE
                && let Ok(gone) = gone.try_recv()
            {
                left.push(gone);
            }
            for gone in left.drain(..) {
                self.on_gone(gone, &mut calls);
            }
            for _ in 0..EVENTS_A_WAKE {
                let Ok(outcome) = outcomes.try_recv() else {
                    break;
                };
                self.on_outcome(outcome);
            }
            self.on_time();
            self.drain();
            if let Some(changes) = self.consumers.take_due(Instant::now()) {
                self.keeper.stand(changes);
            }
        }
        self.finish(outcomes).await;
        ended
    }

    fn is_over(&self) -> bool {
        self.stop_by
            .is_some_and(|by| self.peers.is_empty() || Instant::now() >= by)
    }

    fn wake_at(&self) -> Instant {
        let core = self.core.poll_timeout();
        let core = core.and_then(|time| self.clock.instant(time));
        let holds_something = |waiting: Waiting| waiting.data + waiting.repair > 0;
        let lanes = self
            .peers
            .values()
            .any(|linked| linked.told.is_none_or(holds_something))
            .then(|| Instant::now() + LANES_INTERVAL);
        [core, lanes, self.stop_by, self.consumers.due()]
            .into_iter()
            .flatten()
            .fold(self.retry_at, Instant::min)
    }

    fn tell(&mut self, input: Input) {
        let now = self.clock.now();
        self.tell_at(input, now);
    }

    fn tell_at(&mut self, input: Input, now: Now) {
        self.core.handle(input, now);
        self.facts += 1;
        if self.facts >= FACTS_A_DRAIN {
            self.drain();
        }
    }

    // Time, and the core's orders.

    fn on_time(&mut self) {
        let now = self.clock.now();
        if self.core.poll_timeout().is_some_and(|at| at <= now.time) {
            self.core.handle_timeout(now);
        }
        if Instant::now() >= self.retry_at {
            self.retry_at = Instant::now() + BOOK_RETRIED;
            if std::mem::take(&mut self.write_failed) {
                self.persist();
            }
        }
    }

    /// Carries out the core's orders, then wakes each writer and each subscriber that has something to do, once.
    fn drain(&mut self) {
        self.facts = 0;
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send { peer, lane, frame } => {
                    let Some(linked) = self.peers.get_mut(&peer) else {
                        continue;
                    };
                    if lane != Lane::Control {
                        linked.told = None;
                    }
                    if linked.link.queue(lane, frame).is_err() {
                        self.core.count("dropped_frames");
                    } else if !std::mem::replace(&mut linked.is_dirty, true) {
                        self.dirty.push(peer);
                    }
                }
                Output::BeginLog { topic, life, place } => self.arrivals.begin(topic, life, place),
                Output::Deliver { topic, place, item } => self.arrivals.push(&topic, place, item),
                Output::Backfill {
                    topic,
                    first_place,
                    items,
                } => self.arrivals.put_in_front(&topic, first_place, items),
                Output::TrimLog { topic, below } => self.arrivals.trim(&topic, below),
                Output::LoseArrivals { topic, places } => self.arrivals.lose(&topic, &places),
                Output::EndLog { topic } => self.arrivals.end(&topic),
                Output::Record { id, ops } => self.keeper.record(id, ops),
                Output::Dial {
                    dial,
                    peer,
                    addresses,
                } => {
                    // Without its task the node is about to stop, and dials with it.
                    let _ = self.links.orders.send(Order::Dial {
                        dial,
                        peer,
                        addresses,
                    });
                }
                Output::Prove {
                    dial,
                    peer,
                    addresses,
                } => {
                    let _ = self.links.orders.send(Order::Prove {
                        dial,
                        peer,
                        addresses,
                    });
                }
                Output::KadAsk {
                    peer,
                    addresses,
                    request,
                    packet,
                    is_answered,
                } => {
                    let _ = self.links.orders.send(Order::KadAsk(KadAsk {
                        peer,
                        addresses,
                        request,
                        packet,
                        is_answered,
                    }));
                }
                Output::KadReply { query, packet } => {
                    if let Some(reply) = self.kad_replies.remove(&query) {
                        // A stream that has gone meanwhile needs no answer.
                        let _ = reply.send(packet);
                    }
                }
                Output::Close {
                    peer,
                    within,
                    reason,
                } => {
                    tracing::debug!(%peer, reason, "closing a link");
                    if let Some(linked) = self.peers.get(&peer) {
                        linked.link.close(within);
                        let by = Instant::now() + within + STOP_SLACK;
                        self.stop_by = self.stop_by.map(|others| others.max(by));
                    }
                }
                Output::Reply { request, reply } => self.on_reply(request, reply),
                Output::PersistAddressBook => self.persist(),
                Output::Persist { id, ops } => self.keeper.write(id, ops),
                Output::Load { id, wanted } => self.keeper.load(id, &wanted),
                Output::Event(event) => self.log.event(&event),
            }
        }
        for peer in self.dirty.drain(..) {
            if let Some(linked) = self.peers.get_mut(&peer) {
                linked.is_dirty = false;
                linked.link.wake();
            }
        }
        self.arrivals.wake();
        self.look_at_disk();
    }

    fn on_reply(&mut self, request: RequestId, reply: Reply) {
        match reply {
            Reply::Stopped(run) => self.this_run = Some(run),
            // A batch that had begun is published to its end; whoever waits for it hears so.
            Reply::Published(Ok(_)) => self.requests.answer(request, reply, &mut self.arrivals),
            // What a stopping core refuses is refused because it stops: that is what callers are told.
            _ if self.stop_by.is_some() => drop(self.requests.forget(request)),
            reply => self.requests.answer(request, reply, &mut self.arrivals),
        }
    }
}
