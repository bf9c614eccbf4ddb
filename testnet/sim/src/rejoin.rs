//! How a member without neighbours finds back, as a node's core does: it joins again through the addresses that it was given.

use std::time::Duration;

use weft_overlay::{Now, Time};

use crate::link::{mix, unit};
use crate::machine::NodeId;

/// How soon a member without neighbours joins again; doubles up to the longest. As the core's join addresses.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// When to join again, and through whom.
#[derive(Clone, Debug)]
pub(crate) struct Rejoin {
    vias: u32,
    /// Each draw mixes it anew: a generator would be the largest part of a member that never joins again.
    drawn: u64,
    at: Time,
    wait: Duration,
    is_alone: Option<bool>,
}

impl Rejoin {
    /// Takes the first so many nodes to join through.
    pub(crate) const fn new(vias: u32, seed: u64) -> Self {
        Self {
            vias,
            drawn: seed,
            at: Time::NEVER,
            wait: WAIT_MIN,
            is_alone: None,
        }
    }

    /// Takes note of whether the member has neighbours.
    pub(crate) fn neighbours(&mut self, is_alone: bool, now: Now) {
        if self.is_alone == Some(is_alone) {
            return;
        }
        // One that has just been made is joining already.
        let first = if self.is_alone.is_none() {
            WAIT_MAX
        } else {
            WAIT_MIN
        };
        self.is_alone = Some(is_alone);
        self.wait = WAIT_MIN;
        self.at = if is_alone {
            now.time + first
        } else {
            Time::NEVER
        };
    }

    /// Returns whom to join through if it is time.
    pub(crate) fn due(&mut self, now: Now) -> Option<NodeId> {
        if self.at > now.time || self.vias == 0 {
            return None;
        }
        self.wait = (self.wait * 2).min(WAIT_MAX);
        let jitter = 0.75 + 0.5 * unit(self.draw());
        self.at = now.time + self.wait.mul_f64(jitter);
        let via = self.draw() % u64::from(self.vias);
        NodeId::try_from(via).ok()
    }

    const fn draw(&mut self) -> u64 {
        self.drawn = mix(self.drawn);
        self.drawn
    }

    pub(crate) const fn poll_timeout(&self) -> Time {
        if self.vias == 0 { Time::NEVER } else { self.at }
    }
}
