//! Making a damaged segment whole, in a new file of the same length: what can be read keeps its place, a value that can't is
//! overwritten as lost, and where not even the key is known there is filler. The damaged file is set aside, and all places
//! that were known stay right.

use super::contents::{Found, Frame};
use super::frame::{
    ENTRY_BYTES_MIN, Entry, FRAME_HEAD_BYTES, Header, Kind, decode_name, encode_entry, frame_head,
};

/// Makes a segment of a length from what could be read of it.
///
/// `None` if there is a hole that no frame can have left; then these aren't what was read of a segment of this length.
pub(super) fn mended(
    header: &Header,
    bytes: &[u8],
    frames: &[Frame],
    end: usize,
) -> Option<Vec<u8>> {
    let mut mended = Vec::with_capacity(end);
    mended.extend_from_slice(&header.encode());
    for frame in frames.iter().filter(|frame| frame.at < end) {
        // Frames follow each other without a gap; the last may be cut off, and is made up to its length.
        let frame_end = if end < frame.end || frame.end == bytes.len() {
            end
        } else {
            frame.end
        };
        push_frame(header, &mut mended, frame_end, |to| {
            let within = frame
                .entries
                .iter()
                .filter(|entry| entry.range.end <= frame_end);
            for Found { range, is_whole } in within {
                fill(header, to, range.start)?;
                if *is_whole {
                    to.extend_from_slice(bytes.get(range.clone())?);
                } else {
                    encode_lost(header, bytes.get(range.start..)?, to)?;
                }
            }
            Some(())
        })?;
    }
    if mended.len() < end {
        push_frame(header, &mut mended, end, |_| Some(()))?;
    }
    (mended.len() == end).then_some(mended)
}

/// Appends a frame that ends at a place, with what is put into it and filler for the rest.
fn push_frame(
    header: &Header,
    to: &mut Vec<u8>,
    end: usize,
    entries: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let at = to.len();
    let begin = at + FRAME_HEAD_BYTES;
    let head = frame_head(
        &header.salt,
        header.number,
        at as u64,
        end.checked_sub(begin)?,
    );
    to.extend_from_slice(&head);
    entries(to)?;
    fill(header, to, end)
}

/// Appends an entry that says of a damaged one's key that its value is lost, just as long as that.
fn encode_lost(header: &Header, damaged: &[u8], to: &mut Vec<u8>) -> Option<()> {
    let name = decode_name(&header.salt, damaged)?;
    let lost = Entry {
        // A removal needs no value to hold, and filler none to be lost.
        kind: if name.kind == Kind::Put {
            Kind::Lost
        } else {
            name.kind
        },
        table: name.table,
        key: name.key,
        value: &vec![0; name.entry_bytes - ENTRY_BYTES_MIN - name.key.len()],
    };
    encode_entry(&header.salt, &lost, to);
    Some(())
}

/// Appends filler up to a place.
fn fill(header: &Header, to: &mut Vec<u8>, end: usize) -> Option<()> {
    let hole = end.checked_sub(to.len())?;
    if hole == 0 {
        return Some(());
    }
    let filler = Entry {
        kind: Kind::Filler,
        table: 0,
        key: &[],
        value: &vec![0; hole.checked_sub(ENTRY_BYTES_MIN)?],
    };
    encode_entry(&header.salt, &filler, to);
    Some(())
}
