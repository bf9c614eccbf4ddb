//! Records of the replicated store: what is written, in which order, and what of it remains.
//!
//! The store is Dynamo's (DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store", SOSP 2007) on Kademlia's
//! distance. This module knows no network: a [`KvKey`] says where a record belongs, a [`Dot`] which write it is, a
//! [`Context`] which writes its writer had seen, and [`Siblings`] keep what no other record has covered.
//!
//! **Causality** is that of dotted version vectors (Preguiça et al., "Dotted Version Vectors: Logical Clocks for
//! Optimistic Replication", 2010), but exact: a context is a set of intervals of each writer's dots, not a number for
//! each writer, because a writer's dots count all its writes and one key sees few of them. A record is dropped exactly
//! when the context of another record of its key covers its dot; so a write that nobody cited is never lost, however
//! the others arrive.
//!
//! **Time** ends records: see [`Header::ends_at`] for why one that has expired is still held for a while.
//!
//! A record's signature is checked before it comes here ([`Record`]).

mod context;
mod dot;
mod dots;
pub mod fingerprint;
mod index;
mod key;
mod owned;
mod quota;
mod record;
mod siblings;
mod slot;

pub use context::{CONTEXT_INTERVALS_MAX, Context, Interval, TokenError};
pub use dot::{Dot, ParseSeqError, Seq};
pub use dots::Dots;
pub use index::{Index, Slot};
pub use key::{KV_KEY_BYTES_MAX, KeyError, KvKey, KvPrefix, PrefixError};
pub use owned::{Expect, OWN_KEYS_MAX, Owned, Replaces, Unmet};
pub use quota::{OverQuota, Quota, Usage, charge};
pub use record::{
    Arrival, COPIES_DEFAULT, COPIES_MAX, Content, GRAVE, Header, Invalid, LIFE_MAX, Record,
    RecordId, SKEW_MAX, TTL_MAX, Untimely, VALUE_BYTES_MAX, Versioned, tombstone_expires_at,
};
pub use siblings::{Crowded, Entered, SIBLINGS_MAX, Siblings};
pub use slot::{SLOTS, slot};
