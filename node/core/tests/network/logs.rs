//! Topics' logs over crashes and restarts: every subscriber gets every message once, in order, whatever its disk had not
//! synced when it was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft_core::input::Reach;
use weft_core::{Command, Reply, TopicName};
use weft_identity::PeerId;

use super::net::{Got, Net};
use super::{TOPIC, keepers, message, publish_steadily, seconds, subscribed, whole};

/// Longer than a change waits for others and a sync takes.
const SYNCED: Duration = Duration::from_millis(300);

fn topic() -> TopicName {
    TOPIC.parse().unwrap()
}

fn got(net: &Net, node: usize) -> Vec<Got> {
    net.node(node)
        .got
        .get(&topic())
        .cloned()
        .unwrap_or_default()
}

fn texts(net: &Net, node: usize, publisher: usize) -> Vec<Bytes> {
    net.messages(node, TOPIC, net.peer_at(publisher))
}

fn subscribe(net: &mut Net, node: usize) -> Vec<(weft_overlay::StreamId<PeerId>, u64)> {
    let request = net.subscribe(node, TOPIC);
    net.run_until(seconds(4), "it is subscribed", |net| {
        net.node(node).replies.contains_key(&request)
    });
    match net.take_reply(node, request) {
        Some(Reply::Subscribed { heads, .. }) => heads,
        other => panic!("{other:?}"),
    }
}

/// Kills a node and starts it again later; what it had read is what its disk had synced of it.
fn kill(net: &mut Net, node: usize) -> (u64, Vec<Got>) {
    let (epoch, had) = (net.node(node).epoch, got(net, node));
    net.crash(node);
    (epoch, had)
}

fn start(net: &mut Net, node: usize, (epoch, had): (u64, Vec<Got>)) {
    net.restart_killed(node, epoch);
    let has = got(net, node);
    assert_eq!(has, had[..has.len()], "n{node}: what it has is what it had");
}

#[test]
fn a_subscriber_that_was_killed_goes_on_where_it_stopped() {
    for seed in 0..10 {
        let mut net = subscribed(5, seed);
        let mut sent = publish_steadily(&mut net, 0, 30);
        net.run(SYNCED);
        let killed = kill(&mut net, 4);
        assert_eq!(killed.1.len(), 30);
        sent.extend((0..20).map(|n| message(format!("meanwhile {n}"))));
        for message in &sent[30..] {
            net.publish(0, TOPIC, vec![message.clone()]);
            net.run(Duration::from_millis(20));
        }
        start(&mut net, 4, killed);
        assert_eq!(got(&net, 4).len(), 30, "all was synced");
        let heads = subscribe(&mut net, 4);
        let publisher = net.peer_at(0);
        let head = heads.iter().find(|(id, _)| id.publisher == publisher);
        // Who wants only what is new knows what isn't.
        assert!(
            head.is_none_or(|(_, last)| *last == 50),
            "seed {seed}: {heads:?}"
        );
        assert!(head.is_some() || texts(&net, 4, 0).len() == 50);
        net.run_until(seconds(5), "it has what it missed", |net| {
            texts(net, 4, 0).len() == 50
        });
        sent.extend(publish_steadily(&mut net, 0, 10));
        net.run(seconds(1));
        assert_eq!(texts(&net, 4, 0), sent, "seed {seed}");
        assert!(net.gaps(4, TOPIC).is_empty());
    }
}

#[test]
fn a_publisher_that_was_killed_leaves_what_its_disk_had() {
    for seed in 0..5 {
        // Nobody else is there: what it has published is on its own disk alone.
        let mut net = whole(3, seed);
        let mut sent = publish_steadily(&mut net, 0, 20);
        // It waits a second for somebody to be there.
        net.run(seconds(1) + SYNCED);
        let (epoch, _) = kill(&mut net, 0);
        net.run(seconds(1));
        net.restart_killed(0, epoch);
        let early = subscribe(&mut net, 1);
        assert!(early.is_empty());
        // Its topic's log is there, and it supplies it as soon as it is a member again.
        sent.extend(publish_steadily(&mut net, 0, 5));
        net.run(seconds(3));
        assert_eq!(texts(&net, 0, 0), sent, "seed {seed}");
        let late = texts(&net, 1, 0);
        assert_eq!(late, sent[sent.len() - late.len()..], "seed {seed}");
        assert!(late.len() >= 5, "seed {seed}");
    }
}

#[test]
fn all_are_killed_at_once_and_the_log_is_still_there() {
    for seed in 0..5 {
        let mut net = subscribed(6, seed);
        let mut sent = publish_steadily(&mut net, 0, 50);
        net.run(SYNCED);
        let killed: Vec<_> = (0..6).map(|node| kill(&mut net, node)).collect();
        net.run(seconds(1));
        for (node, killed) in killed.into_iter().enumerate() {
            start(&mut net, node, killed);
        }
        for node in 1..6 {
            assert_eq!(texts(&net, node, 0), sent, "before anybody is a member");
        }
        for node in 1..6 {
            subscribe(&mut net, node);
        }
        sent.extend(publish_steadily(&mut net, 0, 20));
        net.run(seconds(2));
        for node in 1..6 {
            assert_eq!(texts(&net, node, 0), sent, "seed {seed}");
            assert!(net.gaps(node, TOPIC).is_empty());
        }
    }
}

/// Three publish for a minute, and everybody is killed and started again at random, all of them once.
#[test]
fn every_subscriber_gets_every_message_once_and_in_order_across_restarts() {
    for seed in 0..4 {
        let mut net = subscribed(7, seed);
        subscribe(&mut net, 0);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut down: BTreeMap<usize, ((u64, Vec<Got>), usize)> = BTreeMap::new();
        // What a publisher lived long enough after publishing that its disk had it.
        let mut owed: BTreeMap<usize, Vec<Bytes>> = BTreeMap::new();
        let mut fresh: BTreeMap<usize, Vec<Bytes>> = BTreeMap::new();
        for step in 0..600 {
            if step % 3 == 0 && step < 570 {
                for publisher in 0..3 {
                    if net.nodes[publisher].is_some() {
                        let message = message(format!("{publisher}/{step}"));
                        net.publish(publisher, TOPIC, vec![message.clone()]);
                        fresh.entry(publisher).or_default().push(message);
                    }
                }
            }
            let victims: Vec<usize> = match step {
                300 => net.live(),
                _ if rng.random_ratio(1, 25) => vec![rng.random_range(0..7)],
                _ => Vec::new(),
            };
            for node in victims.into_iter().filter(|_| step < 500) {
                if net.nodes[node].is_some() {
                    let until = step + rng.random_range(5..60);
                    let killed = kill(&mut net, node);
                    down.insert(node, (killed, until));
                    // The last it had said may be lost with it.
                    fresh.remove(&node);
                }
            }
            let due = down.extract_if(.., |_, (_, until)| *until <= step);
            for (node, (killed, _)) in due.collect::<Vec<_>>() {
                start(&mut net, node, killed);
                net.subscribe(node, TOPIC);
            }
            net.run(Duration::from_millis(100));
            if step % 10 == 9 {
                for (publisher, messages) in &mut fresh {
                    // All but those of the last second.
                    let old = messages.len().saturating_sub(4);
                    owed.entry(*publisher)
                        .or_default()
                        .extend(messages.drain(..old));
                }
            }
        }
        for (publisher, messages) in fresh {
            owed.entry(publisher).or_default().extend(messages);
        }
        net.run(seconds(60));
        for node in 0..7 {
            for (publisher, owed) in &owed {
                // In order and once, which this asserts.
                let has: BTreeSet<Bytes> = texts(&net, node, *publisher).into_iter().collect();
                let lost: Vec<&Bytes> = owed.iter().filter(|it| !has.contains(*it)).collect();
                assert!(lost.is_empty(), "seed {seed}: n{node} lacks {lost:?}");
            }
        }
        assert!(owed.values().map(Vec::len).sum::<usize>() > 200);
    }
}

#[test]
fn who_leaves_and_comes_back_is_owed_what_came_meanwhile() {
    let mut net = subscribed(5, 1);
    let mut sent = publish_steadily(&mut net, 0, 10);
    let topic = topic();
    net.tell(4, weft_core::Input::Command(Command::Unsubscribe { topic }));
    net.run(seconds(400));
    assert!(net.node(4).core.swarm_view(TOPIC, net.now()).is_none());
    assert_eq!(texts(&net, 4, 0), sent);
    sent.extend(publish_steadily(&mut net, 0, 10));
    let heads = subscribe(&mut net, 4);
    assert!(heads.len() == 1 || texts(&net, 4, 0).len() == 20);
    sent.extend(publish_steadily(&mut net, 0, 10));
    net.run(seconds(2));
    assert_eq!(texts(&net, 4, 0), sent);
}

#[test]
fn a_disk_has_the_last_hour_of_a_topic_and_nothing_of_one_that_has_fallen_silent() {
    let mut net = subscribed(3, 1);
    for minute in 0..130 {
        net.publish(0, TOPIC, vec![message(format!("minute {minute}"))]);
        net.run(seconds(60));
    }
    let restored = net.disks[1].restore();
    let arrivals = restored[0].arrivals.len();
    assert!((59..=61).contains(&arrivals), "{arrivals}");
    assert_eq!(restored[0].held.len(), arrivals);
    assert_eq!(restored[0].marks.len(), 1);
    // It is read back, and what has become too old goes.
    let killed = kill(&mut net, 1);
    net.run(seconds(1_800));
    net.restart_killed(1, killed.0);
    net.run(seconds(1));
    let arrivals = net.disks[1].restore()[0].arrivals.len();
    assert!((29..=31).contains(&arrivals), "{arrivals}");
    net.run(seconds(1_900));
    assert!(net.disks[1].restore().is_empty());
}

#[test]
fn a_full_disk_stops_no_topic_and_catches_up_once_there_is_room() {
    let mut net = subscribed(4, 1);
    let mut sent = publish_steadily(&mut net, 0, 10);
    net.full.insert(3);
    sent.extend(publish_steadily(&mut net, 0, 50));
    net.run(seconds(2));
    assert_eq!(texts(&net, 3, 0), sent);
    net.full.clear();
    net.run(seconds(2));
    let killed = kill(&mut net, 3);
    start(&mut net, 3, killed);
    assert_eq!(texts(&net, 3, 0), sent, "all of it is on disk now");
}

#[test]
fn what_was_fetched_from_before_the_base_is_kept_like_all_else() {
    for seed in 0..3 {
        let mut net = keepers::network(10, seed);
        let nodes = keepers::closest(&net);
        let (publisher, early, late) = (nodes[5], nodes[6], nodes[7]);
        keepers::get_subscribed(&mut net, early, Reach::Base);
        let mut sent = publish_steadily(&mut net, publisher, 60);
        net.run(seconds(1));
        keepers::get_subscribed(&mut net, late, Reach::All);
        sent.extend(publish_steadily(&mut net, publisher, 20));
        net.run(seconds(1));
        assert_eq!(texts(&net, late, publisher), sent, "seed {seed}");
        let killed = kill(&mut net, late);
        start(&mut net, late, killed);
        assert_eq!(texts(&net, late, publisher), sent, "seed {seed}");
        assert_eq!(net.gaps(late, TOPIC), []);
        subscribe(&mut net, late);
        sent.extend(publish_steadily(&mut net, publisher, 10));
        net.run(seconds(2));
        assert_eq!(texts(&net, late, publisher), sent, "seed {seed}");
    }
}

#[test]
fn keepers_that_were_all_killed_hand_out_what_they_kept() {
    for seed in 0..3 {
        let mut net = keepers::network(10, seed);
        let nodes = keepers::closest(&net);
        let (publisher, early, late) = (nodes[5], nodes[6], nodes[7]);
        keepers::get_subscribed(&mut net, early, Reach::Base);
        let sent = publish_steadily(&mut net, publisher, 60);
        net.run(seconds(1));
        let killed: Vec<_> = (0..10).map(|node| kill(&mut net, node)).collect();
        for (node, killed) in killed.into_iter().enumerate() {
            if node != early && node != publisher {
                start(&mut net, node, killed);
            }
        }
        net.run_until(seconds(10), "the network is whole", |net| {
            net.is_whole("network")
        });
        net.run(seconds(10));
        // Neither the publisher nor the one subscriber is there any more.
        keepers::get_subscribed(&mut net, late, Reach::All);
        assert_eq!(texts(&net, late, publisher), sent, "seed {seed}");
        assert_eq!(net.gaps(late, TOPIC), []);
    }
}

/// Somebody who reads a topic by name is away for hours, while what it had not read grows too old or not.
#[test]
fn a_log_that_somebody_goes_on_with_outlives_all_that_was_in_it() {
    let mut net = keepers::network(8, 1);
    let nodes = keepers::closest(&net);
    let (publisher, reader) = (nodes[5], nodes[6]);
    keepers::get_subscribed(&mut net, reader, Reach::Base);
    let read = publish_steadily(&mut net, publisher, 10);
    let kept = net.keep_log(reader, TOPIC);
    net.run_until(seconds(2), "its log is on disk", |net| {
        net.node(reader).replies.contains_key(&kept)
    });
    assert!(matches!(
        net.take_reply(reader, kept),
        Some(Reply::LogKept(Ok(())))
    ));
    assert_eq!(net.disks[reader].restore()[0].arrivals.len(), 10);
    assert_eq!(texts(&net, reader, publisher), read);
    let topic = topic();
    let leave = Command::Unsubscribe {
        topic: topic.clone(),
    };
    net.tell(reader, weft_core::Input::Command(leave));
    net.run(seconds(400));
    publish_steadily(&mut net, publisher, 10);
    net.run(seconds(4_000));
    // Where it ended is all that is left of it, over a crash too.
    let left = net.disks[reader].restore();
    let arrivals: Vec<_> = left.iter().flat_map(|log| &log.arrivals).collect();
    assert!(
        matches!(
            arrivals[..],
            [(_, Some(weft_core::log::Arrived::Lost { places: 0 }))]
        ),
        "{arrivals:?}"
    );
    net.kept_logs = vec![topic.clone()];
    let killed = kill(&mut net, reader);
    let late = publish_steadily(&mut net, publisher, 10);
    net.run(seconds(1_800));
    start(&mut net, reader, killed);
    keepers::get_subscribed(&mut net, reader, Reach::Base);
    net.run_until(seconds(60), "what is there has come", |net| {
        texts(net, reader, publisher).len() == 10
    });
    // It is owed what keepers have still, and told what nobody has.
    assert_eq!(texts(&net, reader, publisher), late);
    let told = net.gaps(reader, TOPIC);
    assert!(
        matches!(
            told[..],
            [Got::Gap {
                from: 11,
                to: 20,
                ..
            }]
        ),
        "{told:?}"
    );
    // Once nobody goes on with it, it ends with what is in it.
    for command in [
        Command::Unsubscribe {
            topic: topic.clone(),
        },
        Command::FreeLog { topic },
    ] {
        net.tell(reader, weft_core::Input::Command(command));
    }
    net.run(seconds(4_200));
    assert!(net.disks[reader].restore().is_empty());
}

#[test]
fn one_publisher_fills_a_topic_and_the_hour_of_another_stays() {
    let mut net = subscribed(3, 1);
    let hour = publish_steadily(&mut net, 1, 50);
    // More than a topic's log holds, of which the other has next to nothing.
    let large = Bytes::from(vec![7; 256 * 1_024]);
    for _ in 0..340 {
        net.publish(0, TOPIC, vec![large.clone()]);
        net.run(Duration::from_millis(50));
    }
    net.run(seconds(1));
    let of = |net: &Net, publisher| texts(net, 2, publisher).len();
    assert_eq!((of(&net, 0), of(&net, 1)), (340, 50), "all of it came");
    let log = &net.disks[2].restore()[0];
    let (quiet, loud) = (net.peer_at(1), net.peer_at(0));
    let held = |publisher| {
        let held = log.held.iter();
        let its = held.filter(|held| held.bundle.0.value.publisher == publisher);
        its.count()
    };
    assert_eq!(held(quiet), 50);
    assert!((240..=256).contains(&held(loud)), "{}", held(loud));
    // What went is lost in the middle of the log, in one piece for each walk through it at most, and told as that.
    let killed = kill(&mut net, 2);
    net.run(seconds(1));
    net.restart_killed(2, killed.0);
    let after: Vec<Got> = got(&net, 2);
    assert_eq!(texts(&net, 2, 1), hour);
    let missed = after.iter().filter_map(|got| match got {
        Got::Missed { places } => Some(*places),
        _ => None,
    });
    let missed: Vec<u64> = missed.collect();
    assert_eq!(missed.iter().sum::<u64>(), 340 - held(loud) as u64);
    // Those that no walk has met yet stand alone.
    assert!(missed.len() < 50, "{missed:?}");
}
