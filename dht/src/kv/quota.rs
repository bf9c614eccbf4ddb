//! What one writer may have at a replica.
//!
//! Records count for whoever wrote them, not for who sent them: so handing records on costs nothing, and nobody can use
//! up another's share. It bounds what one identity takes; that identities are cheap is not this module's to mend.

use crate::kv::Header;

/// Bytes that a record counts for beside its value, its key and what it cites: its head on disk and in memory.
const HEAD_BYTES: u64 = 256;
/// Bytes that an interval of a context counts for: what it takes in memory, more than it takes on disk.
const INTERVAL_BYTES: u64 = 80;

/// What each writer may have at this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes, as [`charge`] counts them.
    pub bytes_max: u64,
    /// Records.
    pub records_max: u64,
}

impl Default for Quota {
    /// Returns the design's bounds: a writer who fills one takes as much as all messages of a kept topic may.
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024 * 1024,
            records_max: 65_536,
        }
    }
}

/// What a writer has at this replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, as [`charge`] counts them.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// The writer has as much here as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the writer's quota at a replica is used up: {} bytes of {} in {} records of {} are held: delete some, or let \
     them expire",
    held.bytes, quota.bytes_max, held.records, quota.records_max
)]
pub struct OverQuota {
    /// What is held.
    pub held: Usage,
    /// What may be.
    pub quota: Quota,
}

/// Returns how many bytes a record counts for.
pub fn charge<P>(header: &Header<P>) -> u64 {
    let value = u64::from(header.content.value_bytes());
    let cited = header.context.intervals().len() as u64 * INTERVAL_BYTES;
    value + header.key.as_str().len() as u64 + cited + HEAD_BYTES
}

impl Usage {
    /// Adds a record.
    pub fn add<P>(&mut self, header: &Header<P>) {
        self.bytes += charge(header);
        self.records += 1;
    }

    /// Takes a record away that was added.
    pub fn subtract<P>(&mut self, header: &Header<P>) {
        self.bytes = self.bytes.saturating_sub(charge(header));
        self.records = self.records.saturating_sub(1);
    }
}

impl Quota {
    /// Checks that a writer who is to have so much may.
    pub fn check(self, held: Usage) -> Result<(), OverQuota> {
        if held.bytes > self.bytes_max || held.records > self.records_max {
            return Err(OverQuota { held, quota: self });
        }
        Ok(())
    }
}
