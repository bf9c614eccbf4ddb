//! `weft topic history`: what the daemon and the topic's keepers hold of a topic.

use weft_rpc::Start;
use weft_rpc::method::TopicHistory;
use weft_rpc::types::HistoryParams;

use crate::failure::Failure;
use crate::global::Global;
use crate::subscribe::Printer;
use crate::topic;

const AFTER_HELP: &str = "\
Prints what weft sub would have printed, and ends. What came before the daemon was a member of
the topic, it gets from the topic's keepers. With --json an object a line, each with the
cursor that weft sub --from CURSOR goes on after.";

/// Prints what is held of a topic, and ends
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The topic's name
    topic: String,
    /// Begin at: earliest, -N (messages), -15m (any duration), a time (RFC 3339) or a cursor
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    from: String,
    /// Print this many messages at most
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    topic::check_name(&args.topic)?;
    let mut start = topic::start(&args.from)?;
    let mut printer = Printer::new(global.json, args.count);
    while printer.left > 0 {
        let page = global
            .call::<TopicHistory>(HistoryParams {
                topic: args.topic.clone(),
                from: Some(start.to_string()),
                items_max: None,
            })
            .await?;
        let Some(cursor) = page.cursor else {
            break;
        };
        printer.batch(&args.topic, page.items)?;
        start = Start::After(cursor);
    }
    Ok(())
}
