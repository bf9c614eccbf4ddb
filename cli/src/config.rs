//! `weft.toml` in the daemon's directory: what `weft run` is not told otherwise.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weft_rpc::nearest::nearest;

use crate::failure::{Exit, Failure};

/// The file's name.
pub(crate) const FILE_NAME: &str = "weft.toml";

/// The keys that it may have.
const KEYS: [&str; 7] = [
    "network", "listen", "join", "key", "dht_mode", "store", "log",
];

/// What the file says; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) network: Option<String>,
    pub(crate) listen: Option<Vec<String>>,
    pub(crate) join: Option<Vec<String>>,
    /// As it stands in the file: relative to the daemon's directory.
    pub(crate) key: Option<PathBuf>,
    pub(crate) dht_mode: Option<DhtMode>,
    pub(crate) store: Option<StorePart>,
    pub(crate) log: Option<String>,
}

/// A node's part in the structured layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DhtMode {
    /// It answers others
    Server,
    /// It only asks
    Client,
}

/// A server's part in the replicated store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StorePart {
    /// It keeps records for others
    Yes,
    /// It reads and writes, and keeps nothing
    No,
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
    let file = File(text);
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        file.error(at, error.message().to_owned())
    })?;
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut config = Config::default();
    for (key, value) in entries {
        match key.get_ref().as_ref() {
            "network" => config.network = Some(file.string(&key, &value)?),
            "listen" => config.listen = Some(file.strings(&key, &value)?),
            "join" => config.join = Some(file.strings(&key, &value)?),
            "key" => config.key = Some(file.string(&key, &value)?.into()),
            "dht_mode" => config.dht_mode = Some(file.dht_mode(&key, &value)?),
            "store" => config.store = Some(file.store(&key, &value)?),
            "log" => config.log = Some(file.string(&key, &value)?),
            unknown => {
                let meant = nearest(unknown, KEYS)
                    .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                let what = format!("unknown key {unknown:?}{meant}");
                return Err(file.error(key.span().start, what));
            }
        }
    }
    Ok(config)
}

/// The file's text, which tells the lines of what is wrong in it.
struct File<'a>(&'a str);

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl File<'_> {
    fn error(&self, at: usize, what: String) -> ConfigError {
        let before = self.0.as_bytes().iter().take(at);
        ConfigError {
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            what,
        }
    }

    fn string(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        value.get_ref().as_str().map(str::to_owned).ok_or_else(|| {
            let what = format!("{:?} takes one string", key.get_ref());
            self.error(value.span().start, what)
        })
    }

    fn store(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<StorePart, ConfigError> {
        let text = self.string(key, value)?;
        StorePart::from_str(&text, false).map_err(|_| {
            let what = format!("store is \"yes\" or \"no\", not {text:?}");
            self.error(value.span().start, what)
        })
    }

    fn dht_mode(
        &self,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<DhtMode, ConfigError> {
        let text = self.string(key, value)?;
        DhtMode::from_str(&text, false).map_err(|_| {
            let what = format!("dht_mode is \"server\" or \"client\", not {text:?}");
            self.error(value.span().start, what)
        })
    }

    fn strings(
        &self,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<String>, ConfigError> {
        let texts = value.get_ref().as_array().and_then(|array| {
            let texts = array.iter().map(|text| text.get_ref().as_str());
            texts.map(|text| text.map(str::to_owned)).collect()
        });
        texts.ok_or_else(|| {
            let what = format!(
                "{:?} takes an array of strings, such as [\"/ip4/127.0.0.1/tcp/4001\"]",
                key.get_ref()
            );
            self.error(value.span().start, what)
        })
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
    fn mistakes_are_told_with_their_line() {
        for (text, line) in [
            ("network = 1", 1),
            ("\n[table]", 2),
            ("network = \"open\nlog = \"x\"", 1),
            ("network = 'x' 'y'", 1),
            ("network 'x'", 1),
            ("= 'x'", 1),
            (r#"network = "\q""#, 1),
            ("log = 'x'\nlisten = ['y', 2]", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
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
