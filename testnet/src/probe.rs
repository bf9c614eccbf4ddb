//! Asking daemons how they see the network, many at once and none for long.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::StreamExt;
use weft_rpc::types::{Identity, NoParams, OverlayView, OverlayViewsParams, Status};
use weft_rpc::{Client, Method, method};

use crate::graph::Sight;

/// How many daemons are asked at the same time: enough to hide a round trip, few enough that the questions themselves
/// don't keep a small machine busy.
const ASKED_AT_ONCE_MAX: usize = 16;

/// How long a daemon may take to answer before it counts as silent. An answer takes about a millisecond.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long views must disagree before that counts: two nodes are never asked at the same instant.
const ONE_SIDED_LASTS: Duration = Duration::from_millis(500);

/// Pause between two looks at the network.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A daemon to ask, with a connection that is kept between questions.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) peer_id: Option<String>,
    client: Option<Client>,
}

impl Probe {
    pub(crate) fn new(name: &str, dir: PathBuf, peer_id: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            peer_id,
            client: None,
        }
    }

    /// Asks one question; none if the daemon is silent or answers with an error.
    pub(crate) async fn ask<M: Method>(&mut self, params: M::Params) -> Option<M::Answer> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let connect = tokio::time::timeout(ANSWER_WAIT_MAX, Client::connect(&self.dir));
                self.client.insert(connect.await.ok()?.ok()?).clone()
            }
        };
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, client.call::<M>(params)).await;
        if let Ok(Ok(answer)) = answer {
            Some(answer)
        } else {
            // A daemon that was restarted meanwhile needs a new connection.
            self.client = None;
            None
        }
    }

    /// Asks who the daemon is, and remembers it.
    pub(crate) async fn identity(&mut self) -> Option<Identity> {
        let identity = self.ask::<method::NodeIdentity>(NoParams {}).await?;
        self.peer_id = Some(identity.peer_id.clone());
        Some(identity)
    }

    /// Asks how the daemon does.
    pub(crate) async fn status(&mut self) -> Option<Status> {
        let status = self.ask::<method::NodeStatus>(NoParams {}).await?;
        self.peer_id = Some(status.peer_id.clone());
        Some(status)
    }

    /// Asks how the daemon sees a swarm; none also if it is no member.
    pub(crate) async fn view(&mut self, topic: &str) -> Option<OverlayView> {
        if self.peer_id.is_none() {
            self.identity().await?;
        }
        self.ask::<method::OverlayViews>(OverlayViewsParams {
            topic: Some(topic.to_owned()),
        })
        .await
    }
}

/// Asks all daemons the same, a bounded number at once; the answers are in the daemons' order.
pub(crate) async fn ask_all<T, F>(probes: &mut [Probe], ask: F) -> Vec<Option<T>>
where
    F: for<'a> AsyncFn(&'a mut Probe) -> Option<T>,
{
    let ask = &ask;
    futures::stream::iter(
        probes
            .iter_mut()
            .map(|probe| async move { ask(probe).await }),
    )
    .buffered(ASKED_AT_ONCE_MAX)
    .collect()
    .await
}

/// A swarm as its members see it, judged over a little while.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    /// Components among the nodes that answered last.
    pub(crate) components: usize,
    /// Edges that stayed one-sided for as long as was looked.
    pub(crate) one_sided: BTreeSet<(String, String)>,
    /// Nodes that didn't answer last.
    pub(crate) silent: Vec<String>,
}

impl Observation {
    /// Whether all daemons answered, see each other alike, and form one component.
    pub(crate) fn is_whole(&self) -> bool {
        self.components == 1 && self.one_sided.is_empty() && self.silent.is_empty()
    }
}

/// Looks once.
pub(crate) async fn look(probes: &mut [Probe], topic: &str) -> (Sight, Vec<String>) {
    let views = ask_all(probes, async |probe| probe.view(topic).await).await;
    let mut sight = Sight::default();
    let mut silent = Vec::new();
    for (probe, view) in probes.iter().zip(views) {
        match (&probe.peer_id, view) {
            (Some(peer_id), Some(view)) => {
                sight.insert(
                    peer_id.clone(),
                    view.active.into_iter().map(|peer| peer.peer_id),
                );
            }
            _ => silent.push(probe.name.clone()),
        }
    }
    (sight, silent)
}

/// Looks until the swarm is whole in one look, or for as long as one-sided edges must last to count.
pub(crate) async fn observe(probes: &mut [Probe], topic: &str) -> Observation {
    let began = Instant::now();
    let mut lasting: Option<BTreeSet<(String, String)>> = None;
    loop {
        let (sight, silent) = look(probes, topic).await;
        let seen = sight.one_sided();
        // Only what no look has found in order lasts.
        let one_sided = match &lasting {
            Some(earlier) => earlier.intersection(&seen).cloned().collect(),
            None => seen,
        };
        let observation = Observation {
            components: sight.components(),
            one_sided,
            silent,
        };
        if observation.is_whole() || began.elapsed() >= ONE_SIDED_LASTS {
            return observation;
        }
        lasting = Some(observation.one_sided);
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Looks until the swarm is whole, or the deadline has passed; false then.
pub(crate) async fn wait_whole(probes: &mut [Probe], topic: &str, deadline: Instant) -> bool {
    while !observe(probes, topic).await.is_whole() {
        if Instant::now() >= deadline {
            return false;
        }
    }
    true
}
