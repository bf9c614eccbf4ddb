//! `weft peer`: the linked peers.

use weft_rpc::method::{PeerAdd, PeerList, PeerPing, PeerRemove};
use weft_rpc::types::{Direction, NoParams, Peer, PeerAddParams, PeerParams};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::output;

/// Lists, adds, removes and pings linked peers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the linked peers
    Ls,
    /// Dials an address, and waits until the peer there is linked
    Add {
        /// A multiaddress such as /ip4/192.0.2.1/tcp/4001; /p2p/PEER_ID at its end pins who must answer
        address: String,
    },
    /// Closes the link to a peer and forgets its addresses; it may come back by itself
    Rm {
        /// The peer's id, as `weft peer ls` shows it
        peer_id: String,
    },
    /// Measures a round trip to a linked peer
    Ping {
        /// The peer's id, as `weft peer ls` shows it
        peer_id: String,
    },
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Ls => ls(global).await,
        Command::Add { address } => add(global, address).await,
        Command::Rm { peer_id } => rm(global, peer_id).await,
        Command::Ping { peer_id } => ping(global, peer_id).await,
    }
}

async fn ls(global: &Global) -> Result<(), Failure> {
    let peers = global.call::<PeerList>(NoParams {}).await?;
    if global.json {
        return output::json(&peers);
    }
    if peers.peers.is_empty() {
        global.note("no linked peers; weft peer add ADDRESS links one");
    }
    let rows: Vec<_> = peers.peers.iter().map(row).collect();
    output::text(&output::table(
        [
            "PEER ID",
            "DIRECTION",
            "TRANSPORT",
            "RTT",
            "SWARMS",
            "ADDRESSES",
        ],
        &rows,
    ))
}

fn row(peer: &Peer) -> [String; 6] {
    let direction = match peer.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    [
        peer.peer_id.clone(),
        direction.to_owned(),
        peer.transport.clone(),
        output::ms(peer.rtt_ms),
        output::list(&peer.swarms),
        output::list(&peer.addresses),
    ]
}

async fn add(global: &Global, address: String) -> Result<(), Failure> {
    let added = global.call::<PeerAdd>(PeerAddParams { address }).await?;
    if global.json {
        return output::json(&added);
    }
    output::text(&format!("linked {} at {}\n", added.peer_id, added.address))
}

async fn rm(global: &Global, peer_id: String) -> Result<(), Failure> {
    let removed = global.call::<PeerRemove>(PeerParams { peer_id }).await?;
    if global.json {
        output::json(&removed)?;
    } else if removed.removed {
        output::text(&format!("removed {}\n", removed.peer_id))?;
    }
    if !removed.removed {
        return Err(Failure::new(
            Exit::NotFound,
            format!("{} was neither linked nor known", removed.peer_id),
        )
        .hint("weft peer ls shows the linked peers"));
    }
    Ok(())
}

async fn ping(global: &Global, peer_id: String) -> Result<(), Failure> {
    let pinged = global.call::<PeerPing>(PeerParams { peer_id }).await?;
    if global.json {
        return output::json(&pinged);
    }
    output::text(&format!(
        "{} answered in {}\n",
        pinged.peer_id,
        output::ms(Some(pinged.rtt_ms))
    ))
}
