//! Who has what: listings by prefix, and where a key's versions are. Both ask for records without their values.

use std::collections::BTreeMap;

use crate::kv::{Header, KvKey, Siblings};
use crate::{Contact, Now, Peer, UnixMicros};

use super::calls::Holder;
use super::messages::Query;
use super::running::{About, Answers, Job, Running, Stage};
use super::tally::State;
use super::{CallId, Outcome, Store};

/// What replicas have told.
#[derive(Debug)]
pub(super) struct Scan<P> {
    answers: Answers<P, (Vec<Header<P>>, bool)>,
}

impl<P> Default for Scan<P> {
    fn default() -> Self {
        Self {
            answers: Answers::new(),
        }
    }
}

impl<P: Peer> Scan<P> {
    pub(super) fn answered(&mut self, from: P, mut heads: Vec<Header<P>>, more: bool) {
        heads.retain(|head| head.check().is_ok());
        self.answers.insert(from, (heads, more));
    }

    /// Returns the keys with a value to show, up to the first place where a replica's page ended.
    fn keys(&self, now: UnixMicros) -> (Vec<KvKey>, bool) {
        let pages = self.answers.values().filter(|(_, more)| *more);
        let ends = pages.filter_map(|(heads, _)| heads.last().map(|head| &head.key));
        let end = ends.min();
        let mut merged: BTreeMap<&KvKey, Siblings<Header<P>>> = BTreeMap::new();
        for (heads, _) in self.answers.values() {
            for head in heads {
                if end.is_none_or(|end| head.key <= *end) {
                    let siblings = merged.entry(&head.key).or_default();
                    let _crowded = siblings.merge(head.clone(), now);
                }
            }
        }
        let shown = merged
            .into_iter()
            .filter(|(_, siblings)| siblings.shown(now).next().is_some());
        (shown.map(|(key, _)| key.clone()).collect(), end.is_some())
    }
}

impl<C: Contact> Store<C> {
    /// Asks for a scan, or ends it; returns whether it has ended.
    pub(super) fn drive_scan(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        if matches!(running.job, Job::Locate) {
            return self.drive_locate(id, running, now);
        }
        let need = running.need();
        let counted = running.tally.counted().len();
        let Stage::Scan(scan) = &running.stage else {
            return true;
        };
        if counted >= need {
            let (keys, more) = scan.keys(now.unix);
            let replies = running.tally.replies(need, counted, &[]);
            self.reply(
                id,
                Outcome::Listed {
                    replies,
                    keys,
                    more,
                },
            );
            return true;
        }
        while counted + running.tally.waiting() < need {
            let Some(peer) = running.tally.next().map(Contact::peer) else {
                break;
            };
            self.ask_scan(id, running, peer, now);
        }
        let over = running.deadline <= now.time;
        if !over && (running.tally.waiting() > 0 || self.look_further(id, running, now)) {
            return false;
        }
        while let Some(peer) = running.tally.again(now.time).map(Contact::peer) {
            self.ask_scan(id, running, peer, now);
        }
        running.wake = running.tally.again_at();
        if !over && running.tally.hopeful() > 0 {
            return false;
        }
        self.counters.quorums_missed += 1;
        let replies = running.tally.replies(need, counted, &[]);
        let possibly_written = false;
        self.reply(
            id,
            Outcome::QuorumNotMet {
                replies,
                possibly_written,
                refused: None,
            },
        );
        true
    }

    fn drive_locate(&mut self, id: CallId, running: &mut Running<C>, now: Now) -> bool {
        for peer in running.tally.targets() {
            if running.tally.asked(peer).is_none() && running.tally.is_alive(peer) {
                self.ask_scan(id, running, peer, now);
            }
        }
        let may_answer = running
            .tally
            .all_asked()
            .any(|(_, asked)| matches!(asked.state, State::Waiting | State::Slow));
        let nobody = running.tally.all_asked().next().is_none();
        if now.time < running.deadline
            && (may_answer || nobody && self.look_further(id, running, now))
        {
            return false;
        }
        let Stage::Scan(scan) = &mut running.stage else {
            return true;
        };
        let targets = running.tally.targets();
        let mut holders = Vec::new();
        for seen in running.tally.peers() {
            let peer = seen.contact.peer();
            let heads = scan.answers.remove(&peer).map(|(heads, _)| heads);
            if heads.is_some() || targets.contains(&peer) {
                holders.push(Holder {
                    peer,
                    settled: seen.settled,
                    alive: seen.alive,
                    heads,
                });
            }
        }
        let point = running.lookup_key.point();
        self.reply(id, Outcome::Located { point, holders });
        true
    }

    fn ask_scan(&mut self, id: CallId, running: &mut Running<C>, peer: C::Peer, now: Now) {
        let copies = running.terms.copies;
        let query = match &running.about {
            About::Key(key) => Query::Heads {
                key: key.clone(),
                copies,
            },
            About::Prefix(prefix, after) => Query::List {
                prefix: prefix.clone(),
                copies,
                after: after.clone(),
            },
        };
        self.ask_for(id, running, peer, query, None, now);
    }
}
