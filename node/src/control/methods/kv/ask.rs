//! Parameters, as what the store is asked for.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use weft_dht::kv::{
    COPIES_DEFAULT, COPIES_MAX, Context, Expect, KvKey, KvPrefix, Seq, VALUE_BYTES_MAX,
};
use weft_dht::store::{Basis, Call, Level, Terms, Written};
use weft_identity::PeerId;
use weft_rpc::payload::Payload;
use weft_rpc::types::{
    KvCasParams, KvDeleteParams, KvGetParams, KvKeyParams, KvLevel, KvListParams, KvPutParams,
};
use weft_rpc::{Error, Kind};

/// How long a call is tried where nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long a call may be tried. A guess: a person's patience; what takes longer is better asked again.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);

/// How many replicas there are to be and must answer, as a client says it.
#[derive(Clone, Copy, Default)]
struct Said {
    n: Option<u8>,
    must_answer: Option<u8>,
    level: Option<KvLevel>,
    strict: bool,
    timeout_ms: Option<u64>,
}

pub(super) fn get(params: &KvGetParams) -> Result<(KvKey, Call<PeerId>), Error> {
    let key = key(&params.key)?;
    let terms = terms(Said {
        n: params.n,
        must_answer: params.r,
        level: params.level,
        strict: params.strict,
        timeout_ms: params.timeout_ms,
    })?;
    let call = Call::Get {
        key: key.clone(),
        terms,
    };
    Ok((key, call))
}

pub(super) fn put(params: &KvPutParams) -> Result<(KvKey, Call<PeerId>), Error> {
    let key = key(&params.key)?;
    let basis = match (&params.context, params.blind, params.if_absent) {
        (None, false, false) => Basis::Read,
        (Some(token), false, false) => Basis::Context(context(token, &key)?),
        (None, true, false) => Basis::Blind,
        (None, false, true) => Basis::Expect(Expect::Absent),
        _ => {
            return Err(invalid("context, blind and if_absent exclude each other")
                .hint("say at most one of them"));
        }
    };
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(value(&params.value, &params.value_base64)?),
        ttl: ttl(params.ttl_ms)?,
        basis,
        terms: terms(Said {
            n: params.n,
            must_answer: params.w,
            level: params.level,
            strict: params.strict,
            timeout_ms: params.timeout_ms,
        })?,
    };
    Ok((key, call))
}

pub(super) fn delete(params: &KvDeleteParams) -> Result<(KvKey, Call<PeerId>), Error> {
    let key = key(&params.key)?;
    let basis = match &params.context {
        None => Basis::Read,
        Some(token) => Basis::Context(context(token, &key)?),
    };
    let call = Call::Put {
        key: key.clone(),
        content: Written::Nothing,
        ttl: None,
        basis,
        terms: terms(Said {
            n: params.n,
            must_answer: params.w,
            level: params.level,
            strict: params.strict,
            timeout_ms: params.timeout_ms,
        })?,
    };
    Ok((key, call))
}

pub(super) fn cas(params: &KvCasParams) -> Result<(KvKey, Call<PeerId>), Error> {
    let key = key(&params.key)?;
    let call = Call::Put {
        key: key.clone(),
        content: Written::Value(value(&params.value, &params.value_base64)?),
        ttl: ttl(params.ttl_ms)?,
        basis: Basis::Expect(expect(&params.expect)?),
        terms: terms(Said {
            n: params.n,
            must_answer: params.w,
            level: params.level,
            strict: params.strict,
            timeout_ms: params.timeout_ms,
        })?,
    };
    Ok((key, call))
}

pub(super) fn list(params: &KvListParams) -> Result<Call<PeerId>, Error> {
    Ok(Call::List {
        prefix: KvPrefix::new(&params.prefix).map_err(|error| invalid(error.to_string()))?,
        after: params.after.as_deref().map(key).transpose()?,
        terms: terms(Said {
            n: params.n,
            must_answer: params.r,
            level: params.level,
            strict: params.strict,
            timeout_ms: params.timeout_ms,
        })?,
    })
}

pub(super) fn of_key(params: &KvKeyParams) -> Result<(KvKey, Terms), Error> {
    let terms = terms(Said {
        n: params.n,
        timeout_ms: params.timeout_ms,
        ..Said::default()
    })?;
    Ok((key(&params.key)?, terms))
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(Kind::InvalidParams, reason)
}

fn key(text: &str) -> Result<KvKey, Error> {
    KvKey::new(text).map_err(|error| {
        invalid(error.to_string()).hint("a key has 1 to 512 bytes and no control characters")
    })
}

fn terms(said: Said) -> Result<Terms, Error> {
    let copies = said.n.unwrap_or(COPIES_DEFAULT);
    if !(1..=COPIES_MAX).contains(&copies) {
        return Err(invalid(format!("n is 1 to {COPIES_MAX}")));
    }
    let level = match (said.must_answer, said.level) {
        (Some(_), Some(_)) => {
            return Err(
                invalid("level says how many must answer, and so do r and w")
                    .hint("say one of them"),
            );
        }
        (Some(count), None) if !(1..=copies).contains(&count) => {
            return Err(invalid(format!("r and w are 1 to n, which is {copies}")));
        }
        (Some(count), None) => Level::Exactly(count),
        (None, Some(KvLevel::One)) => Level::One,
        (None, Some(KvLevel::All)) => Level::All,
        (None, Some(KvLevel::Quorum) | None) => Level::Quorum,
    };
    let timeout = said
        .timeout_ms
        .map_or(TIMEOUT_DEFAULT, Duration::from_millis);
    Ok(Terms {
        copies,
        level,
        strict: said.strict,
        timeout: timeout.min(TIMEOUT_MAX),
    })
}

/// Reads a value, which stands in one of two parameters.
fn value(text: &Option<String>, base64: &Option<String>) -> Result<Bytes, Error> {
    let payload = Payload::of_fields(text.clone(), base64.clone())
        .ok_or_else(|| invalid("a value stands either in value or in value_base64"))?;
    let value = payload.into_bytes().map_err(|error| {
        invalid(format!("value_base64 is no base64: {error}"))
            .hint("RFC 4648, section 4, with padding")
    })?;
    if value.len() > VALUE_BYTES_MAX {
        let bytes = value.len();
        return Err(Error::new(
            Kind::TooLarge,
            format!("the value has {bytes} bytes, at most {VALUE_BYTES_MAX} are possible"),
        )
        .hint("split it over several keys; nothing was written")
        .detail("bytes_max", VALUE_BYTES_MAX));
    }
    Ok(value)
}

fn ttl(millis: Option<u64>) -> Result<Option<Duration>, Error> {
    match millis {
        Some(0) => Err(invalid("a value that lasts for no time is none")
            .hint("say how long it lasts, or nothing for ever")),
        millis => Ok(millis.map(Duration::from_millis)),
    }
}

/// Reads a context that a read returned.
fn context(token: &str, key: &KvKey) -> Result<Context<PeerId>, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| {
        invalid("the context is damaged or was never one: pass it exactly as a read returned it")
    })?;
    let peer = |bytes: &[u8]| PeerId::from_multihash(bytes).ok();
    Context::from_token(&bytes, key, peer).map_err(|error| invalid(error.to_string()))
}

/// Writes a context for a client to keep.
pub(super) fn token(context: &Context<PeerId>, key: &KvKey) -> String {
    URL_SAFE_NO_PAD.encode(context.to_token(key))
}

fn expect(text: &str) -> Result<Expect, Error> {
    if text == "absent" {
        return Ok(Expect::Absent);
    }
    match text.parse::<Seq>() {
        Ok(version) => Ok(Expect::Version(version)),
        Err(error) => Err(invalid(format!("expect is `absent` or a version: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use weft_dht::kv::{Dot, Interval};

    use super::*;

    fn put_with(change: fn(&mut KvPutParams)) -> Result<Call<PeerId>, Error> {
        let mut params = KvPutParams {
            key: "colour".to_owned(),
            value: Some("blue".to_owned()),
            ..KvPutParams::default()
        };
        change(&mut params);
        put(&params).map(|(_, call)| call)
    }

    fn terms_of(call: Result<Call<PeerId>, Error>) -> Terms {
        match call {
            Ok(Call::Put { terms, .. }) => terms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_dynamos_usual() {
        assert_eq!(terms_of(put_with(|_| ())), Terms::default());
        let Ok(Call::Put {
            basis,
            ttl,
            content,
            ..
        }) = put_with(|_| ())
        else {
            panic!("a put");
        };
        assert_eq!((basis, ttl), (Basis::Read, None));
        assert_eq!(content, Written::Value("blue".into()));
    }

    #[test]
    fn terms_are_numbers_or_words() {
        let terms = terms_of(put_with(|put| (put.n, put.w) = (Some(5), Some(4))));
        assert_eq!((terms.copies, terms.level), (5, Level::Exactly(4)));
        let terms = terms_of(put_with(|put| put.level = Some(KvLevel::All)));
        assert_eq!((terms.copies, terms.level), (3, Level::All));
        let terms = terms_of(put_with(|put| put.timeout_ms = Some(u64::MAX)));
        assert_eq!(terms.timeout, TIMEOUT_MAX);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_the_store_is_asked() {
        for wrong in [
            put_with(|put| put.key.clear()),
            put_with(|put| put.value = None),
            put_with(|put| put.value_base64 = Some("Ymx1ZQ==".to_owned())),
            put_with(|put| (put.value, put.value_base64) = (None, Some("?".to_owned()))),
            put_with(|put| put.ttl_ms = Some(0)),
            put_with(|put| put.n = Some(0)),
            put_with(|put| put.n = Some(9)),
            put_with(|put| put.w = Some(0)),
            put_with(|put| put.w = Some(4)),
            put_with(|put| (put.w, put.level) = (Some(1), Some(KvLevel::All))),
            put_with(|put| (put.blind, put.if_absent) = (true, true)),
            put_with(|put| put.context = Some("?".to_owned())),
            put_with(|put| put.context = Some("AAAA".to_owned())),
        ] {
            assert_eq!(wrong.unwrap_err().kind, Kind::InvalidParams);
        }
        let large = put_with(|put| put.value = Some("x".repeat(65_537)));
        assert_eq!(large.unwrap_err().kind, Kind::TooLarge);
        assert!(put_with(|put| put.value = Some("x".repeat(65_536))).is_ok());
    }

    #[test]
    fn a_context_is_cited_on_the_key_that_it_belongs_to() {
        let key = KvKey::new("colour").unwrap();
        let dot = Dot {
            writer: PeerId::from_bytes([7; 32]),
            seq: Seq {
                epoch: 5,
                counter: 3,
            },
        };
        let seen = Context::union([Interval::of_dot(dot, None, None)]);
        let params = |name: &str| KvDeleteParams {
            key: name.to_owned(),
            context: Some(token(&seen, &key)),
            ..KvDeleteParams::default()
        };
        let Ok((_, Call::Put { basis, content, .. })) = delete(&params("colour")) else {
            panic!("a put");
        };
        assert_eq!(
            (basis, content),
            (Basis::Context(seen.clone()), Written::Nothing)
        );
        let other = delete(&params("other")).unwrap_err();
        assert!(other.message.contains("another key"), "{other}");
    }

    #[test]
    fn a_version_is_expected_or_none() {
        assert_eq!(expect("absent").unwrap(), Expect::Absent);
        let version = Seq {
            epoch: 5,
            counter: 3,
        };
        assert_eq!(expect("5.3").unwrap(), Expect::Version(version));
        assert_eq!(expect("none").unwrap_err().kind, Kind::InvalidParams);
    }
}
