//! What can be read of a segment, whatever has happened to its bytes.
//!
//! Every byte past the header belongs to one [`Frame`]. A whole one is as it was written. In one that isn't, the entries
//! that hold are still found: each has its own checks, so that a flipped bit costs one value, and one in a frame's head none.

use std::ops::Range;

use super::frame::{
    FRAME_HEAD_BYTES, FRAMES_AT, Salt, decode_entry, decode_frame_head, decode_name,
};

/// Places that are tried in one damaged frame to find the next entry after one of unknown length. A value can be made to
/// look like the front of an entry everywhere, and each such place costs a hash; past this the rest of the frame is lost
/// instead of the time.
const TRIES_MAX: usize = 16 << 20;

/// A frame, or a place where frames must have been.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it begins in the segment.
    pub(super) at: usize,
    /// Where it ends; past the segment's last byte if that is cut off.
    pub(super) end: usize,
    /// Whether all of it is as it was written.
    pub(super) is_whole: bool,
    /// Its entries, in order.
    pub(super) entries: Vec<Found>,
}

/// An entry of which at least the front holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its place in the segment; past the segment's last byte if it is cut off.
    pub(super) range: Range<usize>,
    /// Whether its value holds too.
    pub(super) is_whole: bool,
}

/// Reads a segment's frames. The header isn't looked at, so that a segment without one can still be read.
pub(super) fn frames(salt: &Salt, number: u32, bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = FRAMES_AT;
    while at < bytes.len() {
        let frame = if let Some(entries_bytes) = head_at(salt, number, bytes, at) {
            let begin = at + FRAME_HEAD_BYTES;
            let end = begin.saturating_add(entries_bytes);
            let (entries, all) = entries(salt, bytes, begin..end);
            Frame {
                at,
                end,
                is_whole: all && end <= bytes.len() && !entries.is_empty(),
                entries,
            }
        } else {
            // Up to the next head, which nothing but a frame in its place can pass for.
            let end = (at + 1..bytes.len())
                .find(|next| head_at(salt, number, bytes, *next).is_some())
                .unwrap_or(bytes.len());
            let begin = (at + FRAME_HEAD_BYTES).min(end);
            // An entry that is cut off tells how long the segment was.
            let within = if end == bytes.len() { usize::MAX } else { end };
            Frame {
                at,
                end,
                is_whole: false,
                entries: entries(salt, bytes, begin..within).0,
            }
        };
        at = frame.end;
        frames.push(frame);
    }
    frames
}

/// Returns where the last whole frame ends: what lies past it was being written, or is damaged.
pub(super) fn whole_end(frames: &[Frame]) -> usize {
    let last = frames.iter().rev().find(|frame| frame.is_whole);
    last.map_or(FRAMES_AT, |frame| frame.end)
}

fn head_at(salt: &Salt, number: u32, bytes: &[u8], at: usize) -> Option<usize> {
    decode_frame_head(salt, number, at as u64, bytes.get(at..)?)
}

/// Finds the entries in a range, of which some may be cut off, and says whether whole ones fill it.
fn entries(salt: &Salt, bytes: &[u8], range: Range<usize>) -> (Vec<Found>, bool) {
    let (mut found, mut all, mut tries) = (Vec::new(), true, 0);
    let mut at = range.start;
    let end = range.end.min(bytes.len());
    while at < end {
        let name = decode_name(salt, &bytes[at..end]);
        if let Some(name) = name.filter(|name| at + name.entry_bytes <= range.end) {
            let range = at..at + name.entry_bytes;
            let entry = bytes.get(range.clone());
            let is_whole = entry.is_some_and(|entry| decode_entry(salt, entry).is_some());
            all &= is_whole;
            at = range.end;
            found.push(Found { range, is_whole });
            continue;
        }
        all = false;
        at = (at + 1..end)
            .take_while(|_| {
                tries += 1;
                tries <= TRIES_MAX
            })
            .find(|next| decode_name(salt, &bytes[*next..end]).is_some())
            .unwrap_or(end);
    }
    (found, all)
}
