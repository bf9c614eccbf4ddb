//! Splits on purpose: nodes of one part refuse those of the other, as if no packet came through between them.
//!
//! Unlike where packets get lost, both sides learn of it at once: that a silent peer is found out, pauses show
//! ([`Testnet::pause`]). A node that is started again has forgotten whom it refused, but is still refused by the others.

use weft_rpc::method::PeerRefuse;
use weft_rpc::types::PeerRefuseParams;

use crate::faults::{FaultError, failed};
use crate::probe::{self, Probe};
use crate::{NodeState, Testnet};

impl Testnet {
    /// Splits the network in two: the named nodes, and all others. Heals what was split before.
    pub async fn partition(&mut self, names: &[String]) -> Result<(), FaultError> {
        for name in names {
            self.record.index(name)?;
        }
        self.refuse(names).await
    }

    /// Lets all nodes link to each other again.
    pub async fn heal(&mut self) -> Result<(), FaultError> {
        self.refuse(&[]).await
    }

    /// Tells each node that runs whom it refuses: of the two parts, the one that it isn't in.
    async fn refuse(&mut self, part: &[String]) -> Result<(), FaultError> {
        let _lock = self.layout.lock().await?;
        self.reload()?;
        let nodes = &self.record.nodes;
        let ids_of = |in_part: bool| -> Vec<String> {
            let nodes = nodes.iter();
            nodes
                .filter(|node| part.contains(&node.name) == in_part)
                .filter_map(|node| node.peer_id.clone())
                .collect()
        };
        let (inside, outside) = (ids_of(true), ids_of(false));
        let mut probes: Vec<Probe> = nodes
            .iter()
            .filter(|node| crate::status::state(node) == NodeState::Up)
            .map(|node| self.probe(node))
            .collect();
        let told = probe::ask_all(&mut probes, async |probe| {
            let peer_ids = match (part.is_empty(), part.contains(&probe.name)) {
                (true, _) => Vec::new(),
                (false, true) => outside.clone(),
                (false, false) => inside.clone(),
            };
            probe.ask::<PeerRefuse>(PeerRefuseParams { peer_ids }).await
        })
        .await;
        let told = probes.iter().zip(told);
        let silent = told.filter(|(_, told)| told.is_none());
        let silent: Vec<&str> = silent.map(|(probe, _)| probe.name.as_str()).collect();
        if silent.is_empty() {
            return Ok(());
        }
        Err(failed(&silent.join(", "), "no answer".to_owned()))
    }
}
