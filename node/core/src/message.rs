//! A message as it is published: its payload, and what its publisher says of it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::wire::attributes;

/// Bytes of a content type: a media type's two names have 127 bytes at most each, and common ones far less (RFC 6838 §4.2).
pub const CONTENT_TYPE_BYTES_MAX: usize = 127;
/// Headers of one message. A guess: what tracing, routing and versions take, twice over.
pub const HEADERS_MAX: usize = 16;
/// Bytes of a header's name, as of a client's other names.
pub const HEADER_NAME_BYTES_MAX: usize = 64;
/// Bytes of a header's value: a header says something of the payload, and is none.
pub const HEADER_VALUE_BYTES_MAX: usize = 1_024;

/// A message as a caller publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The payload.
    pub data: Bytes,
    /// What is said of it.
    pub attributes: Attributes,
}

impl Message {
    /// Returns how many bytes count against a message's and a bundle's bound: payload and attributes.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.attributes.bytes()
    }
}

impl From<Bytes> for Message {
    /// Makes a message of which nothing is said.
    fn from(data: Bytes) -> Self {
        Self {
            data,
            attributes: Attributes::default(),
        }
    }
}

impl From<&'static str> for Message {
    /// Makes a message of which nothing is said.
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// A message's content type and headers, within their bounds. Kept as the wire has them: nothing said takes no room, and a
/// clone shares the bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Bytes);

impl Attributes {
    /// Makes attributes of a content type (1 to 127 printable ASCII characters) and headers (at most 16; names of 1 to 64 of
    /// the characters `a-z 0-9 -`, values of at most 1 KiB).
    pub fn new(
        content_type: Option<&str>,
        headers: &BTreeMap<String, String>,
    ) -> Result<Self, AttributesError> {
        if let Some(text) = content_type
            && !is_content_type(text)
        {
            return Err(AttributesError::ContentType { bytes: text.len() });
        }
        if headers.len() > HEADERS_MAX {
            let count = headers.len();
            return Err(AttributesError::TooManyHeaders { count });
        }
        for (name, value) in headers {
            if !is_header_name(name) {
                let name = name.chars().take(HEADER_NAME_BYTES_MAX).collect();
                return Err(AttributesError::HeaderName { name });
            }
            if !is_header_value(value) {
                return Err(AttributesError::HeaderValue {
                    name: name.clone(),
                    bytes: value.len(),
                });
            }
        }
        Ok(Self(attributes::encode(content_type, headers)))
    }

    /// Wraps what the wire's reader has checked.
    pub(crate) fn checked(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns them as the wire has them.
    pub(crate) fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Returns whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many bytes count against a message's and a bundle's bound.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Returns the payload's content type, such as `application/json`.
    pub fn content_type(&self) -> Option<&str> {
        attributes::content_type(&self.0)
    }

    /// Returns the headers' names and values, in the order of the names.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        attributes::headers(&self.0)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers().collect();
        f.debug_struct("Attributes")
            .field("content_type", &self.content_type())
            .field("headers", &headers)
            .finish()
    }
}

pub(crate) fn is_content_type(text: &str) -> bool {
    (1..=CONTENT_TYPE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

pub(crate) fn is_header_name(text: &str) -> bool {
    (1..=HEADER_NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

pub(crate) fn is_header_value(text: &str) -> bool {
    text.len() <= HEADER_VALUE_BYTES_MAX
}

/// Why a message can't carry what is said of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// A content type of no or too many bytes, or with a character that isn't printable ASCII.
    #[error(
        "a content type has 1 to {CONTENT_TYPE_BYTES_MAX} printable ASCII characters, and this one, of {bytes} bytes, does not fit"
    )]
    ContentType {
        /// How many bytes it has.
        bytes: usize,
    },
    /// More than [`HEADERS_MAX`].
    #[error("a message has at most {HEADERS_MAX} headers, and this one has {count}")]
    TooManyHeaders {
        /// How many.
        count: usize,
    },
    /// A name that no header has.
    #[error(
        "a header's name has 1 to {HEADER_NAME_BYTES_MAX} of the characters a-z 0-9 -, and {name:?} does not fit"
    )]
    HeaderName {
        /// The beginning of it.
        name: String,
    },
    /// More than [`HEADER_VALUE_BYTES_MAX`].
    #[error(
        "a header's value has at most {HEADER_VALUE_BYTES_MAX} bytes, and that of {name} has {bytes}"
    )]
    HeaderValue {
        /// Which header's.
        name: String,
        /// How many bytes it has.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_is_said_is_read_again() {
        let given = headers(&[("trace-id", "7f"), ("empty", ""), ("ort", "Köln\n")]);
        let attributes = Attributes::new(Some("text/plain; charset=utf-8"), &given).unwrap();
        assert_eq!(attributes.content_type(), Some("text/plain; charset=utf-8"));
        let read: Vec<_> = attributes.headers().collect();
        assert_eq!(
            read,
            [("empty", ""), ("ort", "Köln\n"), ("trace-id", "7f")],
            "in the order of the names"
        );
        assert!(!attributes.is_empty());
    }

    #[test]
    fn nothing_said_takes_no_room() {
        let nothing = Attributes::new(None, &BTreeMap::new()).unwrap();
        assert_eq!(nothing, Attributes::default());
        assert_eq!((nothing.bytes(), nothing.content_type()), (0, None));
        assert_eq!(nothing.headers().count(), 0);
        assert_eq!(Message::from(Bytes::from_static(b"four")).bytes(), 4);
    }

    #[test]
    fn bounds_hold_and_the_largest_passes() {
        let text = |len| "x".repeat(len);
        let of_type = |text: &str| Attributes::new(Some(text), &BTreeMap::new());
        assert!(of_type(&text(CONTENT_TYPE_BYTES_MAX)).is_ok());
        for bad in ["", "text/plän", "a\tb", &text(CONTENT_TYPE_BYTES_MAX + 1)] {
            let bytes = bad.len();
            assert_eq!(of_type(bad), Err(AttributesError::ContentType { bytes }));
        }
        let of_header = |name: &str, value: &str| Attributes::new(None, &headers(&[(name, value)]));
        assert!(of_header(&text(HEADER_NAME_BYTES_MAX), &text(HEADER_VALUE_BYTES_MAX)).is_ok());
        for bad in ["", "Upper", "a b", "a_b", "ä"] {
            let name = bad.to_owned();
            assert_eq!(
                of_header(bad, ""),
                Err(AttributesError::HeaderName { name })
            );
        }
        assert_eq!(
            of_header(&text(HEADER_NAME_BYTES_MAX + 1), ""),
            Err(AttributesError::HeaderName {
                name: text(HEADER_NAME_BYTES_MAX)
            }),
            "an error doesn't repeat what has no bound"
        );
        assert_eq!(
            of_header("a", &text(HEADER_VALUE_BYTES_MAX + 1)),
            Err(AttributesError::HeaderValue {
                name: "a".to_owned(),
                bytes: HEADER_VALUE_BYTES_MAX + 1
            })
        );
        let many = |count: usize| -> BTreeMap<String, String> {
            let name = |n: usize| format!("{n:0>HEADER_NAME_BYTES_MAX$}");
            (0..count)
                .map(|n| (name(n), text(HEADER_VALUE_BYTES_MAX)))
                .collect()
        };
        assert_eq!(
            Attributes::new(None, &many(HEADERS_MAX + 1)),
            Err(AttributesError::TooManyHeaders {
                count: HEADERS_MAX + 1
            })
        );
        let largest = Attributes::new(Some(&text(CONTENT_TYPE_BYTES_MAX)), &many(HEADERS_MAX));
        assert_eq!(largest.unwrap().headers().count(), HEADERS_MAX);
    }
}
