//! A link's writer: what waits in the lanes, gathered into large writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use weft_core::DownReason;
use weft_core::wire::OutFrame;

use super::frames::GOODBYE;
use super::link::Link;

/// Bytes that are gathered into one buffer: sixteen of Yamux's frames. What waits behind them is a control frame's delay.
const GATHER_BYTES_MAX: usize = 256 * 1024;
/// How long this side's end may take to be said once the link is over.
const LAST_WORD: Duration = Duration::from_millis(300);
/// The buffer's size at rest.
const BUFFER_BYTES_MIN: usize = 16 * 1024;

/// Writes until the link is over; a peer that takes nothing for `stall_timeout` ends it.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    link: Arc<Link>,
    stall_timeout: Duration,
) {
    let mut writer = Writer {
        stream,
        stall_timeout,
    };
    let outcome = tokio::select! {
        biased;
        // Whatever a peer does or doesn't read: an ordered end comes in time.
        () = link.close_by() => Err(DownReason::Ordered),
        () = cut_off(&link) => Ok(()),
        outcome = writer.write(&link) => outcome,
    };
    if let Err(reason) = outcome {
        link.end(reason);
    }
    // The peer may be waiting for this side's end: it comes at once, but nobody waits for it long.
    let _ = timeout(LAST_WORD, writer.stream.close()).await;
    link.set_written();
}

/// Resolves when the link is over by something else than an order. After an order what waits is still written, even if the
/// peer's own goodbye has come: both may have ended at once.
async fn cut_off(link: &Link) {
    link.ended().await;
    if link.is_closing() {
        std::future::pending::<()>().await;
    }
}

struct Writer<S> {
    stream: S,
    stall_timeout: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    /// Writes what is queued; once the end is ordered, says goodbye and waits until the peer has let go of the stream.
    async fn write(&mut self, link: &Link) -> Result<(), DownReason> {
        let mut frames = Vec::new();
        let mut buffer = Vec::new();
        let mut flushed = true;
        loop {
            let closing = link.is_closing();
            link.take(&mut frames, GATHER_BYTES_MAX);
            if !frames.is_empty() {
                gather(&mut frames, &mut buffer);
                self.write_all(&buffer).await?;
                flushed = false;
            } else if closing {
                // Nothing is queued to a link after the order, and all that was queued before it has been taken.
                self.write_all(&GOODBYE).await?;
                in_time(self.stall_timeout, self.stream.close()).await?;
                // A QUIC connection that closes takes back what was not received. That the peer lets go of this stream says
                // that all was; the reader ends with the peer's goodbye, when all of the peer's has come.
                let _ = watch(&mut self.stream).await;
                link.ended().await;
                return Ok(());
            } else if !flushed {
                in_time(self.stall_timeout, self.stream.flush()).await?;
                flushed = true;
            } else {
                if buffer.capacity() > BUFFER_BYTES_MIN {
                    buffer = Vec::new();
                }
                tokio::select! {
                    biased;
                    () = link.work() => {}
                    error = watch(&mut self.stream) => return Err(broken(&error)),
                }
            }
        }
    }

    /// Writes all of a buffer, and sees meanwhile if the peer resets the stream.
    async fn write_all(&mut self, mut buffer: &[u8]) -> Result<(), DownReason> {
        while !buffer.is_empty() {
            let stream = &mut self.stream;
            let some =
                std::future::poll_fn(|cx| match Pin::new(&mut *stream).poll_write(cx, buffer) {
                    Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => Poll::Ready(written),
                    Poll::Pending => poll_watch(stream, cx).map(Err),
                });
            // Each bit that is taken begins the time anew: a slow peer is no dead one.
            let written = in_time(self.stall_timeout, some).await?;
            buffer = &buffer[written..];
        }
        Ok(())
    }
}

/// Waits for the stream for as long as a peer may take none of what is written.
async fn in_time<T>(
    stall_timeout: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, DownReason> {
    match timeout(stall_timeout, step).await {
        Ok(outcome) => outcome.map_err(|error| broken(&error)),
        Err(_) => Err(DownReason::Broken(format!(
            "the peer has taken nothing for {stall_timeout:?}"
        ))),
    }
}

/// Moves frames into one buffer.
fn gather(frames: &mut Vec<OutFrame>, buffer: &mut Vec<u8>) {
    buffer.clear();
    for frame in frames.drain(..) {
        buffer.extend_from_slice(&frame.head);
        buffer.extend_from_slice(&frame.tail);
    }
}

/// Resolves when the peer has done something to a stream on which it has nothing to say.
async fn watch<S: AsyncRead + Unpin>(stream: &mut S) -> io::Error {
    std::future::poll_fn(|cx| poll_watch(stream, cx)).await
}

fn poll_watch<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Error> {
    Pin::new(stream)
        .poll_read(cx, &mut [0; 1])
        .map(|read| match read {
            Ok(0) => io::Error::other("the peer has let go of the stream"),
            Ok(_) => io::Error::other("the peer wrote on a stream that is not its own"),
            Err(error) => error,
        })
}

fn broken(error: &io::Error) -> DownReason {
    DownReason::Broken(error.to_string())
}

#[cfg(test)]
mod tests;
