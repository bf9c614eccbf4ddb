//! Tests of a node's part: what it does with facts, and whole networks in virtual time.

mod figures;
mod network;
