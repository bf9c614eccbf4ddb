//! How frames lie on a stream: a varint of the length, then the frame; a length of zero says goodbye.
//!
//! No frame is empty, so zero is free to say that the sender closes in order and nothing follows: a stream that ends
//! without it was broken.

use weft_core::wire::FRAME_BYTES_MAX;

/// What says goodbye.
pub(super) const GOODBYE: [u8; 1] = [0];
/// Bytes of the longest length: 2 MiB take four, and one more is read before the sender is refused.
const LENGTH_BYTES_MAX: usize = 5;
/// A buffer's size at rest: a link at rest sends heartbeats only.
const BUFFER_BYTES_MIN: usize = 8 * 1024;
/// A buffer's size under load: large reads spare wake-ups. It grows further for a larger frame alone.
const BUFFER_BYTES_LOAD: usize = 256 * 1024;

/// What is next on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// The sender closes in order.
    Goodbye,
}

/// Bytes of a stream between the read and the decoder. Its size follows what has come, never what was announced.
#[derive(Debug, Default)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read filled all the room there was, so that more is worth while.
    filled: bool,
}

impl FrameBuffer {
    /// Returns room for the next read, never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > BUFFER_BYTES_LOAD
                || (!self.filled && self.bytes.len() > BUFFER_BYTES_MIN * 4)
            {
                self.bytes = Vec::new();
            }
        }
        let held = self.end - self.start;
        let wanted = if held * 2 > self.bytes.len() || (self.filled && held == 0) {
            // Half full with one frame's beginning, or reads come back full: twice the room.
            let limit = if held == 0 {
                BUFFER_BYTES_LOAD
            } else {
                FRAME_BYTES_MAX * 2
            };
            (self.bytes.len() * 2).min(limit.max(self.bytes.len()))
        } else {
            self.bytes.len()
        }
        .max(BUFFER_BYTES_MIN);
        if self.start > 0 && self.end + BUFFER_BYTES_MIN / 2 > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        if wanted > self.bytes.len() {
            self.bytes.resize(wanted, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Tells how many bytes the read has put into the room.
    pub(super) fn advance(&mut self, read: usize) {
        self.end += read;
        self.filled = self.end == self.bytes.len();
    }

    /// Takes the next whole piece; an error says what no honest peer does.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, String> {
        let held = &self.bytes[self.start..self.end];
        let Some((length, head)) = length(held)? else {
            return Ok(None);
        };
        if length == 0 {
            self.start += head;
            return Ok(Some(Piece::Goodbye));
        }
        if length > FRAME_BYTES_MAX as u64 {
            return Err(format!(
                "a frame of {length} bytes, and the most is {FRAME_BYTES_MAX}"
            ));
        }
        let whole = head + length as usize;
        if held.len() < whole {
            return Ok(None);
        }
        let frame = self.start + head..self.start + whole;
        self.start += whole;
        Ok(Some(Piece::Frame(&self.bytes[frame])))
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads a length; none while it is not whole.
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>, String> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= LENGTH_BYTES_MAX {
        return Err("a frame's length that has no end".to_owned());
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut length = frame.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(frame);
        out
    }

    /// Feeds bytes in reads of at most `step` and collects the frames.
    fn feed(buffer: &mut FrameBuffer, bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = buffer.room();
            assert!(!room.is_empty());
            let n = rest.len().min(room.len()).min(step);
            room[..n].copy_from_slice(&rest[..n]);
            buffer.advance(n);
            rest = &rest[n..];
            while let Some(piece) = buffer.next().unwrap() {
                match piece {
                    Piece::Frame(frame) => out.push(frame.to_vec()),
                    Piece::Goodbye => out.push(Vec::new()),
                }
            }
        }
        out
    }

    #[test]
    fn frames_come_out_however_the_reads_are_cut() {
        let frames: Vec<Vec<u8>> = [1, 2, 127, 128, 300, 16_384, 70_000, 5]
            .iter()
            .map(|&n| (0..n).map(|i| i as u8).collect())
            .collect();
        let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        bytes.extend_from_slice(&GOODBYE);
        let mut expected = frames;
        expected.push(Vec::new());
        for step in [1, 2, 3, 7, 100, 4_096, usize::MAX] {
            assert_eq!(
                feed(&mut FrameBuffer::default(), &bytes, step),
                expected,
                "reads of {step}"
            );
        }
    }

    #[test]
    fn the_largest_frame_passes_and_the_buffer_shrinks_again() {
        let mut buffer = FrameBuffer::default();
        let largest = vec![7; FRAME_BYTES_MAX];
        assert_eq!(
            feed(&mut buffer, &framed(&largest), 100_000),
            std::slice::from_ref(&largest)
        );
        feed(&mut buffer, &framed(b"small"), 100_000);
        feed(&mut buffer, &framed(b"small"), 100_000);
        assert!(buffer.size() <= BUFFER_BYTES_LOAD, "{}", buffer.size());
    }

    #[test]
    fn an_oversize_or_endless_length_is_refused_before_anything_is_kept() {
        for bad in [
            &[0x81, 0x80, 0x80, 0x01][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x80, 0x80, 0x80, 0x80, 0x80],
            &[0xff; 20],
        ] {
            let mut buffer = FrameBuffer::default();
            buffer.room()[..bad.len()].copy_from_slice(bad);
            buffer.advance(bad.len());
            assert!(buffer.next().is_err(), "{bad:x?}");
            assert_eq!(buffer.size(), BUFFER_BYTES_MIN);
        }
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = FrameBuffer::default();
        buffer.room()[..4].copy_from_slice(&[0x80, 0x80, 0x80, 0x01]);
        buffer.advance(4);
        assert_eq!(buffer.next(), Ok(None), "2 MiB are announced");
        buffer.room();
        assert_eq!(buffer.size(), BUFFER_BYTES_MIN);
    }
}
