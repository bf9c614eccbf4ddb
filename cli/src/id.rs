//! `weft id`: who a node is and where it is reached.

use weft_rpc::method::NodeIdentity;
use weft_rpc::types::NoParams;

use crate::failure::Failure;
use crate::global::Global;
use crate::output;
use crate::status::labelled;

/// Shows the node's peer id, network and addresses, as others need them to join
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(global: &Global, _: &Args) -> Result<(), Failure> {
    let identity = global.call::<NodeIdentity>(NoParams {}).await?;
    if global.json {
        return output::json(&identity);
    }
    let mut pairs = vec![
        ["peer id".to_owned(), identity.peer_id],
        ["network".to_owned(), identity.network],
    ];
    pairs.extend(labelled("addresses", &identity.addresses));
    output::text(&output::pairs(&pairs))
}
