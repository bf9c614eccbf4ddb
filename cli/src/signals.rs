//! Signals that ask for an end.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long a stream may take to end by itself after Ctrl-C, before the process ends regardless: its reader may be a
/// pager that reads nothing.
const STREAM_GRACE: Duration = Duration::from_millis(300);

/// SIGINT and SIGTERM, from the moment this is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for either, and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Resolves when a stream should end well. Should it be stuck in a write then, the process ends with 0 all the same.
pub(crate) fn end_of_stream() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    let (sender, receiver) = oneshot::channel::<()>();
    tokio::spawn(async move {
        signals.next().await;
        drop(sender);
        tokio::time::sleep(STREAM_GRACE).await;
        std::process::exit(0);
    });
    Ok(async {
        // The sender is never used: its drop is the signal.
        let _ = receiver.await;
    })
}
