//! What two peers say to each other, with the meaning that libp2p's kad-dht specification gives it ("RPC messages").
//!
//! A query and its answer are paired by the owner (over libp2p by their stream), which a [`RequestId`] stands for here.
//! Values are not stored over this protocol; a PUT_VALUE is refused where messages are decoded.

use crate::Key;

/// Pairs an answer with its query. The asking side gives it out; the answering side returns whatever it was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a peer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query<C> {
    /// Are you there? Where the other side doesn't know this (rust-libp2p refuses PING), a `FindNode` of the peer's own
    /// key asks the same: any answer proves it.
    Ping,
    /// Which peers do you know closest to this key? (FIND_NODE)
    FindNode {
        /// The key.
        key: Key,
    },
    /// Who provides this key, and which peers do you know closest to it? (GET_PROVIDERS)
    GetProviders {
        /// The key.
        key: Key,
    },
    /// I provide this key. It has no answer, and counts only from the provider itself. (ADD_PROVIDER)
    AddProvider {
        /// The key.
        key: Key,
        /// The sender's contact.
        provider: C,
    },
}

/// What a peer answers. The lists hold at most 20 contacts each, never the asking peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<C> {
    /// Answers [`Query::Ping`].
    Pong,
    /// Answers [`Query::FindNode`].
    Closer {
        /// The closest peers that the answering one knows.
        contacts: Vec<C>,
    },
    /// Answers [`Query::GetProviders`].
    Providers {
        /// Some who provide the key.
        providers: Vec<C>,
        /// The closest peers that the answering one knows.
        closer: Vec<C>,
    },
}

/// A message between two peers of the structured layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<C> {
    /// A query.
    Query(Query<C>),
    /// The answer to one.
    Answer(Answer<C>),
}

impl<C> Message<C> {
    /// Puts other contacts into the place of these.
    pub fn map<D>(self, mut contact: impl FnMut(C) -> D) -> Message<D> {
        let mut all = |contacts: Vec<C>| contacts.into_iter().map(&mut contact).collect();
        match self {
            Self::Query(Query::Ping) => Message::Query(Query::Ping),
            Self::Query(Query::FindNode { key }) => Message::Query(Query::FindNode { key }),
            Self::Query(Query::GetProviders { key }) => Message::Query(Query::GetProviders { key }),
            Self::Query(Query::AddProvider { key, provider }) => {
                let provider = contact(provider);
                Message::Query(Query::AddProvider { key, provider })
            }
            Self::Answer(Answer::Pong) => Message::Answer(Answer::Pong),
            Self::Answer(Answer::Closer { contacts }) => {
                let contacts = all(contacts);
                Message::Answer(Answer::Closer { contacts })
            }
            Self::Answer(Answer::Providers { providers, closer }) => {
                let (providers, closer) = (all(providers), all(closer));
                Message::Answer(Answer::Providers { providers, closer })
            }
        }
    }
}
