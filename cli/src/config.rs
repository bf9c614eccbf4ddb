//! `weft.toml` in the daemon's directory: what `weft run` is not told otherwise.

mod toml;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use weft_rpc::nearest::nearest;

use crate::failure::{Exit, Failure};
use toml::Value;

/// The file's name.
pub(crate) const FILE_NAME: &str = "weft.toml";

/// The keys that it may have.
const KEYS: [&str; 5] = ["network", "listen", "join", "key", "log"];

/// What the file says; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) network: Option<String>,
    pub(crate) listen: Option<Vec<String>>,
    pub(crate) join: Option<Vec<String>>,
    /// As it stands in the file: relative to the daemon's directory.
    pub(crate) key: Option<PathBuf>,
    pub(crate) log: Option<String>,
}

/// What is wrong with the file, and in which line.
#[derive(Debug, PartialEq, Eq)]
struct ConfigError {
    line: usize,
    what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads the file of a directory; an absent one says nothing.
pub(crate) fn load(dir: &Path) -> Result<Config, Failure> {
    let path = dir.join(FILE_NAME);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => {
            return Err(Failure::new(
                Exit::Error,
                format!("can't read {}: {error}", path.display()),
            ));
        }
    };
    parse(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
            .hint(format!("it may have the keys {}", KEYS.join(", ")))
    })
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut seen = Vec::new();
    for entry in toml::parse(text)? {
        let line = entry.line;
        if seen.contains(&entry.key) {
            return Err(ConfigError {
                line,
                what: format!("the key {:?} stands here a second time", entry.key),
            });
        }
        match entry.key.as_str() {
            "network" => config.network = Some(string(&entry)?),
            "listen" => config.listen = Some(strings(&entry)?),
            "join" => config.join = Some(strings(&entry)?),
            "key" => config.key = Some(string(&entry)?.into()),
            "log" => config.log = Some(string(&entry)?),
            unknown => {
                let meant = nearest(unknown, KEYS)
                    .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                return Err(ConfigError {
                    line,
                    what: format!("unknown key {unknown:?}{meant}"),
                });
            }
        }
        seen.push(entry.key);
    }
    Ok(config)
}

fn string(entry: &toml::Entry) -> Result<String, ConfigError> {
    match &entry.value {
        Value::String(text) => Ok(text.clone()),
        Value::Strings(_) => Err(ConfigError {
            line: entry.line,
            what: format!("{:?} takes one string, not an array", entry.key),
        }),
    }
}

fn strings(entry: &toml::Entry) -> Result<Vec<String>, ConfigError> {
    match &entry.value {
        Value::Strings(texts) => Ok(texts.clone()),
        Value::String(_) => Err(ConfigError {
            line: entry.line,
            what: format!(
                "{:?} takes an array of strings, such as [\"/ip4/127.0.0.1/tcp/4001\"]",
                entry.key
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "# mine\nnetwork = \"home\"\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\njoin = []\nkey = 'id'\nlog = \"debug\"\n",
        )
        .unwrap();
        assert_eq!(config.network.as_deref(), Some("home"));
        assert_eq!(config.listen.unwrap(), ["/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(config.join.unwrap(), [""; 0]);
        assert_eq!(config.key.unwrap(), Path::new("id"));
        assert_eq!(config.log.as_deref(), Some("debug"));
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_its_line() {
        let error = parse("\n\nnetwrok = \"x\"\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 3: unknown key \"netwrok\"; did you mean \"network\"?"
        );
    }

    #[test]
    fn wrong_kinds_and_repeated_keys_are_told() {
        assert!(
            parse("listen = \"a\"")
                .unwrap_err()
                .to_string()
                .contains("array of strings")
        );
        assert!(
            parse("network = [\"a\"]")
                .unwrap_err()
                .to_string()
                .contains("one string")
        );
        assert!(
            parse("log = \"a\"\nlog = \"b\"")
                .unwrap_err()
                .to_string()
                .starts_with("line 2: ")
        );
    }

    #[test]
    fn an_absent_file_says_nothing_and_a_broken_one_is_a_usage_error() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(load(temp.path()).unwrap(), Config::default());
        std::fs::write(temp.path().join(FILE_NAME), "network = [\n").unwrap();
        let failure = load(temp.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("weft.toml: line"), "{failure}");
    }
}
