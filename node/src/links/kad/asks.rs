//! Questions to peers over streams: which wait for a connection, which for a stream, and which streams are free.
//!
//! Generic over the connection's and the stream's type, so that it is tested without either.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weft_core::Address;
use weft_identity::PeerId;

/// Streams to one peer that are open or being opened: several lookups may want it at once.
const STREAMS_MAX: usize = 4;
/// Questions to one peer that wait: a few for each of its streams, and after that it is not worth waiting for.
const WAITING_MAX: usize = 16;
/// Peers that are being asked: each has a connection or a dial, and the structured layer has no more questions out.
const PEERS_MAX: usize = 64;
/// How long a stream that is free is kept for the next question: the peer may count it against this node.
const FREE_MAX: Duration = Duration::from_secs(2);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Whom.
    pub(crate) peer: PeerId,
    /// Where it may be reached.
    pub(crate) addresses: Vec<Address>,
    /// Names the outcome.
    pub(crate) request: u64,
    /// The question, its length in front.
    pub(crate) packet: Bytes,
    /// Whether an answer comes.
    pub(crate) is_answered: bool,
}

/// What must be done next for a peer that is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin<C, S> {
    /// Nothing: the question waits.
    Nothing,
    /// Make a connection to where the peer may be reached, unless there is one that this node made.
    Connect,
    /// Open a stream on a connection.
    Open(C),
    /// Ask on a stream.
    Exchange(C, S, Ask),
    /// There are too many questions: this one fails.
    Refuse,
}

#[derive(Debug)]
struct Asked<C, S> {
    /// The connection; none while it is being made.
    connection: Option<C>,
    waiting: VecDeque<Ask>,
    /// Streams in use.
    busy: usize,
    /// Streams being opened.
    opening: usize,
    free: Vec<(S, Instant)>,
}

/// The peers that are being asked.
#[derive(Debug)]
pub(crate) struct Asks<C, S> {
    peers: BTreeMap<PeerId, Asked<C, S>>,
}

impl<C, S> Default for Asks<C, S> {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
        }
    }
}

impl<C: Copy + PartialEq, S> Asks<C, S> {
    /// Takes a question.
    pub(crate) fn ask(&mut self, ask: Ask) -> Begin<C, S> {
        let peer = ask.peer;
        if !self.peers.contains_key(&peer) {
            if self.peers.len() >= PEERS_MAX {
                return Begin::Refuse;
            }
            let asked = Asked {
                connection: None,
                waiting: VecDeque::from([ask]),
                busy: 0,
                opening: 0,
                free: Vec::new(),
            };
            self.peers.insert(peer, asked);
            return Begin::Connect;
        }
        let Some(asked) = self.peers.get_mut(&peer) else {
            return Begin::Refuse;
        };
        if asked.waiting.len() >= WAITING_MAX {
            return Begin::Refuse;
        }
        asked.waiting.push_back(ask);
        self.next(peer)
    }

    /// Tells that a connection that this node made to a peer stands.
    pub(crate) fn connected(&mut self, peer: PeerId, connection: C) -> Begin<C, S> {
        match self.peers.get_mut(&peer) {
            Some(asked) if asked.connection.is_none() => asked.connection = Some(connection),
            _ => return Begin::Nothing,
        }
        self.next(peer)
    }

    /// Takes a stream that was opened on a connection; one that nobody needs is dropped.
    pub(crate) fn opened(
        &mut self,
        peer: PeerId,
        connection: C,
        stream: S,
        now: Instant,
    ) -> Begin<C, S> {
        let Some(asked) = self.on(peer, connection) else {
            return Begin::Nothing;
        };
        asked.opening = asked.opening.saturating_sub(1);
        asked.free.push((stream, now));
        self.next(peer)
    }

    /// Tells that an exchange has ended, with its stream where that can be used again.
    pub(crate) fn ended(
        &mut self,
        peer: PeerId,
        connection: C,
        stream: Option<S>,
        now: Instant,
    ) -> Begin<C, S> {
        let Some(asked) = self.on(peer, connection) else {
            return Begin::Nothing;
        };
        asked.busy = asked.busy.saturating_sub(1);
        asked.free.extend(stream.map(|stream| (stream, now)));
        self.next(peer)
    }

    /// Takes the questions that a stream which could not be opened, or a connection that has gone, leaves without a way.
    pub(crate) fn failed(&mut self, peer: PeerId, connection: Option<C>) -> Vec<Ask> {
        let same = self.peers.get(&peer).map(|asked| asked.connection);
        if same != Some(connection) {
            return Vec::new();
        }
        let asked = self.peers.remove(&peer);
        asked.map_or_else(Vec::new, |asked| asked.waiting.into())
    }

    /// Lets go of streams that were not used for a while, and of peers that have none left; returns when to come again.
    pub(crate) fn tidy(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None;
        self.peers.retain(|_, asked| {
            asked.free.retain(|(_, since)| now < *since + FREE_MAX);
            let ends = asked.free.iter().map(|(_, since)| *since + FREE_MAX);
            next = next.into_iter().chain(ends).min();
            let idle = asked.busy + asked.opening + asked.free.len() == 0;
            !(idle && asked.waiting.is_empty() && asked.connection.is_some())
        });
        next
    }

    /// Whether a connection is used.
    pub(crate) fn uses(&self, peer: PeerId, connection: C) -> bool {
        let asked = self.peers.get(&peer);
        asked.is_some_and(|asked| asked.connection == Some(connection))
    }

    fn on(&mut self, peer: PeerId, connection: C) -> Option<&mut Asked<C, S>> {
        let asked = self.peers.get_mut(&peer)?;
        (asked.connection == Some(connection)).then_some(asked)
    }

    /// Puts the next question on a free stream, or has one opened for it.
    fn next(&mut self, peer: PeerId) -> Begin<C, S> {
        let Some(asked) = self.peers.get_mut(&peer) else {
            return Begin::Nothing;
        };
        let Some(connection) = asked.connection.filter(|_| !asked.waiting.is_empty()) else {
            return Begin::Nothing;
        };
        if let Some((stream, _)) = asked.free.pop()
            && let Some(ask) = asked.waiting.pop_front()
        {
            asked.busy += 1;
            return Begin::Exchange(connection, stream, ask);
        }
        if asked.opening < asked.waiting.len() && asked.busy + asked.opening < STREAMS_MAX {
            asked.opening += 1;
            return Begin::Open(connection);
        }
        Begin::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_bytes([1; 32]);

    fn ask(request: u64) -> Ask {
        Ask {
            peer: PEER,
            addresses: Vec::new(),
            request,
            packet: Bytes::new(),
            is_answered: true,
        }
    }

    #[test]
    fn a_stream_is_used_for_one_question_after_the_other() {
        let now = Instant::now();
        let mut asks: Asks<u8, u8> = Asks::default();
        assert_eq!(asks.ask(ask(1)), Begin::Connect);
        assert_eq!(asks.connected(PEER, 7), Begin::Open(7));
        assert_eq!(
            asks.opened(PEER, 7, 70, now),
            Begin::Exchange(7, 70, ask(1))
        );
        assert_eq!(asks.ended(PEER, 7, Some(70), now), Begin::Nothing);
        assert_eq!(asks.ask(ask(2)), Begin::Exchange(7, 70, ask(2)));
        assert_eq!(asks.ask(ask(3)), Begin::Open(7), "the first is in use");
        assert_eq!(
            asks.ended(PEER, 7, Some(70), now),
            Begin::Exchange(7, 70, ask(3))
        );
        assert_eq!(asks.opened(PEER, 7, 71, now), Begin::Nothing);
    }

    #[test]
    fn a_peer_that_cannot_be_reached_fails_what_waits_and_may_be_tried_again() {
        let mut asks: Asks<u8, u8> = Asks::default();
        asks.ask(ask(1));
        assert_eq!(
            asks.ask(ask(2)),
            Begin::Nothing,
            "a connection is on its way"
        );
        assert_eq!(asks.failed(PEER, Some(7)), [], "another connection's end");
        assert_eq!(asks.failed(PEER, None), [ask(1), ask(2)]);
        assert_eq!(asks.ask(ask(3)), Begin::Connect);
    }

    #[test]
    fn questions_streams_and_peers_are_bounded() {
        let mut asks: Asks<u8, u8> = Asks::default();
        asks.ask(ask(0));
        for request in 1..WAITING_MAX as u64 {
            assert_eq!(asks.ask(ask(request)), Begin::Nothing);
        }
        assert_eq!(asks.ask(ask(99)), Begin::Refuse);
        assert_eq!(asks.connected(PEER, 7), Begin::Open(7));
        for n in 1..PEERS_MAX {
            let peer = PeerId::from_bytes([n as u8 + 1; 32]);
            assert_eq!(asks.ask(Ask { peer, ..ask(1) }), Begin::Connect);
        }
        let peer = PeerId::from_bytes([0; 32]);
        assert_eq!(asks.ask(Ask { peer, ..ask(1) }), Begin::Refuse);
    }

    #[test]
    fn what_is_not_used_is_let_go() {
        let now = Instant::now();
        let mut asks: Asks<u8, u8> = Asks::default();
        asks.ask(ask(1));
        asks.connected(PEER, 7);
        asks.opened(PEER, 7, 70, now);
        assert_eq!(asks.tidy(now + FREE_MAX), None, "it is in use");
        assert!(asks.uses(PEER, 7));
        asks.ended(PEER, 7, Some(70), now);
        assert_eq!(asks.tidy(now), Some(now + FREE_MAX));
        assert!(asks.uses(PEER, 7));
        assert_eq!(asks.tidy(now + FREE_MAX), None);
        assert!(!asks.uses(PEER, 7));
    }
}
