//! Scenarios: those that the binary carries, by name, and those of a user, by file.
//!
//! What a scenario may say is [`weft_sim::scenario`]; this reads it, and names the line of what is wrong in it.

mod mistake;

use std::io;
use std::path::{Path, PathBuf};

use weft_rpc::nearest::nearest;
use weft_sim::scenario::Scenario;

pub use mistake::Mistake;

/// Lists scenarios by the names of their files, and carries their text.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../scenarios/", $name, ".toml")),
        }),*]
    };
}

/// A scenario that the binary carries.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name, as that of its file in `testnet/scenarios`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Every scenario that the binary carries, in the order in which they are listed.
pub const SHIPPED: &[Shipped] = shipped![
    "anti-entropy",
    "churn",
    "crash-50",
    "crash-80",
    "flash-crowd",
    "hang",
    "hyparview-failures",
    "hyparview-graph",
    "hyparview-healing",
    "hyparview-reseeded",
    "kv-crashes",
    "kv-faults",
    "kv-healthy",
    "lookup-churn",
    "lookup-hops",
    "lookup-liars",
    "lookup-silent",
    "lossy-links",
    "many-topics",
    "million",
    "overhead",
    "partition-merge",
    "plumtree-after-join",
    "plumtree-failures",
    "plumtree-one-sender",
    "plumtree-random-sender",
    "random-faults",
    "random-faults-nodes",
    "rumor-demers",
    "spread-compare",
    "topic-keepers",
    "topic-late",
    "topic-restart",
    "topic-split",
];

/// A scenario, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub scenario: Scenario,
    /// What names it on the command line: the name of a shipped one, or a file's path.
    pub argument: String,
    /// Its text.
    pub text: String,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary carries none of this name.
    #[error("there is no scenario {name:?}{}", did_you_mean(*near))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// A name close to it.
        near: Option<&'static str>,
    },
    /// There is no such file.
    #[error("there is no file {}", path.display())]
    NotFound {
        /// Its path.
        path: PathBuf,
    },
    /// The file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What the file says can't be run.
    #[error("{argument}: {mistake}")]
    Wrong {
        /// What was asked for.
        argument: String,
        /// What is wrong with it.
        mistake: Mistake,
    },
}

/// Loads what an argument names: a file if it ends in `.toml` or holds a slash, a shipped scenario otherwise.
pub fn load(argument: &str) -> Result<Loaded, LoadError> {
    let text = if argument.ends_with(".toml") || argument.contains('/') {
        read(Path::new(argument))?
    } else {
        let found = SHIPPED.iter().find(|shipped| shipped.name == argument);
        let unknown = || LoadError::Unknown {
            name: argument.to_owned(),
            near: nearest(argument, SHIPPED.iter().map(|shipped| shipped.name)),
        };
        found.ok_or_else(unknown)?.text.to_owned()
    };
    let scenario = parse(&text).map_err(|mistake| LoadError::Wrong {
        argument: argument.to_owned(),
        mistake,
    })?;
    Ok(Loaded {
        scenario,
        argument: argument.to_owned(),
        text,
    })
}

fn read(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|error| {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => LoadError::NotFound { path },
            _ => LoadError::Unreadable { path, error },
        }
    })
}

/// Reads a scenario's text and checks it.
pub fn parse(text: &str) -> Result<Scenario, Mistake> {
    let scenario: Scenario =
        toml::from_str(text).map_err(|error| mistake::of_toml(text, &error))?;
    mistake::ignored_keys(text)?;
    scenario
        .check()
        .map_err(|invalid| mistake::of_check(text, &invalid))?;
    Ok(scenario)
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_file_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut names: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.name).collect();
        names.sort_unstable();
        assert_eq!(names, files, "`SHIPPED` and testnet/scenarios/ differ");
    }

    #[test]
    fn every_shipped_scenario_is_right_and_has_the_name_of_its_file() {
        for shipped in SHIPPED {
            match load(shipped.name) {
                Ok(loaded) => {
                    assert_eq!(loaded.scenario.name, shipped.name);
                    assert!(!loaded.scenario.expect.is_empty(), "{}", shipped.name);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = load("hyparview-grap").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no scenario \"hyparview-grap\"; did you mean \"hyparview-graph\"?"
        );
        let error = load("./none.toml").unwrap_err();
        assert_eq!(error.to_string(), "there is no file ./none.toml");
    }
}
