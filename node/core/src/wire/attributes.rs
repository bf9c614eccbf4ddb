//! What a publisher says of its messages: Attributes, checked when they come and read where they lie.
//!
//! A decoded bundle keeps them encoded. A header of a few bytes would else cost many times as much in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::fields::{Fields, Refused, malformed, once, required};
use super::proto;
use crate::message::{HEADERS_MAX, is_content_type, is_header_name, is_header_value};

/// Bytes of one message's attributes: 16 headers of 64 and 1,024 bytes and a content type of 127 take 17.5 KiB, what is left
/// is for later versions.
pub(super) const BYTES_MAX: usize = 18 * 1024;

/// Bytes around one message's attributes in a body: key and length of the entry (4), the message's index (3), key and
/// length of the attributes (4).
pub(super) const FRAMING_BYTES_MAX: usize = 11;

/// Encodes Attributes that are within their bounds; nothing said becomes no bytes.
pub(crate) fn encode(content_type: Option<&str>, headers: &BTreeMap<String, String>) -> Bytes {
    let headers = headers.iter().map(|(name, value)| proto::Header {
        name: name.clone(),
        value: value.clone(),
    });
    let attributes = proto::Attributes {
        content_type: content_type.map(str::to_owned),
        headers: headers.collect(),
    };
    attributes.encode_to_vec().into()
}

/// An entry of a bundle's body: which message, from 0, and what is said of it, not yet checked.
#[derive(Clone, Copy)]
pub(super) struct MessageAttributes<'a> {
    pub(super) message: u32,
    pub(super) attributes: &'a [u8],
}

impl<'a> MessageAttributes<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refused> {
        let (mut message, mut attributes) = (None, None);
        for field in Fields::new(bytes) {
            let (number, value) = field?;
            match number {
                1 => once(&mut message, value.varint()?)?,
                2 => once(&mut attributes, value.bytes()?)?,
                _ => {}
            }
        }
        let Ok(message) = u32::try_from(message.unwrap_or(0)) else {
            return malformed("attributes of a message that isn't there");
        };
        Ok(Self {
            message,
            attributes: required(attributes)?,
        })
    }

    /// Checks what is said against every bound.
    pub(super) fn check(self) -> Result<(), Refused> {
        if !(1..=BYTES_MAX).contains(&self.attributes.len()) {
            return malformed("attributes of no or over 18 KiB");
        }
        let mut content_type = None;
        let (mut last, mut headers) = ("", 0);
        for field in Fields::new(self.attributes) {
            let (number, value) = field?;
            match number {
                1 => once(&mut content_type, value.text()?)?,
                2 => {
                    let (name, header_value) = header(value.bytes()?)?;
                    headers += 1;
                    if headers > HEADERS_MAX {
                        return malformed("over 16 headers");
                    }
                    if !is_header_name(name) || !is_header_value(header_value) {
                        return malformed("a header out of bounds");
                    }
                    // No name is empty, so the first comes after the empty one as well.
                    if name <= last {
                        return malformed("headers out of order, or one twice");
                    }
                    last = name;
                }
                _ => {}
            }
        }
        match content_type {
            Some(text) if !is_content_type(text) => malformed("a content type out of bounds"),
            _ => Ok(()),
        }
    }
}

/// Reads the content type of checked Attributes.
pub(crate) fn content_type(attributes: &[u8]) -> Option<&str> {
    let mut fields = Fields::new(attributes).flatten();
    let value = fields.find_map(|(number, value)| (number == 1).then_some(value))?;
    value.text().ok()
}

/// Reads the headers of checked Attributes.
pub(crate) fn headers(attributes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let fields = Fields::new(attributes).flatten();
    fields
        .filter(|(number, _)| *number == 2)
        .filter_map(|(_, value)| header(value.bytes().ok()?).ok())
}

/// Reads a Header's name and value.
fn header(bytes: &[u8]) -> Result<(&str, &str), Refused> {
    let (mut name, mut value) = (None, None);
    for field in Fields::new(bytes) {
        let (number, field) = field?;
        match number {
            1 => once(&mut name, field.text()?)?,
            2 => once(&mut value, field.text()?)?,
            _ => {}
        }
    }
    Ok((name.unwrap_or(""), value.unwrap_or("")))
}
