//! Topics: names, and the points that stand for them on the wire.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use weft_identity::Hash;

/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 200;
/// The root swarm, which holds the whole network together.
pub const NETWORK: &str = "network";

/// A topic's name: 1 to 200 bytes of `[A-Za-z0-9._/-]`. `network` is the root swarm's and reserved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Returns the root swarm's name, which users can't parse.
    pub fn network() -> Self {
        Self(NETWORK.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the topic's point in a network: SHA-256 over a domain, the network's name and the topic's.
    pub fn id(&self, network: &str) -> TopicId {
        let mut bytes = Vec::with_capacity(32 + network.len() + self.0.len());
        bytes.extend_from_slice(b"weft/topic/1\0");
        bytes.extend_from_slice(&(network.len() as u32).to_be_bytes());
        bytes.extend_from_slice(network.as_bytes());
        bytes.extend_from_slice(self.0.as_bytes());
        TopicId(*Hash::of(&bytes).as_bytes())
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<Self, TopicNameError> {
        if text.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicNameError::TooLong { bytes: text.len() });
        }
        if text.starts_with('@') {
            return Err(TopicNameError::Owned);
        }
        if let Some(bad) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-')))
        {
            return Err(TopicNameError::BadCharacter(bad));
        }
        if text == NETWORK {
            return Err(TopicNameError::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Why a text is not the name of a topic that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Nothing.
    #[error(
        "a topic's name is empty; it has 1 to {TOPIC_NAME_BYTES_MAX} of the characters A-Z a-z 0-9 . _ / -"
    )]
    Empty,
    /// More than [`TOPIC_NAME_BYTES_MAX`] bytes.
    #[error("a topic's name has at most {TOPIC_NAME_BYTES_MAX} bytes, and this one has {bytes}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// A character that no name has.
    #[error(
        "a topic's name can't hold {0:?}; it has 1 to {TOPIC_NAME_BYTES_MAX} of the characters A-Z a-z 0-9 . _ / -"
    )]
    BadCharacter(char),
    /// A leading `@`.
    #[error("names that begin with @ are reserved for topics with an owner")]
    Owned,
    /// The root swarm's name.
    #[error("the name {NETWORK:?} is reserved for the swarm that holds the network together")]
    Reserved,
}

/// A topic's point: what stands for it on the wire and in signatures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 32]);

impl TopicId {
    /// Takes 32 bytes from the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TopicId({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_by_the_rule() {
        for good in ["a", "logs", "a/b.c_d-9", &"x".repeat(200)] {
            assert_eq!(good.parse::<TopicName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(201);
        for (bad, error) in [
            ("", TopicNameError::Empty),
            (&long, TopicNameError::TooLong { bytes: 201 }),
            ("a b", TopicNameError::BadCharacter(' ')),
            ("schön", TopicNameError::BadCharacter('ö')),
            ("@me/x", TopicNameError::Owned),
            ("network", TopicNameError::Reserved),
        ] {
            assert_eq!(bad.parse::<TopicName>(), Err(error));
        }
    }

    #[test]
    fn points_differ_by_network_and_by_name() {
        let topic: TopicName = "bc".parse().unwrap();
        assert_ne!(topic.id("a"), topic.id("b"));
        let other: TopicName = "c".parse().unwrap();
        assert_ne!(topic.id("a"), other.id("ab"), "names are not run together");
    }
}
