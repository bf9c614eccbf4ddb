//! `weft kv put`: writes a value.

use weft_rpc::method::KvPut;
use weft_rpc::types::KvPutParams;

use super::{ValueArgs, WriteTerms, print_written};
use crate::failure::Failure;
use crate::global::Global;

const AFTER_HELP: &str = "\
weft put colour blue             replaces whatever value is there
weft put colour < file           writes standard input, at most 64 KiB
weft put colour red --context C  replaces what the read that printed C returned
weft put @PEER/lock me --if-absent
                                 writes only where there is no value; on this node's own key

Values of writers that knew nothing of each other stand beside each other until a write replaces
them all. Exit code 7 means that fewer replicas than needed have it; it may show all the same.";

/// Writes a value in the place of what is there
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The key: @PEER/path is that peer's own, {tag} keeps keys together
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Replace what a read returned, by the context that it printed
    #[arg(long, conflicts_with_all = ["blind", "if_absent"])]
    context: Option<String>,
    /// Replace nothing: the value stands beside what is there
    #[arg(long, conflicts_with = "if_absent")]
    blind: bool,
    /// Write only where there is no value; on this node's own keys
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    terms: WriteTerms,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let (value, value_base64) = args.value.read()?;
    let params = KvPutParams {
        key: args.key,
        value,
        value_base64,
        ttl_ms: args.value.ttl_ms(),
        context: args.context,
        blind: args.blind,
        if_absent: args.if_absent,
        n: args.terms.all.n,
        w: args.terms.w,
        level: args.terms.all.level(),
        strict: args.terms.all.strict,
        timeout_ms: Some(global.patience_ms()),
        request_id: args.terms.request_id,
    };
    print_written(global, "wrote", &global.call::<KvPut>(params).await?)
}
