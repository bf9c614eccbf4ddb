//! Standard input as batches of lines: what is there already goes together, and nothing waits to fill a batch.

use std::io::{self, Read};

use tokio::sync::mpsc;

/// Lines in one batch: few enough that a reader sees them early, many enough that a call's cost vanishes.
const BATCH_LINES_MAX: usize = 1_000;

/// Bytes in one batch, unless one line is larger: in base64 it fits a request's body with room to spare.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes of one read; a pipe holds 64 KiB.
const READ_BYTES: usize = 64 << 10;

/// Chunks that are read ahead while a call is under way.
const AHEAD_MAX: usize = 4;

/// Why there are no more lines.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Standard input has ended.
    End,
    /// A line is larger than a message may be. All before it were handed out.
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// Standard input can't be read any further.
    Read {
        /// The number of the line that is incomplete.
        line: u64,
        /// The system's word.
        error: io::Error,
    },
}

type Lines = Vec<Vec<u8>>;

/// What a line may have, and what goes with each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of a line.
    pub(super) line_bytes_max: usize,
    /// Bytes that stand beside each line in a call.
    pub(super) beside_bytes: usize,
}

impl Bounds {
    /// Returns the bytes that lines take of a batch.
    fn bytes(&self, lines: &Lines) -> usize {
        lines.iter().map(|line| self.line_bytes(line)).sum()
    }

    fn line_bytes(&self, line: &[u8]) -> usize {
        line.len() + self.beside_bytes
    }

    fn fits(&self, batch: &Lines, more: &Lines) -> bool {
        batch.len() + more.len() <= BATCH_LINES_MAX
            && self.bytes(batch) + self.bytes(more) <= BATCH_BYTES_MAX
    }
}

/// Batches of lines as they arrive.
#[derive(Debug)]
pub(super) struct Batches {
    chunks: mpsc::Receiver<Result<Lines, Stopped>>,
    /// What was received and didn't fit the batch before.
    kept: Option<Result<Lines, Stopped>>,
    bounds: Bounds,
}

impl Batches {
    /// Reads standard input on a thread of its own, since a read of it can't be interrupted.
    pub(super) fn of_stdin(bounds: Bounds) -> Self {
        Self::of(io::stdin(), bounds)
    }

    fn of(input: impl Read + Send + 'static, bounds: Bounds) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD_MAX);
        std::thread::spawn(move || read_all(input, bounds, &sender));
        Self {
            chunks,
            kept: None,
            bounds,
        }
    }

    /// Waits for lines and returns all that are there, up to a batch's bounds; then, why there are no more.
    pub(super) async fn next(&mut self) -> Result<Lines, Stopped> {
        let first = match self.kept.take() {
            Some(kept) => Some(kept),
            None => self.chunks.recv().await,
        };
        let mut batch = first.unwrap_or(Err(Stopped::End))?;
        while let Ok(more) = self.chunks.try_recv() {
            match more {
                Ok(lines) if self.bounds.fits(&batch, &lines) => batch.extend(lines),
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        Ok(batch)
    }
}

/// Reads until the end, and sends each read's complete lines at once. Ends early when nobody listens any more.
fn read_all(mut input: impl Read, bounds: Bounds, sender: &mpsc::Sender<Result<Lines, Stopped>>) {
    let mut splitter = Splitter::new(bounds);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = sender.blocking_send(Err(Stopped::Read {
                    line: splitter.line,
                    error,
                }));
                return;
            }
        };
        let too_long = if read == 0 {
            splitter.end()
        } else {
            splitter.push(&buffer[..read])
        }
        .is_err();
        for lines in splitter.take() {
            if sender.blocking_send(Ok(lines)).is_err() {
                return;
            }
        }
        if too_long {
            let _ = sender.blocking_send(Err(Stopped::TooLong {
                line: splitter.line,
            }));
            return;
        }
        if read == 0 {
            return;
        }
    }
}

/// A line that is larger than a message may be.
#[derive(Debug)]
struct TooLong;

/// Splits bytes into lines, and lines into chunks that fit a batch.
#[derive(Debug)]
struct Splitter {
    bounds: Bounds,
    partial: Vec<u8>,
    chunks: Vec<Lines>,
    chunk_bytes: usize,
    /// The number of the line that is being read.
    line: u64,
}

impl Splitter {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            partial: Vec::new(),
            chunks: Vec::new(),
            chunk_bytes: 0,
            line: 1,
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..newline])?;
            self.complete();
            bytes = &bytes[newline + 1..];
        }
        self.extend(bytes)
    }

    /// Completes a last line that has no newline.
    fn end(&mut self) -> Result<(), TooLong> {
        if !self.partial.is_empty() {
            self.complete();
        }
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.partial.len() + bytes.len() > self.bounds.line_bytes_max {
            return Err(TooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn complete(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.line += 1;
        let full = self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() >= BATCH_LINES_MAX)
            || self.chunk_bytes + self.bounds.line_bytes(&line) > BATCH_BYTES_MAX;
        if full {
            self.chunks.push(Vec::new());
            self.chunk_bytes = 0;
        }
        self.chunk_bytes += self.bounds.line_bytes(&line);
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(line);
        }
    }

    fn take(&mut self) -> Vec<Lines> {
        self.chunk_bytes = 0;
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        line_bytes_max: 1 << 20,
        beside_bytes: 11,
    };

    async fn read(input: &[u8]) -> (Lines, Stopped) {
        read_within(BOUNDS, input).await
    }

    async fn read_within(bounds: Bounds, input: &[u8]) -> (Lines, Stopped) {
        let mut batches = Batches::of(io::Cursor::new(input.to_vec()), bounds);
        let mut all = Vec::new();
        loop {
            match batches.next().await {
                Ok(batch) => {
                    assert!(batch.len() <= BATCH_LINES_MAX);
                    assert!(batch.len() == 1 || bounds.bytes(&batch) <= BATCH_BYTES_MAX);
                    all.extend(batch);
                }
                Err(stopped) => return (all, stopped),
            }
        }
    }

    #[tokio::test]
    async fn lines_lose_their_newline_and_nothing_else() {
        let (lines, stopped) = read(b"a\r\n\n\xff\nlast").await;
        assert_eq!(lines, [&b"a\r"[..], b"", b"\xff", b"last"]);
        assert!(matches!(stopped, Stopped::End));
        assert!(read(b"").await.0.is_empty());
        assert_eq!(read(b"\n").await.0, [b""]);
    }

    #[tokio::test]
    async fn many_lines_come_in_order_and_in_bounds() {
        let text: String = (0..50_000).map(|number| format!("{number}\n")).collect();
        let (lines, _) = read(text.as_bytes()).await;
        assert_eq!(lines.len(), 50_000);
        assert!(
            lines
                .iter()
                .enumerate()
                .all(|(number, line)| *line == number.to_string().as_bytes())
        );
    }

    #[tokio::test]
    async fn what_stands_beside_each_line_counts_against_a_batch() {
        let bounds = Bounds {
            line_bytes_max: 1,
            beside_bytes: BATCH_BYTES_MAX / 4,
        };
        let (lines, stopped) = read_within(bounds, &b"\n".repeat(50)).await;
        assert_eq!(lines.len(), 50);
        assert!(matches!(stopped, Stopped::End));
        let (lines, stopped) = read_within(bounds, b"a\nbc\n").await;
        assert_eq!(lines, [b"a"]);
        assert!(matches!(stopped, Stopped::TooLong { line: 2 }));
    }

    #[tokio::test]
    async fn an_oversize_line_is_named_and_those_before_it_stand() {
        let mut text = b"one\ntwo\n".to_vec();
        text.resize(text.len() + BOUNDS.line_bytes_max + 1, b'x');
        let (lines, stopped) = read(&text).await;
        assert_eq!(lines.len(), 2);
        assert!(
            matches!(stopped, Stopped::TooLong { line: 3 }),
            "{stopped:?}"
        );
    }

    #[tokio::test]
    async fn the_largest_line_is_a_message() {
        let mut text = vec![b'y'; BOUNDS.line_bytes_max];
        text.push(b'\n');
        let (lines, stopped) = read(&text).await;
        assert_eq!((lines.len(), lines[0].len()), (1, BOUNDS.line_bytes_max));
        assert!(matches!(stopped, Stopped::End));
    }

    #[tokio::test]
    async fn a_line_is_handed_out_while_the_next_is_awaited() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut batches = Batches::of(reader, BOUNDS);
        for text in ["first", "second"] {
            io::Write::write_all(&mut writer, format!("{text}\n").as_bytes()).unwrap();
            assert_eq!(batches.next().await.unwrap(), [text.as_bytes()]);
        }
        drop(writer);
        assert!(matches!(batches.next().await, Err(Stopped::End)));
    }
}
