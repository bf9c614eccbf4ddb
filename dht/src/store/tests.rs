//! Tests of the store: claims alone, and whole networks in virtual time.

mod claims;
