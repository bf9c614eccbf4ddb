//! `weft kv del` and `weft kv cas`.

use weft_rpc::method::{KvCas, KvDelete};
use weft_rpc::types::{KvCasParams, KvDeleteParams};

use super::{ValueArgs, WriteTerms, print_written};
use crate::failure::Failure;
use crate::global::Global;

/// Deletes a key
#[derive(Debug, clap::Args)]
pub(super) struct DelArgs {
    /// The key
    key: String,
    /// Delete what a read returned, by the context that it printed
    #[arg(long)]
    context: Option<String>,
    #[command(flatten)]
    terms: WriteTerms,
}

const AFTER_CAS_HELP: &str = "\
Only the owner's daemon knows what its key is, so this works on keys @PEER/path with this node's
peer id (weft id prints it). Exit code 7: the key has another version, and nothing was written.";

/// Writes one of this node's own keys, if it has the version that is expected
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_CAS_HELP)]
pub(super) struct CasArgs {
    /// The key, @PEER/path
    key: String,
    /// The version that must be there, as put or get printed it; or: absent
    expect: String,
    #[command(flatten)]
    value: ValueArgs,
    #[command(flatten)]
    terms: WriteTerms,
}

pub(super) async fn del(global: &Global, args: DelArgs) -> Result<(), Failure> {
    let params = KvDeleteParams {
        key: args.key,
        context: args.context,
        n: args.terms.all.n,
        w: args.terms.w,
        level: args.terms.all.level(),
        strict: args.terms.all.strict,
        timeout_ms: Some(global.patience_ms()),
        request_id: args.terms.request_id,
    };
    print_written(global, "deleted", &global.call::<KvDelete>(params).await?)
}

pub(super) async fn cas(global: &Global, args: CasArgs) -> Result<(), Failure> {
    let (value, value_base64) = args.value.read()?;
    let params = KvCasParams {
        key: args.key,
        expect: args.expect,
        value,
        value_base64,
        ttl_ms: args.value.ttl_ms(),
        n: args.terms.all.n,
        w: args.terms.w,
        level: args.terms.all.level(),
        strict: args.terms.all.strict,
        timeout_ms: Some(global.patience_ms()),
        request_id: args.terms.request_id,
    };
    print_written(global, "wrote", &global.call::<KvCas>(params).await?)
}
