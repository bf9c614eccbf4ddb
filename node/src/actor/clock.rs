//! The node's clock: what the core is told of time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_overlay::{Now, Time, UnixMicros};

/// A monotonic clock that begins with the node, and the machine's wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Reads both clocks.
    pub(crate) fn now(self) -> Now {
        Now {
            time: Time::from_micros(micros(self.start.elapsed())),
            unix: unix(),
        }
    }

    /// Returns when a moment of the core's time comes; none if never.
    pub(crate) fn instant(self, time: Time) -> Option<Instant> {
        self.start
            .checked_add(Duration::from_micros(time.as_micros()))
    }
}

fn unix() -> UnixMicros {
    // A clock before 1970 is wrong in any case; zero is refused wherever skew matters.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixMicros(since.map_or(0, micros))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
