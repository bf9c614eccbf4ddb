//! Events in the log, for people: said once, not again and again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weft_core::{DialError, Event};
use weft_dht::store;
use weft_identity::PeerId;

use crate::links::address::unpack;
use crate::store::{Finding, Options, PersistError};

/// How long a warning of one kind about one peer is not repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Warnings that are remembered; past it they are all forgotten, and may be said again.
const REMEMBERED_MAX: usize = 1_024;
/// Warnings of one kind within [`REPEAT_AFTER`], whoever they are about: identities cost an attacker nothing. The counters in
/// `weft status` go on.
const OF_A_KIND_MAX: u32 = 8;

/// Says what happened, and leaves out what was said lately.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    /// The node's directory, empty where it has none.
    dir: PathBuf,
    said: BTreeMap<(&'static str, String), Instant>,
    /// How many warnings of a kind were said since a moment.
    kinds: BTreeMap<&'static str, (u32, Instant)>,
}

impl EventLog {
    /// Has said nothing yet of a node with this directory, if it has one.
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        let dir = dir.unwrap_or(Path::new("")).to_owned();
        Self {
            dir,
            ..Self::default()
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Joined { peer } => tracing::info!(%peer, "joined the network"),
            Event::Isolated => tracing::warn!("the last neighbour is gone; rejoining"),
            Event::JoinFailed { address, error } => {
                let address = unpack(address).map(|address| address.to_string());
                let address = address.as_deref().unwrap_or("?");
                match error {
                    DialError::WrongNetwork(theirs) => tracing::warn!(
                        address,
                        theirs,
                        "can't join there: the peer is of another network; is --network the same on both?"
                    ),
                    DialError::SelfDial => {
                        tracing::debug!(address, "the address to join is this node's own");
                    }
                    DialError::OtherPeer(answered) => tracing::warn!(
                        address, %answered,
                        "can't join there: another peer answered; is the peer id in --join still right?"
                    ),
                    DialError::Unreachable(reason) => {
                        tracing::warn!(address, reason, "can't join there yet; it is tried again");
                    }
                }
            }
            Event::Equivocation {
                topic,
                publisher,
                epoch,
                seq,
            } => {
                if self.is_new("equivocation", publisher.to_string()) {
                    tracing::warn!(
                        %topic, %publisher, epoch, seq,
                        "a publisher signed two different bundles for one place; is its key used by two nodes?"
                    );
                }
            }
            Event::Misbehaviour { peer, what } => {
                if self.is_new(what, peer.to_string()) {
                    tracing::warn!(%peer, what, "a peer sends what no honest peer sends; it is counted in `weft status`");
                }
            }
            Event::Store(event) => self.store_event(event),
            Event::Lost {
                topic,
                publisher,
                epoch,
                from,
                to,
            } => {
                if self.is_new("lost", format!("{topic} {publisher}")) {
                    tracing::warn!(%topic, %publisher, epoch, from, to, "messages are lost: no neighbour has them any more");
                }
            }
            Event::LogsFellBehind { bytes } => tracing::warn!(
                bytes,
                "the disk takes what arrives on topics more slowly than it comes; what it missed is not there after a restart"
            ),
            Event::Stalled { late } => tracing::warn!(
                late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
                "this process was stopped for a while; peers are probed again before any is given up"
            ),
        }
    }

    fn store_event(&mut self, event: &store::Event<PeerId>) {
        match event {
            store::Event::Settled { round, records } => {
                tracing::debug!(
                    round,
                    records,
                    "this node holds all that it should, and counts as a replica"
                );
            }
            store::Event::Lost { key, .. } => {
                if self.is_new("record", key.as_str().to_owned()) {
                    tracing::warn!(%key, "a record is damaged on disk; it is fetched from replicas");
                }
            }
            store::Event::Recovered { key } => {
                tracing::info!(%key, "a record that was damaged on disk is here again");
            }
            // Told as any peer's.
            store::Event::Misbehaviour { .. } => {}
        }
    }

    /// The disk hasn't taken a batch.
    pub(crate) fn unwritten(&mut self, error: &PersistError) {
        match error {
            PersistError::Full if self.is_new("disk full", String::new()) => tracing::warn!(
                dir = %self.dir.display(), needed_bytes = Options::default().reserve_bytes,
                "the disk is full: this node takes no records until so much is free, and serves those that it has; free some space"
            ),
            PersistError::Failed(reason) if self.is_new("disk", reason.clone()) => {
                tracing::error!(reason, "the store could not be written; look to your disk");
            }
            PersistError::Full | PersistError::Busy | PersistError::Failed(_) => {}
        }
    }

    /// The store has found something out.
    pub(crate) fn finding(&mut self, finding: &Finding) {
        match finding {
            Finding::Lost { file, name, .. }
                if self.is_new("damaged", file.display().to_string()) =>
            {
                let again = match name {
                    Some(_) => "now",
                    None => {
                        "when it is asked for or at the next start: not even its key can be read"
                    }
                };
                tracing::warn!(
                    file = %file.display(),
                    "a value is damaged in this file of the store; it isn't served, and a record is fetched from its replicas \
                     {again}; look to your disk"
                );
            }
            Finding::Undeleted { file, why }
                if self.is_new("undeleted", file.display().to_string()) =>
            {
                tracing::warn!(
                    file = %file.display(), why,
                    "a file of the store isn't needed any more and can't be deleted"
                );
            }
            Finding::Lost { .. } | Finding::Undeleted { .. } => {}
        }
    }

    /// Returns whether something was not said lately, and remembers that it is said now.
    pub(crate) fn is_new(&mut self, what: &'static str, whose: String) -> bool {
        let now = Instant::now();
        if !self.is_rare(what, now) {
            return false;
        }
        let is_new = self.is_first(what, whose, now);
        if is_new && let Some((count, _)) = self.kinds.get_mut(what) {
            *count += 1;
        }
        is_new
    }

    /// Returns whether few warnings of a kind were said lately.
    fn is_rare(&mut self, what: &'static str, now: Instant) -> bool {
        let (count, since) = self.kinds.entry(what).or_insert((0, now));
        if now.duration_since(*since) >= REPEAT_AFTER {
            (*count, *since) = (0, now);
        }
        *count < OF_A_KIND_MAX
    }

    fn is_first(&mut self, what: &'static str, whose: String, now: Instant) -> bool {
        if self.said.len() >= REMEMBERED_MAX {
            self.said.clear();
        }
        match self.said.get_mut(&(what, whose.clone())) {
            Some(last) if now.duration_since(*last) < REPEAT_AFTER => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                self.said.insert((what, whose), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_once_about_a_peer_and_a_few_times_about_many() {
        let mut log = EventLog::default();
        assert!(log.is_new("bad frame", "a".to_owned()));
        assert!(!log.is_new("bad frame", "a".to_owned()));
        let said = (0..10_000)
            .filter(|peer| log.is_new("bad frame", peer.to_string()))
            .count();
        assert_eq!(said as u32, OF_A_KIND_MAX - 1);
        assert!(log.is_new("forged", "a".to_owned()), "another kind");
    }
}
