//! Protobuf's encoding, read field by field out of a buffer without allocating.

use prost::encoding::decode_varint;
use weft_overlay::UnixMicros;

use super::{DecodeError, SEQ_MAX, UNIX_MICROS_MAX};

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A message or a value of a kind that this version doesn't know.
    Unknown,
    /// What no honest peer sends.
    Because(DecodeError),
}

impl From<Refused> for DecodeError {
    /// Takes the reason, where an unknown kind has no place.
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::Malformed("an unknown kind"),
            Refused::Because(error) => error,
        }
    }
}

/// Refuses what no honest peer sends.
pub(super) fn malformed<T>(what: &'static str) -> Result<T, Refused> {
    Err(Refused::Because(DecodeError::Malformed(what)))
}

/// Stores a singular field's value; a second one is refused.
pub(super) fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refused> {
    if slot.is_some() {
        return malformed("a singular field twice");
    }
    *slot = Some(value);
    Ok(())
}

/// Takes the value of a field that must stand.
pub(super) fn required<T>(slot: Option<T>) -> Result<T, Refused> {
    match slot {
        Some(value) => Ok(value),
        None => malformed("a field that must stand is missing"),
    }
}

/// A field's value as its wire type says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn varint(self) -> Result<u64, Refused> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => malformed("a field of another wire type"),
        }
    }

    pub(super) fn fixed64(self) -> Result<u64, Refused> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => malformed("a field of another wire type"),
        }
    }

    pub(super) fn fixed32(self) -> Result<u32, Refused> {
        match self {
            Self::Fixed32(value) => Ok(value),
            _ => malformed("a field of another wire type"),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Refused> {
        match self {
            Self::Bytes(value) => Ok(value),
            _ => malformed("a field of another wire type"),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Refused> {
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) => Ok(text),
            Err(_) => malformed("a text that is no UTF-8"),
        }
    }

    pub(super) fn array<const N: usize>(self) -> Result<[u8; N], Refused> {
        match self.bytes()?.try_into() {
            Ok(array) => Ok(array),
            Err(_) => malformed("an id, hash or signature of another length"),
        }
    }

    pub(super) fn flag(self) -> Result<bool, Refused> {
        Ok(self.varint()? != 0)
    }

    /// Reads a count, clamped to what fits.
    pub(super) fn clamped(self) -> Result<u8, Refused> {
        Ok(u8::try_from(self.varint()?).unwrap_or(u8::MAX))
    }

    /// Reads a seq or an epoch.
    pub(super) fn seq(self) -> Result<u64, Refused> {
        match self.varint()? {
            seq @ 0..=SEQ_MAX => Ok(seq),
            _ => malformed("a seq or epoch of 2^53 or more"),
        }
    }

    pub(super) fn moment(self) -> Result<UnixMicros, Refused> {
        match self.varint()? {
            micros @ 0..=UNIX_MICROS_MAX => Ok(UnixMicros(micros)),
            _ => malformed("a moment after the year 9999"),
        }
    }
}

/// The fields of an encoded message in the order they stand; ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), Refused> {
        let key = varint(&mut self.rest)?;
        let number = match u32::try_from(key >> 3) {
            Ok(number @ 1..) => number,
            _ => return malformed("a field number out of range"),
        };
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => {
                let (bytes, rest) = split(self.rest, 8)?;
                self.rest = rest;
                let mut value = [0; 8];
                value.copy_from_slice(bytes);
                Value::Fixed64(u64::from_le_bytes(value))
            }
            2 => {
                let len = varint(&mut self.rest)?;
                let (bytes, rest) = split(self.rest, len)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = split(self.rest, 4)?;
                self.rest = rest;
                let mut value = [0; 4];
                value.copy_from_slice(bytes);
                Value::Fixed32(u32::from_le_bytes(value))
            }
            // Groups are gone from proto3, and skipping nested ones would take a stack.
            _ => return malformed("a field of no known wire type"),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Reads a varint off the front.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Refused> {
    match decode_varint(rest) {
        Ok(value) => Ok(value),
        Err(_) => malformed("a varint that doesn't end"),
    }
}

fn split(bytes: &[u8], len: u64) -> Result<(&[u8], &[u8]), Refused> {
    match usize::try_from(len) {
        Ok(len) if len <= bytes.len() => Ok(bytes.split_at(len)),
        _ => malformed("a field longer than what holds it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u32>, Refused> {
        Fields::new(bytes)
            .map(|field| field.map(|(number, _)| number))
            .collect()
    }

    #[test]
    fn fields_of_every_wire_type_are_skipped() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x11, 1, 2, 3, 4, 5, 6, 7, 8, // 2: fixed64
            0x1a, 2, 0xff, 0xff, // 3: two bytes
            0x25, 1, 2, 3, 4, // 4: fixed32
        ];
        assert_eq!(read(&bytes), Ok(vec![1, 2, 3, 4]));
    }

    #[test]
    fn what_is_no_protobuf_is_refused() {
        for bad in [
            &[0x00, 0x00][..],                   // field number 0
            &[0x0b],                             // a group
            &[0x0c],                             // a group's end
            &[0x0f, 0x00],                       // wire type 7
            &[0x08],                             // no value
            &[0x0a, 0x05, 0x00],                 // shorter than it says
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 15], // 4 GiB
            &[0x11, 1, 2, 3],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ],
            &[0x80; 20],
        ] {
            assert!(read(bad).is_err(), "{bad:x?}");
        }
    }
}
