//! Records of the store: their signed body, and their check.
//!
//! A record is encoded once, by its writer. From then on its bytes go from frame to disk to frame as they are.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use weft_dht::kv::{
    CONTEXT_INTERVALS_MAX, Content, Context, Dot, Header, Interval, Invalid, KV_KEY_BYTES_MAX,
    KvKey, Record, Seq, VALUE_BYTES_MAX,
};
use weft_identity::{Hash, KeyCache, Keypair, PeerId, Signature, Signed};
use weft_overlay::UnixMicros;

use super::checker::SignedParts;
use super::encode::id;
use super::fields::{Fields, Refused, Value, malformed, once, required};
use super::{DecodeError, proto};

/// Bytes of an interval of a context, at most: an id, two places, a moment, and what stands around them.
const INTERVAL_BYTES_MAX: usize = 96;
/// Bytes of a body beside its value, its key and its context: half of it is room for what later versions say. More would be
/// kept and handed on at no cost to its writer, and nobody could tell from a header how long its record is.
const EXTRA_BYTES_MAX: usize = 256;
const BESIDE_VALUE_BYTES_MAX: usize =
    KV_KEY_BYTES_MAX + CONTEXT_INTERVALS_MAX * INTERVAL_BYTES_MAX + EXTRA_BYTES_MAX;
/// Bytes of a SignedRecord: the largest body, its signature, and the fields around them.
pub const RECORD_BYTES_MAX: usize = VALUE_BYTES_MAX + BESIDE_VALUE_BYTES_MAX + 64 + 8;

/// Makes a record of what its header says and a value, and signs it for a network. The header's hash is filled in.
///
/// # Panics
/// If the header names another writer, or a value of another length: that is a bug of the caller.
pub fn write_record(
    keypair: &Keypair,
    network: &str,
    header: Header<PeerId>,
    value: &[u8],
) -> Result<Record<PeerId>, Invalid> {
    header.check()?;
    let bytes = header.content.value_bytes() as usize;
    assert_eq!(value.len(), bytes, "the value that the header tells of");
    let body = Bytes::from(body_of(&header, value).encode_to_vec());
    let signed = keypair.sign(header, body, network.as_bytes()).into_signed();
    let laid_out = Bytes::from(lay_out(&signed.signature, &signed.body));
    Ok(record_of(signed, laid_out))
}

/// Reads a record and checks that its writer signed it for a network. Whether it makes sense is for [`Header::check`] to
/// say.
pub fn read_record(
    bytes: &[u8],
    network: &str,
    keys: &mut KeyCache,
) -> Result<Record<PeerId>, DecodeError> {
    Ok(decode(bytes, network, keys)?)
}

/// Reads a record that was checked here before it went to this node's own disk, where its bytes are known to be the same.
pub fn restore_record(bytes: &[u8]) -> Result<Record<PeerId>, DecodeError> {
    let (signed, laid_out) = read(bytes)?;
    Ok(record_of(signed, laid_out))
}

/// Reads and verifies a SignedRecord.
pub(super) fn decode(
    bytes: &[u8],
    network: &str,
    keys: &mut KeyCache,
) -> Result<Record<PeerId>, Refused> {
    let (signed, laid_out) = read(bytes)?;
    match signed.verify(network.as_bytes(), keys) {
        Ok(verified) => Ok(record_of(verified.into_signed(), laid_out)),
        Err(_) => Err(Refused::Because(DecodeError::Forged("record"))),
    }
}

/// Reads a SignedRecord, and returns it with its bytes as they go on: a copy, which doesn't keep the read buffer, and
/// without what stands beside the signature and the body.
fn read(bytes: &[u8]) -> Result<(Signed<Header<PeerId>>, Bytes), Refused> {
    let parts = SignedParts::read(bytes)?;
    // Before it is copied and hashed: what is out of bounds costs nothing more.
    let value = header_of(parts.body)?;
    let laid_out = Bytes::from(lay_out(&parts.signature, parts.body));
    let signed = Signed {
        value,
        body: laid_out.slice(laid_out.len() - parts.body.len()..),
        hash: Hash::of(parts.body),
        signature: parts.signature,
    };
    Ok((signed, laid_out))
}

/// Completes a record with what was signed, laid out in the bytes that go on.
fn record_of(signed: Signed<Header<PeerId>>, laid_out: Bytes) -> Record<PeerId> {
    let body = laid_out.slice(laid_out.len() - signed.body.len()..);
    let value = Fields::new(&body).find_map(|field| match field {
        Ok((9, Value::Bytes(value))) => Some(body.slice_ref(value)),
        Ok(_) | Err(_) => None,
    });
    Record {
        header: Header {
            hash: *signed.hash.as_bytes(),
            ..signed.value
        },
        value: value.unwrap_or_default(),
        signed: laid_out,
    }
}

/// Lays out a SignedRecord, the body last.
fn lay_out(signature: &Signature, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(signature.0.len() + body.len() + 8);
    encode_key(1, WireType::LengthDelimited, &mut out);
    encode_varint(signature.0.len() as u64, &mut out);
    out.put_slice(&signature.0);
    encode_key(2, WireType::LengthDelimited, &mut out);
    encode_varint(body.len() as u64, &mut out);
    out.put_slice(body);
    out
}

fn body_of(header: &Header<PeerId>, value: &[u8]) -> proto::RecordBody {
    let is_value = matches!(header.content, Content::Value { .. });
    proto::RecordBody {
        writer: id(header.dot.writer.as_bytes()),
        key: header.key.as_str().to_owned(),
        seq: Some(encode_seq(header.dot.seq)),
        prev: header.prev.map(encode_seq),
        context: encode_context(&header.context),
        written_at: header.written_at.0,
        expires_at: header.expires_at.map(|at| at.0),
        copies: header.copies.into(),
        value: is_value.then(|| Bytes::copy_from_slice(value)),
    }
}

/// Reads a RecordBody; the hash is for who knows it.
fn header_of(body: &[u8]) -> Result<Header<PeerId>, Refused> {
    let (mut head, mut value) = (HeadReader::default(), None);
    for field in Fields::new(body) {
        let (number, field) = field?;
        match number {
            9 => once(&mut value, field.bytes()?.len())?,
            _ => head.take(number, field)?,
        }
    }
    if value.is_some_and(|bytes| bytes > VALUE_BYTES_MAX) {
        return malformed("a value of over 64 KiB");
    }
    let head = head.read(value.map_or(Content::Tombstone, |bytes| Content::Value {
        // At most 64 KiB, as was just checked.
        bytes: bytes as u32,
    }))?;
    let cited_bytes = head.context.intervals().len() * INTERVAL_BYTES_MAX;
    let known_bytes = value.unwrap_or(0) + head.key.as_str().len() + cited_bytes;
    if body.len() > known_bytes + EXTRA_BYTES_MAX {
        return malformed("a record with more in it than it says");
    }
    Ok(head)
}

/// Reads the fields of a RecordBody but its value, one by one.
#[derive(Default)]
pub(super) struct HeadReader {
    writer: Option<PeerId>,
    key: Option<KvKey>,
    seq: Option<Seq>,
    prev: Option<Seq>,
    context: Vec<Interval<PeerId>>,
    written_at: Option<UnixMicros>,
    expires_at: Option<UnixMicros>,
    copies: Option<u8>,
}

impl HeadReader {
    /// Takes a field; those of other numbers are passed over.
    pub(super) fn take(&mut self, number: u32, field: Value<'_>) -> Result<(), Refused> {
        match number {
            1 => once(&mut self.writer, PeerId::from_bytes(field.array()?)),
            2 => once(&mut self.key, read_key(field)?),
            3 => once(&mut self.seq, read_seq(field)?),
            4 => once(&mut self.prev, read_seq(field)?),
            5 if self.context.len() >= CONTEXT_INTERVALS_MAX => {
                malformed("a context of over 64 intervals")
            }
            5 => {
                self.context.push(read_interval(field)?);
                Ok(())
            }
            6 => once(&mut self.written_at, field.moment()?),
            7 => once(&mut self.expires_at, field.moment()?),
            8 => once(&mut self.copies, field.clamped()?),
            _ => Ok(()),
        }
    }

    /// Completes what was read; the hash is for who knows it.
    pub(super) fn read(self, content: Content) -> Result<Header<PeerId>, Refused> {
        let Some(context) = Context::from_ordered(self.context) else {
            return malformed("a context out of order");
        };
        Ok(Header {
            key: required(self.key)?,
            dot: Dot {
                writer: required(self.writer)?,
                seq: required(self.seq)?,
            },
            prev: self.prev,
            context,
            content,
            written_at: self.written_at.unwrap_or_default(),
            expires_at: self.expires_at,
            copies: self.copies.unwrap_or_default(),
            hash: [0; 32],
        })
    }
}

/// Reads a key.
pub(super) fn read_key(field: Value<'_>) -> Result<KvKey, Refused> {
    let text = std::str::from_utf8(field.bytes()?).ok();
    match text.map(KvKey::new) {
        Some(Ok(key)) => Ok(key),
        Some(Err(_)) | None => malformed("a key that is none"),
    }
}

pub(super) fn encode_seq(seq: Seq) -> proto::RecordSeq {
    proto::RecordSeq {
        epoch: seq.epoch,
        counter: seq.counter,
    }
}

/// Reads a RecordSeq.
pub(super) fn read_seq(field: Value<'_>) -> Result<Seq, Refused> {
    let (mut epoch, mut counter) = (None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, field) = field?;
        match number {
            1 => once(&mut epoch, field.seq()?)?,
            2 => once(&mut counter, field.seq()?)?,
            _ => {}
        }
    }
    Ok(Seq {
        epoch: epoch.unwrap_or(0),
        counter: counter.unwrap_or(0),
    })
}

pub(super) fn encode_context(context: &Context<PeerId>) -> Vec<proto::CitedInterval> {
    let encode = |interval: &Interval<PeerId>| proto::CitedInterval {
        writer: id(interval.writer.as_bytes()),
        after: (interval.after != Seq::ZERO).then(|| encode_seq(interval.after)),
        to: Some(encode_seq(interval.to)),
        ends_at: interval.ends_at.map(|at| at.0),
    };
    context.intervals().iter().map(encode).collect()
}

/// Reads a CitedInterval.
fn read_interval(field: Value<'_>) -> Result<Interval<PeerId>, Refused> {
    let (mut writer, mut after, mut to, mut ends_at) = (None, None, None, None);
    for field in Fields::new(field.bytes()?) {
        let (number, field) = field?;
        match number {
            1 => once(&mut writer, PeerId::from_bytes(field.array()?))?,
            2 => once(&mut after, read_seq(field)?)?,
            3 => once(&mut to, read_seq(field)?)?,
            4 => once(&mut ends_at, field.moment()?)?,
            _ => {}
        }
    }
    Ok(Interval {
        writer: required(writer)?,
        after: after.unwrap_or(Seq::ZERO),
        to: required(to)?,
        ends_at,
    })
}

#[cfg(test)]
pub(in crate::wire) mod tests;
