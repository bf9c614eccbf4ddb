//! The methods `dht_*`.

use jsonrpsee::server::RpcModule;
use weft_rpc::method;
use weft_rpc::types;
use weft_rpc::{Error, Kind};

use super::super::{Context, errors};
use super::{Call, on, peer_id};
use crate::Key;

pub(super) fn register(module: &mut RpcModule<Context>) {
    on::<method::DhtFindPeer, _, _>(module, |call, params| async move {
        call.find_peer(params).await
    });
    on::<method::DhtClosest, _, _>(module, |call, params| async move {
        let found = call.context.node.closest(key(params)?).await;
        found.map_err(|error| errors::dht(&error))
    });
    on::<method::DhtProvide, _, _>(module, |call, params| async move {
        let provided = call.context.node.provide(key(params)?).await;
        provided.map_err(|error| errors::dht(&error))
    });
    on::<method::DhtStopProviding, _, _>(module, |call, params| async move {
        let stopped = call.context.node.stop_providing(key(params)?).await;
        stopped.map_err(|error| errors::dht(&error))
    });
    on::<method::DhtProviders, _, _>(module, |call, params| async move {
        let found = call.context.node.providers(key(params)?).await;
        found.map_err(|error| errors::dht(&error))
    });
    on::<method::DhtRoutingTable, _, _>(module, |call, _| async move {
        let table = call.context.node.routing_table().await;
        table.ok_or_else(errors::stopping)
    });
}

impl Call {
    async fn find_peer(&self, params: types::PeerParams) -> Result<types::PeerFound, Error> {
        let peer = peer_id(&params.peer_id)?;
        let found = self.context.node.find_peer(peer).await;
        found
            .map_err(|error| errors::dht(&error))?
            .ok_or_else(|| errors::peer_not_found(&params.peer_id))
    }
}

/// Reads a key, which stands in one of two parameters.
fn key(params: types::KeyParams) -> Result<Key, Error> {
    let invalid = |reason: String| {
        Error::new(Kind::InvalidParams, reason)
            .hint("a key has 1 to 256 bytes: as text in `key`, or in base64 in `key_base64`")
    };
    let bytes = params.into_bytes().map_err(invalid)?;
    Key::new(&bytes).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_one_of_two_parameters() {
        let params = |text: Option<&str>, base64: Option<&str>| types::KeyParams {
            key: text.map(str::to_owned),
            key_base64: base64.map(str::to_owned),
        };
        let as_text = key(params(Some("key"), None)).unwrap();
        let as_base64 = key(params(None, Some("a2V5"))).unwrap();
        assert_eq!(as_text, as_base64);
        for bad in [
            params(None, None),
            params(Some("key"), Some("a2V5")),
            params(Some(""), None),
            params(None, Some("?")),
            params(Some(&"x".repeat(257)), None),
        ] {
            assert_eq!(key(bad).unwrap_err().kind, Kind::InvalidParams);
        }
    }
}
