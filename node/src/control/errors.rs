//! What the node's errors are on the wire: a code, what happened and why, and what to do next.

use weft_rpc::limits::MESSAGE_BYTES_MAX;
use weft_rpc::{Error, Kind};

use weft_rpc::types::ForgetParams;

use crate::{
    Ack, AddPeerError, ConfirmError, CursorError, DhtError, ForgetError, HistoryError, PingError,
    PublishError, SubscribeError,
};

/// The node stops, so nobody is left to carry out a call.
pub(super) fn stopping() -> Error {
    Error::new(Kind::Busy, "the node is stopping").hint("start it again: weft run")
}

/// Others have not taken over what a node holds that leaves.
pub(super) fn not_drained() -> Error {
    let mut error = Error::new(
        Kind::Timeout,
        "others don't hold yet all that this node holds; it goes on running, and goes on handing over",
    )
    .hint("ask again; `weft leave` without --drain stops it at once");
    error.retryable = true;
    error
}

/// A topic's name that isn't one.
pub(super) fn bad_topic(reason: &str) -> Error {
    Error::new(Kind::InvalidParams, reason)
        .hint("a topic name is 1 to 200 bytes of A-Z a-z 0-9 . _ / -; `network` and a leading @ are reserved")
}

/// A swarm that this node isn't in.
pub(super) fn no_member(topic: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("this node is no member of the topic {topic}"),
    )
    .hint("weft topic ls shows its topics; subscribing or publishing joins one")
}

/// A topic of which this node knows nothing.
pub(super) fn unknown_topic(topic: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("this node is no member of the topic {topic}, and knows none"),
    )
    .hint("weft topic ls shows the topics that it knows; subscribing or publishing joins one")
}

/// A message above the bound; nothing of its batch was published.
pub(super) fn message_too_large(index: usize, bytes: usize) -> Error {
    Error::new(
        Kind::TooLarge,
        format!("message {index} of the batch has {bytes} bytes with its content type and headers, more than {MESSAGE_BYTES_MAX}; nothing was published"),
    )
    .hint("split it, or send a reference to it")
    .detail("index", index)
    .detail("bytes", bytes)
    .detail("bytes_max", MESSAGE_BYTES_MAX)
}

pub(super) fn add_peer(error: AddPeerError, address: &str) -> Error {
    match error {
        AddPeerError::Unreachable { reason } => {
            let mut error = Error::new(Kind::NotFound, format!("nobody can be reached: {reason}"))
                .hint("is a daemon running there? Its addresses: weft id");
            error.retryable = true;
            error
        }
        AddPeerError::WrongNetwork { theirs, ours } => Error::new(
            Kind::Refused,
            format!("the node at {address} is in the network {theirs}, this one in {ours}"),
        )
        .hint("start one of them with the other's: weft run --network NAME")
        .detail("theirs", theirs)
        .detail("ours", ours),
        AddPeerError::OtherPeer { answered } => Error::new(
            Kind::Refused,
            format!("{address} is answered by another peer: {answered}"),
        )
        .hint("end the address with that peer's id, or leave /p2p/… away to take whoever answers")
        .detail("answered", answered.to_string()),
        AddPeerError::SelfDial => Error::new(
            Kind::InvalidParams,
            format!("{address} is this node's own address"),
        )
        .hint("give the address of another node"),
        AddPeerError::Stopped => stopping(),
    }
}

pub(super) fn ping(error: &PingError, peer: &str) -> Error {
    match error {
        PingError::NotLinked => Error::new(Kind::NotFound, format!("there is no link to {peer}"))
            .hint("weft peer ls shows the linked peers; weft peer add ADDRESS links one"),
        PingError::LinkLost => {
            let mut error = Error::new(
                Kind::Timeout,
                format!("the link to {peer} was lost before it answered"),
            )
            .hint("weft peer ls shows whether it has come back");
            error.retryable = true;
            error
        }
        PingError::Stopped => stopping(),
    }
}

pub(super) fn dht(error: &DhtError) -> Error {
    match error {
        DhtError::Busy => Error::new(
            Kind::Busy,
            "the node has as many lookups under way, or provides as many keys, as it may",
        )
        .hint("try again in a moment"),
        DhtError::Timeout => Error::new(Kind::Timeout, "the lookup did not end in time")
            .hint("weft dht routing shows which peers answer"),
        DhtError::Stopped => stopping(),
    }
}

/// A peer that no lookup found.
pub(super) fn peer_not_found(peer: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("nobody knows {peer}, or it does not answer"),
    )
    .hint("is it a server of this network? weft dht closest KEY shows who can be found")
}

pub(super) fn publish(error: &PublishError) -> Error {
    match error {
        PublishError::TooLarge { index, bytes } => message_too_large(*index, *bytes),
        PublishError::NoKeepers => Error::new(
            Kind::NotFound,
            format!("{error}; nothing was published"),
        )
        .hint("is this node linked to others that store? weft dht routing; without `--via dht` it publishes over its own links"),
        PublishError::NotWritten { .. } => Error::new(
            Kind::Disk,
            format!("{error}; if the daemon dies now it may be lost"),
        )
        .hint("free space on the disk, or publish with ack `keepers` or `sent`"),
        PublishError::Unacknowledged { ack, got, need } => {
            let (kind, hint) = match ack {
                Ack::Keepers => (
                    Kind::QuorumNotMet,
                    "it was published and may yet reach them; publishing again would make it another message. `weft topic members` shows who is there",
                ),
                Ack::Sent | Ack::Local | Ack::Link => (
                    Kind::Timeout,
                    "it was published and may yet arrive; publishing again would make it another message",
                ),
            };
            let mut failed = Error::new(kind, error.to_string())
                .hint(hint)
                .detail("got", *got)
                .detail("need", *need);
            failed.retryable = false;
            failed
        }
        PublishError::Busy => Error::new(
            Kind::Busy,
            "the node has too many batches under way; nothing was published",
        )
        .hint("try again in a moment"),
        PublishError::Stopped => stopping(),
    }
}

pub(super) fn subscribe(error: &SubscribeError) -> Error {
    match error {
        SubscribeError::TooMany => {
            Error::new(Kind::Busy, "the node has as many subscriptions as it may")
                .hint("end one that isn't needed any more")
        }
        SubscribeError::Cursor(error) => cursor(*error),
        SubscribeError::NameBusy => Error::new(
            Kind::Busy,
            "another subscription has that name: one has it at a time",
        )
        .hint("end the other one, or take another name"),
        SubscribeError::NameKnown => Error::new(
            Kind::Conflict,
            "there is a consumer of that name already, and it has a place: it begins there",
        )
        .hint("without --from it goes on where it stopped; with --reset beside --from it begins there anew"),
        SubscribeError::PlaceGone => Error::new(
            Kind::NotFound,
            "the log in which this consumer had its place is gone from this daemon",
        )
        .hint("let it begin anew: --reset --from earliest, or at another place"),
        SubscribeError::TooManyNames => {
            let mut error = Error::new(
                Kind::Busy,
                "the node keeps the places of as many consumers as it may",
            )
            .hint("forget some: weft topic consumers TOPIC --forget NAME");
            error.retryable = false;
            error
        }
        SubscribeError::NotWritten => Error::new(
            Kind::Disk,
            "the disk has not taken where the consumer begins; nothing was subscribed",
        )
        .hint("free space on the disk; weft status counts its errors, and the daemon's log says more"),
        SubscribeError::Stopped => stopping(),
    }
}

/// What a subscription by name can't do.
pub(super) fn subscribe_as(error: &SubscribeError, name: &str) -> Error {
    match error {
        SubscribeError::NameBusy | SubscribeError::NameKnown | SubscribeError::PlaceGone => {
            subscribe(error).detail("consumer", name)
        }
        _ => subscribe(error),
    }
}

/// `reset` where there is nothing that could be.
pub(super) fn reset_of_nothing() -> Error {
    Error::new(
        Kind::InvalidParams,
        "`reset` lets a consumer begin anew at a place: it needs `consumer` and `from`",
    )
}

/// A subscription that this connection doesn't have.
pub(super) fn no_subscription(credit_id: u64) -> Error {
    Error::new(
        Kind::NotFound,
        format!("this connection has no subscription with the credit_id {credit_id}"),
    )
    .hint("it stands in the subscription's first notification; only the connection that has it may confirm")
}

/// A subscription without a name, for which nothing can be confirmed.
pub(super) fn no_name() -> Error {
    Error::new(
        Kind::InvalidParams,
        "that subscription has no name, and nothing is kept of it",
    )
    .hint("subscribe with `consumer`")
}

pub(super) fn confirm(error: &ConfirmError) -> Error {
    match error {
        ConfirmError::Cursor(error) => cursor(*error),
        ConfirmError::NotWritten => Error::new(Kind::Disk, error.to_string())
            .hint("free space on the disk; it is tried again by itself"),
        ConfirmError::Stopped => stopping(),
    }
}

pub(super) fn forget(error: &ForgetError, params: &ForgetParams) -> Error {
    let ForgetParams { topic, consumer } = params;
    match error {
        ForgetError::None => Error::new(
            Kind::NotFound,
            format!("the topic {topic} has no consumer {consumer} here"),
        )
        .hint(format!(
            "weft topic consumers {topic} shows those that there are"
        )),
        ForgetError::Busy => Error::new(
            Kind::Busy,
            format!("the consumer {consumer} is subscribed to {topic}"),
        )
        .hint("end its subscription first"),
        ForgetError::NotWritten => Error::new(Kind::Disk, error.to_string())
            .hint("free space on the disk; it is tried again by itself"),
        ForgetError::Stopped => stopping(),
    }
}

pub(super) fn history(error: &HistoryError, topic: &str) -> Error {
    match error {
        HistoryError::None => Error::new(
            Kind::NotFound,
            format!("there is no history of the topic {topic}"),
        )
        .hint("keepers hold the last hour of a topic, at most 64 MiB; weft topic members shows who keeps it"),
        HistoryError::Busy => subscribe(&SubscribeError::TooMany),
        HistoryError::Cursor(error) => cursor(*error),
        HistoryError::Stopped => stopping(),
    }
}

/// A cursor that names no place of the topic's arrival log.
fn cursor(error: CursorError) -> Error {
    let hint = match error {
        CursorError::Malformed => "a cursor is taken whole, as a message carried it: c1.…",
        CursorError::OtherDaemon => "a cursor holds at the daemon that gave it out",
        CursorError::OtherTopic => "give the topic whose message carried it",
        CursorError::LogGone => {
            "the daemon has restarted, or dropped an idle log, since: begin at earliest, or at a time"
        }
    };
    Error::new(Kind::InvalidParams, error.to_string()).hint(hint)
}
