//! The bytes of one frame of each kind: whoever changes the protocol by accident sees it here.

use super::*;
use weft_dht::kv::{Content, Context, Dot, Interval, Seq};

/// A record's header with everything that one can say.
pub(super) fn header() -> Header<PeerId> {
    let seq = |counter| Seq {
        epoch: 300,
        counter,
    };
    Header {
        key: KvKey::new("{colours}/sky").unwrap(),
        dot: Dot {
            writer: sender().peer_id(),
            seq: seq(7),
        },
        prev: Some(seq(5)),
        context: Context::union([Interval {
            writer: PeerId::from_bytes([0xaa; 32]),
            after: seq(2),
            to: seq(4),
            ends_at: Some(UnixMicros(1_700_000_050_000_000)),
        }]),
        content: Content::Value { bytes: 4 },
        written_at: UnixMicros(1_700_000_000_000_000),
        expires_at: Some(UnixMicros(1_700_000_060_000_000)),
        copies: 3,
        hash: [0xbb; 32],
    }
}

fn messages() -> Vec<(&'static str, StoreMessage)> {
    let record = write_record(&sender(), NETWORK, header(), b"blue").unwrap();
    let (key, id) = (record.header.key.clone(), record.header.id());
    let peer = PeerId::from_bytes([0xcc; 32]);
    let range = Range::ALL.parts().unwrap()[5].parts().unwrap()[3]
        .parts()
        .unwrap()[1];
    let summary = Summary { count: 300, sum: 7 };
    let items = vec![Item(1), Item(u128::MAX)];
    let known = Known {
        peer,
        round: 9,
        gone: true,
        reached: true,
        before: true,
    };
    let claim = Claim {
        round: 300,
        old: true,
        known: vec![known],
    };
    let seen = Seen {
        contact: contact_of(&sender()),
        round: 300,
        settled: true,
        alive: true,
    };
    let sight = Sight {
        counts: true,
        peers: vec![seen],
    };
    let quota = OverQuota {
        held: Usage {
            bytes: 300,
            records: 2,
        },
        quota: Quota {
            bytes_max: 301,
            records_max: 3,
        },
    };
    let put = |delivery| Query::Put {
        record: record.clone(),
        delivery,
    };
    let kept = |kept| Answer::Put {
        sight: sight.clone(),
        kept,
    };
    let (query, answer) = (StoreMessage::Query, StoreMessage::Answer);
    vec![
        (
            "get",
            query(Query::Get {
                key: key.clone(),
                copies: 3,
                after: Some(id),
            }),
        ),
        (
            "heads",
            query(Query::Heads {
                key: key.clone(),
                copies: 3,
            }),
        ),
        (
            "list",
            query(Query::List {
                prefix: KvPrefix::new("{colours}/").unwrap(),
                copies: 3,
                after: Some(key.clone()),
            }),
        ),
        ("put", query(put(Delivery::Write))),
        ("put for another", query(put(Delivery::Hint(peer)))),
        (
            "claim",
            query(Query::Claim {
                contact: contact_of(&sender()),
                claim: Some(claim.clone()),
                leaving: true,
            }),
        ),
        (
            "compare",
            query(Query::Compare {
                scope: Scope {
                    among: vec![peer],
                    behind: 1,
                },
                ranges: vec![(range, summary), (Range::ALL, Summary::default())],
            }),
        ),
        (
            "fetch",
            query(Query::Fetch {
                items: items.clone(),
            }),
        ),
        (
            "push",
            query(Query::Push {
                records: vec![record.clone()],
            }),
        ),
        (
            "offer",
            query(Query::Offer {
                items: items.clone(),
            }),
        ),
        (
            "got",
            answer(Answer::Got {
                sight: sight.clone(),
                records: vec![record.clone()],
                more: true,
            }),
        ),
        (
            "heads got",
            answer(Answer::Heads {
                sight: sight.clone(),
                heads: vec![header()],
                more: true,
            }),
        ),
        ("kept", answer(kept(Ok(())))),
        ("not kept", answer(kept(Err(quota.into())))),
        (
            "claimed",
            answer(Answer::Claim {
                claim: Some(claim),
                yours: 300,
                leaving: true,
            }),
        ),
        (
            "compared",
            answer(Answer::Compare {
                differing: vec![
                    (range, Contents::Split(Box::new([summary; PARTS]))),
                    (range, Contents::Items(items)),
                ],
            }),
        ),
        (
            "fetched",
            answer(Answer::Fetched {
                records: vec![record],
                more: true,
            }),
        ),
        (
            "pushed",
            answer(Answer::Pushed {
                kept: Err(Refusal::DiskFull),
            }),
        ),
        (
            "lacks",
            answer(Answer::Lacks {
                lacks: vec![0, 300],
            }),
        ),
        ("unable", answer(Answer::Unable)),
    ]
}

#[test]
fn frames_have_the_bytes_that_they_always_had() {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let messages = messages();
    let now: Vec<_> = messages
        .iter()
        .map(|(name, message)| format!("{name}: {}", hex(&bare(message))))
        .collect();
    let was: Vec<_> = include_str!("golden.txt").lines().collect();
    for (now, was) in now.iter().zip(&was) {
        assert_eq!(now, was);
    }
    assert_eq!(now.len(), was.len(), "now they are:\n{}", now.join("\n"));
    for (name, message) in &messages {
        assert_eq!(&decoded(&bare(message)), message, "{name}");
    }
}
