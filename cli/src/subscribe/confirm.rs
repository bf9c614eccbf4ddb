//! Confirming what was printed, for a consumer with a name.
//!
//! A batch is confirmed once it has been flushed to standard output, at most one each [`INTERVAL`], and the last one when the stream ends.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weft_rpc::types::Confirmed;
use weft_rpc::{CallError, Kind, TopicStream};

use crate::failure::Failure;
use crate::global::Global;

/// How often what was printed is confirmed: the daemon writes confirmations as often.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long the last confirmation may take. A guess: a daemon answers in a quarter of a second unless its disk is slow.
const LAST_MAX: Duration = Duration::from_secs(5);

type Confirming = Pin<Box<dyn Future<Output = Result<Confirmed, CallError>> + Send>>;

/// What was printed and is to be confirmed.
pub(super) struct Confirmer<'a> {
    global: &'a Global,
    /// Where printing stands, if that isn't confirmed or on its way.
    printed: Option<Confirming>,
    under_way: Option<Confirming>,
    next_at: Instant,
    /// Whether a confirmation has failed since one was last taken.
    is_failing: bool,
}

impl<'a> Confirmer<'a> {
    pub(super) fn new(global: &'a Global) -> Self {
        Self {
            global,
            printed: None,
            under_way: None,
            next_at: Instant::now(),
            is_failing: false,
        }
    }

    /// Everything up to a cursor has been printed.
    pub(super) fn printed(&mut self, stream: &TopicStream, cursor: String) {
        if let Some(confirming) = stream.confirm(cursor) {
            self.printed = Some(Box::pin(confirming));
        }
    }

    /// Confirms one thing after the other; resolves when one was. It may be dropped at any time, and goes on when it is called again.
    pub(super) async fn step(&mut self) -> Result<(), Failure> {
        if self.under_way.is_none() {
            if self.printed.is_none() {
                return pending().await;
            }
            sleep_until(self.next_at).await;
            self.next_at = Instant::now() + INTERVAL;
            self.under_way = self.printed.take();
        }
        let Some(under_way) = &mut self.under_way else {
            return Ok(());
        };
        let outcome = under_way.await;
        self.under_way = None;
        self.judge(outcome)
    }

    /// Confirms what is left: the stream has ended.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        let Some(last) = self.printed.take().or_else(|| self.under_way.take()) else {
            return Ok(());
        };
        match tokio::time::timeout(LAST_MAX, last).await {
            Ok(outcome) => self.judge(outcome),
            Err(_) => Err(Failure::timeout(LAST_MAX)),
        }
        .map_err(|failure| {
            Failure::new(
                failure.exit,
                format!("what was printed last could not be confirmed: {failure}"),
            )
            .hint("the name's next subscription may print it again")
        })
    }

    /// A disk that doesn't take it stops nothing: the daemon knows, and tries again.
    fn judge(&mut self, outcome: Result<Confirmed, CallError>) -> Result<(), Failure> {
        match outcome {
            Ok(_) => self.is_failing = false,
            Err(CallError::Rpc(error)) if error.kind == Kind::Disk => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    self.global.note(format_args!(
                        "warning: {error}; if the daemon dies now, it is printed again"
                    ));
                }
            }
            Err(CallError::Disconnected) => return Err(super::ended()),
            // So does one that stops.
            Err(CallError::Rpc(error)) if error.kind == Kind::Busy => return Err(super::ended()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
