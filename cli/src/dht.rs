//! `weft dht`: where peers and providers are, by the structured layer.

use weft_rpc::method::{
    DhtClosest, DhtFindPeer, DhtProvide, DhtProviders, DhtRoutingTable, DhtStopProviding,
};
use weft_rpc::types::{
    FoundPeer, KeyParams, Lookup, NoParams, PeerParams, RoutingPeer, RoutingTable, Standing,
};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;

/// Finds peers and providers anywhere in the network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Finds where a peer is
    FindPeer {
        /// The peer's id
        peer_id: String,
    },
    /// Finds the 20 peers closest to a key
    Closest(KeyArgs),
    /// Makes the node known as a provider of a key, until it ends
    Provide {
        #[command(flatten)]
        key: KeyArgs,
        /// Cease to provide it; what others know of it expires there
        #[arg(long)]
        stop: bool,
    },
    /// Finds who provides a key
    Providers(KeyArgs),
    /// Shows the node's routing table
    Routing,
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The key: 1 to 256 bytes of text
    key: String,
    /// KEY is base64, for keys that aren't text
    #[arg(long)]
    base64: bool,
}

impl From<KeyArgs> for KeyParams {
    fn from(args: KeyArgs) -> Self {
        let (key, key_base64) = if args.base64 {
            (None, Some(args.key))
        } else {
            (Some(args.key), None)
        };
        Self { key, key_base64 }
    }
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::FindPeer { peer_id } => find_peer(global, peer_id).await,
        Command::Closest(key) => closest(global, key.into()).await,
        Command::Provide { key, stop: false } => provide(global, key.into()).await,
        Command::Provide { key, stop: true } => stop_providing(global, key.into()).await,
        Command::Providers(key) => providers(global, key.into()).await,
        Command::Routing => routing(global).await,
    }
}

async fn find_peer(global: &Global, peer_id: String) -> Result<(), Failure> {
    let found = global.call::<DhtFindPeer>(PeerParams { peer_id }).await?;
    if global.json {
        return output::json(&found);
    }
    global.note(cost(&found.lookup));
    output::text(&output::table(HEADS, &[row(&found.peer)]))
}

async fn closest(global: &Global, key: KeyParams) -> Result<(), Failure> {
    let closest = global.call::<DhtClosest>(key).await?;
    if global.json {
        return output::json(&closest);
    }
    global.note(format!(
        "point {}; {}",
        closest.point,
        cost(&closest.lookup)
    ));
    let rows: Vec<_> = closest.peers.iter().map(row).collect();
    output::text(&output::table(HEADS, &rows))
}

async fn provide(global: &Global, key: KeyParams) -> Result<(), Failure> {
    let provided = global.call::<DhtProvide>(key).await?;
    if global.json {
        return output::json(&provided);
    }
    if provided.told.is_empty() {
        global.note("nobody else knows it yet: there is no other node");
    }
    output::text(&format!(
        "provided at point {}, told to {} peers\n",
        provided.point,
        provided.told.len()
    ))
}

async fn stop_providing(global: &Global, key: KeyParams) -> Result<(), Failure> {
    let stopped = global.call::<DhtStopProviding>(key).await?;
    if global.json {
        output::json(&stopped)?;
    } else if stopped.provided {
        output::text("no longer provided\n")?;
    }
    if !stopped.provided {
        return Err(Failure::new(
            Exit::NotFound,
            "this node did not provide the key",
        ));
    }
    Ok(())
}

async fn providers(global: &Global, key: KeyParams) -> Result<(), Failure> {
    let found = global.call::<DhtProviders>(key).await?;
    if global.json {
        output::json(&found)?;
    } else {
        global.note(format!("point {}; {}", found.point, cost(&found.lookup)));
        let rows: Vec<_> = found.providers.iter().map(row).collect();
        output::text(&output::table(HEADS, &rows))?;
    }
    if found.providers.is_empty() {
        return Err(Failure::new(Exit::NotFound, "nobody provides the key")
            .hint("a node that has it makes that known: weft dht provide KEY"));
    }
    Ok(())
}

async fn routing(global: &Global) -> Result<(), Failure> {
    let table = global.call::<DhtRoutingTable>(NoParams {}).await?;
    if global.json {
        return output::json(&table);
    }
    if table.peers.is_empty() {
        global.note("the table is empty: no other node has answered yet");
    }
    output::text(&describe(&table))
}

const HEADS: [&str; 3] = ["PEER ID", "SIGNED", "ADDRESSES"];

fn row(peer: &FoundPeer) -> [String; 3] {
    let signed = match (peer.this_node, peer.signed) {
        (true, _) => "this node",
        (false, true) => "yes",
        (false, false) => "no",
    };
    [
        peer.peer_id.clone(),
        signed.to_owned(),
        output::list(&peer.addresses),
    ]
}

fn cost(lookup: &Lookup) -> String {
    if lookup.requests == 0 {
        return "nobody had to be asked".to_owned();
    }
    let hops = lookup
        .hops
        .map_or_else(String::new, |hops| format!(", {hops} hops"));
    format!(
        "{} of {} peers answered{hops}, {}",
        lookup.answers,
        lookup.requests,
        output::ms(Some(lookup.took_ms))
    )
}

fn describe(table: &RoutingTable) -> String {
    let rows: Vec<_> = table.peers.iter().map(routing_row).collect();
    let mut text = output::table(
        [
            "BUCKET",
            "PEER ID",
            "STANDING",
            "RTT",
            "HEARD",
            "SIGNED",
            "ADDRESSES",
        ],
        &rows,
    );
    text += &format!(
        "{} peers, {} spares; {} records of providers\n",
        table.peers.len(),
        table.spares,
        table.provider_records
    );
    text
}

fn routing_row(peer: &RoutingPeer) -> [String; 7] {
    let standing = match peer.standing {
        Standing::Live => "live",
        Standing::Suspect => "suspect",
        Standing::Stale => "stale",
    };
    [
        peer.bucket.to_string(),
        peer.peer_id.clone(),
        standing.to_owned(),
        output::ms(peer.rtt_ms),
        output::seconds(peer.heard_s),
        if peer.signed { "yes" } else { "no" }.to_owned(),
        output::list(&peer.addresses),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_table_reads_well() {
        let table = RoutingTable {
            peer_id: "12D3A".into(),
            peers: vec![RoutingPeer {
                peer_id: "12D3B".into(),
                addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
                signed: true,
                bucket: 3,
                standing: Standing::Live,
                rtt_ms: Some(1.25),
                heard_s: 61.0,
            }],
            spares: 2,
            provider_records: 5,
        };
        assert_eq!(
            describe(&table),
            "BUCKET  PEER ID  STANDING  RTT      HEARD  SIGNED  ADDRESSES\n\
             3       12D3B    live      1.25 ms  1m 1s  yes     /ip4/127.0.0.1/tcp/1\n\
             1 peers, 2 spares; 5 records of providers\n"
        );
    }

    #[test]
    fn what_a_lookup_cost_reads_well() {
        assert_eq!(cost(&Lookup::default()), "nobody had to be asked");
        let lookup = Lookup {
            requests: 23,
            answers: 20,
            slow: 3,
            failures: 3,
            hops: Some(2),
            took_ms: 12.5,
        };
        assert_eq!(cost(&lookup), "20 of 23 peers answered, 2 hops, 12.50 ms");
    }

    #[test]
    fn a_key_is_text_or_base64() {
        let args = |base64| KeyArgs {
            key: "a2V5".into(),
            base64,
        };
        let text = KeyParams::from(args(false));
        assert_eq!(text.key.as_deref(), Some("a2V5"));
        let base64 = KeyParams::from(args(true));
        assert_eq!(base64.key_base64.as_deref(), Some("a2V5"));
    }
}
