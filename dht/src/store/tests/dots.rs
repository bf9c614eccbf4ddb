//! What restarts cost a key: nothing, whatever ends a run.

use super::basics::{context, get, put, put_on, values};
use super::network::{MS, Network, SECOND, key};
use crate::Peer;
use crate::kv::{CONTEXT_INTERVALS_MAX, KvKey};
use crate::store::{Basis, DiskError, Outcome};
use crate::testing::TestPeer;

/// More restarts than a context has intervals.
const RESTARTS: usize = CONTEXT_INTERVALS_MAX + 10;

/// A network, a key, and a node that is none of its replicas: it has nothing else on disk.
fn scene(seed: u64) -> (Network, KvKey, u32) {
    let network = Network::of(seed, 6);
    let key = key("written again and again");
    let writer = *network.closest(&key).last().unwrap();
    (network, key, writer)
}

/// Puts a key until that is acknowledged: a node that has just started may know nobody yet.
fn put_until_done(network: &mut Network, node: u32, of: &KvKey, value: &str) {
    for _ in 0..10 {
        let outcome = network.ask(node, put(of, value));
        if matches!(outcome, Outcome::Put { .. }) {
            return;
        }
        network.run_for(SECOND);
    }
    panic!("{value} is never written");
}

fn intervals(network: &mut Network, node: u32, of: &KvKey) -> usize {
    let got = network.ask(node, get(of));
    context(&got).intervals().len()
}

#[test]
fn a_node_that_is_killed_after_each_write_stays_one_writer() {
    let (mut network, key, writer) = scene(1);
    for restart in 0..RESTARTS {
        put_until_done(&mut network, writer, &key, &restart.to_string());
        network.crash(writer);
        network.run_for(100 * MS);
        network.start(writer);
        network.run_for(3 * SECOND);
    }
    let reader = network.closest(&key)[0];
    assert_eq!(intervals(&mut network, reader, &key), 1);
    let got = network.ask(reader, get(&key));
    assert_eq!(values(&got), [(RESTARTS - 1).to_string()]);
}

#[test]
fn a_node_that_is_killed_while_it_writes_loses_nothing_and_stays_one_writer_but_for_what_was_cut_off()
 {
    let (mut network, key, writer) = scene(2);
    let mut cut_off = 0;
    for restart in 0..RESTARTS as u32 {
        let call = network.call(writer, put(&key, &format!("cut off {restart}")));
        // At each moment of a write in turn.
        network.run_for(MS / 2 * (restart % 30));
        network.crash(writer);
        cut_off += usize::from(!network.outcomes.contains_key(&call));
        network.run_for(100 * MS);
        network.start(writer);
        network.run_for(3 * SECOND);
        put_until_done(&mut network, writer, &key, &restart.to_string());
        let got = network.ask(writer, get(&key));
        // A record that nobody acknowledged may have come to stand beside it.
        assert!(values(&got).contains(&restart.to_string()), "{got:?}");
    }
    let reader = network.closest(&key)[0];
    let intervals = intervals(&mut network, reader, &key);
    // Where a dot was reserved and the record never left the node, its place stays empty.
    assert!(
        cut_off > 10 && intervals <= cut_off,
        "{intervals} of {cut_off}"
    );
    println!("{intervals} intervals after {RESTARTS} kills, {cut_off} of them before an answer");
}

#[test]
fn a_write_that_comes_to_nothing_leaves_no_gap() {
    let (mut network, key, writer) = scene(3);
    put_until_done(&mut network, writer, &key, "first");
    for _ in 0..5 {
        network.split(&[writer]);
        network.run_for(3 * SECOND);
        let mut strict = put(&key, "nothing");
        if let crate::store::Call::Put { terms, .. } = &mut strict {
            terms.strict = true;
        }
        let outcome = network.ask(writer, strict);
        assert!(
            matches!(
                outcome,
                Outcome::QuorumNotMet {
                    possibly_written: false,
                    ..
                }
            ),
            "{outcome:?}"
        );
        network.heal();
        network.run_for(3 * SECOND);
        // Written down as well.
        network.crash(writer);
        network.start(writer);
        network.run_for(3 * SECOND);
    }
    put_until_done(&mut network, writer, &key, "second");
    assert_eq!(intervals(&mut network, writer, &key), 1);
}

#[test]
fn a_dot_that_the_disk_has_no_room_for_is_used_by_nobody() {
    let (mut network, key, writer) = scene(4);
    for (fails, word) in [(DiskError::Full, "full"), (DiskError::Failed, "failed")] {
        network.nodes.get_mut(&writer).unwrap().disk.fails = Some(fails);
        for basis in [Basis::Read, Basis::Blind] {
            let outcome = network.ask(writer, put_on(&key, word, basis));
            let Outcome::Refused {
                possibly_written, ..
            } = outcome
            else {
                panic!("{outcome:?}");
            };
            assert!(!possibly_written);
        }
        network.nodes.get_mut(&writer).unwrap().disk.fails = None;
    }
    network.run_for(SECOND);
    assert!(network.signed.is_empty(), "nothing was made of them");
    put_until_done(&mut network, writer, &key, "there is room");
    let signed = network.signed.values().next().unwrap();
    assert_eq!(signed.header.dot.writer.point(), TestPeer(writer).point());
    assert_eq!(signed.header.prev, None);
}
