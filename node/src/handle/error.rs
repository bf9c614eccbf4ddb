//! Why an operation of a node failed: one enum an operation.

use std::path::PathBuf;

use libp2p::Multiaddr;
use weft_core::input::Ack;
use weft_identity::PeerId;

pub use crate::arrivals::CursorError;

/// Why a node did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens at the address.
    #[error("{address} is in use by another process")]
    PortInUse {
        /// Which.
        address: Multiaddr,
    },
    /// The address can't be listened on.
    #[error("listening on {address} failed: {reason}")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// What the system or the transport says.
        reason: String,
    },
    /// A file of the node's directory can't be used.
    #[error("{}: {reason}", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An address to join is longer than a node passes on, or the network's name can't stand in a protocol's name.
    #[error("{reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

/// Why a peer was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// Nobody answered.
    #[error("the peer can't be reached: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// The peer belongs to another network.
    #[error("the peer is of network {theirs:?}, and this node of {ours:?}")]
    WrongNetwork {
        /// The peer's.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// Another peer than the address names answered.
    #[error("another peer answered: {answered}")]
    OtherPeer {
        /// Who.
        answered: PeerId,
    },
    /// The address is this node's own.
    #[error("the address is this node's own")]
    SelfDial,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why a round trip was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no link to the peer.
    #[error("there is no link to the peer")]
    NotLinked,
    /// The link ended before the answer came.
    #[error("the link ended before the answer came")]
    LinkLost,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why the structured layer was not asked, or has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhtError {
    /// As many lookups are under way, or as many keys are provided, as may be.
    #[error("too many lookups are under way, or too many keys are provided")]
    Busy,
    /// The lookup did not end in time.
    #[error("the lookup did not end in time")]
    Timeout,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why messages were not published; none of the batch was, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A message is too large.
    #[error(
        "message {index} has {bytes} bytes, and the most is {}",
        weft_core::bundle::MESSAGE_BYTES_MAX
    )]
    TooLarge {
        /// Which of the batch, from 0.
        index: usize,
        /// Its bytes, attributes counted.
        bytes: usize,
    },
    /// Nobody is known who could keep the topic.
    #[error("no node is known that could keep the topic")]
    NoKeepers,
    /// They were published, but this node's disk has not taken them: they are lost if it ends now.
    #[error("published, but this node's disk {}", if *.full { "is full" } else { "has not taken it" })]
    NotWritten {
        /// Whether it is full.
        full: bool,
    },
    /// They were published, but not acknowledged in time.
    #[error("published, but only {got} of {need} have acknowledged it in time")]
    Unacknowledged {
        /// What was waited for.
        ack: Ack,
        /// How many have acknowledged them.
        got: usize,
        /// How many had to.
        need: usize,
    },
    /// Too much waits already, or the node is a member of as many topics as it may be: try again later.
    #[error("too much waits to be published, or too many topics are in use")]
    Busy,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why history was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Neither this node nor a keeper has anything of the topic.
    #[error("there is no history of the topic")]
    None,
    /// The node is a member of as many topics as it may be.
    #[error("too many topics are in use")]
    Busy,
    /// The cursor names no place of the topic's arrival log.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl From<SubscribeError> for HistoryError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::TooMany => Self::Busy,
            SubscribeError::Cursor(error) => Self::Cursor(error),
            // What concerns names has no part in reading history.
            SubscribeError::NameBusy
            | SubscribeError::NameKnown
            | SubscribeError::PlaceGone
            | SubscribeError::TooManyNames
            | SubscribeError::NotWritten
            | SubscribeError::Stopped => Self::Stopped,
        }
    }
}

/// Why a subscription was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The cursor names no place of the topic's arrival log.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The node is a member of as many topics as it may be.
    #[error("the node is a member of as many topics as it may be")]
    TooMany,
    /// Another subscription has the consumer's name.
    #[error("another subscription has that name")]
    NameBusy,
    /// There is a consumer of that name, which stands somewhere already.
    #[error("there is a consumer of that name already")]
    NameKnown,
    /// The log in which the consumer stands isn't there any more.
    #[error("the log in which the consumer stands is no more")]
    PlaceGone,
    /// The node keeps as many consumers as it may.
    #[error("the node keeps as many consumers as it may")]
    TooManyNames,
    /// The disk has not taken where the consumer begins.
    #[error("the disk has not taken where the consumer begins")]
    NotWritten,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}
