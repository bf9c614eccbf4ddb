//! `weft rpc`: any method of the control socket, as it is.

use serde_json::Value;
use weft_rpc::method::{Method, TopicSubscribe};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;

const AFTER_HELP: &str = "\
weft rpc rpc.discover                              lists the methods
weft rpc overlay_views '{\"topic\": \"news\"}'         calls one with parameters
weft rpc node_setLogLevel '{\"level\": \"debug\"}'     changes what the daemon logs";

/// Calls a method of the daemon's control socket and prints its answer as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The method's name
    method: String,
    /// Its parameters, a JSON object
    params: Option<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let params: Option<Value> = args
        .params
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| {
            Failure::new(Exit::Usage, format!("the parameters are no JSON: {error}"))
                .hint("write an object in single quotes: '{\"topic\": \"news\"}'")
        })?;
    if args.method == TopicSubscribe::NAME {
        return Err(Failure::new(
            Exit::Usage,
            "a subscription is a stream, which this command doesn't print",
        )
        .hint("use: weft sub TOPIC --json"));
    }
    let answer = global
        .within(async {
            Ok(global
                .connect()
                .await?
                .call_raw(&args.method, params.as_ref())
                .await?)
        })
        .await?;
    output::json(&answer)
}
