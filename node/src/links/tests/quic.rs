//! QUIC, alone and beside TCP.

use super::*;

/// Returns the transport of the link that comes up.
async fn transport_of_link(node: &mut Node) -> &'static str {
    node.wait("a link", |event| match event {
        LinkEvent::Up(up) => Some(up.transport),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simultaneous_dial_over_quic_ends_in_one_link() {
    for round in 0..50 {
        let mut a = Node::listening(1, &[QUIC]).await;
        let mut b = Node::listening(2, &[QUIC]).await;
        let dial_a = a.dial((round % 2 == 0).then_some(b.peer), &b.address());
        let dial_b = b.dial(Some(a.peer), &a.address());
        end_in_one_link(round, (&mut a, dial_a), (&mut b, dial_b)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dial_over_tcp_and_one_over_quic_at_once_end_in_one_link() {
    for round in 0..50 {
        let mut a = Node::listening(1, &[TCP, QUIC]).await;
        let mut b = Node::listening(2, &[QUIC, TCP]).await;
        let (over_a, over_b) = [("tcp", "quic"), ("quic", "tcp")][round as usize % 2];
        let dial_a = a.dial(Some(b.peer), &b.address_of(over_a));
        let dial_b = b.dial(Some(a.peer), &a.address_of(over_b));
        end_in_one_link(round, (&mut a, dial_a), (&mut b, dial_b)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_of_every_address_from_both_sides_end_in_one_link() {
    for round in 0..50 {
        let mut a = Node::listening(1, &[TCP, QUIC]).await;
        let mut b = Node::listening(2, &[TCP, QUIC]).await;
        let (at_a, at_b) = (
            a.links.listening.borrow().clone(),
            b.links.listening.borrow().clone(),
        );
        let dial_a = a.dial_any(Some(b.peer), &at_b);
        let dial_b = b.dial_any(Some(a.peer), &at_a);
        end_in_one_link(round, (&mut a, dial_a), (&mut b, dial_b)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_says_which_transport_carries_it_and_both_are_listened_on() {
    let mut a = Node::listening(1, &[TCP, QUIC]).await;
    for (seed, transport) in [(2, "tcp"), (3, "quic")] {
        let mut b = Node::listening(seed, &[TCP, QUIC]).await;
        let dial = b.dial(None, &a.address_of(transport));
        assert_eq!(b.outcome(dial).await, Ok(a.peer));
        assert_eq!(transport_of_link(&mut b).await, transport);
        assert_eq!(transport_of_link(&mut a).await, transport);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_a_udp_port_costs_a_dial_its_time_and_no_more() {
    let mut a = Node::listening(1, &[QUIC]).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
        .parse()
        .unwrap();
    let begun = Instant::now();
    let dial = a.dial(None, &address);
    let error = a.outcome(dial).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
    assert!(begun.elapsed() < DIAL_TIMEOUT + Duration::from_secs(1));
}

#[test]
fn a_peer_that_vanishes_without_a_word_is_noticed_within_the_idle_timeout() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (ours, theirs) = (runtime(), runtime());
    let mut a = ours.block_on(Node::listening(1, &[QUIC]));
    let mut b = theirs.block_on(Node::listening(2, &[QUIC]));
    let dial = a.dial(None, &b.address());
    assert_eq!(ours.block_on(a.outcome(dial)), Ok(b.peer));
    let to_b = ours.block_on(a.up());
    theirs.block_on(b.up());
    // Its tasks stop where they are, as those of a process that is killed: nothing is sent any more.
    let vanished = Instant::now();
    theirs.shutdown_background();
    let reason = ours.block_on(a.ended(&to_b));
    assert!(matches!(reason, DownReason::Broken(_)), "{reason:?}");
    let noticed = vanished.elapsed();
    // The idle timeout begins with the first packet that is sent in vain, a keep-alive's interval later at most; a whole
    // node's heartbeat is faster.
    assert!(noticed < Duration::from_secs(3 + 1 + 1), "{noticed:?}");
    drop(b);
}
