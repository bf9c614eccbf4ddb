//! The structured layer's messages, between nodes of ours and with any libp2p peer.
//!
//! Both forms are the same protobuf. On a link a peer of ours is its signed descriptor and nothing more; on a stream of the
//! kad protocol, whose packets have at most 16 KiB, id and addresses stand beside it for those who don't know it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message as _;
use weft_dht::message::{Answer, Message, Query};
use weft_dht::point::Key;
use weft_identity::PeerId;

use super::checker::Checker;
use super::fields::{Fields, Refused, Value, malformed, once, required};
use super::{DecodeError, Frame, KnownBodies, descriptor, proto};
use crate::Address;
use crate::address::ADDRESSES_MAX;
use crate::kad::{KadContact, KadPeer};

/// Bytes of a packet on a stream, its length prefix left out: what libp2p's implementations take.
pub const PACKET_BYTES_MAX: usize = 16 * 1024;
/// Peers in one list. Honest ones name 20; what is above that is counted against the peer, and what is above this refused.
const PEERS_MAX: usize = 64;

/// For whom a message is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Ours,
    Any,
}

/// Encodes the message of a Kad frame.
pub(super) fn encode(request: u64, message: &Message<KadContact>) -> proto::Kad {
    proto::Kad {
        request,
        answer: matches!(message, Message::Answer(_)),
        message: Some(build(message, For::Ours)),
    }
}

/// Encodes a message for a stream, its length in front; of lists that are too long for a packet the end is left out.
///
/// A ping is encoded as a search for the peer's own key, because rust-libp2p doesn't answer pings.
pub fn encode_packet(message: &Message<KadContact>, to: PeerId) -> Bytes {
    let mut built = match message {
        Message::Query(Query::Ping) => proto::KadMessage {
            r#type: proto::KadType::FindNode.into(),
            key: Bytes::copy_from_slice(&to.to_multihash()),
            ..proto::KadMessage::default()
        },
        message => build(message, For::Any),
    };
    if built.encoded_len() > PACKET_BYTES_MAX {
        let peers = built.closer_peers.iter_mut();
        for peer in peers.chain(&mut built.provider_peers) {
            peer.descriptor = None;
        }
    }
    while built.encoded_len() > PACKET_BYTES_MAX {
        let (closer, providers) = (&mut built.closer_peers, &mut built.provider_peers);
        let longer = if closer.len() >= providers.len() {
            closer
        } else {
            providers
        };
        if longer.pop().is_none() {
            break;
        }
    }
    built.encode_length_delimited_to_vec().into()
}

fn build(message: &Message<KadContact>, to: For) -> proto::KadMessage {
    let key = |key: &Key| Bytes::copy_from_slice(key.as_bytes());
    let peers = |contacts: &[KadContact]| contacts.iter().map(|it| peer(it, to)).collect();
    let (kind, mut built) = (kind_of(message), proto::KadMessage::default());
    built.r#type = kind.into();
    match message {
        Message::Query(Query::Ping) | Message::Answer(Answer::Pong) => {}
        Message::Query(Query::FindNode { key: it } | Query::GetProviders { key: it }) => {
            built.key = key(it);
        }
        Message::Query(Query::AddProvider { key: it, provider }) => {
            built.key = key(it);
            built.provider_peers = vec![peer(provider, to)];
        }
        Message::Answer(Answer::Closer { contacts }) => built.closer_peers = peers(contacts),
        Message::Answer(Answer::Providers { providers, closer }) => {
            built.provider_peers = peers(providers);
            built.closer_peers = peers(closer);
        }
    }
    built
}

fn kind_of(message: &Message<KadContact>) -> proto::KadType {
    use proto::KadType as T;
    match message {
        Message::Query(Query::Ping) | Message::Answer(Answer::Pong) => T::Ping,
        Message::Query(Query::FindNode { .. }) | Message::Answer(Answer::Closer { .. }) => {
            T::FindNode
        }
        Message::Query(Query::GetProviders { .. }) | Message::Answer(Answer::Providers { .. }) => {
            T::GetProviders
        }
        Message::Query(Query::AddProvider { .. }) => T::AddProvider,
    }
}

fn peer(contact: &KadContact, to: For) -> proto::KadPeer {
    let descriptor = contact.descriptor().map(descriptor::encode);
    if to == For::Ours && descriptor.is_some() {
        return proto::KadPeer {
            descriptor,
            ..proto::KadPeer::default()
        };
    }
    let known = contact.known();
    let addresses = known.addresses().iter();
    proto::KadPeer {
        id: Bytes::copy_from_slice(&known.peer().to_multihash()),
        addresses: addresses
            .map(|address| Bytes::copy_from_slice(address.as_bytes()))
            .collect(),
        descriptor,
    }
}

/// Decodes one stream's packets and checks the descriptors in them.
#[derive(Debug)]
pub struct PacketDecoder {
    checker: Checker,
}

impl PacketDecoder {
    /// Makes a decoder.
    pub fn new(known: Arc<Mutex<KnownBodies>>) -> Self {
        Self {
            checker: Checker::new(known),
        }
    }

    /// Decodes a query that `peer` sent, without its length prefix, at most [`PACKET_BYTES_MAX`] bytes. Any error ends the
    /// stream.
    pub fn query(&mut self, packet: &[u8], peer: PeerId) -> Result<Message<KadPeer>, DecodeError> {
        Ok(Parts::read(packet, &mut self.checker)?.query(peer)?)
    }

    /// Decodes an answer, as [`Self::query`] does a query.
    pub fn answer(&mut self, packet: &[u8]) -> Result<Message<KadPeer>, DecodeError> {
        Ok(Parts::read(packet, &mut self.checker)?.answer()?)
    }
}

/// Reads a Kad frame that `peer` sent.
pub(super) fn decode(bytes: &[u8], peer: PeerId, checker: &mut Checker) -> Result<Frame, Refused> {
    let (mut request, mut answer, mut message) = (None, None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut request, value.varint()?)?,
            2 => once(&mut answer, value.flag()?)?,
            3 => once(&mut message, value.bytes()?)?,
            _ => {}
        }
    }
    let parts = Parts::read(required(message)?, checker)?;
    let message = if answer.unwrap_or(false) {
        parts.answer()?
    } else {
        parts.query(peer)?
    };
    let request = request.unwrap_or(0);
    Ok(Frame::Kad { request, message })
}

/// What a message is made of.
struct Parts {
    kind: u64,
    key: Option<Key>,
    closer: Vec<KadPeer>,
    providers: Vec<KadPeer>,
}

impl Parts {
    fn read(message: &[u8], checker: &mut Checker) -> Result<Self, Refused> {
        let (mut kind, mut key) = (None, None);
        let (mut closer, mut providers) = (Peers::default(), Peers::default());
        for field in Fields::new(message) {
            let (number, value) = field?;
            match number {
                1 => once(&mut kind, value.varint()?)?,
                2 => match Key::new(value.bytes()?) {
                    Ok(it) => once(&mut key, it)?,
                    Err(_) => return malformed("a key of over 256 bytes"),
                },
                8 => closer.read(value, checker)?,
                9 => providers.read(value, checker)?,
                _ => {}
            }
        }
        Ok(Self {
            kind: kind.unwrap_or(0),
            key,
            closer: closer.kept,
            providers: providers.kept,
        })
    }

    fn query(self, from: PeerId) -> Result<Message<KadPeer>, Refused> {
        let query = match self.kind {
            5 => Query::Ping,
            4 => Query::FindNode {
                key: required(self.key)?,
            },
            3 => Query::GetProviders {
                key: required(self.key)?,
            },
            2 => {
                // libp2p's rule: of the providers that are named only the sender counts.
                let mut providers = self.providers.into_iter();
                let Some(provider) = providers.find(|provider| provider.peer() == from) else {
                    return malformed("somebody else announced as a provider");
                };
                Query::AddProvider {
                    key: required(self.key)?,
                    provider,
                }
            }
            0 | 1 => return malformed("values are not kept on this protocol"),
            _ => return Err(Refused::Unknown),
        };
        Ok(Message::Query(query))
    }

    fn answer(self) -> Result<Message<KadPeer>, Refused> {
        let answer = match self.kind {
            5 => Answer::Pong,
            4 => Answer::Closer {
                contacts: self.closer,
            },
            3 => Answer::Providers {
                providers: self.providers,
                closer: self.closer,
            },
            0..=2 => return malformed("an answer to what is never asked"),
            _ => return Err(Refused::Unknown),
        };
        Ok(Message::Answer(answer))
    }
}

/// A list of peers as it is read: what can't be used is left out, but counts toward the bound.
#[derive(Default)]
struct Peers {
    kept: Vec<KadPeer>,
    named: usize,
}

impl Peers {
    fn read(&mut self, value: Value<'_>, checker: &mut Checker) -> Result<(), Refused> {
        self.named += 1;
        if self.named > PEERS_MAX {
            return malformed("over 64 peers");
        }
        self.kept.extend(read_peer(value.bytes()?, checker)?);
        Ok(())
    }
}

fn read_peer(bytes: &[u8], checker: &mut Checker) -> Result<Option<KadPeer>, Refused> {
    let mut addresses = Vec::new();
    let (mut id, mut signed) = (None, None);
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match number {
            1 => once(&mut id, value.bytes()?)?,
            2 => {
                let address = value.bytes()?;
                if addresses.len() < ADDRESSES_MAX {
                    addresses.extend(Address::new(Bytes::copy_from_slice(address)));
                }
            }
            1000 => once(&mut signed, value.bytes()?)?,
            _ => {}
        }
    }
    let id = id.map(PeerId::from_multihash);
    if let Some(signed) = signed {
        let contact = checker.contact(signed)?;
        if id.is_some_and(|id| id != Ok(contact.0.value.peer)) {
            return malformed("another peer's descriptor beside an id");
        }
        return Ok(Some(KadPeer::Signed(contact)));
    }
    let told = match id {
        Some(Ok(peer)) if !addresses.is_empty() => Some(KadPeer::Told { peer, addresses }),
        // A key that isn't ed25519, or nowhere to find it.
        _ => None,
    };
    Ok(told)
}
