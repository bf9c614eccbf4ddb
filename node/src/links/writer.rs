//! A link's writer: what waits in the lanes, gathered into large writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use weft_core::DownReason;
use weft_core::wire::OutFrame;

use super::frames::GOODBYE;
use super::link::Link;
use super::{CLOSE_TIMEOUT, STALL_TIMEOUT};

/// Bytes that are gathered into one buffer: sixteen of Yamux's frames. What waits behind them is a control frame's delay.
const GATHER_BYTES_MAX: usize = 256 * 1024;
/// The buffer's size at rest.
const BUFFER_BYTES_MIN: usize = 16 * 1024;

/// Writes until the link is over.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, link: Arc<Link>) {
    let outcome = tokio::select! {
        biased;
        () = link.ended() => Ok(()),
        // Whatever a peer does or doesn't read: an ordered end comes in time.
        () = close_deadline(&link) => Err(DownReason::Ordered),
        outcome = write(&mut stream, &link) => outcome,
    };
    if let Err(reason) = outcome {
        link.end(reason);
    }
    // The peer may be waiting for this side's end: it comes at once, but nobody waits for it long.
    let _ = timeout(CLOSE_TIMEOUT, stream.close()).await;
}

async fn close_deadline(link: &Link) {
    link.closing().await;
    tokio::time::sleep(CLOSE_TIMEOUT).await;
}

/// Writes what is queued; once the end is ordered, says goodbye and waits for the peer to do the same.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    link: &Link,
) -> Result<(), DownReason> {
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    let mut flushed = true;
    loop {
        let closing = link.is_closing();
        link.take(&mut frames, GATHER_BYTES_MAX);
        if !frames.is_empty() {
            gather(&mut frames, &mut buffer);
            in_time(write_all(stream, &buffer)).await?;
            flushed = false;
        } else if closing {
            // Nothing is queued to a link after the order, and all that was queued before it has been taken.
            in_time(write_all(stream, &GOODBYE)).await?;
            in_time(stream.close()).await?;
            link.ended().await;
            return Ok(());
        } else if !flushed {
            in_time(stream.flush()).await?;
            flushed = true;
        } else {
            if buffer.capacity() > BUFFER_BYTES_MIN {
                buffer = Vec::new();
            }
            tokio::select! {
                biased;
                () = link.work() => {}
                error = watch(stream) => return Err(broken(&error)),
            }
        }
    }
}

/// Waits for a write for as long as a peer may take none of it.
async fn in_time(write: impl Future<Output = io::Result<()>>) -> Result<(), DownReason> {
    match timeout(STALL_TIMEOUT, write).await {
        Ok(outcome) => outcome.map_err(|error| broken(&error)),
        Err(_) => Err(DownReason::Broken(format!(
            "the peer has taken nothing for {} s",
            STALL_TIMEOUT.as_secs()
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

/// Writes all of a buffer, and sees meanwhile if the peer resets the stream.
async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut buffer: &[u8],
) -> io::Result<()> {
    while !buffer.is_empty() {
        let written =
            std::future::poll_fn(|cx| match Pin::new(&mut *stream).poll_write(cx, buffer) {
                Poll::Ready(written) => Poll::Ready(written),
                Poll::Pending => poll_watch(stream, cx).map(Err),
            })
            .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buffer = &buffer[written..];
    }
    Ok(())
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
