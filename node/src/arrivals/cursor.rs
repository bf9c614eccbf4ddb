//! Cursors: opaque places in this daemon's arrival log of a topic, for a client to go on from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use weft_core::TopicName;
use weft_identity::{Hash, PeerId};
use weft_rpc::start::CURSOR_PREFIX;

/// Daemon, topic, log, place, and a checksum of them.
const CURSOR_BYTES: usize = 4 + 4 + 8 + 8 + 4;

/// What tells a log from every other: of which daemon, of which topic, and which of those that it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogId {
    daemon: [u8; 4],
    topic: [u8; 4],
    /// A log that is lost is followed by another, whose places begin anew.
    life: u64,
}

/// Why a cursor names no place of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It isn't one, or was cut or changed.
    #[error("that is no cursor, or not all of it")]
    Malformed,
    /// Another daemon gave it out.
    #[error("the cursor is of another daemon")]
    OtherDaemon,
    /// It is of another topic.
    #[error("the cursor is of another topic")]
    OtherTopic,
    /// The daemon no longer has the log that it is of.
    #[error("the cursor is of a log that this daemon no longer has")]
    LogGone,
}

impl LogId {
    pub(crate) fn new(daemon: PeerId, topic: &TopicName, life: u64) -> Self {
        let short = |bytes: &[u8]| {
            let [a, b, c, d, ..] = *Hash::of(bytes).as_bytes();
            [a, b, c, d]
        };
        Self {
            daemon: short(daemon.as_bytes()),
            topic: short(topic.as_str().as_bytes()),
            life,
        }
    }

    /// Returns which of the topic's logs it is.
    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    /// Writes the cursor of the item at a place.
    pub(crate) fn cursor(&self, place: u64) -> String {
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..4].copy_from_slice(&self.daemon);
        bytes[4..8].copy_from_slice(&self.topic);
        bytes[8..16].copy_from_slice(&self.life.to_be_bytes());
        bytes[16..24].copy_from_slice(&place.to_be_bytes());
        let sum = checksum(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum);
        let mut text = String::with_capacity(CURSOR_PREFIX.len() + CURSOR_BYTES * 4 / 3 + 1);
        text.push_str(CURSOR_PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// Returns the place of the item whose cursor this is.
    pub(crate) fn place(&self, cursor: &str) -> Result<u64, CursorError> {
        let encoded = cursor
            .strip_prefix(CURSOR_PREFIX)
            .ok_or(CursorError::Malformed)?;
        let mut bytes = [0; CURSOR_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes);
        if length != Ok(CURSOR_BYTES) || bytes[24..] != checksum(&bytes[..24]) {
            return Err(CursorError::Malformed);
        }
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[from..from + 8]);
            u64::from_be_bytes(eight)
        };
        if bytes[..4] != self.daemon {
            return Err(CursorError::OtherDaemon);
        }
        if bytes[4..8] != self.topic {
            return Err(CursorError::OtherTopic);
        }
        if number(8) != self.life {
            return Err(CursorError::LogGone);
        }
        Ok(number(16))
    }
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo): it finds what was cut or mistyped, and costs a message next to nothing.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let sum = bytes.iter().fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    sum.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(daemon: u8, topic: &str, life: u64) -> LogId {
        LogId::new(
            PeerId::from_bytes([daemon; 32]),
            &topic.parse().unwrap(),
            life,
        )
    }

    #[test]
    fn a_cursor_is_read_by_the_log_that_wrote_it_and_by_no_other() {
        let id = log(1, "a", 9);
        let cursor = id.cursor(77);
        assert_eq!(id.place(&cursor), Ok(77));
        assert_eq!(log(2, "a", 9).place(&cursor), Err(CursorError::OtherDaemon));
        assert_eq!(log(1, "b", 9).place(&cursor), Err(CursorError::OtherTopic));
        assert_eq!(log(1, "a", 8).place(&cursor), Err(CursorError::LogGone));
    }

    #[test]
    fn what_was_cut_or_changed_is_no_cursor() {
        let id = log(1, "a", 9);
        let cursor = id.cursor(77);
        for at in 0..cursor.len() {
            assert_eq!(id.place(&cursor[..at]), Err(CursorError::Malformed));
            let mut changed = cursor.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character carries bits that don't count.
            assert!(
                id.place(&changed).is_err() || at == cursor.len() - 1,
                "{changed}"
            );
        }
        assert_eq!(id.place(&format!("{cursor}A")), Err(CursorError::Malformed));
    }
}
