//! Claims: who has a consumer's name for as long as it is subscribed, and confirms what it has handled.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use weft_overlay::UnixMicros;
use weft_rpc::Start;

use super::{CONSUMERS_MAX, Consumer, Consumers, Key, Stand, Unwritten};
use crate::actor::Gone;
use crate::arrivals::{CursorError, Log};
use crate::handle::SubscribeError;

/// How long a claim waits for a name: the end of one that has just gone may not have been noticed yet. A guess on the safe side.
const CLAIM_PATIENCE: Duration = Duration::from_secs(1);

/// Where a consumer begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Begin {
    /// Where it stands; at what is new if there is none of its name.
    #[default]
    AtItsPlace,
    /// There; refused if there is one of its name already.
    First(Start),
    /// There, wherever it stood.
    Again(Start),
}

/// Why a place was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// The cursor names no place of the topic's arrival log.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// It is confirmed, but the disk has not taken that: it is lost if the daemon dies now, and is tried again otherwise.
    #[error("it is confirmed, but the disk has not taken that yet")]
    NotWritten,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// The right to a consumer's name; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    consumers: Arc<Consumers>,
    key: Key,
}

impl Consumers {
    /// Claims a name, and returns where its reader begins; waits a little for one that has just gone.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        key: Key,
        begin: &Begin,
    ) -> Result<(Claim, BeginsAt), SubscribeError> {
        let claimed = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                // From here on a name that is given back is noticed.
                freed.as_mut().enable();
                match self.try_claim(&key, begin) {
                    Err(SubscribeError::NameBusy) => freed.await,
                    outcome => return outcome,
                }
            }
        };
        let outcome = timeout(CLAIM_PATIENCE, claimed).await;
        outcome.unwrap_or(Err(SubscribeError::NameBusy))
    }

    fn try_claim(
        self: &Arc<Self>,
        key: &Key,
        begin: &Begin,
    ) -> Result<(Claim, BeginsAt), SubscribeError> {
        let mut table = self.table();
        let is_full = table.consumers.len() >= CONSUMERS_MAX;
        let known = table.consumers.get_mut(key);
        if known.as_ref().is_some_and(|it| it.is_connected) {
            return Err(SubscribeError::NameBusy);
        }
        let stand = known.as_ref().and_then(|it| it.stand);
        let from = match (begin, stand) {
            (Begin::AtItsPlace, Some(stand)) => BeginsAt::Stand(stand),
            (Begin::AtItsPlace, None) => BeginsAt::Anew(Start::Latest),
            (Begin::First(_), Some(_)) => return Err(SubscribeError::NameKnown),
            (Begin::First(start) | Begin::Again(start), _) => BeginsAt::Anew(start.clone()),
        };
        match known {
            Some(consumer) => consumer.is_connected = true,
            None if is_full => return Err(SubscribeError::TooManyNames),
            None => {
                let consumer = Consumer {
                    stand: None,
                    is_connected: true,
                };
                table.consumers.insert(key.clone(), consumer);
            }
        }
        let claim = Claim {
            consumers: self.clone(),
            key: key.clone(),
        };
        Ok((claim, from))
    }
}

/// Where the reader that has claimed a name begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BeginsAt {
    /// Where the consumer stands.
    Stand(Stand),
    /// There, and there the consumer is to stand.
    Anew(Start),
}

impl Claim {
    /// Lets the consumer stand at a place, wherever it stood; resolves once that is on disk.
    pub(crate) async fn stand_at(&self, life: u64, place: u64) -> Result<(), Unwritten> {
        let ticket = self.change(|stand| {
            let anew = Stand {
                life,
                place,
                confirmed_at: None,
            };
            *stand = Some(anew);
            true
        });
        self.on_disk(ticket).await
    }

    /// Moves the consumer forward to a place, never back; resolves once that is on disk, with the place where it stands.
    pub(super) async fn confirm(&self, place: u64) -> Result<u64, Unwritten> {
        let mut stands = place;
        let ticket = self.change(|stand| {
            // Whoever has a subscription by name stands in the log that it reads.
            let Some(stand) = stand.as_mut() else {
                return false;
            };
            stand.confirmed_at = Some(now());
            let forward = place > stand.place;
            stand.place = stand.place.max(place);
            stands = stand.place;
            forward
        });
        self.on_disk(ticket).await?;
        Ok(stands)
    }

    /// Changes where the consumer stands; returns the number of the write that has it, none where the disk has it already.
    fn change(&self, change: impl FnOnce(&mut Option<Stand>) -> bool) -> Option<u64> {
        let mut table = self.consumers.table();
        let consumer = table.consumers.get_mut(&self.key)?;
        let is_first = consumer.stand.is_none();
        let has_changed = change(&mut consumer.stand);
        let is_unwritten = has_changed || table.is_unwritten(&self.key);
        is_unwritten.then(|| table.changed(self.key.clone(), is_first))
    }

    async fn on_disk(&self, ticket: Option<u64>) -> Result<(), Unwritten> {
        let Some(ticket) = ticket else {
            return Ok(());
        };
        self.consumers.changed.notify_one();
        self.consumers.written(ticket).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.consumers.table();
        let stands = table.consumers.get_mut(&self.key).is_some_and(|consumer| {
            consumer.is_connected = false;
            consumer.stand.is_some()
        });
        if !stands {
            table.consumers.remove(&self.key);
            // A node that has stopped keeps nothing.
            let _ = self
                .consumers
                .gone
                .send(Gone::Consumer(self.key.topic.clone()));
        }
        // What it confirmed last waits for nobody.
        table.is_urgent |= table.dirty.contains(&self.key);
        drop(table);
        self.consumers.changed.notify_one();
        self.consumers.freed.notify_waiters();
    }
}

/// Confirms what a named subscription has handled.
#[derive(Debug, Clone)]
pub struct Confirmer {
    claim: Arc<Claim>,
    log: Arc<Log>,
}

impl Confirmer {
    pub(crate) const fn new(claim: Arc<Claim>, log: Arc<Log>) -> Self {
        Self { claim, log }
    }

    /// Confirms the item that carries a cursor and all before it; resolves once that is on disk, with the cursor after which the
    /// consumer goes on: a later one if that was confirmed before.
    pub async fn confirm(&self, cursor: &str) -> Result<String, ConfirmError> {
        // A cursor is of an item, and stands for what follows it.
        let place = self.log.place(&Start::After(cursor.to_owned()))?;
        let id = self.log.id();
        let confirmed = self.claim.confirm(place).await;
        let stands = confirmed.map_err(|error| match error {
            Unwritten::Disk => ConfirmError::NotWritten,
            Unwritten::Stopped => ConfirmError::Stopped,
        })?;
        Ok(id.cursor(stands.saturating_sub(1)))
    }
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    UnixMicros(u64::try_from(micros).unwrap_or(u64::MAX))
}
