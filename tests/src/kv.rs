//! The replicated store of a testnet: writes and reads on the control socket, and the book of what was acknowledged.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use tokio::time::Instant;
use weft_rpc::method::{KvGet, KvLocate, KvPut, NodeStatus};
use weft_rpc::types::{KvData, KvGetParams, KvKeyParams, KvLocated, KvPutParams, NoParams, Status};
use weft_rpc::{CallError, Client, Kind};

use crate::net::Net;
use crate::wait;

/// How long anything of a store may take; nothing takes a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long what stand-ins have acknowledged may take to its replicas once those are settled: it is offered three seconds
/// after they are back, and again three seconds later. The rest is for a busy machine.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(15);

/// On whose word a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Replicas alone.
    Replicas,
    /// Others stood in for some of them.
    StandIns,
}

impl By {
    fn of(sloppy: bool) -> Self {
        if sloppy {
            Self::StandIns
        } else {
            Self::Replicas
        }
    }
}

/// What a read returned.
#[derive(Debug)]
pub struct Got {
    /// The values of the key.
    pub values: Vec<String>,
    /// On whose word.
    pub by: By,
}

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

/// Writes a key; returns on whose word it is written.
pub async fn put(client: &Client, key: &str, value: &str) -> Result<By, CallError> {
    let params = KvPutParams {
        key: key.to_owned(),
        value: Some(value.to_owned()),
        ..KvPutParams::default()
    };
    let written = client.call::<KvPut>(params).await?;
    Ok(By::of(written.sloppy))
}

/// Reads a key.
pub async fn get(client: &Client, key: &str) -> Result<Got, CallError> {
    let params = KvGetParams {
        key: key.to_owned(),
        ..KvGetParams::default()
    };
    let got = client.call::<KvGet>(params).await?;
    let text = |data| match data {
        KvData::Text(text) | KvData::Base64(text) => text,
    };
    let values = got.values.into_iter().map(|value| text(value.data));
    Ok(Got {
        values: values.collect(),
        by: By::of(got.sloppy),
    })
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

/// What was acknowledged last of each key, and on whose word.
#[derive(Debug, Default)]
pub struct Acknowledged(BTreeMap<String, (String, By)>);

/// What a look at all that was acknowledged has shown. Nothing was lost.
#[derive(Debug, Default)]
pub struct Checked {
    keys: usize,
    /// Keys for which the first look found no quorum.
    pub unanswered: usize,
    /// Keys whose value came only later, of which replicas or the writer's stand-ins had not known at the first look.
    pub late: usize,
    /// Of those the ones that replicas alone had acknowledged, and of which replicas alone knew nothing.
    pub stale: usize,
    /// How long after the first look the last one came.
    longest: Duration,
}

impl Display for Checked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} keys, none lost; at the first look {} without a quorum, {} not yet there, {} stale; the last one after {:?}",
            self.keys, self.unanswered, self.late, self.stale, self.longest
        )
    }
}

impl Acknowledged {
    /// A write of a key was acknowledged.
    pub fn wrote(&mut self, key: &str, value: String, by: By) {
        self.0.insert(key.to_owned(), (value, by));
    }

    /// Returns the value that a key was given last.
    pub fn value(&self, key: &str) -> &str {
        &self.0[key].0
    }

    /// Returns on whose word it was.
    pub fn written_by(&self, key: &str) -> By {
        self.0[key].1
    }

    /// Returns the keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes sure that what was acknowledged is there, once all nodes are settled. What stand-ins acknowledged may come
    /// within [`HANDED_OVER_WITHIN`], all of it; what doesn't is lost.
    pub async fn check(&self, client: &Client) -> Checked {
        let mut checked = Checked {
            keys: self.0.len(),
            ..Checked::default()
        };
        let mut left = Vec::new();
        for (key, (value, written_by)) in &self.0 {
            let got = match get(client, key).await {
                Ok(got) => got,
                // That there is nothing is for replicas alone to say.
                Err(CallError::Rpc(error)) if error.kind == Kind::NotFound => Got {
                    values: Vec::new(),
                    by: By::Replicas,
                },
                Err(CallError::Rpc(error)) if error.kind == Kind::QuorumNotMet => {
                    checked.unanswered += 1;
                    left.push((key, value));
                    continue;
                }
                Err(error) => panic!("{key}: {error}"),
            };
            if !got.values.contains(value) {
                checked.late += 1;
                checked.stale += usize::from(got.by == By::Replicas && *written_by == By::Replicas);
                left.push((key, value));
            }
        }
        let looked_at = Instant::now();
        for (key, value) in left {
            let rest = HANDED_OVER_WITHIN.saturating_sub(looked_at.elapsed());
            let what = format!("{key} to have {value:?}, which was acknowledged");
            wait::until_async(what, rest, async || {
                let got = get(client, key).await.ok()?;
                got.values.contains(value).then_some(())
            })
            .await;
            checked.longest = looked_at.elapsed();
        }
        checked
    }

    /// Makes sure that each key has what was acknowledged last, and nothing else.
    pub async fn check_exactly(&self, client: &Client) {
        for (key, (value, _)) in &self.0 {
            let got = wait::until_async(key, PATIENCE, async || get(client, key).await.ok()).await;
            assert!(
                got.values == [value.as_str()],
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
