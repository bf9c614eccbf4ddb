//! What tests on real processes share: the command with deadlines, daemons and testnets that never outlive their test.
//!
//! Everything waits for a condition with a deadline ([`wait::until`]), never for a bare time, and says what it waited for.

pub mod command;
pub mod crash;
pub mod daemon;
pub mod draw;
pub mod http;
pub mod kv;
pub mod load;
pub mod net;
pub mod peer;
pub mod proto;
pub mod ramdisk;
pub mod stream;
pub mod wait;

/// Returns a number that a person may set in the environment, to make a test longer than it is otherwise.
pub fn setting(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |number| number.parse().expect("a number"))
}

/// Lets one test of a binary run at a time: networks of real processes would distort each other's figures.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}
