//! One link: what the core's task, the reader and the writer share of it, and how it ends.
//!
//! A link ends once, for the reason that was given first. Whoever finds that it is over says so with [`Link::end`]; the
//! reader then hands over what has come before, tells the core's task, and both tasks let go of their streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use weft_core::wire::OutFrame;
use weft_core::{DownReason, Lane};
use weft_identity::PeerId;

use super::lanes::{LaneFull, Lanes, Waiting};

/// Decoded bytes of one link that may wait for the core: two of the largest frames. A reader that has used them up waits,
/// and TCP makes the peer wait.
pub(super) const READ_AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Names a link; never given out twice in a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(super) u64);

/// What the tasks of a link share.
#[derive(Debug)]
pub(crate) struct Link {
    id: LinkId,
    peer: PeerId,
    lanes: Mutex<Lanes>,
    /// Wakes the writer.
    work: Notify,
    /// Wakes the core's task when a lane has room again.
    drained: Arc<Notify>,
    /// Bytes that the reader may still hand over before the core has taken some.
    pub(super) credit: Semaphore,
    heard: AtomicBool,
    closing: CancellationToken,
    /// By when an ordered end is over.
    close_by: OnceLock<Instant>,
    ended: CancellationToken,
    written: CancellationToken,
    reason: Mutex<Option<DownReason>>,
}

impl Link {
    pub(super) fn new(id: LinkId, peer: PeerId, drained: Arc<Notify>) -> Self {
        Self {
            id,
            peer,
            lanes: Mutex::default(),
            work: Notify::new(),
            drained,
            credit: Semaphore::new(READ_AHEAD_BYTES_MAX),
            heard: AtomicBool::new(false),
            closing: CancellationToken::new(),
            close_by: OnceLock::new(),
            ended: CancellationToken::new(),
            written: CancellationToken::new(),
            reason: Mutex::default(),
        }
    }

    /// Returns the link's own name.
    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// Returns the peer at the other end.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Queues a frame without waking the writer: call [`Link::wake`] once all is queued. Never waits.
    pub(crate) fn queue(&self, lane: Lane, frame: OutFrame) -> Result<(), LaneFull> {
        lock(&self.lanes).push(lane, frame)
    }

    /// Wakes the writer.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    /// Orders the end: what waits is sent, goodbye is said, and the peer gets some time to read it and to do the same. The first
    /// order holds.
    pub(crate) fn close(&self, within: Duration) {
        self.close_by.get_or_init(|| Instant::now() + within);
        self.closing.cancel();
        self.wake();
    }

    /// Returns whether the end was ordered.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Returns the bytes that wait to be sent.
    pub(crate) fn waiting(&self) -> Waiting {
        lock(&self.lanes).waiting()
    }

    /// Returns whether bytes have come since this was last asked.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Gives the reader its credit back for frames that the core has taken.
    pub(crate) fn taken(&self, cost: u32) {
        self.credit.add_permits(cost as usize);
    }

    /// Says that the link is over; the first reason holds.
    pub(crate) fn end(&self, reason: DownReason) {
        let reason = if self.is_closing() {
            DownReason::Ordered
        } else {
            reason
        };
        lock(&self.reason).get_or_insert(reason);
        self.ended.cancel();
    }

    /// Returns whether the link is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Returns why the link is over.
    pub(crate) fn reason(&self) -> DownReason {
        lock(&self.reason)
            .clone()
            .unwrap_or_else(|| DownReason::Broken("it was not told why".to_owned()))
    }

    /// Resolves once the link is over.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Resolves when the writer has been woken.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Resolves when an ordered end has had its time.
    pub(super) async fn close_by(&self) {
        self.closing.cancelled().await;
        if let Some(&by) = self.close_by.get() {
            sleep_until(by).await;
        }
    }

    /// Takes frames to send, until about `bytes_max` bytes, and wakes the core's task if that has made room.
    pub(super) fn take(&self, out: &mut Vec<OutFrame>, bytes_max: usize) {
        let mut lanes = lock(&self.lanes);
        lanes.take(out, bytes_max);
        let drained = lanes.take_drained();
        drop(lanes);
        if drained {
            self.drained.notify_one();
        }
    }

    /// Tells that the writer has done all that it will.
    pub(super) fn set_written(&self) {
        self.written.cancel();
    }

    /// Resolves once the writer has done all that it will.
    pub(super) async fn written(&self) {
        self.written.cancelled().await;
    }

    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

/// Locks; nothing that holds one of these locks can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
