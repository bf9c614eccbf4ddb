//! What links do to frames: latency, loss, duplication, reordering, bandwidth.
//!
//! A pair's latency is drawn once, by a hash of the seed and the two nodes, so that it costs no memory and is the same
//! whenever the two meet.

use std::time::Duration;

use serde::Deserialize;

use crate::duration::Span;

/// How long a frame takes from one node to another, one way.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase", deny_unknown_fields)]
pub enum Latency {
    /// The same for every pair.
    Constant {
        /// The latency.
        of: Span,
    },
    /// Drawn for each pair between two bounds.
    Uniform {
        /// The shortest.
        min: Span,
        /// The longest.
        max: Span,
    },
    /// Drawn for each pair; the logarithm is normal, as round trips between random Internet hosts roughly are.
    Lognormal {
        /// Half of the pairs are closer.
        median: Span,
        /// The standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// Nodes belong to clusters that lie at random places of a square: close within one, as far as the places between two.
    Clustered {
        /// How many clusters.
        clusters: u32,
        /// The latency within one.
        within: Span,
        /// What the side of the square adds.
        across: Span,
    },
}

/// The shortest latency: nothing arrives in the moment in which it was sent.
const LATENCY_MIN: Duration = Duration::from_micros(10);
/// The longest that a draw may give.
const LATENCY_MAX: Duration = Duration::from_secs(10);

impl Latency {
    /// Returns the latency between two nodes, the same both ways.
    pub fn between(&self, seed: u64, a: u32, b: u32) -> Duration {
        let pair = (u64::from(a.min(b)) << 32) | u64::from(a.max(b));
        let drawn = match *self {
            Self::Constant { of } => of.0,
            Self::Uniform { min, max } => {
                let spread = max.0.saturating_sub(min.0);
                min.0 + spread.mul_f64(unit(mix(seed ^ mix(pair))))
            }
            Self::Lognormal { median, sigma } => {
                let factor = (sigma * normal(seed ^ mix(pair))).exp();
                median.0.mul_f64(factor.clamp(0.0, 1e6))
            }
            Self::Clustered {
                clusters,
                within,
                across,
            } => {
                let place = |node: u32| {
                    let cluster = mix(seed ^ u64::from(node)) % u64::from(clusters.max(1));
                    let drawn = mix(seed ^ mix(cluster ^ 0x0c1a_57e4));
                    (unit(drawn), unit(mix(drawn)))
                };
                let ((x, y), (u, v)) = (place(a), place(b));
                let distance = ((x - u).powi(2) + (y - v).powi(2)).sqrt();
                within.0 + across.0.mul_f64(distance)
            }
        };
        drawn.clamp(LATENCY_MIN, LATENCY_MAX)
    }
}

/// What links do to frames beyond their latency.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// How long a frame takes.
    pub latency: Latency,
    /// What is added to each frame's latency at most, drawn evenly; order within a link stays.
    pub jitter: Span,
    /// The share of frames that are lost.
    pub loss: f64,
    /// The share of frames that arrive twice.
    pub duplication: f64,
    /// The share of frames that later ones overtake.
    pub reordering: f64,
    /// Bytes a second that each node can send; none without a cap.
    pub bandwidth: Option<u64>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            latency: Latency::Uniform {
                min: Span(Duration::from_millis(10)),
                max: Span(Duration::from_millis(50)),
            },
            jitter: Span(Duration::ZERO),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            bandwidth: None,
        }
    }
}

/// Mixes a number well (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014: splitmix64).
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a mixed number as one of `0.0..1.0`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn unit(mixed: u64) -> f64 {
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws from the normal distribution (Box and Muller 1958).
fn normal(seed: u64) -> f64 {
    let (a, b) = (mix(seed), mix(seed ^ 0x5bd1_e995));
    let radius = (-2.0 * (1.0 - unit(a)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(b)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    fn mean_ms(latency: &Latency) -> f64 {
        let pairs = 4_000_u32;
        let sum: Duration = (0..pairs).map(|b| latency.between(7, 1, b + 2)).sum();
        sum.as_secs_f64() * 1_000.0 / f64::from(pairs)
    }

    #[test]
    fn a_pair_has_one_latency_both_ways() {
        let uniform = Latency::Uniform {
            min: ms(10),
            max: ms(50),
        };
        assert_eq!(uniform.between(1, 5, 9), uniform.between(1, 9, 5));
        assert_ne!(uniform.between(1, 5, 9), uniform.between(2, 5, 9));
    }

    #[test]
    fn draws_have_the_mean_of_their_distribution() {
        let uniform = Latency::Uniform {
            min: ms(10),
            max: ms(50),
        };
        assert!((mean_ms(&uniform) - 30.0).abs() < 1.0);
        let lognormal = Latency::Lognormal {
            median: ms(40),
            sigma: 0.5,
        };
        // The mean is the median times e^(sigma²/2).
        assert!((mean_ms(&lognormal) - 45.3).abs() < 2.0);
    }

    #[test]
    fn a_cluster_is_closer_than_the_world() {
        let clustered = Latency::Clustered {
            clusters: 4,
            within: ms(2),
            across: ms(100),
        };
        let close = (2..400).filter(|b| clustered.between(3, 1, *b) == ms(2).0);
        assert!(
            (50..150).contains(&close.count()),
            "a quarter share the place"
        );
    }
}
