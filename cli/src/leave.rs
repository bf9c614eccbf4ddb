//! `weft leave`: stop a node for good.

use weft_rpc::method::NodeLeave;
use weft_rpc::types::LeaveParams;

use crate::failure::Failure;
use crate::global::Global;
use crate::output;

const AFTER_HELP: &str = "\
A node that is only stopped comes back to its places: its replicas wait for it. One that leaves for
good should drain: it stops once others hold what it held of the store, so that no copy is missing.";

/// Stops the node for good; with --drain once others hold what it held
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Wait until others hold what this node holds of the store
    #[arg(long)]
    drain: bool,
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let leaving = async {
        let client = global.connect().await?;
        let params = LeaveParams { drain: args.drain };
        Ok(client.call::<NodeLeave>(params).await?)
    };
    let left = global.within_if_asked(leaving).await?;
    if global.json {
        return output::json(&left);
    }
    let records = output::count(left.records, "record");
    output::text(&if left.drained {
        format!("left; others hold the {records} that were here\n")
    } else {
        format!("left; the {records} that were here lie in its directory\n")
    })
}
