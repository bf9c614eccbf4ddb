//! Peers of the kad protocol that mean harm: what they send is refused, what they say is believed of nobody else, and what
//! they leave open is closed.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::SubstreamBox;
use tokio::time::timeout;
use weft_core::wire::kad::{PACKET_BYTES_MAX, PacketDecoder, encode_packet};
use weft_core::{KadContact, KadPeer};
use weft_dht::{Answer, Message, Query};
use weft_identity::Keypair;
use weft_node::Node;
use weft_tests::peer::{self, Connection, Manners};

use super::stranger::{Found, Stranger};
use super::{DEADLINE, NETWORK, ids, key, network, sorted, until};

/// The kad protocol's name as it is negotiated.
fn protocol() -> Vec<u8> {
    format!("/weft/{NETWORK}/kad/1.0.0\n").into_bytes()
}

async fn connect(by: &Keypair, to: &Node) -> Connection {
    let address = to.addresses().remove(0);
    let connected = Connection::open(by, &address, NETWORK, &Manners::default()).await;
    connected.unwrap()
}

/// Sends bytes on a stream of its own, and returns what comes back before it ends.
async fn send(connection: &Connection, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connection.stream(&protocol()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    to_end(&mut stream).await
}

/// Reads a stream until the other side has closed or reset it.
async fn to_end(stream: &mut SubstreamBox) -> Vec<u8> {
    let mut came = Vec::new();
    let mut buffer = [0; 1_024];
    let reading = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            came.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(DEADLINE, reading).await.expect("the stream ends");
    came
}

/// Asks an honest question; the answer must be one.
async fn ask(connection: &Connection, by: &Keypair) -> Vec<KadPeer> {
    let mut stream = connection.stream(&protocol()).await.unwrap();
    let question = Message::Query(Query::FindNode { key: key("any") });
    let packet = encode_packet(&question, by.peer_id());
    stream.write_all(&packet).await.unwrap();
    stream.close().await.unwrap();
    let answer = to_end(&mut stream).await;
    let (prefix, len) = weft_core::wire::parse_prefix(&answer).unwrap().unwrap();
    assert_eq!(prefix + len, answer.len());
    match PacketDecoder::new(Default::default()).answer(&answer[prefix..]) {
        Ok(Message::Answer(Answer::Closer { contacts })) => contacts,
        other => panic!("{other:?}"),
    }
}

async fn refused(node: &Node) -> u64 {
    let status = node.status().await.unwrap();
    status.counters.get("kad_refused").copied().unwrap_or(0)
}

fn announcement(of: &Keypair) -> Message<KadContact> {
    let address = weft_core::Address::new(bytes::Bytes::from_static(b"\x04\x7f\0\0\x01\x06\0\x01"));
    let contact = peer::contact(of, &[address.unwrap()]);
    Message::Query(Query::AddProvider {
        key: key("forged"),
        provider: KadContact::new(KadPeer::Signed(contact), peer::unix()),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_forgeries_and_values_cost_their_stream_and_nothing_else() {
    let nodes = network(3).await;
    let me = peer::key(1);
    let connection = connect(&me, &nodes[0]).await;
    let forged = {
        let mut packet = encode_packet(&announcement(&me), me.peer_id()).to_vec();
        // The descriptor is written last, and its body at its end.
        *packet.last_mut().unwrap() ^= 1;
        packet
    };
    let of_another = encode_packet(&announcement(&peer::key(2)), me.peer_id());
    let len = PACKET_BYTES_MAX + 1;
    let oversize = [len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8];
    for (what, bytes) in [
        ("garbage", &b"\x05\xff\xff\xff\xff\xff"[..]),
        ("an oversize packet", &oversize),
        ("a length without end", &[0xff; 10]),
        ("a value", b"\x05\x12\x03key"),
        ("a forged record", &forged),
        ("another's announcement", &of_another),
    ] {
        let before = refused(&nodes[0]).await;
        assert_eq!(send(&connection, bytes).await, b"", "{what}");
        until(what, async || refused(&nodes[0]).await == before + 1).await;
        assert_eq!(ask(&connection, &me).await.len(), 2, "after {what}");
    }
    for node in &nodes {
        let found = node.providers(key("forged")).await.unwrap();
        assert_eq!(found.providers, []);
    }
    // Its own word it may give.
    let own = encode_packet(&announcement(&me), me.peer_id());
    let mut stream = connection.stream(&protocol()).await.unwrap();
    stream.write_all(&own).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(to_end(&mut stream).await, b"", "it has no answer");
    let found = nodes[0].providers(key("forged")).await.unwrap();
    assert_eq!(found.providers[0].peer_id, me.peer_id().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_left_are_closed_and_so_is_their_connection() {
    let nodes = network(2).await;
    let me = peer::key(3);
    let mut connection = connect(&me, &nodes[0]).await;
    let mut left = Vec::new();
    for _ in 0..32 {
        left.push(connection.stream(&protocol()).await.unwrap());
    }
    // Those that go on are served one after the other, and one more is refused.
    let more = timeout(Duration::from_secs(5), send(&connection, b"")).await;
    assert_eq!(more.expect("the 33rd is reset at once"), b"");
    let first = &mut left[0];
    let question = Message::Query(Query::FindNode { key: key("any") });
    first
        .write_all(&encode_packet(&question, me.peer_id()))
        .await
        .unwrap();
    first.flush().await.unwrap();
    let mut byte = [0];
    timeout(DEADLINE, first.read_exact(&mut byte))
        .await
        .unwrap()
        .unwrap();
    for stream in &mut left {
        to_end(stream).await;
    }
    assert!(
        connection.wait_closed(Duration::from_secs(20)).await,
        "it carries nothing any more"
    );
    let again = connect(&me, &nodes[0]).await;
    assert_eq!(ask(&again, &me).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_where_it_says_is_asked_and_named_to_nobody() {
    let nodes = network(4).await;
    let mut hidden = Stranger::hidden(NETWORK).await;
    let failures = async || {
        let mut failures = 0;
        for node in &nodes {
            failures += node.status().await.unwrap().dht.failures;
        }
        failures
    };
    let before = failures().await;
    hidden.add(&nodes[0]);
    hidden.bootstrap().await;
    assert!(matches!(hidden.closest(b"any").await, Found::Closest(peers) if peers.len() == 4));
    let tried = before + 2 * nodes.len() as u64;
    hidden
        .until("everybody has tried it twice", async || {
            failures().await >= tried
        })
        .await;
    for node in &nodes {
        let table = node.routing_table().await.unwrap();
        let hidden = hidden.peer().to_string();
        assert!(table.peers.iter().all(|peer| peer.peer_id != hidden));
    }
    let mut asking = Stranger::start(NETWORK).await;
    asking.add(&nodes[1]);
    asking.bootstrap().await;
    let Found::Closest(found) = asking.closest(&hidden.peer().to_bytes()).await else {
        panic!("closest peers");
    };
    assert_eq!(sorted(&found), ids(&nodes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_names_strangers_leads_lookups_nowhere() {
    let nodes = network(4).await;
    let mut liar = Stranger::start(NETWORK).await;
    liar.add(&nodes[0]);
    liar.bootstrap().await;
    liar.invent(60);
    let peer = liar.peer().to_string();
    liar.until("every node knows it", async || {
        for node in &nodes {
            let table = node.routing_table().await.unwrap();
            if table.peers.iter().all(|known| known.peer_id != peer) {
                return false;
            }
        }
        true
    })
    .await;
    let mut truly = ids(&nodes);
    truly.push(peer.clone());
    truly.sort();
    for (node, text) in nodes.iter().zip(["a", "b", "c", "d"]) {
        let found = liar.meanwhile(node.closest(key(text))).await.unwrap();
        assert!(
            found.lookup.failures > 0,
            "it was led astray: {:?}",
            found.lookup
        );
        let mut found: Vec<String> = found.peers.into_iter().map(|it| it.peer_id).collect();
        found.sort();
        assert_eq!(found, truly);
        let table = node.routing_table().await.unwrap();
        assert_eq!(
            table.peers.len(),
            nodes.len(),
            "who never answered has no place"
        );
    }
}
