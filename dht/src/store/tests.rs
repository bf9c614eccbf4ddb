//! Tests of the store: claims alone, and whole networks in virtual time.

mod basics;
mod claims;
mod comparing;
mod dots;
mod faults;
mod history;
mod leaving;
mod network;
mod owners;
mod refusals;
mod seeds;
