//! Waiting for conditions.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value; panics with `what` after `at_most`.
pub fn until<T>(
    what: impl Display,
    at_most: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {at_most:?} in vain for: {what}"
        );
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until an asynchronous `condition` gives a value; panics with `what` after `at_most`.
pub async fn until_async<T>(
    what: impl Display,
    at_most: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {at_most:?} in vain for: {what}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}
