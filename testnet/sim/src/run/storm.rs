//! Faults of which the seed decides everything, as in TigerBeetle's VOPR: what no scenario's author would think of.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_overlay::Time;

use super::script::Act;
use super::{Progress, Runner};
use crate::duration::Span;
use crate::engine::Crash;
use crate::link::{Latency, Links};
use crate::machine::{Machine, NodeId};
use crate::scenario::By;

/// Nodes that always run: somebody must be there to come back to.
const KEPT_UP: usize = 3;

/// Draws links of any kind.
pub(super) fn links(seed: u64) -> Links {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x11f4_a3c5);
    let ms = |millis| Span(Duration::from_micros(millis));
    let latency = match rng.random_range(0..4) {
        0 => Latency::Constant {
            of: ms(rng.random_range(100..50_000)),
        },
        1 => {
            let min = rng.random_range(100..20_000);
            let max = min + rng.random_range(0..80_000);
            Latency::Uniform {
                min: ms(min),
                max: ms(max),
            }
        }
        2 => Latency::Lognormal {
            median: ms(rng.random_range(500..40_000)),
            sigma: rng.random_range(0.1..1.0),
        },
        _ => Latency::Clustered {
            clusters: rng.random_range(2..6),
            within: ms(rng.random_range(200..2_000)),
            across: ms(rng.random_range(10_000..150_000)),
        },
    };
    let mut sometimes = |most: f64| {
        if rng.random_bool(0.5) {
            rng.random::<f64>() * most
        } else {
            0.0
        }
    };
    let (loss, duplication, reordering) = (sometimes(0.05), sometimes(0.1), sometimes(0.1));
    Links {
        latency,
        jitter: ms(rng.random_range(0..5_000)),
        loss,
        duplication,
        reordering,
        bandwidth: rng
            .random_bool(0.3)
            .then(|| rng.random_range(200_000..5_000_000)),
    }
}

impl<M: Machine> Runner<'_, M> {
    /// Faults come one after the other, at random, and all have ended when the phase does.
    pub(super) fn storm(
        &mut self,
        span: Duration,
        every: Duration,
        progress: &mut dyn FnMut(Progress),
    ) {
        let end = self.time() + span;
        while self.time() < end {
            let factor = -(1.0 - self.engine.rng().random::<f64>()).ln();
            let pause = every.mul_f64(factor.min(8.0)).max(Duration::from_micros(1));
            self.pass(pause.min(end.since(self.time())), progress);
            if self.time() < end {
                self.fault(end);
            }
        }
        self.engine.unblock();
        for node in 0..self.engine.len() {
            self.engine.set_group(node, 0);
            self.engine.resume(node);
            self.engine.slow(node, Duration::ZERO);
        }
        for node in self.down(u32::MAX) {
            let at = self.time();
            self.script.plan(&mut self.engine, at, Act::Start(node));
        }
    }

    fn fault(&mut self, end: Time) {
        let now = self.time();
        let left = end.since(now).as_secs_f64();
        let lasts = self.engine.rng().random_range(0.0..20.0_f64).min(left);
        let until = now + Duration::from_secs_f64(lasts);
        let Some(node) = self.random_node() else {
            return;
        };
        match self.engine.rng().random_range(0..10) {
            0 | 1 => self.crash_some(node, until),
            2 => self.crash_share(until),
            3 | 4 => {
                self.engine.hang(node);
                self.script.plan(&mut self.engine, until, Act::Resume(node));
            }
            5 | 6 => self.block_some(until),
            7 => {
                let micros = self.engine.rng().random_range(100..5_000);
                self.engine.slow(node, Duration::from_micros(micros));
                self.script
                    .plan(&mut self.engine, until, Act::Quicken(node));
            }
            _ => {
                let (messages, apart) = {
                    let rng = self.engine.rng();
                    (rng.random_range(1..100), rng.random_range(0..20_000))
                };
                for index in 0..messages {
                    let at = now + Duration::from_micros(apart) * index;
                    let bytes = self.engine.rng().random_range(0..4_096);
                    let act = Act::Publish {
                        by: By::Random,
                        bytes,
                        label: String::new(),
                    };
                    self.script.plan(&mut self.engine, at.min(end), act);
                }
            }
        }
    }

    fn crash_some(&mut self, node: NodeId, until: Time) {
        if self.engine.up().count() > KEPT_UP {
            let how = if self.engine.rng().random_bool(0.5) {
                Crash::Process
            } else {
                Crash::Host
            };
            self.engine.crash(node, how);
            self.script.plan(&mut self.engine, until, Act::Start(node));
        }
    }

    fn crash_share(&mut self, until: Time) {
        let share = self.engine.rng().random_range(0.1..0.8);
        let mut victims = self.draw(share);
        let up = self.engine.up().count();
        victims.truncate(up.saturating_sub(KEPT_UP));
        for node in victims {
            self.crash_some(node, until);
        }
    }

    fn block_some(&mut self, until: Time) {
        let share = self.engine.rng().random_range(0.1..0.6);
        for node in self.draw(share) {
            self.engine.set_group(node, 1);
        }
        let both = self.engine.rng().random_bool(0.6);
        self.engine.block(1, 0);
        if both {
            self.engine.block(0, 1);
        }
        self.script.plan(&mut self.engine, until, Act::Unblock);
    }
}
