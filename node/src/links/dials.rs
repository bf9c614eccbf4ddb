//! Dials that were ordered and have not ended: each ends in a link or in an error that says why, and in time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weft_core::{DialError, DialId};
use weft_identity::PeerId;

/// How long a dial waits for the other connection when the peer has dropped this one without a word: that is what it does
/// when both dialled and it chose its own.
const OTHER_CONNECTION_GRACE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Dial<C> {
    /// Who must answer, or who did.
    peer: Option<PeerId>,
    /// Connections that are being opened for it.
    attempts: Vec<C>,
    /// The most telling error so far.
    error: Option<DialError>,
    deadline: Instant,
}

/// The dials under way.
#[derive(Debug)]
pub(super) struct Dials<C> {
    dials: BTreeMap<DialId, Dial<C>>,
}

impl<C> Default for Dials<C> {
    fn default() -> Self {
        Self {
            dials: BTreeMap::new(),
        }
    }
}

impl<C: Copy + PartialEq> Dials<C> {
    pub(super) fn len(&self) -> usize {
        self.dials.len()
    }

    /// Begins a dial, with the connections that are being opened for it and the error of those that could not.
    pub(super) fn begin(
        &mut self,
        dial: DialId,
        peer: Option<PeerId>,
        attempts: Vec<C>,
        error: Option<DialError>,
        deadline: Instant,
    ) {
        let state = Dial {
            peer,
            attempts,
            error,
            deadline,
        };
        self.dials.insert(dial, state);
    }

    /// Returns the connections that are being opened to a peer.
    pub(super) fn attempts_to(&self, peer: PeerId) -> Vec<C> {
        let mut dials = self.dials.values();
        dials
            .find(|dial| dial.peer == Some(peer) && !dial.attempts.is_empty())
            .map(|dial| dial.attempts.clone())
            .unwrap_or_default()
    }

    /// Tells that a connection is established; its dial now waits for the link.
    pub(super) fn established(&mut self, connection: C, peer: PeerId) {
        for dial in self.dials.values_mut() {
            if dial.attempts.contains(&connection) {
                dial.attempts.retain(|&attempt| attempt != connection);
                dial.peer.get_or_insert(peer);
            }
        }
    }

    /// Tells that a connection could not be opened.
    pub(super) fn attempt_failed(&mut self, connection: C, error: &DialError) {
        for dial in self.dials.values_mut() {
            if dial.attempts.contains(&connection) {
                dial.attempts.retain(|&attempt| attempt != connection);
                dial.note(error.clone());
            }
        }
    }

    /// Tells what is wrong with an established connection to a peer.
    pub(super) fn note(&mut self, peer: PeerId, error: &DialError) {
        for dial in self.of(peer) {
            dial.note(error.clone());
        }
    }

    /// Tells that an established connection to a peer has closed without a link.
    pub(super) fn closed(&mut self, peer: PeerId, now: Instant) {
        for dial in self.of(peer) {
            dial.deadline = dial.deadline.min(now + OTHER_CONNECTION_GRACE);
        }
    }

    /// Takes the dials that a link to a peer ends.
    pub(super) fn linked(&mut self, peer: PeerId) -> Vec<DialId> {
        let (done, rest) = std::mem::take(&mut self.dials)
            .into_iter()
            .partition(|(_, dial)| dial.peer == Some(peer));
        self.dials = rest;
        let done: BTreeMap<_, _> = done;
        done.into_keys().collect()
    }

    /// Takes the dials that have failed: nothing is being opened any more, no connection to the peer is `pending`, and
    /// an error says why; or their time is up.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        pending: impl Fn(PeerId) -> bool,
    ) -> Vec<(DialId, DialError)> {
        let mut failed = Vec::new();
        self.dials.retain(|&id, dial| {
            let hopeless = dial.attempts.is_empty()
                && dial.error.is_some()
                && !dial.peer.is_some_and(&pending);
            if !hopeless && now < dial.deadline {
                return true;
            }
            let error = dial.error.take().unwrap_or_else(|| {
                DialError::Unreachable(if dial.attempts.is_empty() {
                    "connected, but no link came up".to_owned()
                } else {
                    format!("no answer within {} s", super::DIAL_TIMEOUT.as_secs())
                })
            });
            failed.push((id, error));
            false
        });
        failed
    }

    /// Returns when the next dial's time is up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.dials.values().map(|dial| dial.deadline).min()
    }

    fn of(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Dial<C>> {
        self.dials
            .values_mut()
            .filter(move |dial| dial.peer == Some(peer))
    }
}

impl<C> Dial<C> {
    /// Keeps the error that tells the caller most.
    fn note(&mut self, error: DialError) {
        let vague = matches!(self.error, None | Some(DialError::Unreachable(_)));
        if vague {
            self.error = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_bytes([1; 32]);
    const DIAL: DialId = DialId(7);

    fn unreachable(text: &str) -> DialError {
        DialError::Unreachable(text.to_owned())
    }

    fn dials(now: Instant, attempts: Vec<u8>) -> Dials<u8> {
        let mut dials = Dials::default();
        dials.begin(DIAL, None, attempts, None, now + super::super::DIAL_TIMEOUT);
        dials
    }

    #[test]
    fn the_last_attempt_decides_and_the_most_telling_error_is_told() {
        let now = Instant::now();
        let mut dials = dials(now, vec![1, 2]);
        let error = DialError::OtherPeer(PEER);
        dials.attempt_failed(1, &error);
        assert_eq!(dials.failed(now, |_| false), []);
        dials.attempt_failed(2, &unreachable("refused"));
        assert_eq!(dials.failed(now, |_| false), [(DIAL, error)]);
        assert_eq!(dials.len(), 0);
    }

    #[test]
    fn a_connection_that_waits_for_its_link_keeps_the_dial_alive() {
        let now = Instant::now();
        let mut dials = dials(now, vec![1, 2]);
        dials.established(1, PEER);
        dials.attempt_failed(2, &unreachable("refused"));
        assert_eq!(dials.failed(now, |peer| peer == PEER), []);
        assert_eq!(dials.linked(PEER), [DIAL]);
        assert_eq!(dials.failed(now, |_| false), []);
    }

    #[test]
    fn a_connection_that_the_peer_dropped_leaves_time_for_the_other_one() {
        let now = Instant::now();
        let mut dials = dials(now, vec![1]);
        dials.established(1, PEER);
        dials.closed(PEER, now);
        assert_eq!(dials.failed(now, |_| false), []);
        let later = dials.deadline().unwrap();
        assert_eq!(later, now + OTHER_CONNECTION_GRACE);
        assert_eq!(
            dials.failed(later, |_| false),
            [(DIAL, unreachable("connected, but no link came up"))]
        );
    }

    #[test]
    fn time_ends_every_dial() {
        let now = Instant::now();
        let mut dials = dials(now, vec![1]);
        let later = dials.deadline().unwrap();
        assert_eq!(
            dials.failed(later, |_| true),
            [(DIAL, unreachable("no answer within 5 s"))]
        );
    }
}
