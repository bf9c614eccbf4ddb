//! The store's messages: there and back, as the schema says, and what no honest peer sends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use weft_dht::kv::fingerprint::{Contents, Item, PARTS, Range, Summary};
use weft_dht::kv::{
    Content, Context, Crowded, Dot, Header, Invalid, KvKey, KvPrefix, OverQuota, Quota, Record,
    RecordId, Seq, Untimely, Usage,
};
use weft_dht::store::messages::{
    Answer, Delivery, ITEMS_MAX, Query, RANGES_MAX, Refusal, Scope, Seen, Sight,
};
use weft_dht::store::{Claim, Known};
use weft_identity::Keypair;
use weft_overlay::UnixMicros;

use super::*;
use crate::Address;
use crate::descriptor::Roles;
use crate::wire::record::tests::any_header;
use crate::wire::{
    DecodeError, Decoder, FRAME_BYTES_MAX, KnownBodies, encode_store, parse_prefix, write_record,
};

mod golden;
mod hostile;

const NETWORK: &str = "net";

/// Who sends the messages of these tests, and writes their records.
fn sender() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn decoder() -> Decoder {
    let known = Arc::new(Mutex::new(KnownBodies::new(NETWORK)));
    Decoder::new(sender().peer_id(), known)
}

fn contact_of(keypair: &Keypair) -> PeerContact {
    let issued_at = UnixMicros(1_700_000_000_000_000);
    let expires_at = UnixMicros(issued_at.0 + 60_000_000);
    let roles = Roles {
        serves: true,
        stores: false,
    };
    PeerContact::issue(keypair, &[], issued_at, expires_at, roles)
}

/// The protobuf part of a message's frame.
fn bare(message: &StoreMessage) -> Vec<u8> {
    let frame = encode_store(RequestId(300), message);
    let (prefix, len) = parse_prefix(&frame.head).unwrap().unwrap();
    assert_eq!((frame.head.len(), frame.tail.len()), (prefix + len, 0));
    frame.head[prefix..].to_vec()
}

fn decoded(frame: &[u8]) -> StoreMessage {
    match decoder().decode(frame) {
        Ok(Frame::Store { request, message }) => {
            assert_eq!(request, RequestId(300));
            *message
        }
        other => panic!("{other:?}"),
    }
}

fn any_peer() -> impl Strategy<Value = PeerId> {
    (0..9_u8).prop_map(|peer| PeerId::from_bytes([peer; 32]))
}

fn any_contact() -> impl Strategy<Value = PeerContact> {
    (1..4_u8).prop_map(|seed| contact_of(&Keypair::from_seed(&[seed; 32])))
}

fn any_key() -> impl Strategy<Value = KvKey> {
    "[a-zé/]{1,20}".prop_map(|text| KvKey::new(&text).expect("a key"))
}

fn any_prefix() -> impl Strategy<Value = KvPrefix> {
    "\\{[a-z]{1,9}\\}[a-z]{0,9}".prop_map(|text| KvPrefix::new(&text).expect("a prefix"))
}

/// A record that makes sense, as it is read back.
fn any_record() -> impl Strategy<Value = Record<PeerId>> {
    let expiry = option::of(1..1_000_000_000_u64);
    (any_header(), expiry).prop_map(|((header, value), expiry)| {
        let lasts = expiry.or(value.is_none().then_some(1));
        let written_at = UnixMicros(header.written_at.0 / 2);
        let header = Header {
            prev: None,
            context: weft_dht::kv::Context::new(),
            written_at,
            expires_at: lasts.map(|lasts| UnixMicros(written_at.0 + lasts)),
            copies: 1 + header.copies % 8,
            ..header
        };
        let value = value.unwrap_or_default();
        write_record(&sender(), NETWORK, header, &value).expect("a record that makes sense")
    })
}

fn any_records() -> impl Strategy<Value = Vec<Record<PeerId>>> {
    vec(any_record(), 0..4)
}

fn any_head() -> impl Strategy<Value = Header<PeerId>> {
    (any_header(), any::<[u8; 32]>()).prop_map(|((header, _), hash)| Header { hash, ..header })
}

fn any_id() -> impl Strategy<Value = RecordId<PeerId>> {
    any_head().prop_map(|head| head.id())
}

fn any_sight() -> impl Strategy<Value = Sight<PeerContact>> {
    let seen = (any_contact(), any::<u64>(), any::<bool>(), any::<bool>());
    let seen = seen.prop_map(|(contact, round, settled, alive)| Seen {
        contact,
        round,
        settled,
        alive,
    });
    (any::<bool>(), vec(seen, 0..5)).prop_map(|(counts, peers)| Sight { counts, peers })
}

fn any_claim() -> impl Strategy<Value = Option<Claim<PeerId>>> {
    let known = (any_peer(), any::<u64>(), any::<[bool; 3]>());
    let known = known.prop_map(|(peer, round, [gone, reached, before])| Known {
        peer,
        round,
        gone,
        reached,
        before,
    });
    let claim = (1..=u64::MAX, any::<bool>(), vec(known, 0..6));
    option::of(claim.prop_map(|(round, old, mut known)| {
        known.sort_by_key(|known| known.peer);
        known.dedup_by_key(|known| known.peer);
        Claim { round, old, known }
    }))
}

fn any_range() -> impl Strategy<Value = Range> {
    (any::<u128>(), 0..=32_u8).prop_map(|(prefix, nibbles)| {
        let bits = 4 * nibbles;
        let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        Range::new(prefix & !rest, bits).expect("a multiple of 4 bits")
    })
}

fn any_summary() -> impl Strategy<Value = Summary> {
    (any::<u32>(), prop_oneof![Just(0), any::<u128>()])
        .prop_map(|(count, sum)| Summary { count, sum })
}

fn any_items() -> impl Strategy<Value = Vec<Item>> {
    vec(any::<u128>().prop_map(Item), 0..20)
}

fn any_contents() -> impl Strategy<Value = Contents> {
    let split = vec(any_summary(), PARTS);
    prop_oneof![
        any_items().prop_map(Contents::Items),
        split.prop_map(|sums| Contents::Split(Box::new(sums.try_into().expect("16 of them")))),
    ]
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    let count = || any::<u32>().prop_map(|count| count as usize);
    let time = || any::<u64>().prop_map(Duration::from_micros);
    let numbers = any::<[u64; 4]>();
    prop_oneof![
        any::<u32>().prop_map(|bytes| Invalid::TooLarge(bytes).into()),
        any::<u8>().prop_map(|copies| Invalid::Copies(copies).into()),
        count().prop_map(|cited| Invalid::TooManyWriters(cited).into()),
        Just(Invalid::Order.into()),
        Just(Invalid::Expiry.into()),
        Just(Invalid::Context.into()),
        Just(Invalid::WrongOwner.into()),
        Just(Invalid::ContextOnOwned.into()),
        time().prop_map(|behind| Untimely::Behind { behind }.into()),
        time().prop_map(|ahead| Untimely::Ahead { ahead }.into()),
        time().prop_map(|since| Untimely::Ended { since }.into()),
        count().prop_map(|held| Crowded::Siblings { held }.into()),
        count().prop_map(|writers| Crowded::Writers { writers }.into()),
        numbers.prop_map(|[bytes, records, bytes_max, records_max]| {
            let held = Usage { bytes, records };
            let quota = Quota {
                bytes_max,
                records_max,
            };
            OverQuota { held, quota }.into()
        }),
        Just(Refusal::Hints),
        Just(Refusal::DiskFull),
        Just(Refusal::DiskFailed),
        Just(Refusal::Busy),
    ]
}

fn any_kept() -> impl Strategy<Value = Result<(), Refusal>> {
    option::of(any_refusal()).prop_map(|refusal| refusal.map_or(Ok(()), Err))
}

fn any_query() -> impl Strategy<Value = Query<PeerContact>> {
    let delivery = prop_oneof![
        Just(Delivery::Write),
        any_peer().prop_map(Delivery::Hint),
        Just(Delivery::Repair),
    ];
    let scope = (proptest::collection::btree_set(any_peer(), 0..6), 0..=1_u8);
    let scope = scope.prop_map(|(among, behind)| Scope {
        among: among.into_iter().collect(),
        behind,
    });
    let ranges = vec((any_range(), any_summary()), 0..5);
    prop_oneof![
        (any_key(), any::<u8>(), option::of(any_id()))
            .prop_map(|(key, copies, after)| Query::Get { key, copies, after }),
        (any_key(), any::<u8>()).prop_map(|(key, copies)| Query::Heads { key, copies }),
        (any_prefix(), any::<u8>(), option::of(any_key())).prop_map(|(prefix, copies, after)| {
            Query::List {
                prefix,
                copies,
                after,
            }
        }),
        (any_record(), delivery).prop_map(|(record, delivery)| Query::Put { record, delivery }),
        (any_claim(), any::<bool>()).prop_map(|(claim, leaving)| Query::Claim {
            contact: contact_of(&sender()),
            claim,
            leaving,
        }),
        (scope, ranges).prop_map(|(scope, ranges)| Query::Compare { scope, ranges }),
        any_items().prop_map(|items| Query::Fetch { items }),
        any_records().prop_map(|records| Query::Push { records }),
        any_items().prop_map(|items| Query::Offer { items }),
    ]
}

fn any_answer() -> impl Strategy<Value = Answer<PeerContact>> {
    let places = vec(any::<u32>(), 0..9);
    prop_oneof![
        (any_sight(), any_records(), any::<bool>()).prop_map(|(sight, records, more)| {
            Answer::Got {
                sight,
                records,
                more,
            }
        }),
        (any_sight(), vec(any_head(), 0..4), any::<bool>())
            .prop_map(|(sight, heads, more)| Answer::Heads { sight, heads, more }),
        (any_sight(), any_kept()).prop_map(|(sight, kept)| Answer::Put { sight, kept }),
        (any_claim(), any::<u64>(), any::<bool>()).prop_map(|(claim, yours, leaving)| {
            Answer::Claim {
                claim,
                yours,
                leaving,
            }
        }),
        vec((any_range(), any_contents()), 0..5)
            .prop_map(|differing| Answer::Compare { differing }),
        (any_records(), any::<bool>())
            .prop_map(|(records, more)| Answer::Fetched { records, more }),
        any_kept().prop_map(|kept| Answer::Pushed { kept }),
        places.prop_map(|lacks| Answer::Lacks { lacks }),
        Just(Answer::Unable),
    ]
}

fn any_message() -> impl Strategy<Value = StoreMessage> {
    prop_oneof![
        any_query().prop_map(StoreMessage::Query),
        any_answer().prop_map(StoreMessage::Answer),
    ]
}

proptest! {
    #[test]
    fn messages_go_there_and_back_as_the_schema_says(message in any_message()) {
        let frame = bare(&message);
        prop_assert_eq!(&decoded(&frame), &message);
        let schema = proto::Frame::decode(&frame[..]).unwrap();
        prop_assert_eq!(schema.encode_to_vec(), frame);
    }

    /// What the store reckons that its messages take is what it keeps frames below their limit with.
    #[test]
    fn a_message_takes_hardly_more_bytes_than_the_store_reckons(message in any_message()) {
        let (frame, reckoned) = (bare(&message).len(), message.bytes());
        prop_assert!(frame <= reckoned + reckoned / 4 + 64, "{} for {}", frame, reckoned);
    }
}

#[test]
fn the_largest_messages_fit_a_frame() {
    let value = vec![7; 64 * 1024];
    let head = Header {
        key: KvKey::new(&"k".repeat(512)).unwrap(),
        content: weft_dht::kv::Content::Value { bytes: 64 * 1024 },
        ..golden::header()
    };
    let record = write_record(&sender(), NETWORK, head, &value).unwrap();
    let seen = Seen {
        contact: contact_of(&sender()),
        round: u64::MAX,
        settled: true,
        alive: true,
    };
    let got = Answer::Got {
        sight: Sight {
            counts: true,
            peers: vec![seen; 20],
        },
        records: vec![record; 16],
        more: true,
    };
    let compared = Answer::Compare {
        differing: vec![
            (
                Range::ALL,
                Contents::Split(Box::new(
                    [Summary {
                        count: u32::MAX,
                        sum: u128::MAX
                    }; PARTS]
                ))
            );
            RANGES_MAX
        ],
    };
    for message in [StoreMessage::Answer(got), StoreMessage::Answer(compared)] {
        let frame = bare(&message);
        assert!(frame.len() <= FRAME_BYTES_MAX, "{} bytes", frame.len());
        assert_eq!(decoded(&frame), message);
    }
}

#[test]
fn a_claim_lies_on_disk_as_it_was() {
    let contact = contact_of(&sender());
    let known = |peer, gone| Known {
        peer: PeerId::from_bytes([peer; 32]),
        round: 3,
        gone,
        reached: true,
        before: !gone,
    };
    let claim = Claim {
        round: 7,
        old: true,
        known: vec![known(1, false), known(2, true)],
    };
    let bytes = encode_claim(&contact, &claim);
    assert_eq!(decode_claim(&bytes), Ok((contact, claim)));
    for long in 0..bytes.len() {
        assert!(decode_claim(&bytes[..long]).is_err(), "{long} bytes");
    }
}

/// What an answer to a get takes: three descriptors of nodes that are reached over TCP and QUIC, and a value of 100 bytes.
#[test]
fn most_of_an_answer_to_a_get_is_who_its_replicas_are() {
    // /ip4/…/tcp/… and /ip4/…/udp/…/quic-v1 take 8 and 11 bytes.
    let addresses = [8, 11].map(|bytes| Address::new(vec![7; bytes].into()).unwrap());
    let seen = |seed: u8| {
        let issued_at = UnixMicros(1_700_000_000_000_000);
        let expires_at = UnixMicros(issued_at.0 + 3_600_000_000);
        let keypair = Keypair::from_seed(&[seed; 32]);
        let contact =
            PeerContact::issue(&keypair, &addresses, issued_at, expires_at, Roles::SERVER);
        Seen {
            contact,
            round: 9,
            settled: true,
            alive: true,
        }
    };
    let header = Header {
        key: KvKey::new("a key of 20 letters.").unwrap(),
        dot: Dot {
            writer: sender().peer_id(),
            seq: Seq {
                epoch: 1_700_000_000_000,
                counter: 9,
            },
        },
        prev: None,
        context: Context::new(),
        content: Content::Value { bytes: 100 },
        written_at: UnixMicros(1_700_000_000_000_000),
        expires_at: None,
        copies: 3,
        hash: [0; 32],
    };
    let record = write_record(&sender(), NETWORK, header, &[7; 100]).unwrap();
    let bytes = |peers: Vec<Seen<PeerContact>>, records: Vec<Record<PeerId>>| {
        let sight = Sight {
            counts: true,
            peers,
        };
        let more = false;
        let answer = Answer::Got {
            sight,
            records,
            more,
        };
        bare(&StoreMessage::Answer(answer)).len()
    };
    let whole = bytes((1..=3).map(seen).collect(), vec![record.clone()]);
    let [sight, value] = [
        bytes((1..=3).map(seen).collect(), vec![]),
        bytes(vec![], vec![record]),
    ];
    println!(
        "an answer to a get: {whole} bytes, {sight} of them without the value, {value} without the replicas"
    );
    assert!(whole < 1_000 && sight > value, "{whole}, {sight}, {value}");
}
