//! How a table is filled and kept fresh, and what is announced again.
//!
//! One lookup of the node's own runs at a time, so that upkeep never crowds out callers: first that of the own key, then
//! one into each bucket, those due longest first. Buckets deeper than that of the k-th closest peer are left out, since
//! the own key's lookup brings all that is there.

use std::cmp::Reverse;
use std::time::Duration;

use rand::RngExt;

use crate::lookup::Goal;
use crate::point::Key;
use crate::providers::REPUBLISH_INTERVAL;
use crate::table::{Entry, Standing};
use crate::{Contact, Now, Peer, Point, Time};

use super::calls::Job;
use super::config::{CHECKS_PER_SWEEP, JOIN_AGAIN, JOIN_WAIT, KEY_TRIES_MAX, SWEEP_INTERVAL};
use super::{Dht, LookupId};

/// When which part of the table is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    running: Option<LookupId>,
    /// When the node began to join, or begins to.
    begun_at: Time,
    own_key_at: Time,
    /// By shared prefix length; one that isn't here yet is due since the join.
    buckets_at: Vec<Time>,
    /// When the next provided key is announced again.
    announce_at: Time,
    sweep_at: Time,
}

impl Upkeep {
    pub(super) fn new(now: Time) -> Self {
        Self {
            running: None,
            begun_at: Time::ZERO,
            own_key_at: Time::ZERO,
            buckets_at: Vec::new(),
            announce_at: Time::NEVER,
            sweep_at: now + SWEEP_INTERVAL,
        }
    }

    /// Makes all due soon: the first peer has answered.
    pub(super) fn begin(&mut self, now: Time) {
        self.begun_at = now + JOIN_WAIT;
        self.own_key_at = self.begun_at;
        self.buckets_at.clear();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    pub(super) fn ended(&mut self, id: LookupId) {
        if self.running == Some(id) {
            self.running = None;
        }
    }

    fn bucket_at(&self, prefix: u32) -> Time {
        let due = self.buckets_at.get(prefix as usize);
        due.copied().unwrap_or(self.begun_at)
    }

    /// Returns what a lookup is for that is due since then.
    fn job(&self, due_at: Time) -> Job {
        match due_at == self.begun_at {
            true => Job::Fill,
            false => Job::Refresh,
        }
    }

    fn put_off(&mut self, prefix: u32, until: Time) {
        let prefix = prefix as usize;
        if self.buckets_at.len() <= prefix {
            self.buckets_at.resize(prefix + 1, self.begun_at);
        }
        self.buckets_at[prefix] = until;
    }
}

/// What upkeep does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    OwnKey,
    Bucket(u32),
    Announce,
}

impl<C: Contact> Dht<C> {
    /// Returns when there is something to keep up.
    pub(super) fn next_upkeep(&self) -> Time {
        let task = self.next_task().map_or(Time::NEVER, |(at, _)| at);
        task.min(self.upkeep.sweep_at)
    }

    pub(super) fn keep_up(&mut self, now: Now) {
        if self.upkeep.sweep_at <= now.time {
            self.sweep(now);
        }
        // A lookup may end at once, if there is nobody to ask.
        while let Some((_, task)) = self.next_task().filter(|(at, _)| *at <= now.time) {
            self.start(task, now);
        }
    }

    /// Notes that a lookup led to a point, whose bucket it has refreshed.
    pub(super) fn refreshed(&mut self, target: Point, now: Now) {
        let prefix = self.me.peer().point().shared_prefix(target);
        if prefix <= self.table.depth() {
            let until = self.later(now.time, self.config.refresh_interval);
            self.upkeep.put_off(prefix, until);
        }
    }

    /// Returns a moment about so much later, between three and five quarters of it: nodes that start together part ways.
    pub(super) fn later(&mut self, now: Time, wait: Duration) -> Time {
        now + wait * 3 / 4 + wait / 2 * self.rng.random_range(0..=1_000) / 1_000
    }

    /// Returns the task that is due first; none while one is running, or while nobody answers.
    fn next_task(&self) -> Option<(Time, Task)> {
        if !self.upkeep.is_idle() || !self.has_live() {
            return None;
        }
        let buckets = 0..=self.table.depth();
        let buckets = buckets.map(|prefix| (self.upkeep.bucket_at(prefix), Task::Bucket(prefix)));
        // Of those due at the same time the first: a node that joins looks up its own key before it fills buckets.
        [(self.upkeep.own_key_at, Task::OwnKey)]
            .into_iter()
            .chain(buckets)
            .chain([(self.upkeep.announce_at, Task::Announce)])
            .min_by_key(|(at, _)| *at)
    }

    /// Notes when a key that this node provides is announced again.
    pub(super) fn announce_later(&mut self, key: Key, now: Time) {
        let again = self.later(now, REPUBLISH_INTERVAL);
        self.provided.insert(key, again);
        self.plan_announcements();
    }

    pub(super) fn plan_announcements(&mut self) {
        let next = self.provided.values().min();
        self.upkeep.announce_at = next.copied().unwrap_or(Time::NEVER);
    }

    fn start(&mut self, task: Task, now: Now) {
        let id = match task {
            Task::OwnKey => {
                let job = self.upkeep.job(self.upkeep.own_key_at);
                let again = match job {
                    Job::Fill => JOIN_AGAIN,
                    _ => Duration::MAX,
                };
                let wait = self.config.refresh_interval.min(again);
                self.upkeep.own_key_at = self.later(now.time, wait);
                self.look_up_own_key(job, now)
            }
            Task::Bucket(prefix) => {
                let job = self.upkeep.job(self.upkeep.bucket_at(prefix));
                let until = self.later(now.time, self.config.refresh_interval);
                self.upkeep.put_off(prefix, until);
                let Some(key) = self.key_in(prefix) else {
                    return;
                };
                self.look_up(job, key, Goal::Closest, 1, now)
            }
            Task::Announce => {
                let Some((key, _)) = self.provided.iter().min_by_key(|(_, at)| **at) else {
                    return;
                };
                let key = key.clone();
                self.announce_later(key.clone(), now.time);
                let paths = self.config.paths;
                self.look_up(Job::Republish, key, Goal::Closest, paths, now)
            }
        };
        if self.lookups.contains_key(&id) {
            self.upkeep.running = Some(id);
        }
    }

    /// Finds a key whose point lies in a bucket: a random one, or that of one of the bucket's peers.
    fn key_in(&mut self, prefix: u32) -> Option<Key> {
        let me = self.me.peer().point();
        let mut bytes: [u8; 32] = self.rng.random();
        for turn in 0..KEY_TRIES_MAX {
            bytes[..4].copy_from_slice(&turn.to_be_bytes());
            if Point::of(&bytes).shared_prefix(me) == prefix {
                return Some(Key::from_array(bytes));
            }
        }
        let bucket = self.table.bucket(prefix);
        if bucket.is_empty() {
            return None;
        }
        let member = self.rng.random_range(0..bucket.len());
        Some(bucket[member].peer().key())
    }

    /// Drops what has expired, tries a few stale peers again, and makes sure of a few that were not heard for long.
    fn sweep(&mut self, now: Now) {
        self.upkeep.sweep_at = self.later(now.time, SWEEP_INTERVAL);
        self.table.expire(now.unix);
        self.providers.expire(now.unix);
        let stale = self.table.entries();
        let mut stale: Vec<&Entry<C>> = stale
            .filter(|entry| entry.standing() == Standing::Stale)
            .collect();
        stale.sort_by_key(|entry| Reverse(entry.seen_at()));
        let mut quiet: Vec<&Entry<C>> = self.table.entries().collect();
        quiet.retain(|entry| {
            entry.standing() == Standing::Live
                && now.time.since(entry.seen_at()) >= self.config.refresh_interval
        });
        quiet.sort_by_key(|entry| entry.seen_at());
        let checked = stale.into_iter().take(CHECKS_PER_SWEEP);
        let checked: Vec<C> = checked
            .chain(quiet.into_iter().take(CHECKS_PER_SWEEP))
            .map(|entry| entry.contact().clone())
            .collect();
        for contact in checked {
            self.probe(contact, now);
        }
    }
}
