//! Consumers' names.

use std::fmt;
use std::str::FromStr;

/// Bytes of a name: a part of a key on disk, and short enough for a table on a screen.
const NAME_BYTES_MAX: usize = 64;

/// The name of one who reads a topic and goes on where it stopped: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerName(String);

/// A text that is no consumer's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a consumer's name has 1 to {NAME_BYTES_MAX} of the characters A-Z a-z 0-9 . _ -")]
pub struct ConsumerNameError;

impl ConsumerName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = ConsumerNameError;

    fn from_str(text: &str) -> Result<Self, ConsumerNameError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_allowed);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(ConsumerNameError),
        }
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for name in ["a", "Billing-2.eu_west", longest.as_str()] {
            assert_eq!(name.parse::<ConsumerName>().unwrap().as_str(), name);
        }
        for text in ["", "a b", "a/b", "é", "a\n", &format!("{longest}x")] {
            assert_eq!(
                text.parse::<ConsumerName>(),
                Err(ConsumerNameError),
                "{text:?}"
            );
        }
    }
}
