//! A link's reader: bytes to frames, frames to the core's task.

use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use weft_core::DownReason;
use weft_core::wire::{DecodeError, Decoder, Frame};

use super::frames::{FrameBuffer, Piece};
use super::link::{Link, READ_AHEAD_BYTES_MAX};
use super::pace::Pace;
use super::{LinkEvent, ReadFrames};

/// Frames of one hand-over: enough to spare wake-ups, few enough that checking their signatures (about 50 µs each) keeps
/// none waiting for long.
const BATCH_FRAMES_MAX: usize = 64;
/// Bytes of one hand-over, for the same reasons.
const BATCH_COST_MAX: usize = 256 * 1024;
/// Bytes that are still read once the link is over: what came before its end. More than a window is not buffered.
const READ_AFTER_END_BYTES_MAX: usize = 1024 * 1024;
/// Frames with a forged signature after which a link ends. A node checks what it passes on, so there is no honest one; a few
/// are borne so that their count shows in `weft status` what it was.
const FORGED_MAX: u32 = 8;

/// Reads until the link is over, then tells the core's task so.
pub(super) async fn run<R: AsyncRead + Unpin>(
    stream: R,
    link: Arc<Link>,
    decoder: Decoder,
    events: mpsc::Sender<LinkEvent>,
) {
    let mut reader = Reader {
        stream,
        link,
        decoder,
        events,
        buffer: FrameBuffer::default(),
        pace: Pace::new(Instant::now()),
        forged: 0,
    };
    let reason = reader.read().await;
    let Reader {
        stream,
        link,
        events,
        ..
    } = reader;
    link.end(reason);
    drop(stream);
    if link.is_closing() {
        // Both sides may end at once, and the peer's goodbye can come before it has read all: this side's last frames are
        // still on their way, and the node may end with what is told next. The writer takes no longer than an end may.
        link.written().await;
    }
    // The core's task ends after all readers or does not care any more.
    let _ = events.send(LinkEvent::Ended(link)).await;
}

struct Reader<R> {
    stream: R,
    link: Arc<Link>,
    decoder: Decoder,
    events: mpsc::Sender<LinkEvent>,
    buffer: FrameBuffer,
    pace: Pace,
    /// Frames with a forged signature so far.
    forged: u32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads and hands over until something ends it; returns what.
    async fn read(&mut self) -> DownReason {
        let mut read_after_end = 0;
        loop {
            let read = tokio::select! {
                biased;
                read = self.stream.read(self.buffer.room()) => read,
                () = self.link.ended() => return self.link.reason(),
            };
            let read = match read {
                Ok(0) => return DownReason::Broken("the connection was closed".to_owned()),
                Ok(read) => read,
                Err(error) => return DownReason::Broken(error.to_string()),
            };
            if self.link.is_ended() {
                read_after_end += read;
                if read_after_end > READ_AFTER_END_BYTES_MAX {
                    return self.link.reason();
                }
            }
            self.link.hear();
            self.buffer.advance(read);
            if let Err(reason) = self.hand_over().await {
                return reason;
            }
        }
    }

    /// Hands over all whole frames of the buffer.
    async fn hand_over(&mut self) -> Result<(), DownReason> {
        loop {
            let mut batch = Batch::default();
            let ended = self.decode(&mut batch);
            let is_full = batch.is_full();
            let pause = self.pace.pause(Instant::now());
            batch.slowed = !pause.is_zero();
            batch.send(&self.link, &self.events).await?;
            ended?;
            if !pause.is_zero() {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.link.ended() => return Err(self.link.reason()),
                }
            }
            if !is_full {
                return Ok(());
            }
        }
    }

    /// Decodes frames until the batch is full or the buffer has no whole one any more.
    fn decode(&mut self, batch: &mut Batch) -> Result<(), DownReason> {
        while !batch.is_full() {
            let frame = match self.buffer.next().map_err(DownReason::BadFrame)? {
                None => return Ok(()),
                Some(Piece::Goodbye) => return Err(DownReason::Closed),
                Some(Piece::Frame(frame)) => frame,
            };
            batch.cost += frame.len() + size_of::<Frame>();
            match self.decoder.decode(frame) {
                Ok(frame) => {
                    self.pace.spend(&frame, Instant::now());
                    batch.frames.push(frame);
                }
                Err(DecodeError::Forged(what)) => {
                    tracing::debug!(peer = %self.link.peer(), what, "forged");
                    batch.forged += 1;
                    self.forged += 1;
                    if self.forged >= FORGED_MAX {
                        let reason = format!("{FORGED_MAX} frames with a forged signature");
                        return Err(DownReason::BadFrame(reason));
                    }
                }
                Err(DecodeError::Malformed(what)) => {
                    return Err(DownReason::BadFrame(what.to_owned()));
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    frames: Vec<Frame>,
    forged: u32,
    slowed: bool,
    cost: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES_MAX || self.cost >= BATCH_COST_MAX
    }

    /// Sends the batch as soon as the core has taken enough of what went before.
    async fn send(
        self,
        link: &Arc<Link>,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<(), DownReason> {
        if self.cost == 0 {
            return Ok(());
        }
        let stopped = || DownReason::Broken("the node has stopped".to_owned());
        // A batch ends with the frame that fills it, so it may exceed what one link may have waiting: then it waits alone.
        let cost = self.cost.min(READ_AHEAD_BYTES_MAX) as u32;
        let permit = link
            .credit
            .acquire_many(cost)
            .await
            .map_err(|_| stopped())?;
        permit.forget();
        let frames = ReadFrames {
            link: link.clone(),
            frames: self.frames,
            forged: self.forged,
            slowed: self.slowed,
            cost,
        };
        events
            .send(LinkEvent::Frames(frames))
            .await
            .map_err(|_| stopped())
    }
}
