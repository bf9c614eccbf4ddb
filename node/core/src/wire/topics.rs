//! The messages between members of topics and keepers.

use weft_identity::PeerId;
use weft_overlay::StreamId;
use weft_overlay::digest::STREAMS_PER_FRAME_MAX;

use super::checker::Checker;
use super::encode::{bounded, id};
use super::fields::{Fields, Refused, Value, malformed, once, required, varint};
use super::{CONTACTS_MAX, Frame, bundle, descriptor, membership, plumtree, proto};
use crate::keeping::{Answer, FETCH_STREAMS_MAX, FETCHED_MAX, Fetched, Meeting, Message, Query};
use crate::{TopicId, TopicName};

pub(super) fn encode(request: u64, message: &Message) -> proto::Topics {
    proto::Topics {
        request,
        message: Some(match message {
            Message::Query(query) => encode_query(query),
            Message::Answer(answer) => encode_answer(answer),
        }),
    }
}

fn encode_query(query: &Query) -> proto::topics::Message {
    use proto::topics::Message as M;
    match query {
        Query::Meet(membership) => M::Meet(membership::value(membership)),
        Query::Digests { topic, after } => M::Digests(proto::TopicDigestsQuery {
            topic: id(topic.as_bytes()),
            after: after.map(|after| proto::TopicStream {
                publisher: id(after.publisher.as_bytes()),
                epoch: after.epoch,
            }),
        }),
        Query::Fetch { topic, streams } => M::Fetch(proto::TopicFetch {
            topic: id(topic.as_bytes()),
            streams: bounded(streams, FETCH_STREAMS_MAX)
                .map(|(stream, seqs)| plumtree::encode_stream_seqs(*stream, seqs))
                .collect(),
        }),
        Query::Confirm {
            topic,
            stream,
            seqs,
        } => M::Confirm(proto::TopicConfirm {
            topic: id(topic.as_bytes()),
            seqs: Some(plumtree::encode_stream_seqs(*stream, seqs)),
        }),
        Query::Hand { topic, bundle } => M::Hand(proto::TopicHand {
            topic: topic.as_str().to_owned(),
            bundle: Some(bundle::value(bundle)),
        }),
    }
}

fn encode_answer(answer: &Answer) -> proto::topics::Message {
    use proto::topics::Message as M;
    match answer {
        Answer::Met { topics, contacts } => M::Met(proto::TopicMet {
            topics: bounded(topics, membership::TOPICS_MAX)
                .map(|meeting| proto::TopicMeeting {
                    keeps: meeting.keeps,
                    filled: meeting.filled,
                    based: meeting.based,
                    subscribed: meeting.subscribed,
                    contacts: bounded(&meeting.contacts, CONTACTS_MAX).copied().collect(),
                })
                .collect(),
            contacts: bounded(contacts, CONTACTS_MAX)
                .map(descriptor::encode)
                .collect(),
        }),
        Answer::Digests { streams, more } => M::DigestsTold(proto::TopicDigests {
            streams: bounded(streams, STREAMS_PER_FRAME_MAX)
                .map(plumtree::encode_digest)
                .collect(),
            more: *more,
        }),
        Answer::Fetched { topic, bundles } => M::Fetched(proto::TopicFetched {
            topic: id(topic.as_bytes()),
            bundles: bounded(bundles, FETCHED_MAX)
                .map(|fetched| bundle::value(&fetched.0))
                .collect(),
        }),
        Answer::Confirmed {
            durable,
            held,
            subscribed,
        } => M::Confirmed(proto::TopicConfirmed {
            durable: *durable,
            held: *held,
            subscribed: *subscribed,
        }),
        Answer::Unable => M::Unable(proto::TopicUnable {}),
    }
}

/// Reads a Topics frame that a peer sent.
pub(super) fn decode(
    bytes: &[u8],
    sender: PeerId,
    checker: &mut Checker,
) -> Result<Frame, Refused> {
    let (mut request, mut kind) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut request, value.varint()?)?,
            2..=6 | 16..=20 => once(&mut kind, (number, value.bytes()?))?,
            _ => {}
        }
    }
    let (number, bytes) = kind.ok_or(Refused::Unknown)?;
    // Only bundles and lists of streams may make a frame large.
    if !matches!(number, 4 | 6 | 17 | 18) && bytes.len() > super::CONTROL_BYTES_MAX
        || matches!(number, 4 | 17) && bytes.len() > plumtree::STREAMS_BYTES_MAX
    {
        return malformed("a message about topics over its limit");
    }
    let message = match number {
        2 => Message::Query(Query::Meet(membership::read(
            bytes,
            sender,
            &mut checker.keys,
        )?)),
        3 => Message::Query(digests_query(bytes)?),
        4 => Message::Query(fetch(bytes)?),
        5 => Message::Query(confirm(bytes)?),
        6 => Message::Query(hand(bytes, checker)?),
        16 => Message::Answer(met(bytes, checker)?),
        17 => Message::Answer(digests(bytes)?),
        18 => Message::Answer(fetched(bytes, checker)?),
        19 => Message::Answer(confirmed(bytes)?),
        _ => Message::Answer(Answer::Unable),
    };
    Ok(Frame::Topics {
        request: request.unwrap_or(0),
        message: Box::new(message),
    })
}

fn digests_query(bytes: &[u8]) -> Result<Query, Refused> {
    let (mut topic, mut after) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2 => once(&mut after, stream(value.bytes()?)?)?,
            _ => {}
        }
    }
    let topic = required(topic)?;
    Ok(Query::Digests { topic, after })
}

fn stream(bytes: &[u8]) -> Result<StreamId<PeerId>, Refused> {
    let (mut publisher, mut epoch) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut publisher, PeerId::from_bytes(value.array()?))?,
            2 => once(&mut epoch, value.seq()?)?,
            _ => {}
        }
    }
    Ok(StreamId {
        publisher: required(publisher)?,
        epoch: epoch.unwrap_or(0),
    })
}

fn fetch(bytes: &[u8]) -> Result<Query, Refused> {
    let (mut topic, mut streams) = (None, Vec::new());
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2 if streams.len() >= FETCH_STREAMS_MAX => return malformed("over 256 streams"),
            2 => streams.push(plumtree::stream_seqs(value.bytes()?)?),
            _ => {}
        }
    }
    let topic = required(topic)?;
    Ok(Query::Fetch { topic, streams })
}

fn confirm(bytes: &[u8]) -> Result<Query, Refused> {
    let (mut topic, mut of) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2 => once(&mut of, plumtree::stream_seqs(value.bytes()?)?)?,
            _ => {}
        }
    }
    let (stream, seqs) = required(of)?;
    Ok(Query::Confirm {
        topic: required(topic)?,
        stream,
        seqs,
    })
}

fn hand(bytes: &[u8], checker: &mut Checker) -> Result<Query, Refused> {
    let (mut name, mut signed) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut name, membership::name(value.bytes()?)?)?,
            2 => once(&mut signed, value.bytes()?)?,
            _ => {}
        }
    }
    let topic: TopicName = required(name)?;
    let point = topic.id(checker.network());
    let bundle = bundle::asked_for(required(signed)?, point, checker)?;
    Ok(Query::Hand { topic, bundle })
}

fn met(bytes: &[u8], checker: &mut Checker) -> Result<Answer, Refused> {
    let (mut topics, mut contacts) = (Vec::new(), Vec::new());
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if topics.len() >= membership::TOPICS_MAX => return malformed("over 64 topics"),
            1 => topics.push(meeting(value.bytes()?)?),
            2 if contacts.len() >= CONTACTS_MAX => return malformed("over 32 descriptors"),
            2 => contacts.push(checker.contact(value.bytes()?)?),
            _ => {}
        }
    }
    let within = |meeting: &Meeting| {
        let mut places = meeting.contacts.iter();
        places.all(|place| usize::try_from(*place).is_ok_and(|place| place < contacts.len()))
    };
    if !topics.iter().all(within) {
        return malformed("a member that isn't among the contacts");
    }
    Ok(Answer::Met { topics, contacts })
}

fn meeting(bytes: &[u8]) -> Result<Meeting, Refused> {
    let (mut keeps, mut filled, mut based) = (None, None, None);
    let (mut subscribed, mut contacts) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut keeps, value.flag()?)?,
            2 => once(&mut filled, value.flag()?)?,
            3 => once(&mut subscribed, count(value)?)?,
            4 => once(&mut contacts, places(value.bytes()?)?)?,
            5 => once(&mut based, value.flag()?)?,
            _ => {}
        }
    }
    Ok(Meeting {
        keeps: keeps.unwrap_or(false),
        filled: filled.unwrap_or(false),
        based: based.unwrap_or(false),
        subscribed: subscribed.unwrap_or(0),
        contacts: contacts.unwrap_or_default(),
    })
}

/// Reads a count, clamped to what fits.
fn count(value: Value<'_>) -> Result<u32, Refused> {
    Ok(u32::try_from(value.varint()?).unwrap_or(u32::MAX))
}

fn places(mut packed: &[u8]) -> Result<Vec<u32>, Refused> {
    let mut places = Vec::new();
    while !packed.is_empty() {
        let place = u32::try_from(varint(&mut packed)?).unwrap_or(u32::MAX);
        if places.len() >= CONTACTS_MAX {
            return malformed("over 32 members");
        }
        places.push(place);
    }
    Ok(places)
}

fn digests(bytes: &[u8]) -> Result<Answer, Refused> {
    let (mut streams, mut more) = (Vec::new(), None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 if streams.len() >= STREAMS_PER_FRAME_MAX => return malformed("over 1,024 streams"),
            1 => streams.push(plumtree::stream_digest(value.bytes()?)?),
            2 => once(&mut more, value.flag()?)?,
            _ => {}
        }
    }
    if !streams.is_sorted_by(|one, next| one.stream < next.stream) {
        return malformed("streams out of order");
    }
    let more = more.unwrap_or(false);
    Ok(Answer::Digests { streams, more })
}

fn fetched(bytes: &[u8], checker: &mut Checker) -> Result<Answer, Refused> {
    let (mut topic, mut bundles) = (None, Vec::new());
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut topic, TopicId::from_bytes(value.array()?))?,
            2 if bundles.len() >= FETCHED_MAX => return malformed("over 1,024 bundles"),
            2 => {
                // A signature is bound to the topic, which therefore stands in front.
                let topic = required(topic)?;
                bundles.push(Fetched(bundle::asked_for(value.bytes()?, topic, checker)?));
            }
            _ => {}
        }
    }
    let topic = required(topic)?;
    Ok(Answer::Fetched { topic, bundles })
}

fn confirmed(bytes: &[u8]) -> Result<Answer, Refused> {
    let (mut durable, mut held, mut subscribed) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut durable, value.flag()?)?,
            2 => once(&mut held, value.flag()?)?,
            3 => once(&mut subscribed, count(value)?)?,
            _ => {}
        }
    }
    Ok(Answer::Confirmed {
        durable: durable.unwrap_or(false),
        held: held.unwrap_or(false),
        subscribed: subscribed.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests;
