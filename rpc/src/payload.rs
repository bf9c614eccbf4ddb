//! Payloads in JSON: text as it is, other bytes in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A message's bytes as JSON: `{"data": "text"}` or `{"data_base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// UTF-8 text.
    #[serde(rename = "data")]
    Text(String),
    /// Any bytes, in base64 (RFC 4648 §4).
    #[serde(rename = "data_base64")]
    Base64(String),
}

impl Payload {
    /// Wraps bytes: as text where they are UTF-8 and JSON's escaping isn't longer than base64.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if escaped_len(text) <= bytes.len().div_ceil(3) * 4 => {
                Self::Text(text.to_owned())
            }
            _ => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// Wraps bytes for people to read: as text wherever they are UTF-8.
    pub fn readable(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// Takes what stands in one of two fields; none where neither or both are there.
    pub fn of_fields(text: Option<String>, base64: Option<String>) -> Option<Self> {
        match (text, base64) {
            (Some(text), None) => Some(Self::Text(text)),
            (None, Some(text)) => Some(Self::Base64(text)),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    /// Returns the bytes; an error says what is wrong with the base64.
    pub fn into_bytes(self) -> Result<Bytes, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Base64(text) => STANDARD.decode(text).map(Into::into),
        }
    }
}

/// How long the text is between JSON's quotes.
fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        for bytes in [
            &b""[..],
            b"plain",
            b"\xff\x00",
            "schön\n".as_bytes(),
            &[0; 100],
        ] {
            for payload in [Payload::of(bytes), Payload::readable(bytes)] {
                assert_eq!(payload.into_bytes().unwrap(), bytes);
            }
        }
    }

    #[test]
    fn a_payload_stands_in_one_field() {
        let text = || Some("aa==".to_owned());
        let of = Payload::of_fields;
        assert_eq!(of(text(), None), text().map(Payload::Text));
        assert_eq!(of(None, text()), text().map(Payload::Base64));
        assert_eq!((of(None, None), of(text(), text())), (None, None));
    }

    #[test]
    fn what_escapes_badly_goes_as_base64() {
        assert!(matches!(Payload::of(&[1; 100]), Payload::Base64(_)));
        assert!(matches!(Payload::readable(&[1; 100]), Payload::Text(_)));
        assert!(matches!(Payload::of(b"a line\n"), Payload::Text(_)));
    }
}
