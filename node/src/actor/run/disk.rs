//! What comes from the disk and goes there, up to the last state.

use std::time::Duration;

use tokio::time::timeout;
use weft_core::Input;

use super::super::keeper::{Outcome, Outcomes};
use super::Actor;
use crate::links::Links;
use crate::store::kept;

/// How long a stopping node waits for its disk.
const DISK_MAX: Duration = Duration::from_secs(1);

impl Actor {
    pub(super) fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Told(input) => self.tell(input),
            Outcome::Unwritten(id, error) => {
                self.core.count("disk_errors");
                self.log.unwritten(&error);
                let result = Err(kept::disk_error(&error));
                self.tell(Input::Persisted { id, result });
            }
            Outcome::Unrecorded(id, error) => {
                self.core.count("disk_errors");
                self.log.unwritten(&error);
                let result = Err(kept::disk_error(&error));
                self.tell(Input::Recorded { id, result });
            }
            Outcome::Stood(result) => {
                self.consumers.wrote(result.is_ok());
                if let Err(error) = result {
                    self.core.count("disk_errors");
                    self.log.unwritten(&error);
                }
            }
            Outcome::Found(finding) => {
                self.core.count("disk_errors");
                self.log.finding(&finding);
                if let Some(record) = kept::lost_record(&finding) {
                    let records = vec![record];
                    self.tell(Input::Damaged { records });
                }
            }
        }
    }

    pub(super) fn persist(&mut self) {
        if self.writing.is_some() {
            self.write_again = true;
            return;
        }
        let (disk, book) = (self.disk.clone(), self.core.address_book());
        self.writing = Some(tokio::task::spawn_blocking(move || disk.write_peers(&book)));
    }

    pub(super) fn look_at_disk(&mut self) {
        let Some(writing) = self.writing.take_if(|writing| writing.is_finished()) else {
            return;
        };
        // It is finished, so this takes the outcome at once.
        if let Some(Ok(Err(error))) = futures::FutureExt::now_or_never(writing) {
            self.core.count("disk_errors");
            self.write_failed = true;
            if self.log.is_new("disk", String::new()) {
                tracing::error!(%error, "the address book could not be written; it is tried again");
            }
        }
        if std::mem::take(&mut self.write_again) {
            self.persist();
        }
    }

    /// Ends: the last state goes to disk, connections go, readers get the end.
    pub(super) async fn finish(mut self, mut outcomes: Outcomes) {
        let (disk, book) = (self.disk.clone(), self.core.address_book());
        let (run, writing) = (self.this_run.take(), self.writing.take());
        let keeper = self.keeper;
        keeper.stand(self.consumers.take_last());
        let written = async move {
            if let Some(writing) = writing {
                // The last write goes last.
                let _ = writing.await;
            }
            let last = tokio::task::spawn_blocking(move || {
                keeper.close();
                let run = run.map_or(Ok(()), |run| disk.write_epoch(&run));
                disk.write_peers(&book).and(run)
            });
            last.await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        };
        match timeout(DISK_MAX, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last state could not be written"),
            Err(_) => tracing::error!("the disk did not take the last state in time"),
        }
        // What was written by then is known, and whoever waits for it told.
        while let Ok(outcome) = outcomes.try_recv() {
            if let Outcome::Stood(result) = outcome {
                self.consumers.wrote(result.is_ok());
            }
        }
        self.consumers.close();
        let Links {
            orders,
            events,
            task,
            ..
        } = self.links;
        // Without orders its task ends, and with it every connection and every link's tasks.
        drop((orders, events));
        if let Err(error) = task.await {
            tracing::error!(%error, "the links' task failed; this is a bug");
        }
        self.arrivals.close();
    }
}
