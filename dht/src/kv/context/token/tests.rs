//! Tokens: there and back, damaged, forged.

use proptest::prelude::*;
use weft_identity::PeerId;

use super::*;
use crate::kv::Dot;

fn key(text: &str) -> KvKey {
    KvKey::new(text).unwrap()
}

fn read(token: &[u8], of: &str) -> Result<Context<PeerId>, TokenError> {
    Context::from_token(token, &key(of), |bytes| PeerId::from_multihash(bytes).ok())
}

fn interval_of(writer: u8, epoch: u64, counter: u64) -> Interval<PeerId> {
    let dot = Dot {
        writer: PeerId::from_bytes([writer; 32]),
        seq: Seq { epoch, counter },
    };
    Interval::of_dot(dot, None, None)
}

/// A token whose checksum is right, whatever it holds.
fn token_of(body: &[u8]) -> Vec<u8> {
    let body = [&digest_of(&key("k"))[..], body].concat();
    [&[VERSION][..], &checksum(&body), &body].concat()
}

#[test]
fn a_token_belongs_to_its_key() {
    let context = Context::union([interval_of(1, 5, 3), interval_of(2, 5, 4)]);
    let token = context.to_token(&key("k"));
    assert_eq!(read(&token, "k"), Ok(context));
    assert_eq!(read(&token, "other"), Err(TokenError::OtherKey));
    let nothing = Context::<PeerId>::new();
    assert_eq!(read(&nothing.to_token(&key("k")), "k"), Ok(nothing));
}

#[test]
fn a_damaged_token_is_refused() {
    let context = Context::union([interval_of(1, 5, 3), interval_of(2, 5, 4)]);
    let token = context.to_token(&key("k"));
    for end in 0..token.len() {
        assert_eq!(read(&token[..end], "k"), Err(TokenError::Damaged), "{end}");
    }
    for bit in 8..8 * token.len() {
        let mut flipped = token.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&flipped, "k"), Err(TokenError::Damaged), "{bit}");
    }
    assert_eq!(read(&[9], "k"), Err(TokenError::Version(9)));
}

#[test]
fn a_forged_token_is_bounded_and_must_be_a_context() {
    let writer = PeerId::from_bytes([1; 32]).to_multihash();
    let with = |intervals: u64, body: &[u8]| {
        let mut out = vec![38];
        out.extend_from_slice(&writer);
        put_number(&mut out, intervals);
        out.extend_from_slice(body);
        token_of(&out)
    };
    // An interval is: after's epoch and counter, how many epochs on, to's counter, and when it ends.
    let row = |count: u8| (0..count).flat_map(|n| [1, 2 * n + 1, 0, 2 * n + 2, 0]);
    let fits = with(63, &row(63).collect::<Vec<_>>());
    assert_eq!(read(&fits, "k").unwrap().intervals().len(), 63);
    let mut many = Context::union((0..66).map(|n| interval_of(1, 1, 2 * n + 1)));
    assert_eq!(
        read(&many.to_token(&key("k")), "k"),
        Err(TokenError::Damaged)
    );
    many.0.pop();
    assert!(read(&many.to_token(&key("k")), "k").is_ok());

    let endless = [0xff; 10];
    let too_big = [&[0xff; 9][..], &[2]].concat();
    for (name, wrong) in [
        ("covers nothing", with(1, &[1, 4, 0, 4, 0])),
        ("touches", with(2, &[1, 0, 0, 4, 0, 1, 4, 0, 5, 0])),
        ("less than it says", with(2, &[1, 0, 0, 4, 0])),
        ("endless count", with(u64::MAX, &[])),
        ("endless number", with(1, &endless)),
        (
            "number beyond 64 bits",
            with(1, &[&too_big[..], &[0, 0, 1, 0]].concat()),
        ),
        ("no peer", token_of(&[3, 1, 2, 3, 0])),
        ("long peer", token_of(&[100, 1])),
    ] {
        assert_eq!(read(&wrong, "k"), Err(TokenError::Damaged), "{name}");
    }
}

proptest! {
    #[test]
    fn a_context_goes_to_a_token_and_back(
        writers in proptest::collection::vec((0..5_u8, any::<u64>(), 1..u64::MAX, any::<Option<u64>>()), 0..20)
    ) {
        let context = Context::union(writers.into_iter().map(|(writer, epoch, counter, end)| {
            Interval { ends_at: end.map(|end| UnixMicros(end / 2)), ..interval_of(writer, epoch, counter) }
        }));
        prop_assert_eq!(read(&context.to_token(&key("k")), "k"), Ok(context));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes, "k").is_err());
        let _ = read(&token_of(&bytes), "k");
    }

    #[test]
    fn numbers_go_there_and_back(number in any::<u64>()) {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        prop_assert_eq!(super::number(&mut &bytes[..]), Some(number));
    }
}
