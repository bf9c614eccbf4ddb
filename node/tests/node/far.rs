//! Nodes that are far from each other: what the one has sent is on the way for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weft_node::{Ack, Config, Node, Start, Via};

use super::{config, read, topic};

/// How long a packet takes: as from one continent to another.
const ONE_WAY: Duration = Duration::from_millis(100);

/// A socket before a peer's own. What comes there from one client goes to the peer, and the answers back, each packet
/// after [`ONE_WAY`].
struct LongWay {
    at: SocketAddr,
    tasks: [JoinHandle<()>; 4],
}

impl Drop for LongWay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl LongWay {
    async fn to(peer: SocketAddr) -> Self {
        let bound = || async { Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()) };
        let (front, back) = (bound().await, bound().await);
        let at = front.local_addr().unwrap();
        let (there, back_again) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (client_told, client) = watch::channel(None);
        let forth = take(front.clone(), there.0, Some(client_told));
        let answers = take(back.clone(), back_again.0, None);
        let to_peer = give(back, there.1, watch::channel(Some(peer)).1);
        let to_client = give(front, back_again.1, client);
        Self {
            at,
            tasks: [forth, answers, to_peer, to_client],
        }
    }
}

type Packet = (Instant, Vec<u8>);

/// Takes packets off a socket, and tells whom they came from.
fn take(
    socket: Arc<UdpSocket>,
    packets: mpsc::UnboundedSender<Packet>,
    from: Option<watch::Sender<Option<SocketAddr>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut packet = vec![0; 65_536];
        loop {
            let (bytes, sender) = socket.recv_from(&mut packet).await.unwrap();
            if let Some(from) = &from {
                from.send_replace(Some(sender));
            }
            let due = Instant::now() + ONE_WAY;
            if packets.send((due, packet[..bytes].to_vec())).is_err() {
                return;
            }
        }
    })
}

/// Sends each packet when it is due, to a millisecond.
fn give(
    socket: Arc<UdpSocket>,
    mut packets: mpsc::UnboundedReceiver<Packet>,
    to: watch::Receiver<Option<SocketAddr>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_millis(1));
        while let Some((due, packet)) = packets.recv().await {
            while Instant::now() < due {
                clock.tick().await;
            }
            let to = *to.borrow();
            if let Some(to) = to {
                // One that is lost is sent again by whoever sent it.
                let _ = socket.send_to(&packet, to).await;
            }
        }
    })
}

async fn over_quic(seed: u8, join: Vec<Multiaddr>) -> Node {
    let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    let config = Config {
        listen,
        ..config(seed, join)
    };
    Node::start(config).await.unwrap()
}

fn socket_of(address: &Multiaddr) -> SocketAddr {
    let port = address.iter().find_map(|part| match part {
        Protocol::Udp(port) => Some(port),
        _ => None,
    });
    SocketAddr::from(([127, 0, 0, 1], port.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_sent_before_it_stops_reaches_a_peer_that_is_far() {
    let near = over_quic(1, Vec::new()).await;
    let way = LongWay::to(socket_of(&near.addresses()[0])).await;
    let over = format!("/ip4/127.0.0.1/udp/{}/quic-v1", way.at.port());
    let far = over_quic(2, vec![over.parse().unwrap()]).await;
    let topic = topic();
    let mut subscription = far.subscribe(&topic, Start::Latest).await.unwrap();
    let publish = async |messages: Vec<Bytes>| {
        near.publish(&topic, messages, Via::Gossip, Ack::Sent)
            .await
            .unwrap();
    };
    publish(vec!["they are neighbours".into()]).await;
    read(&mut subscription, 1).await;
    // QUIC begins slowly: so much takes several times there and back, longer than a peer nearby would ever take.
    let blocks: Vec<Bytes> = (0..5).map(|n| vec![n; 50_000].into()).collect();
    publish(blocks.clone()).await;
    let stopped = Instant::now();
    near.shutdown().await;
    println!("stopped after {:?}", stopped.elapsed());
    assert_eq!(read(&mut subscription, blocks.len()).await, blocks);
}
