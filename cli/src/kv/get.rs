//! `weft kv get`: reads a value.

use std::io::{self, IsTerminal, Write};

use weft_rpc::method::KvGet;
use weft_rpc::payload::Payload;
use weft_rpc::types::{KvGetParams, KvGot, KvValue};

use super::ReadTerms;
use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;

const AFTER_HELP: &str = "\
Prints the value as it is, without a newline of its own. Where writers knew nothing of each other
there are several: the one written last is printed, all are listed on standard error, and --json
has them all. The context that stands there makes the next write replace them.

Exit code 5: there is no value. 7: too few replicas answered to tell.";

/// Reads a value
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The key
    key: String,
    #[command(flatten)]
    terms: ReadTerms,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let params = KvGetParams {
        key: args.key,
        n: args.terms.all.n,
        r: args.terms.r,
        level: args.terms.all.level(),
        strict: args.terms.all.strict,
        timeout_ms: Some(global.patience_ms()),
    };
    let got = global.call::<KvGet>(params).await?;
    if global.json {
        return output::json(&got);
    }
    let Some(value) = got.values.first().cloned() else {
        return Err(Failure::new(Exit::NotFound, "there is no value"));
    };
    if got.values.len() > 1 {
        global.note(siblings(&got));
    }
    print(value)
}

fn print(value: KvValue) -> Result<(), Failure> {
    let bytes = Payload::from(value.data).into_bytes().map_err(|error| {
        Failure::new(
            Exit::Error,
            format!("the daemon's answer isn't understood: {error}"),
        )
    })?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&bytes)?;
    // A prompt right behind the value would hide where it ends.
    if stdout.is_terminal() && !bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

/// Says which values there are, and how to make them one.
fn siblings(got: &KvGot) -> String {
    let rows: Vec<_> = got.values.iter().map(row).collect();
    format!(
        "{} values, of writers that knew nothing of each other; the first is printed:\n{}\
         make them one: weft put {} VALUE --context {}",
        got.values.len(),
        output::table(["WRITER", "VERSION", "WRITTEN", "EXPIRES"], &rows),
        got.key,
        got.context
    )
}

fn row(value: &KvValue) -> [String; 4] {
    [
        value.writer.clone(),
        value.version.clone(),
        value.written_at.clone(),
        value.expires_at.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use weft_rpc::types::KvData;

    use super::*;

    #[test]
    fn siblings_are_listed_with_what_makes_them_one() {
        let value = |writer: &str| KvValue {
            data: KvData::Text("blue".to_owned()),
            writer: writer.to_owned(),
            version: "7.1".to_owned(),
            written_at: "2026-01-01T00:00:00.000000Z".to_owned(),
            expires_at: None,
        };
        let got = KvGot {
            key: "colour".to_owned(),
            need: 2,
            got: 2,
            sloppy: false,
            replicas: Vec::new(),
            values: vec![value("P"), value("Q")],
            context: "C".to_owned(),
        };
        assert_eq!(
            siblings(&got),
            "2 values, of writers that knew nothing of each other; the first is printed:\n\
             WRITER  VERSION  WRITTEN                      EXPIRES\n\
             P       7.1      2026-01-01T00:00:00.000000Z  -\n\
             Q       7.1      2026-01-01T00:00:00.000000Z  -\n\
             make them one: weft put colour VALUE --context C"
        );
    }
}
