//! Lookups: for callers, and for the node's own upkeep.

use crate::lookup::{self, Goal, Lookup, Stats};
use crate::message::{Answer, Message, Query};
use crate::point::Key;
use crate::providers::PROVIDERS_TOLD_MAX;
use crate::table::{K, Standing};
use crate::{Contact, Now, Peer};

use super::config::{CALLS_MAX, PROVIDED_MAX};
use super::{Call, CallId, Dht, LookupId, Outcome, Output, Purpose};

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    FindPeer(CallId),
    Closest(CallId),
    Provide(CallId),
    Providers(CallId),
    /// To fill the table of a node that joins.
    Fill,
    /// To keep the table full; nobody waits for it.
    Refresh,
    /// To announce a provided key again.
    Republish,
}

impl Job {
    /// Returns whether nobody waits for it.
    const fn may_wait(self) -> bool {
        matches!(self, Self::Refresh | Self::Republish)
    }
}

/// A lookup that is running.
#[derive(Debug)]
pub(super) struct Running<C> {
    job: Job,
    key: Key,
    lookup: Lookup<C>,
    /// What [`Job::Providers`] has found.
    providers: Vec<C>,
}

impl<C: Contact> Running<C> {
    pub(super) fn query(&self) -> Query<C> {
        let key = self.key.clone();
        match self.job {
            Job::Providers(_) => Query::GetProviders { key },
            Job::FindPeer(_)
            | Job::Closest(_)
            | Job::Provide(_)
            | Job::Fill
            | Job::Refresh
            | Job::Republish => Query::FindNode { key },
        }
    }

    fn is_finished(&self) -> bool {
        self.providers.len() >= PROVIDERS_TOLD_MAX || self.lookup.is_finished()
    }

    fn add_providers(&mut self, providers: Vec<C>) {
        for provider in providers {
            let known = self.providers.iter().any(|p| p.peer() == provider.peer());
            if !known && self.providers.len() < PROVIDERS_TOLD_MAX {
                self.providers.push(provider);
            }
        }
    }
}

impl<C: Contact> Dht<C> {
    pub(super) fn on_call(&mut self, id: CallId, call: Call<C::Peer>, now: Now) {
        let own = usize::from(!self.upkeep.is_idle());
        let full = self.lookups.len() >= CALLS_MAX + own;
        let too_many_keys = match &call {
            Call::Provide(key) => {
                self.provided.len() >= PROVIDED_MAX && !self.provided.contains_key(key)
            }
            Call::FindPeer(_) | Call::Closest(_) | Call::Providers(_) => false,
        };
        if full || too_many_keys {
            self.counters.calls_refused += 1;
            self.reply(id, Outcome::Busy, Stats::default());
            return;
        }
        match call {
            Call::FindPeer(peer) => self.find_peer(id, peer, now),
            Call::Closest(key) => {
                self.look_up(Job::Closest(id), key, Goal::Closest, self.config.paths, now);
            }
            Call::Provide(key) => {
                self.announce_later(key.clone(), now.time);
                self.look_up(Job::Provide(id), key, Goal::Closest, self.config.paths, now);
            }
            Call::Providers(key) => {
                self.look_up(
                    Job::Providers(id),
                    key,
                    Goal::Closest,
                    self.config.paths,
                    now,
                );
            }
        }
    }

    fn find_peer(&mut self, id: CallId, peer: C::Peer, now: Now) {
        let own = (peer == self.me.peer()).then(|| self.me.clone());
        let known = self.table.entry(peer).filter(|entry| {
            entry.standing() == Standing::Live && entry.contact().expires_at() > now.unix
        });
        let contact = own.or_else(|| known.map(|entry| entry.contact().clone()));
        if contact.is_some() {
            self.reply(id, Outcome::Peer { contact }, Stats::default());
            return;
        }
        let job = Job::FindPeer(id);
        self.look_up(job, peer.key(), Goal::Exact, self.config.paths, now);
    }

    /// Starts a lookup from the closest live peers, or from stale ones if none is live.
    pub(super) fn look_up(
        &mut self,
        job: Job,
        key: Key,
        goal: Goal,
        paths: usize,
        now: Now,
    ) -> LookupId {
        let target = key.point();
        let mut seeds = self.table.closest(target, K);
        if seeds.is_empty() {
            seeds = self.table.closest_where(target, K, |_| true);
        }
        let seeds = seeds.into_iter().map(|e| e.contact().clone()).collect();
        let lookup = Lookup::new(self.me.peer().point(), target, goal, seeds, paths);
        self.run_lookup(job, key, lookup, now)
    }

    /// Starts the lookup of the own key: half of its paths from the peers known for longest, half from some drawn
    /// evenly over the network.
    ///
    /// A node whose neighbourhood lies to it would otherwise ask that neighbourhood again and again. Those that it knew
    /// first are those that it joined through, and liars that came later have had no say in them; those far away came to
    /// it on many ways, of which one at least is likely to have been honest.
    pub(super) fn look_up_own_key(&mut self, job: Job, now: Now) -> LookupId {
        let paths = self.config.own_key_paths;
        let oldest = self.table.oldest(paths.div_ceil(2));
        let mut seeds: Vec<C> = oldest.into_iter().map(|e| e.contact().clone()).collect();
        for drawn in self.sample_contacts(paths, now) {
            let known = seeds.iter().any(|seed| seed.peer() == drawn.peer());
            if !known && seeds.len() < paths {
                seeds.push(drawn);
            }
        }
        let key = self.me.peer().key();
        let me = key.point();
        let lookup = Lookup::new(me, me, Goal::Closest, seeds, paths);
        self.run_lookup(job, key, lookup, now)
    }

    fn run_lookup(&mut self, job: Job, key: Key, lookup: Lookup<C>, now: Now) -> LookupId {
        let target = lookup.target();
        let lookup = match job.may_wait() {
            true => lookup.unhurried(),
            false => lookup,
        };
        let mut running = Running {
            job,
            key,
            lookup,
            providers: Vec::new(),
        };
        if let Job::Providers(_) = job {
            let held = self
                .providers
                .of(target, self.me.peer(), now, &mut self.rng);
            running.add_providers(held);
        }
        self.next_lookup = LookupId(self.next_lookup.0 + 1);
        let id = self.next_lookup;
        self.lookups.insert(id, running);
        self.drive(id, now);
        id
    }

    pub(super) fn on_lookup_answer(
        &mut self,
        id: LookupId,
        from: C::Peer,
        answer: Answer<C>,
        now: Now,
    ) {
        let (providers, closer) = match answer {
            Answer::Closer { contacts } => (Vec::new(), contacts),
            Answer::Providers { providers, closer } => (providers, closer),
            Answer::Pong => {
                self.misbehaved(from, "a pong for an answer");
                self.tell_lookup(id, lookup::Input::Failed { peer: from }, now);
                return;
            }
        };
        let mut contacts = self.believable(from, closer, K, now);
        // Whoever left this node's own question unanswered is not asked again because others have not noticed yet.
        contacts.retain(|contact| {
            let entry = self.table.entry(contact.peer());
            entry.is_none_or(|entry| entry.standing() == Standing::Live)
        });
        let providers = self.believable(from, providers, PROVIDERS_TOLD_MAX, now);
        if let Some(running) = self.lookups.get_mut(&id)
            && let Job::Providers(_) = running.job
        {
            running.add_providers(providers);
        }
        self.tell_lookup(id, lookup::Input::Answered { from, contacts }, now);
    }

    pub(super) fn tell_lookup(&mut self, id: LookupId, input: lookup::Input<C>, now: Now) {
        if let Some(running) = self.lookups.get_mut(&id) {
            running.lookup.handle(input);
            self.drive(id, now);
        }
    }

    /// Sends what a lookup wants to ask, and concludes it if it has ended.
    fn drive(&mut self, id: LookupId, now: Now) {
        let Some(mut running) = self.lookups.remove(&id) else {
            return;
        };
        if running.is_finished() {
            self.conclude(id, running, now);
            return;
        }
        while let Some(contact) = running.lookup.poll_output() {
            self.ask(contact, running.query(), Purpose::Lookup(id), now);
        }
        self.lookups.insert(id, running);
    }

    fn conclude(&mut self, id: LookupId, running: Running<C>, now: Now) {
        let stats = running.lookup.stats();
        if stats.answers > 0 {
            self.refreshed(running.lookup.target(), now);
        }
        let closest = running.lookup.closest();
        match running.job {
            Job::FindPeer(call) => {
                let mut closest = closest.into_iter();
                let contact =
                    closest.find(|contact| contact.peer().point() == running.lookup.target());
                self.reply(call, Outcome::Peer { contact }, stats);
            }
            Job::Closest(call) => {
                self.reply(call, Outcome::Closest { contacts: closest }, stats);
            }
            Job::Provide(call) => {
                let told = self.announce(&running.key, closest, now);
                self.reply(call, Outcome::Provided { told }, stats);
            }
            Job::Providers(call) => {
                let providers = running.providers;
                self.reply(call, Outcome::Providers { providers, closest }, stats);
            }
            Job::Republish => {
                self.announce(&running.key, closest, now);
            }
            Job::Fill | Job::Refresh => {}
        }
        self.upkeep.ended(id);
    }

    /// Tells the closest peers, and itself where this node is one of them, that this node provides a key.
    fn announce(&mut self, key: &Key, closest: Vec<C>, now: Now) -> Vec<C::Peer> {
        let point = key.point();
        let own = self.me.peer().point() ^ point;
        let closer = closest.iter().filter(|c| (c.peer().point() ^ point) < own);
        if self.me.serves() && closer.count() < K {
            let kept = self
                .providers
                .add(point, self.me.peer(), self.me.clone(), now);
            self.counters.providers_refused += u64::from(kept.is_err());
        }
        let told = closest.iter().map(Contact::peer).collect();
        for contact in closest {
            let request = self.requests.next_id();
            self.outputs.push_back(Output::Send {
                to: contact.peer(),
                contact: Some(contact),
                request,
                message: Message::Query(Query::AddProvider {
                    key: key.clone(),
                    provider: self.me.clone(),
                }),
            });
        }
        told
    }

    fn reply(&mut self, id: CallId, outcome: Outcome<C>, stats: Stats) {
        self.outputs.push_back(Output::Reply { id, outcome, stats });
    }
}
