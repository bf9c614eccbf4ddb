//! Topics over both layers: who keeps a topic, and what it is worth.

use std::time::Duration;

use bytes::Bytes;
use weft_core::input::{Ack, Reach, Via};
use weft_core::{Command, PublishError, Published, Reply, Roles};
use weft_dht::dht::{Call, Outcome};
use weft_dht::{Contact, Key, Peer};
use weft_identity::PeerId;

use super::dht::call;
use super::net::{Net, Setup};
use super::{TOPIC, message, seconds, topic};

pub(super) const KEEPERS: usize = 3;

/// A network whose nodes all keep things for others, whole and acquainted.
pub(super) fn network(count: usize, seed: u64) -> Net {
    let setup = Setup {
        roles: |_| Roles::SERVER,
        ..Setup::default()
    };
    let mut net = Net::start_with(count, seed, setup);
    net.run_until(seconds(5), "the network is whole", |net| {
        net.is_whole("network")
    });
    net.run(seconds(5));
    net
}

pub(super) fn get_subscribed(net: &mut Net, node: usize, reach: Reach) -> Duration {
    let request = net.subscribe_from(node, TOPIC, reach);
    net.run_until(seconds(5), "the node is subscribed", |net| {
        let reply = net.node(node).replies.get(&request);
        matches!(reply, Some(Reply::Subscribed { .. }))
    })
}

fn get_published(net: &mut Net, node: usize, messages: &[Bytes], ack: Ack) -> Published {
    get_published_via(net, node, messages, (Via::Both, ack))
}

pub(super) fn get_published_via(
    net: &mut Net,
    node: usize,
    messages: &[Bytes],
    way: (Via, Ack),
) -> Published {
    let request = net.publish_for(node, TOPIC, messages.to_vec(), way);
    net.run_until(seconds(15), "it is acknowledged", |net| {
        net.node(node).replies.contains_key(&request)
    });
    match net.take_reply(node, request) {
        Some(Reply::Published(Ok(published))) => published,
        other => panic!("{other:?}"),
    }
}

/// Those that are up, the closest to the topic's point first.
pub(super) fn closest(net: &Net) -> Vec<usize> {
    let topic = TOPIC.parse::<weft_core::TopicName>().unwrap().id("test");
    let point = Key::from_array(*topic.as_bytes()).point();
    let mut nodes = net.live();
    nodes.sort_by_key(|node| net.peer_at(*node).point() ^ point);
    nodes
}

fn is_member(net: &Net, node: usize) -> bool {
    let view = net.node(node).core.swarm_view(TOPIC, net.now());
    view.is_some()
}

/// Nodes that are no keepers, with that many of them.
pub(super) fn others(net: &Net) -> Vec<usize> {
    closest(net).split_off(KEEPERS)
}

pub(super) fn numbered(count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| message(format!("message {n}")))
        .collect()
}

#[test]
fn a_topic_is_kept_by_those_closest_to_its_point() {
    let mut net = network(12, 1);
    let (keepers, others) = (closest(&net)[..KEEPERS].to_vec(), others(&net));
    let took = get_subscribed(&mut net, others[0], Reach::Base);
    assert!(took < Duration::from_millis(500), "{took:?}");
    net.run(seconds(1));
    let members: Vec<usize> = net
        .live()
        .into_iter()
        .filter(|n| is_member(&net, *n))
        .collect();
    let mut expected: Vec<usize> = keepers.iter().copied().chain([others[0]]).collect();
    expected.sort_unstable();
    assert_eq!(members, expected);
    let published = get_published(&mut net, others[1], &numbered(3), Ack::Keepers);
    assert!(published.keepers.len() > KEEPERS / 2, "{published:?}");
    let peers: Vec<_> = keepers.iter().map(|node| net.peer_at(*node)).collect();
    assert!(
        published
            .keepers
            .iter()
            .all(|keeper| peers.contains(keeper))
    );
    assert_eq!(published.receipts[0].subscribers_known, 1);
}

#[test]
fn who_comes_after_everybody_has_gone_reads_everything() {
    let mut net = network(12, 2);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let messages = numbered(50);
    let publisher = net.peer_at(others[1]);
    for part in messages.chunks(10) {
        get_published(&mut net, others[1], part, Ack::Keepers);
    }
    net.crash(others[0]);
    net.crash(others[1]);
    net.run(seconds(90));
    get_subscribed(&mut net, others[2], Reach::All);
    assert_eq!(net.messages(others[2], TOPIC, publisher), messages);
    get_subscribed(&mut net, others[3], Reach::Last(7));
    let newest = net.messages(others[3], TOPIC, publisher);
    assert_eq!(newest, messages[40..], "bundles of ten");
    get_subscribed(&mut net, others[4], Reach::Base);
    net.run(seconds(2));
    assert!(net.messages(others[4], TOPIC, publisher).is_empty());
    for node in &others[2..5] {
        assert!(net.gaps(*node, TOPIC).is_empty());
    }
}

#[test]
fn keepers_that_die_are_replaced_and_hand_over() {
    let mut net = network(12, 3);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let messages = numbered(30);
    let publisher = net.peer_at(others[1]);
    get_published(&mut net, others[1], &messages, Ack::Keepers);
    net.crash(others[1]);
    // One after the other, so that those that remain hand over.
    for _ in 0..KEEPERS + 1 {
        let keeper = closest(&net)[0];
        if keeper != others[0] {
            net.crash(keeper);
        }
        net.run(seconds(60));
    }
    net.crash(others[0]);
    let late = *closest(&net).last().unwrap();
    get_subscribed(&mut net, late, Reach::All);
    assert_eq!(net.messages(late, TOPIC, publisher), messages);
}

#[test]
fn a_keeper_that_stops_is_replaced_though_its_links_had_not_been_used_for_long() {
    let mut net = network(12, 9);
    let (keepers, others) = (closest(&net), others(&net));
    get_subscribed(&mut net, others[1], Reach::Base);
    // Nobody has asked it anything meanwhile.
    net.run(seconds(30));
    assert!(!is_member(&net, others[0]));
    net.command(keepers[0], |request| Command::Stop { request });
    let took = net.run_until(seconds(10), "somebody takes its place", |net| {
        is_member(net, others[0])
    });
    println!("replaced after {took:?}");
}

#[test]
fn a_reader_of_the_past_goes_on_with_the_present_without_a_seam() {
    let mut net = network(12, 4);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let messages = numbered(200);
    let publisher = net.peer_at(others[1]);
    let mut reader = None;
    for (at, text) in messages.iter().enumerate() {
        net.publish(others[1], TOPIC, vec![text.clone()]);
        net.run(Duration::from_millis(10));
        if at == 100 {
            reader = Some(net.subscribe_from(others[2], TOPIC, Reach::All));
        }
    }
    net.run(seconds(3));
    let reply = net.take_reply(others[2], reader.unwrap());
    assert!(matches!(reply, Some(Reply::Subscribed { .. })), "{reply:?}");
    assert_eq!(net.messages(others[2], TOPIC, publisher), messages);
    assert!(net.gaps(others[2], TOPIC).is_empty());
}

#[test]
fn who_is_no_member_publishes_through_keepers() {
    let mut net = network(12, 5);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let publisher = net.peer_at(others[1]);
    let messages = numbered(2_500);
    for (part, ack) in messages.chunks(1_250).zip([Ack::Keepers, Ack::Sent]) {
        let published = get_published_via(&mut net, others[1], part, (Via::Dht, ack));
        assert_eq!(published.receipts.len(), part.len());
        assert_eq!(published.receipts[0].subscribers_known, 1);
        assert!(published.keepers.len() > KEEPERS / 2 || ack == Ack::Sent);
    }
    net.run(seconds(2));
    assert!(!is_member(&net, others[1]));
    assert_eq!(net.messages(others[0], TOPIC, publisher), messages);
    assert!(net.gaps(others[0], TOPIC).is_empty());
    // As a member it goes on in the same stream.
    get_published(&mut net, others[1], &numbered(1), Ack::Keepers);
    assert!(is_member(&net, others[1]));
    net.run(seconds(2));
    let got = net.messages(others[0], TOPIC, publisher);
    assert_eq!(got.len(), messages.len() + 1);
}

#[test]
fn where_nobody_keeps_anything_that_is_said() {
    let mut net = super::whole(4, 6);
    let way = (Via::Dht, Ack::Keepers);
    let request = net.publish_for(1, TOPIC, numbered(1), way);
    let reply = net.take_reply(1, request);
    assert!(
        matches!(reply, Some(Reply::Published(Err(PublishError::NoKeepers)))),
        "{reply:?}"
    );
}

#[test]
fn what_was_acknowledged_locally_leaves_after_a_crash_by_itself() {
    let mut net = network(8, 7);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let publisher = others[1];
    get_published(&mut net, publisher, &numbered(1), Ack::Keepers);
    let rest: Vec<usize> = net.live().into_iter().filter(|n| *n != publisher).collect();
    net.partition(&[publisher], &rest);
    net.run(seconds(5));
    get_published(&mut net, publisher, &[message("alone")], Ack::Local);
    let epoch = net.node(publisher).epoch;
    net.crash(publisher);
    net.heal();
    net.restart_killed(publisher, epoch);
    let peer = net.peer_at(publisher);
    net.run_until(seconds(30), "it has left", |net| {
        let got = net.messages(others[0], TOPIC, peer);
        got == [message("message 0"), message("alone")]
    });
    assert!(net.gaps(others[0], TOPIC).is_empty());
}

#[test]
fn all_are_killed_and_started_again_and_the_past_is_there() {
    let mut net = network(10, 8);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let messages = numbered(40);
    let publisher = net.peer_at(others[1]);
    get_published(&mut net, others[1], &messages, Ack::Keepers);
    let epochs: Vec<(usize, u64)> = net
        .live()
        .into_iter()
        .map(|node| (node, net.node(node).epoch))
        .collect();
    for (node, _) in &epochs {
        net.crash(*node);
    }
    net.run(seconds(5));
    for (node, epoch) in epochs {
        net.restart_killed(node, epoch);
    }
    net.run(seconds(10));
    get_subscribed(&mut net, others[2], Reach::All);
    assert_eq!(net.messages(others[2], TOPIC, publisher), messages);
}

/// A network with a publisher whose daemon ends after each of so many messages, killed or in order, and starts again.
fn with_runs_that_end(count: usize, seed: u64, is_killed: fn(usize) -> bool) -> (Net, usize) {
    let mut net = network(8, seed);
    let publisher = others(&net)[1];
    for (number, text) in numbered(count).into_iter().enumerate() {
        get_published(&mut net, publisher, &[text], Ack::Keepers);
        if is_killed(number) {
            let epoch = net.node(publisher).epoch;
            net.crash(publisher);
            net.run(seconds(4));
            net.restart_killed(publisher, epoch);
        } else {
            let run = net.stop(publisher);
            net.restart(publisher, run);
        }
        net.run(seconds(5));
    }
    (net, publisher)
}

#[test]
fn whoever_reads_what_many_runs_of_a_daemon_have_published_gets_all_of_it_in_order() {
    const RUNS: usize = 10;
    let (in_order, every_other, each) = (|_| false, |number| number % 2 == 0, |_| true);
    for is_killed in [in_order, every_other, each] {
        for seed in 20..24 {
            let (mut net, publisher) = with_runs_that_end(RUNS, seed, is_killed);
            let peer = net.peer_at(publisher);
            // Keepers had each message on disk. The publisher's own has only some of those before a crash.
            for reader in [others(&net)[2], publisher] {
                get_subscribed(&mut net, reader, Reach::All);
                net.run_until(seconds(2), "it has read all", |net| {
                    net.messages(reader, TOPIC, peer) == numbered(RUNS)
                });
                assert!(net.gaps(reader, TOPIC).is_empty());
            }
        }
    }
}

#[test]
fn who_has_read_a_little_of_the_past_may_read_all_of_it() {
    let mut net = network(12, 9);
    let others = others(&net);
    get_subscribed(&mut net, others[0], Reach::Base);
    let messages = numbered(60);
    let publisher = net.peer_at(others[1]);
    for part in messages.chunks(10) {
        get_published(&mut net, others[1], part, Ack::Keepers);
    }
    get_subscribed(&mut net, others[2], Reach::Last(10));
    assert_eq!(net.messages(others[2], TOPIC, publisher), messages[50..]);
    get_subscribed(&mut net, others[2], Reach::All);
    assert_eq!(net.messages(others[2], TOPIC, publisher), messages);
}

#[test]
fn who_fills_keepers_with_topics_loses_them_to_those_who_have_few() {
    // Of three nodes each keeps every topic, as many as it may keep for others.
    let mut net = network(3, 10);
    for number in 0..600 {
        net.subscribe(0, &format!("many/{number}"));
    }
    net.run(seconds(5));
    let counted = |net: &Net, node: usize, name: &str| {
        let counters = net.node(node).core.status().counters;
        counters.get(name).copied().unwrap_or(0)
    };
    assert!(counted(&net, 2, "topics_not_kept") > 0, "it is full");
    assert_eq!(counted(&net, 2, "kept_topics_displaced"), 0);
    get_subscribed(&mut net, 1, Reach::Base);
    net.run(seconds(1));
    let stats = net.node(2).core.topic_stats(&topic(), net.now()).unwrap();
    assert!(stats.keeps);
    assert_eq!(counted(&net, 2, "kept_topics_displaced"), 1);
}

#[test]
fn who_has_lost_all_neighbours_finds_others_through_keepers() {
    let mut net = network(12, 11);
    let others = others(&net);
    let (first, second) = (others[0], others[1]);
    get_subscribed(&mut net, first, Reach::Base);
    get_subscribed(&mut net, second, Reach::Base);
    net.run(seconds(5));
    // Its keepers are killed: the others, which take their place, are told by it, and tell it of those that are left.
    for keeper in closest(&net)[..KEEPERS].to_vec() {
        net.crash(keeper);
    }
    net.run(seconds(15));
    let replaced = closest(&net)[..KEEPERS].to_vec();
    for keeper in replaced {
        assert!(is_member(&net, keeper), "{keeper}");
    }
    let publisher = net.peer_at(first);
    get_published(&mut net, first, &numbered(5), Ack::Keepers);
    net.run(seconds(1));
    assert_eq!(net.messages(second, TOPIC, publisher), numbered(5));
}

#[test]
fn who_reaches_no_keeper_finds_members_by_what_they_provide() {
    let mut net = network(40, 12);
    let mut near = closest(&net);
    let far = near.split_off(6);
    let (members, newcomer, outsider) = (&far[10..16], far[20], far[25]);
    for member in members {
        get_subscribed(&mut net, *member, Reach::Base);
    }
    net.run(seconds(5));
    let key = Key::from_array(*topic().id("test").as_bytes());
    let found = call(&mut net, outsider, Call::Providers(key));
    let Outcome::Providers { providers, .. } = found else {
        panic!("{found:?}");
    };
    let provided: Vec<PeerId> = providers.iter().map(Contact::peer).collect();
    for node in near[..KEEPERS].iter().chain(members) {
        assert!(provided.contains(&net.peer_at(*node)), "{node}");
    }
    assert_eq!(provided.len(), KEEPERS + members.len());

    // Nobody whom it could meet knows the topic.
    net.partition(&[newcomer], &near);
    net.subscribe(newcomer, TOPIC);
    net.run_until(seconds(10), "it has a neighbour", |net| {
        let view = net.node(newcomer).core.swarm_view(TOPIC, net.now());
        view.is_some_and(|view| !view.active.is_empty())
    });
    let publisher = net.peer_at(members[0]);
    get_published(&mut net, members[0], &numbered(3), Ack::Local);
    net.run(seconds(1));
    assert_eq!(net.messages(newcomer, TOPIC, publisher), numbered(3));
}
