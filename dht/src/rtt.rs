//! How long a peer may take: the estimator of TCP (Jacobson & Karels 1988, RFC 6298 §2), one for each peer of the table
//! and one over all answers, which stands in for peers that were never asked.
//!
//! A request has two deadlines. Past its *patience*, srtt + 4·rttvar, it is *slow*: it no longer counts as one of the
//! lookup's requests in flight, so that another peer is asked instead, and the lookup may end without it. Past twice that
//! it has failed, and its peer is doubted. So a dead peer costs a lookup a few round trips, not libp2p-kad's ten seconds.

use std::time::Duration;

/// The patience before anything was measured (RFC 6298 §2.1: one second).
pub(crate) const PATIENCE_FIRST: Duration = Duration::from_secs(1);
/// The shortest patience. A guess: a busy machine schedules a task late by tens of milliseconds, and who is taken for slow
/// meanwhile costs one request more.
pub(crate) const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// The longest patience. A guess: a dial over the worst path takes four round trips of 300 ms.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_millis(1_500);

/// A smoothed round trip and its mean deviation, in microseconds; zero before the first sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rtt {
    smoothed: u32,
    deviation: u32,
}

impl Rtt {
    /// Takes a sample of one peer, with RFC 6298's gains of 1/8 and 1/4; where it is faster than was thought, of 1/2. A
    /// table asks a peer seldom, and many are met first while a whole network joins and nobody is fast: a peer that was
    /// slow once shall not be waited for during the twenty questions that the RFC's gains need to forget it.
    pub(crate) fn sample(&mut self, took: Duration) {
        let took_micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if took_micros < self.smoothed {
            self.smoothed = took_micros.max(self.smoothed / 2);
            self.deviation /= 2;
            return;
        }
        self.blend(took, 8, 4);
    }

    /// Takes one of the samples of all peers: with gains of 1/32 and 1/16, because neighbouring samples differ by peer.
    pub(crate) fn sample_of_many(&mut self, took: Duration) {
        self.blend(took, 32, 16);
    }

    fn blend(&mut self, took: Duration, smoothed_by: u32, deviation_by: u32) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.smoothed == 0 {
            self.smoothed = took;
            self.deviation = took / 2;
            return;
        }
        let apart = self.smoothed.abs_diff(took);
        self.deviation = self.deviation - self.deviation / deviation_by + apart / deviation_by;
        self.smoothed = self.smoothed - self.smoothed / smoothed_by + took / smoothed_by;
    }

    /// Returns the smoothed round trip; `None` before the first sample.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.smoothed > 0).then(|| Duration::from_micros(self.smoothed.into()))
    }

    /// Returns how long it may take to reach a peer: the four round trips of a connection, and one of the question.
    pub(crate) fn reaching(&self) -> Duration {
        let smoothed = self.smoothed().unwrap_or(PATIENCE_FIRST);
        (smoothed * 5).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// Returns how long an answer may take before the peer is slow, between 50 ms and 1.5 s; `None` before the first
    /// sample.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let smoothed = self.smoothed()?;
        let patience = smoothed + Duration::from_micros(self.deviation.into()) * 4;
        Some(patience.clamp(PATIENCE_MIN, PATIENCE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_follows_a_steady_peer_down_to_the_floor() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.patience(), None);
        rtt.sample(200 * MS);
        assert_eq!(rtt.patience(), Some(600 * MS));
        for _ in 0..50 {
            rtt.sample(200 * MS);
        }
        let patience = rtt.patience().unwrap();
        assert!((200 * MS..210 * MS).contains(&patience), "{patience:?}");
        for _ in 0..50 {
            rtt.sample(MS);
        }
        assert_eq!(rtt.patience(), Some(PATIENCE_MIN));
    }

    #[test]
    fn a_slow_beginning_is_forgotten_after_a_few_answers() {
        let mut rtt = Rtt::default();
        rtt.sample(1_000 * MS);
        assert_eq!(rtt.patience(), Some(PATIENCE_MAX));
        for _ in 0..6 {
            rtt.sample(5 * MS);
        }
        assert!(rtt.patience().unwrap() < 120 * MS, "{rtt:?}");
    }

    #[test]
    fn patience_never_exceeds_its_ceiling() {
        let mut rtt = Rtt::default();
        for _ in 0..10 {
            rtt.sample(Duration::MAX);
        }
        assert_eq!(rtt.patience(), Some(PATIENCE_MAX));
    }

    #[test]
    fn a_spread_of_peers_widens_the_patience_for_strangers() {
        let mut rtt = Rtt::default();
        for turn in 0..400_u32 {
            rtt.sample_of_many((20 + turn % 7 * 30) * MS);
        }
        let patience = rtt.patience().unwrap();
        assert!(patience > 250 * MS, "{patience:?}");
    }
}
