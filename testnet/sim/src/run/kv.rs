//! The phases and figures of the replicated store.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rand::RngExt;
use weft_dht::kv::KvKey;
use weft_dht::store::{Basis, Call, Level, Terms, Written};

use super::figures::at_share;
use super::script::{Act, Script, random};
use super::{Progress, Runner};
use crate::Engine;
use crate::machine::{Fact, Machine, NodeId};
use crate::scenario::Kv;
use crate::watch::{Deed, Tally};

/// How far apart keys are looked at when all is over, and how long the last one has to answer.
const AUDIT_EVERY: Duration = Duration::from_millis(5);
const AUDIT_ENDS: Duration = Duration::from_secs(12);

/// Returns the name of a key; every fourth has a tag, so that some stand at one place.
fn key(number: u32) -> KvKey {
    let text = if number % 4 == 3 {
        format!("{{tag {}}}/key {number}", number % 8)
    } else {
        format!("key {number}")
    };
    KvKey::new(&text).expect("short and plain")
}

impl Script {
    /// A node drawn at random does something with a key drawn at random.
    pub(super) fn kv<M: Machine>(&mut self, engine: &mut Engine<M>, kv: &Kv, label: &str) {
        let Some(node) = random(engine) else {
            return;
        };
        let number = engine.rng().random_range(0..kv.keys);
        let share: f64 = engine.rng().random();
        let blind = engine.rng().random_bool(kv.blind);
        let mark: u64 = engine.rng().random();
        let terms = Terms {
            copies: kv.copies,
            level: kv.level.map_or(Level::Quorum, Level::Exactly),
            strict: kv.strict,
            ..Terms::default()
        };
        let key = key(number);
        let (deed, content) = if share < kv.reads {
            (Deed::Get, None)
        } else if share < kv.reads + kv.deletes {
            (Deed::Delete, Some(Written::Nothing))
        } else {
            let mut value = BytesMut::with_capacity(kv.bytes as usize);
            value.put_u64(mark);
            value.resize(kv.bytes as usize, 0);
            (Deed::Put(mark), Some(Written::Value(value.freeze())))
        };
        let call = match content {
            None => Call::Get { key, terms },
            Some(content) => Call::Put {
                key,
                content,
                ttl: None,
                basis: if blind { Basis::Blind } else { Basis::Read },
                terms,
            },
        };
        let label = self.label(label);
        self.call(engine, node, number, deed, label, call);
    }

    /// A node drawn at random reads a key from as many as there are, and asks who holds what.
    pub(super) fn audit<M: Machine>(&mut self, engine: &mut Engine<M>, number: u32, copies: u8) {
        let Some(node) = random(engine) else {
            return;
        };
        let terms = Terms {
            copies,
            ..Terms::default()
        };
        let get = Call::Get {
            key: key(number),
            terms,
        };
        self.call(engine, node, number, Deed::Audit, 0, get);
        let locate = Call::Locate {
            key: key(number),
            terms,
        };
        self.call(engine, node, number, Deed::Locate, 0, locate);
    }

    fn call<M: Machine>(
        &self,
        engine: &mut Engine<M>,
        node: NodeId,
        number: u32,
        deed: Deed,
        label: u16,
        call: Call<weft_identity::PeerId>,
    ) {
        let now = engine.now().time;
        let deed = engine.watch.deed(now, node, number, deed, label);
        let call = Box::new(call);
        engine.tell(node, Fact::Kv { deed, call });
    }

    pub(super) fn fill_disk(&self, node: NodeId, full: bool) {
        if let Some(disks) = &self.plan.disks {
            disks.of(node).full = full;
        }
    }
}

impl<M: Machine> Runner<'_, M> {
    pub(super) fn kv(&mut self, kv: &Kv, progress: &mut dyn FnMut(Progress)) {
        let start = self.engine.now().time;
        for index in 0..kv.calls {
            let act = Act::Kv {
                kv: Box::new(kv.clone()),
                label: kv.label.clone(),
            };
            let at = start + kv.every.0 * index;
            self.script.plan(&mut self.engine, at, act);
        }
        self.keys = self.keys.max(kv.keys);
        if !kv.meanwhile {
            self.pass(kv.every.0 * kv.calls + kv.settle.0, progress);
        }
    }

    pub(super) fn audit(&mut self, copies: u8, progress: &mut dyn FnMut(Progress)) {
        let start = self.engine.now().time;
        for key in 0..self.keys {
            let act = Act::Audit { key, copies };
            self.script
                .plan(&mut self.engine, start + AUDIT_EVERY * key, act);
        }
        self.pass(AUDIT_EVERY * self.keys + AUDIT_ENDS, progress);
    }

    pub(super) fn fill_disks(&mut self, share: f64, span: Duration) {
        let until = self.engine.now().time + span;
        for node in self.draw(share) {
            self.script.fill_disk(node, true);
            let act = Act::FillDisk { node, full: false };
            self.script.plan(&mut self.engine, until, act);
        }
    }

    pub(super) fn damage(&mut self, share: f64) {
        let mut damaged = 0;
        for node in self.draw(share) {
            let number: u32 = self.engine.rng().random();
            if let Some(disks) = &self.script.plan.disks {
                damaged += u32::from(disks.damage(node, number as usize));
            }
        }
        self.set("kv_damaged", f64::from(damaged));
    }

    /// Makes the figures of all that was done with the store.
    pub(super) fn kv_figures(&mut self) {
        if self.engine.watch.history.is_empty() {
            return;
        }
        let labels: Vec<(u16, String)> = self
            .script
            .labels()
            .map(|(number, label)| (number, label.to_owned()))
            .collect();
        for (number, label) in labels {
            for (what, reads) in [("get", true), ("put", false)] {
                let tally = self.engine.watch.history.tally(number, reads);
                self.tally_figures(what, &label, &tally);
            }
        }
        let history = &self.engine.watch.history;
        let figures = [
            ("kv_stale", history.stale as f64),
            ("kv_lost", history.lost as f64),
            ("kv_resurrected", history.resurrected as f64),
            ("kv_audited", history.audited as f64),
            ("kv_unreadable", history.unreadable as f64),
            ("kv_diverged", history.diverged as f64),
            ("kv_siblings_max", history.siblings_max as f64),
        ];
        for (name, value) in figures {
            self.set(name, value);
        }
        let counters: Vec<_> = self
            .engine
            .machines()
            .filter_map(|(_, machine)| machine.store())
            .collect();
        let sum =
            |of: fn(&weft_dht::store::Counters) -> u64| counters.iter().map(of).sum::<u64>() as f64;
        let figures = [
            ("kv_hints", sum(|it| it.hints_kept)),
            ("kv_read_repairs", sum(|it| it.read_repairs)),
            ("kv_sync_bytes", sum(|it| it.sync_bytes)),
            ("kv_batches", sum(|it| it.batches)),
            ("kv_damage_found", sum(|it| it.lost)),
        ];
        for (name, value) in figures {
            self.set(name, value);
        }
    }

    fn tally_figures(&mut self, what: &str, label: &str, tally: &Tally) {
        if tally.begun == 0 {
            return;
        }
        let end = if label.is_empty() {
            String::new()
        } else {
            format!("_{label}")
        };
        let of = |count: usize| count as f64 / tally.begun as f64;
        let figures = [
            ("s", tally.begun as f64),
            ("_share", of(tally.done)),
            ("_sloppy_share", of(tally.sloppy)),
            ("_ms_p50", at_share(&tally.millis, 0.5)),
            ("_ms_p99", at_share(&tally.millis, 0.99)),
        ];
        for (name, value) in figures {
            self.set(&format!("kv_{what}{name}{end}"), value);
        }
    }
}
