//! The core's orders to the disk, and what comes of them.
//!
//! A node with a directory keeps things in its store; one without keeps them in memory, for as long as it runs. Either way an
//! outcome comes as an event of its own: the core is told after it has been drained.

use std::path::Path;

use tokio::sync::mpsc;
use weft_core::log::{LogOp, RestoredTopic, WriteId};
use weft_core::{Input, PeerContact};
use weft_dht::kv::{KvKey, RecordId};
use weft_dht::store::{Kept, Op, OrderId, Restored};
use weft_identity::PeerId;

use crate::consumers::{Change, Key, Stand};
use crate::handle::StartError;
use crate::store::{Finding, Options, PersistError, Store, Table, kept};

/// What has come of the core's orders. There is one to write at a time, and the core bounds those to read.
pub(super) type Outcomes = mpsc::UnboundedReceiver<Outcome>;

/// What has happened on the disk.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The core is to be told.
    Told(Input),
    /// A batch isn't known to be on disk; the core is to be told.
    Unwritten(OrderId, PersistError),
    /// Changes to topics' logs aren't known to be on disk; the core is to be told.
    Unrecorded(WriteId, PersistError),
    /// Changes of named consumers are on disk, or aren't known to be.
    Stood(Result<(), PersistError>),
    /// Something was found out.
    Found(Finding),
}

/// What the core begins with.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of the replicated store.
    pub(super) records: Restored<PeerContact>,
    /// Of topics.
    pub(super) topics: Vec<RestoredTopic>,
    /// Of those who read them by name.
    pub(super) consumers: Vec<(Key, Stand)>,
}

/// Where things are kept.
#[derive(Debug)]
pub(super) struct Keeper {
    place: Place,
    network: String,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

#[derive(Debug)]
enum Place {
    Store(Store),
    Memory(Kept<PeerContact>),
}

impl Keeper {
    /// Opens the store in a directory, and reads what the core begins with. It reads all that is there, and blocks.
    pub(super) fn open(
        dir: Option<&Path>,
        network: &str,
        me: PeerId,
    ) -> Result<(Self, Outcomes, Found), StartError> {
        let (outcomes, taken) = mpsc::unbounded_channel();
        let Some(dir) = dir else {
            let keeper = Self {
                place: Place::Memory(Kept::default()),
                network: network.to_owned(),
                outcomes,
            };
            return Ok((keeper, taken, Found::default()));
        };
        let path = dir.join("store");
        let found = outcomes.clone();
        let (store, report) = Store::open(&path, Options::default(), move |finding| {
            let _ = found.send(Outcome::Found(finding));
        })
        .map_err(|error| StartError::Disk {
            path: error.path,
            reason: error.reason,
        })?;
        let read = || {
            Ok(Found {
                records: kept::restore(&store, &report, me)?,
                topics: kept::logs::restore(&store, &report, network)?,
                consumers: kept::consumers::restore(&store, network)?,
            })
        };
        let read = kept::belong_to(&store, network)
            .and_then(|()| read().map_err(|error: std::io::Error| error.to_string()));
        match read {
            Ok(found) => {
                let keeper = Self {
                    place: Place::Store(store),
                    network: network.to_owned(),
                    outcomes,
                };
                Ok((keeper, taken, found))
            }
            Err(reason) => {
                store.close();
                Err(StartError::Disk { path, reason })
            }
        }
    }

    /// Writes a batch; the outcome follows.
    pub(super) fn write(&mut self, id: OrderId, ops: Vec<Op<PeerContact>>) {
        let outcomes = self.outcomes.clone();
        let tell = move |outcome| {
            let result = Ok(());
            // A node that has ended needs to know nothing more.
            let _ = outcomes.send(match outcome {
                Ok(()) => Outcome::Told(Input::Persisted { id, result }),
                Err(error) => Outcome::Unwritten(id, error),
            });
        };
        match &mut self.place {
            Place::Store(store) => store.persist(kept::changes(ops), tell),
            Place::Memory(kept) => {
                kept.write(ops);
                tell(Ok(()));
            }
        }
    }

    /// Writes a batch of changes to topics' logs; the outcome follows. In memory there is nothing to do: what is there is there.
    pub(super) fn record(&self, id: WriteId, ops: Vec<LogOp>) {
        let outcomes = self.outcomes.clone();
        let tell = move |outcome| {
            let _ = outcomes.send(match outcome {
                Ok(()) => {
                    let result = Ok(());
                    Outcome::Told(Input::Recorded { id, result })
                }
                Err(error) => Outcome::Unrecorded(id, error),
            });
        };
        match &self.place {
            Place::Store(store) => store.persist(kept::logs::changes(ops), tell),
            Place::Memory(_) => tell(Ok(())),
        }
    }

    /// Writes changes of named consumers; the outcome follows. In memory there is nothing to do: they are there.
    pub(super) fn stand(&self, changes: Vec<Change>) {
        let outcomes = self.outcomes.clone();
        let tell = move |outcome| drop(outcomes.send(Outcome::Stood(outcome)));
        match &self.place {
            Place::Store(store) => {
                store.persist(kept::consumers::changes(changes, &self.network), tell);
            }
            Place::Memory(_) => tell(Ok(())),
        }
    }

    /// Reads records; the outcome follows.
    pub(super) fn load(&self, id: OrderId, wanted: &[(KvKey, RecordId<PeerId>)]) {
        let outcomes = self.outcomes.clone();
        let tell = move |records| {
            let _ = outcomes.send(Outcome::Told(Input::Loaded { id, records }));
        };
        match &self.place {
            Place::Store(store) => {
                let names = kept::record_names(wanted);
                store.load(Table::Records, names, move |found| {
                    tell(kept::loaded(found));
                });
            }
            Place::Memory(kept) => tell(kept.load(wanted)),
        }
    }

    /// Closes the store once all that waits is written. It blocks until then.
    pub(super) fn close(self) {
        match self.place {
            Place::Store(store) => store.close(),
            Place::Memory(_) => {}
        }
    }
}
