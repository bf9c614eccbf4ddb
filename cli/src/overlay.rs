//! `weft overlay`: a swarm as one node sees it.

use weft_rpc::method::{OverlayTree, OverlayViews};
use weft_rpc::types::{self, OverlayTreeParams, OverlayView, OverlayViewsParams};

use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// Shows a swarm's views and broadcast trees as the node sees them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows whom the node is linked to in a swarm, and whom it knows
    View {
        /// A topic; without one, the swarm that holds the whole network together
        topic: Option<String>,
    },
    /// Shows along which links messages travel, for each publisher
    Tree {
        /// A topic, or network
        topic: String,
    },
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::View { topic } => {
            let view = global
                .call::<OverlayViews>(OverlayViewsParams { topic })
                .await?;
            if global.json {
                output::json(&view)
            } else {
                output::text(&describe_view(&view))
            }
        }
        Command::Tree { topic } => {
            let tree = global
                .call::<OverlayTree>(OverlayTreeParams { topic })
                .await?;
            if global.json {
                output::json(&tree)
            } else {
                output::text(&describe_tree(&tree))
            }
        }
    }
}

fn describe_view(view: &OverlayView) -> String {
    let mut text = format!(
        "{}: {} active, {} passive\n",
        view.topic,
        view.active.len(),
        view.passive.len()
    );
    let active: Vec<_> = view
        .active
        .iter()
        .map(|peer| {
            [
                peer.peer_id.clone(),
                if peer.eager { "eager" } else { "lazy" }.to_owned(),
                output::ms(peer.rtt_ms),
                output::seconds(peer.since_s),
                format!("{} B", peer.lane_bytes),
            ]
        })
        .collect();
    text += &output::table(["ACTIVE", "LINK", "RTT", "SINCE", "WAITING"], &active);
    let passive: Vec<_> = view
        .passive
        .iter()
        .map(|peer| [peer.peer_id.clone(), output::seconds(peer.age_s)])
        .collect();
    text += &output::table(["PASSIVE", "HEARD OF"], &passive);
    for proof in &view.equivocations {
        text += &format!(
            "two different bundles of {} for epoch {}, seq {}: is its key used by two nodes?\n",
            proof.publisher, proof.epoch, proof.seq
        );
    }
    let counters = view.counters;
    text += &format!(
        "bundles: {} new, {} again, {} pushed, {} supplied; messages: {} delivered, {} lost; \
         sent: {} announcements, {} grafts, {} prunes\n",
        counters.bundles_new,
        counters.bundles_duplicate,
        counters.bundles_pushed,
        counters.bundles_supplied,
        counters.messages_delivered,
        counters.messages_lost,
        counters.announcements_sent,
        counters.grafts_sent,
        counters.prunes_sent,
    );
    text
}

fn describe_tree(tree: &types::OverlayTree) -> String {
    let mut text = String::new();
    for one in &tree.trees {
        text += &match &one.publisher {
            Some(publisher) => format!("messages of {publisher}\n"),
            None => "shared tree (a new publisher's first message)\n".to_owned(),
        };
        for (label, peers) in [
            ("from", one.parent.as_slice()),
            ("to", one.eager.as_slice()),
            ("tells", one.lazy.as_slice()),
        ] {
            for peer in peers {
                text += &format!("  {label:5}  {peer}\n");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use weft_rpc::types::{ActivePeer, Equivocation, PassivePeer, SwarmCounters, Tree};

    use super::*;

    #[test]
    fn a_view_reads_well() {
        let view = OverlayView {
            topic: "network".into(),
            active: vec![ActivePeer {
                peer_id: "12D3A".into(),
                since_s: 3.2,
                rtt_ms: None,
                eager: true,
                lane_bytes: 0,
            }],
            passive: vec![PassivePeer {
                peer_id: "12D3B".into(),
                age_s: 61.0,
            }],
            counters: SwarmCounters::default(),
            equivocations: vec![Equivocation {
                publisher: "12D3C".into(),
                epoch: 7,
                seq: 9,
            }],
        };
        let text = describe_view(&view);
        assert!(
            text.starts_with("network: 1 active, 1 passive\nACTIVE  LINK   RTT  SINCE  WAITING\n"),
            "{text}"
        );
        assert!(text.contains("12D3A   eager  -    3s     0 B\n"), "{text}");
        assert!(text.contains("12D3B    1m 1s\n"), "{text}");
        assert!(
            text.contains("bundles of 12D3C for epoch 7, seq 9"),
            "{text}"
        );
    }

    #[test]
    fn a_tree_reads_well() {
        let tree = types::OverlayTree {
            topic: "t".into(),
            trees: vec![Tree {
                publisher: Some("P".into()),
                parent: Some("A".into()),
                eager: vec!["B".into()],
                lazy: vec!["C".into()],
            }],
        };
        assert_eq!(
            describe_tree(&tree),
            "messages of P\n  from   A\n  to     B\n  tells  C\n"
        );
    }
}
