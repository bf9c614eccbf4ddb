//! The replicated store of a testnet: writes and reads on the control socket, and the book of what was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_rpc::method::{KvGet, KvLocate, KvPut, NodeStatus};
use weft_rpc::types::{KvData, KvGetParams, KvKeyParams, KvLocated, KvPutParams, NoParams, Status};
use weft_rpc::{CallError, Client};

use crate::net::Net;
use crate::wait;

/// How long anything of a store may take; nothing takes a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to a node's daemon.
pub async fn client(net: &Net, node: &str) -> Client {
    Client::connect(&net.node_dir(node))
        .await
        .expect("a daemon")
}

/// Asks a daemon how it does.
pub async fn status(client: &Client) -> Status {
    let status = client.call::<NodeStatus>(NoParams {});
    status.await.expect("a daemon that answers")
}

/// Waits until each of the nodes holds all that it should, and counts as a replica.
pub async fn settled(net: &Net, nodes: &[String]) {
    for node in nodes {
        let client = client(net, node).await;
        wait::until_async(format!("{node} to be settled"), PATIENCE, async || {
            let status = client.call::<NodeStatus>(NoParams {}).await.ok()?;
            status.store.settled.then_some(())
        })
        .await;
    }
}

/// Writes a key.
pub async fn put(client: &Client, key: &str, value: &str) -> Result<(), CallError> {
    let params = KvPutParams {
        key: key.to_owned(),
        value: Some(value.to_owned()),
        ..KvPutParams::default()
    };
    client.call::<KvPut>(params).await.map(|_| ())
}

/// Returns the values of a key.
pub async fn get(client: &Client, key: &str) -> Result<Vec<String>, CallError> {
    let params = KvGetParams {
        key: key.to_owned(),
        ..KvGetParams::default()
    };
    let got = client.call::<KvGet>(params).await?;
    let text = |data| match data {
        KvData::Text(text) | KvData::Base64(text) => text,
    };
    Ok(got
        .values
        .into_iter()
        .map(|value| text(value.data))
        .collect())
}

/// Asks who holds what of a key.
pub async fn locate(client: &Client, key: &str) -> Result<KvLocated, CallError> {
    let params = KvKeyParams {
        key: key.to_owned(),
        n: None,
        timeout_ms: None,
    };
    client.call::<KvLocate>(params).await
}

/// What was acknowledged last of each key.
#[derive(Debug, Default)]
pub struct Acknowledged(BTreeMap<String, String>);

impl Acknowledged {
    /// A write of a key was acknowledged.
    pub fn wrote(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    /// Returns the value that a key was given last.
    pub fn value(&self, key: &str) -> &str {
        &self.0[key]
    }

    /// Returns the keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes sure that what was acknowledged is there, or comes: what stand-ins acknowledged for replicas that were away is
    /// handed over a moment after those are back.
    pub async fn check(&self, client: &Client) {
        for (key, value) in &self.0 {
            let what = format!("{key} to have {value:?}");
            wait::until_async(what, PATIENCE, async || {
                let got = get(client, key).await.ok()?;
                got.contains(value).then_some(())
            })
            .await;
        }
    }

    /// Makes sure that each key has what was acknowledged last, and nothing else.
    pub async fn check_exactly(&self, client: &Client) {
        for (key, value) in &self.0 {
            let got = wait::until_async(key, PATIENCE, async || get(client, key).await.ok()).await;
            assert!(
                got == [value.as_str()],
                "{key} has {got:?}, and was {value:?}"
            );
        }
    }

    /// Returns the keys of which a peer holds one version.
    pub async fn held(&self, client: &Client, peer_id: &str) -> Vec<String> {
        let mut held = Vec::new();
        for key in self.0.keys() {
            let located = locate(client, key).await.expect("a network that is whole");
            held.extend(holds(&located, peer_id).then(|| key.clone()));
        }
        held
    }
}

/// Waits until a peer holds one version of each of the keys.
pub async fn wait_held(client: &Client, peer_id: &str, keys: &[String]) {
    for key in keys {
        let what = format!("{key} to be held by {peer_id}");
        wait::until_async(what, PATIENCE, async || {
            let located = locate(client, key).await.ok()?;
            holds(&located, peer_id).then_some(())
        })
        .await;
    }
}

fn holds(located: &KvLocated, peer_id: &str) -> bool {
    let mut holders = located.replicas.iter();
    let holder = holders.find(|holder| holder.peer_id == peer_id);
    let versions = holder.and_then(|holder| holder.versions.as_ref());
    versions.is_some_and(|versions| versions.len() == 1)
}
