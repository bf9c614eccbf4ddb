//! What one connection of a client may do at once, and how far its subscriptions are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::Confirmer;

/// Calls that run at once on one connection. jsonrpsee starts a task for each request that it reads, so without this a
/// client that pipelines would fill memory.
const CALLS_MAX: usize = 64;

/// The state of one connection, shared by its calls.
#[derive(Debug, Default)]
pub(super) struct Connection {
    publishing: AtomicBool,
    calls: AtomicUsize,
    credit_id_last: AtomicU64,
    subscriptions: Mutex<BTreeMap<u64, Open>>,
}

/// A subscription of the connection.
#[derive(Debug)]
struct Open {
    read: watch::Sender<u64>,
    /// What confirms for its name, if it has one.
    confirmer: Option<Confirmer>,
}

/// The right to run a call; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Connection>);

/// The right to publish, which one call of a connection has at a time, so that batches keep their order.
#[derive(Debug)]
pub(super) struct Publishing(Arc<Connection>);

/// A subscription's entry among its connection's credits; dropping it forgets it.
#[derive(Debug)]
pub(super) struct Credit {
    connection: Arc<Connection>,
    id: u64,
    read: watch::Receiver<u64>,
}

impl Connection {
    /// Admits a call, unless too many run already.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Call> {
        self.calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| {
                (calls < CALLS_MAX).then_some(calls + 1)
            })
            .ok()
            .map(|_| Call(self.clone()))
    }

    /// Admits a batch, unless one is under way already.
    pub(super) fn publish(self: &Arc<Self>) -> Option<Publishing> {
        let was = self.publishing.swap(true, Ordering::AcqRel);
        (!was).then(|| Publishing(self.clone()))
    }

    /// Opens a subscription's credit at the place from which it reads.
    pub(super) fn open_credit(
        self: &Arc<Self>,
        place: u64,
        confirmer: Option<Confirmer>,
    ) -> Credit {
        let id = self.credit_id_last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, read) = watch::channel(place);
        let open = Open {
            read: sender,
            confirmer,
        };
        self.lock().insert(id, open);
        Credit {
            connection: self.clone(),
            id,
            read,
        }
    }

    /// Moves a subscription's credit forward, never back; says whether there is such a subscription.
    pub(super) fn credit(&self, id: u64, up_to: u64) -> bool {
        let subscriptions = self.lock();
        let Some(open) = subscriptions.get(&id) else {
            return false;
        };
        open.read.send_if_modified(|place| {
            let forward = up_to > *place;
            *place = up_to.max(*place);
            forward
        });
        true
    }

    /// Returns what confirms for a subscription's name, if it has one; none where there is no such subscription.
    pub(super) fn confirmer(&self, id: u64) -> Option<Option<Confirmer>> {
        let subscriptions = self.lock();
        subscriptions.get(&id).map(|open| open.confirmer.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Open>> {
        // The map is whole between any two statements, so a panic elsewhere spoils nothing.
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credit {
    /// Returns the id that `topic_credit` takes.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the place up to which the client has read.
    pub(super) fn read_up_to(&mut self) -> u64 {
        *self.read.borrow_and_update()
    }

    /// Waits until the client has read further.
    pub(super) async fn changed(&mut self) {
        // The sender lives in the connection's map until this is dropped, so this never fails.
        let _ = self.read.changed().await;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.connection.lock().remove(&self.id);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.0.publishing.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_at_a_time() {
        let connection = Arc::new(Connection::default());
        let first = connection.publish();
        assert!(first.is_some());
        assert!(connection.publish().is_none());
        drop(first);
        assert!(connection.publish().is_some());
    }

    #[test]
    fn calls_are_bounded() {
        let connection = Arc::new(Connection::default());
        let calls: Vec<_> = (0..CALLS_MAX)
            .map(|_| connection.enter().unwrap())
            .collect();
        assert!(connection.enter().is_none());
        drop(calls);
        assert!(connection.enter().is_some());
    }

    #[test]
    fn credit_moves_forward_and_ends_with_its_subscription() {
        let connection = Arc::new(Connection::default());
        let mut credit = connection.open_credit(7, None);
        assert!(connection.credit(credit.id(), 9));
        assert!(connection.credit(credit.id(), 8));
        assert_eq!(credit.read_up_to(), 9);
        let id = credit.id();
        drop(credit);
        assert!(!connection.credit(id, 10));
        assert_ne!(connection.open_credit(0, None).id(), id);
    }
}
