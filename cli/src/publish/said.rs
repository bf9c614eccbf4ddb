//! What is said of messages: `--content-type` and `--header`.

use std::collections::BTreeMap;

use weft_node::Attributes;
use weft_rpc::limits::MESSAGE_BYTES_MAX;
use weft_rpc::payload::Payload;
use weft_rpc::types::NewMessage;

use super::lines::Bounds;
use crate::failure::{Exit, Failure};

/// The same for each message of a call.
#[derive(Debug, clap::Args)]
pub(super) struct SaidArgs {
    /// What the message is, such as application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Something else to know of it; up to 16 of them, each of another name
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
}

impl SaidArgs {
    /// Reads them before a daemon is asked: they are a matter of usage.
    pub(super) fn read(self) -> Result<Said, Failure> {
        let usage = |reason: String| Failure::new(Exit::Usage, reason);
        let mut headers = BTreeMap::new();
        for header in self.headers {
            let Some((name, value)) = header.split_once('=') else {
                return Err(usage(format!("--header: {header:?} has no ="))
                    .hint("write it as NAME=VALUE; a value may be empty"));
            };
            if headers.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(usage(format!("--header: {name:?} is there twice"))
                    .hint("a header has one value; put several into it, or name them apart"));
            }
        }
        let attributes = Attributes::new(self.content_type.as_deref(), &headers)
            .map_err(|error| usage(error.to_string()))?;
        Ok(Said {
            content_type: self.content_type,
            headers,
            bytes: attributes.bytes(),
        })
    }
}

/// What is said of each message.
#[derive(Debug, Default)]
pub(super) struct Said {
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
    /// What it takes of each message's bytes.
    bytes: usize,
}

impl Said {
    /// Returns how many bytes of payload there is room for beside it.
    pub(super) fn payload_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX - self.bytes
    }

    /// Says it of a payload.
    pub(super) fn of(&self, payload: &[u8]) -> NewMessage {
        NewMessage {
            content_type: self.content_type.clone(),
            headers: self.headers.clone(),
            ..Payload::of(payload).into()
        }
    }

    /// Returns the bounds of lines that it is said of.
    pub(super) fn bounds(&self) -> Bounds {
        let alone = serde_json::to_vec(&self.of(b""));
        Bounds {
            line_bytes_max: self.payload_bytes_max(),
            // Texts and maps of texts are always written.
            beside_bytes: alone.map_or(0, |json| json.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: Option<&str>, headers: &[&str]) -> Result<Said, Failure> {
        let args = SaidArgs {
            content_type: content_type.map(str::to_owned),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
        };
        args.read()
    }

    #[test]
    fn what_is_said_goes_with_each_message() {
        let said = read(Some("text/plain"), &["trace=a=b", "empty="]).unwrap();
        let message = said.of(b"\xff");
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        let headers: Vec<_> = message.headers.iter().collect();
        assert_eq!(
            headers,
            [
                (&"empty".to_owned(), &String::new()),
                (&"trace".to_owned(), &"a=b".to_owned())
            ],
            "a value begins after the first ="
        );
        assert_eq!(message.data_base64.as_deref(), Some("/w=="));
        assert!(said.payload_bytes_max() < MESSAGE_BYTES_MAX);
        assert!(said.bounds().beside_bytes > said.bytes);
        let nothing = read(None, &[]).unwrap();
        assert_eq!(nothing.payload_bytes_max(), MESSAGE_BYTES_MAX);
        assert_eq!(nothing.of(b"a"), Payload::of(b"a").into());
    }

    #[test]
    fn what_can_not_be_said_is_a_matter_of_usage() {
        let many: Vec<_> = (0..17).map(|n| format!("n{n}=")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        for (said, why) in [
            (read(None, &["trace"]), "has no ="),
            (read(None, &["a=1", "a=2"]), "there twice"),
            (read(None, &["=1"]), "a header's name has 1 to 64"),
            (read(None, &["Trace=1"]), "\"Trace\" does not fit"),
            (read(None, &many), "at most 16 headers"),
            (read(Some(""), &[]), "a content type has 1 to 127"),
            (read(Some("a/ü"), &[]), "a content type has 1 to 127"),
        ] {
            let failure = said.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains(why), "{}", failure.message);
        }
    }
}
