//! Where a subscription or a reader of history begins.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// What a cursor's text begins with: its version.
pub const CURSOR_PREFIX: &str = "c1.";

/// Where a subscription or a reader of history begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// After all that has come so far.
    #[default]
    Latest,
    /// At the oldest that the daemon holds.
    Earliest,
    /// So many messages before the end.
    Last(u64),
    /// At what came to the daemon from that moment on.
    Since(SystemTime),
    /// After the message that carried this cursor.
    After(String),
}

/// A text that names no place to begin at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place to begin at: it is latest, earliest, -N (messages), -15m (or any duration), a time such as \
     2026-01-31T12:00:00Z, or a cursor"
)]
pub struct NoStart(String);

impl Start {
    /// Reads a text; a duration counts back from `now`.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, NoStart> {
        let refused = || NoStart(text.chars().take(80).collect());
        match text {
            "latest" => return Ok(Self::Latest),
            "earliest" => return Ok(Self::Earliest),
            _ if text.starts_with(CURSOR_PREFIX) => return Ok(Self::After(text.to_owned())),
            _ => {}
        }
        if let Some(back) = text.strip_prefix('-') {
            if let Ok(messages) = u64::from_str(back) {
                return Ok(Self::Last(messages));
            }
            let ago: Duration = humantime::parse_duration(back).map_err(|_| refused())?;
            let since = now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
            return Ok(Self::since(since));
        }
        let since = humantime::parse_rfc3339(text).map_err(|_| refused())?;
        Ok(Self::since(since))
    }

    /// Nothing came before 1970, of which times are not written.
    fn since(time: SystemTime) -> Self {
        Self::Since(time.max(SystemTime::UNIX_EPOCH))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Earliest => f.write_str("earliest"),
            Self::Last(messages) => write!(f, "-{messages}"),
            Self::Since(time) => humantime::format_rfc3339_micros(*time).fmt(f),
            Self::After(cursor) => f.write_str(cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let since = now() - Duration::from_millis(1);
        for start in [
            Start::Latest,
            Start::Earliest,
            Start::Last(7),
            Start::Since(since),
            Start::After("c1.abc".to_owned()),
        ] {
            assert_eq!(Start::parse(&start.to_string(), now()), Ok(start));
        }
    }

    #[test]
    fn durations_count_back_from_now() {
        let since = |ago: u64| Ok(Start::Since(now() - Duration::from_secs(ago)));
        assert_eq!(Start::parse("-15m", now()), since(15 * 60));
        assert_eq!(Start::parse("-1h 30s", now()), since(3_630));
        let before_all = Ok(Start::Since(SystemTime::UNIX_EPOCH));
        assert_eq!(Start::parse("-1000years", now()), before_all);
    }

    #[test]
    fn anything_else_is_refused_with_what_there_is() {
        for text in ["", "newest", "5", "-", "-x", "--1", "2026-01-31", "c2.abc"] {
            let error = Start::parse(text, now()).expect_err(text).to_string();
            assert!(error.contains("latest, earliest, -N"), "{error}");
        }
    }
}
