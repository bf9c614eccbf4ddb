//! Which write a record is.

use std::fmt;
use std::str::FromStr;

/// The place of a write among all writes of its writer: which run, and the how-manyth write of that run.
///
/// It is ordered as its writer wrote: runs are numbered upwards, and a run's number is on disk before its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq {
    /// The writer's run, in milliseconds since the Unix epoch or one more than the run before, whichever is more.
    pub epoch: u64,
    /// The write's number in that run, from 1.
    pub counter: u64,
}

impl Seq {
    /// Before every write.
    pub const ZERO: Self = Self {
        epoch: 0,
        counter: 0,
    };

    /// Returns the place right before this one, where no other write can be; a place of no write stays itself.
    pub(crate) const fn before(self) -> Self {
        Self {
            epoch: self.epoch,
            counter: self.counter.saturating_sub(1),
        }
    }
}

impl fmt::Display for Seq {
    /// Writes `epoch.counter`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// A text that is no [`Seq`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is EPOCH.COUNTER, two numbers such as 1700000000000.7")]
pub struct ParseSeqError;

impl FromStr for Seq {
    type Err = ParseSeqError;

    fn from_str(text: &str) -> Result<Self, ParseSeqError> {
        let (epoch, counter) = text.split_once('.').ok_or(ParseSeqError)?;
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = digits.parse().map_err(|_| ParseSeqError)?;
            if plain {
                Ok(parsed)
            } else {
                Err(ParseSeqError)
            }
        };
        Ok(Self {
            epoch: number(epoch)?,
            counter: number(counter)?,
        })
    }
}

/// One write: who wrote, and which of their writes it is. No two writes of a writer that keeps to the rules share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot<P> {
    /// Who wrote.
    pub writer: P,
    /// Which of the writer's writes.
    pub seq: Seq,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(epoch: u64, counter: u64) -> Seq {
        Seq { epoch, counter }
    }

    #[test]
    fn a_later_run_comes_after_every_write_of_an_earlier_one() {
        assert!(seq(2, 1) > seq(1, u64::MAX));
        assert!(seq(1, 2) > seq(1, 1) && seq(1, 1) > Seq::ZERO);
    }

    #[test]
    fn nothing_lies_between_a_write_and_the_place_before_it() {
        assert_eq!(seq(7, 3).before(), seq(7, 2));
        assert_eq!(seq(7, 1).before(), seq(7, 0));
        assert_eq!(seq(7, 0).before(), seq(7, 0));
    }

    #[test]
    fn a_version_goes_to_text_and_back() {
        let version = seq(1_700_000_000_000, 7);
        assert_eq!(version.to_string(), "1700000000000.7");
        assert_eq!(version.to_string().parse(), Ok(version));
        for wrong in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "1.2.3",
            "+1.2",
            "1.-2",
            "18446744073709551616.1",
        ] {
            assert_eq!(wrong.parse::<Seq>(), Err(ParseSeqError), "{wrong}");
        }
    }
}
