//! The structured layer over real frames: tables fill, lookups find what is there, and nothing stays open for it.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_core::{Command, Reply, Roles};
use weft_dht::dht::{Call, Outcome};
use weft_dht::table::Standing;
use weft_dht::{Contact, Key, Peer as _};
use weft_identity::PeerId;

use super::net::{LOOKED_UP, Net, Setup};
use super::{seconds, whole};

/// Asks something of a node's structured layer, and waits for the answer.
pub(super) fn call(
    net: &mut Net,
    node: usize,
    call: Call<PeerId>,
) -> Outcome<weft_core::KadContact> {
    let request = net.command(node, |request| Command::Dht { request, call });
    net.run_until(seconds(20), "the call is answered", |net| {
        net.node(node).replies.contains_key(&request)
    });
    match net.take_reply(node, request) {
        Some(Reply::Dht { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

fn closest(net: &mut Net, node: usize, key: &Key) -> Vec<PeerId> {
    match call(net, node, Call::Closest(key.clone())) {
        Outcome::Closest { contacts } => contacts.iter().map(Contact::peer).collect(),
        other => panic!("{other:?}"),
    }
}

/// The live nodes but one, the closest to a key first, 20 at most.
fn truly_closest(net: &Net, but: usize, key: &Key) -> Vec<PeerId> {
    let live = net.live().into_iter().filter(|node| *node != but);
    let mut peers: Vec<PeerId> = live.map(|node| net.peer_at(node)).collect();
    peers.sort_by_key(|peer| peer.point() ^ key.point());
    peers.truncate(20);
    peers
}

fn live_in_table(net: &Net, node: usize) -> usize {
    net.node(node).core.dht().live
}

fn filled(count: usize, seed: u64) -> Net {
    let mut net = whole(count, seed);
    let enough = (count - 1).min(20);
    let took = net.run_until(seconds(60), "tables are filled", |net| {
        let mut live = net.live().into_iter();
        live.all(|node| live_in_table(net, node) >= enough)
    });
    println!("filled after {took:?}");
    net
}

fn key(n: u8) -> Key {
    Key::new(&[b'k', n]).unwrap()
}

#[test]
fn everybody_knows_everybody_of_a_small_network_and_lets_go_of_the_links() {
    for seed in 0..3 {
        let mut net = filled(20, seed);
        // The own key is looked up once more half a minute after the join, and then there is quiet for minutes.
        net.run(seconds(110));
        let (mut links, mut neighbours) = (0, 0);
        for node in 0..20 {
            assert_eq!(live_in_table(&net, node), 19, "seed {seed} node {node}");
            let status = net.node(node).core.status();
            links += status.links;
            neighbours += status.active;
        }
        // The membership itself now and then opens a link to ask for a place.
        assert!(
            links <= neighbours + 3 * 20,
            "seed {seed}: {links} links for {neighbours}"
        );
        // At rest the layer says next to nothing.
        let (frames, kad) = (net.frames, net.kad_frames);
        net.run(seconds(60));
        let kad = net.kad_frames - kad;
        println!(
            "seed {seed}: {} frames a minute, {kad} of this layer",
            net.frames - frames
        );
        assert!(kad <= 20 * 8, "seed {seed}: {kad}");
    }
}

#[test]
fn lookups_find_the_closest_of_all() {
    for seed in 0..2 {
        let mut net = filled(80, seed);
        net.run(seconds(60));
        for n in 0..10 {
            let node = usize::from(n) * 7;
            let (found, truly) = (
                closest(&mut net, node, &key(n)),
                truly_closest(&net, node, &key(n)),
            );
            assert_eq!(found, truly, "seed {seed} node {node}");
        }
    }
}

#[test]
fn providers_and_peers_are_found_from_anywhere() {
    let mut net = filled(40, 5);
    for node in [3, 17] {
        let Outcome::Provided { told } = call(&mut net, node, Call::Provide(key(1))) else {
            panic!("provided");
        };
        assert_eq!(told.len(), 20, "the closest are told");
    }
    net.run(seconds(1));
    for node in [0, 9, 30] {
        let Outcome::Providers { providers, .. } = call(&mut net, node, Call::Providers(key(1)))
        else {
            panic!("providers");
        };
        let mut found: Vec<PeerId> = providers.iter().map(Contact::peer).collect();
        let mut expected = [net.peer_at(3), net.peer_at(17)];
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let wanted = net.peer_at(25);
        let Outcome::Peer {
            contact: Some(contact),
        } = call(&mut net, node, Call::FindPeer(wanted))
        else {
            panic!("found");
        };
        assert_eq!(contact.peer(), wanted);
        assert!(contact.descriptor().is_some(), "with its own word");
    }
    let request = net.command(3, |request| Command::StopProviding {
        request,
        key: key(1),
    });
    assert!(matches!(
        net.take_reply(3, request),
        Some(Reply::ProvidingStopped(true))
    ));
}

#[test]
fn lookups_find_the_closest_that_live_after_a_third_has_crashed() {
    let mut net = filled(60, 8);
    for node in (0..60).step_by(3) {
        net.crash(node);
    }
    net.run(seconds(30));
    for n in 0..6 {
        let node = usize::from(n) * 6 + 1;
        let found = closest(&mut net, node, &key(n));
        assert_eq!(found, truly_closest(&net, node, &key(n)), "node {node}");
    }
}

#[test]
fn a_client_asks_and_stands_in_nobodys_table() {
    let setup = Setup {
        roles: |node| {
            if node == 7 { Roles::CLIENT } else { LOOKED_UP }
        },
        ..Setup::default()
    };
    let mut net = Net::start_with(12, 3, setup);
    net.run_until(seconds(60), "tables are filled", |net| {
        (0..12).all(|node| live_in_table(net, node) >= 10)
    });
    net.run(seconds(30));
    let client = net.peer_at(7);
    for node in 0..12 {
        let table = net.node(node).core.routing_table(net.now());
        let known = table.entries.iter().any(|e| e.contact.peer() == client);
        assert!(!known, "node {node}");
    }
    let found = closest(&mut net, 7, &key(1));
    assert_eq!(found, truly_closest(&net, 7, &key(1)));
}

#[test]
fn whoever_names_an_address_where_it_is_not_stays_out_of_tables() {
    // One where nobody is, one where another is; both have links, which they made themselves.
    let setup = Setup {
        names: |node| match node {
            8 => 77,
            9 => 2,
            honest => honest,
        },
        ..Setup::default()
    };
    let mut net = Net::start_with(10, 4, setup);
    net.run_until(seconds(60), "they have neighbours", |net| {
        [8, 9]
            .iter()
            .all(|node| net.node(*node).core.status().active > 0)
    });
    net.run(seconds(60));
    for node in 0..8 {
        let table = net.node(node).core.routing_table(net.now());
        let live = table
            .entries
            .iter()
            .filter(|e| e.standing == Standing::Live);
        let live: Vec<PeerId> = live.map(|e| e.contact.peer()).collect();
        assert_eq!(live.len(), 7, "node {node}");
        assert!(!live.contains(&net.peer_at(8)) && !live.contains(&net.peer_at(9)));
    }
    // They were met all the same, and can ask.
    assert_eq!(closest(&mut net, 9, &key(2)).len(), 8);
}

#[test]
fn a_swarm_that_ran_dry_is_seeded_from_the_table() {
    // Node 0 alone is named to join through, and goes; what node 5 knows of others it knows from its table.
    let mut net = filled(12, 6);
    net.run(seconds(30));
    let others: Vec<usize> = (0..12).filter(|node| *node != 5).collect();
    net.partition(&[5], &others);
    net.run(seconds(20));
    assert_eq!(net.node(5).core.status().active, 0);
    net.heal();
    let took = net.run_until(seconds(30), "it is back", |net| net.is_whole("network"));
    println!("whole {took:?} after the cut");
    net.run_until(Duration::from_secs(180), "its table is live again", |net| {
        live_in_table(net, 5) == 11
    });
}

/// Those with which a node has a link that it uses.
fn linked(net: &Net, node: usize) -> BTreeSet<PeerId> {
    let peers = net.node(node).core.peers();
    peers.iter().map(|peer| peer.peer).collect()
}

#[test]
fn a_question_to_a_peer_whose_link_is_just_being_closed_waits_for_the_next_link() {
    let mut net = filled(20, 4);
    let mut before = linked(&net, 0);
    let mut asked = 0;
    // The grain is finer than what a message takes: what is gone has been closed, and its peer does not know yet.
    for _ in 0..(60_000_000 / 200) {
        net.run(Duration::from_micros(200));
        let now = linked(&net, 0);
        if let Some(gone) = before.difference(&now).next() {
            let failures = |net: &Net| net.node(0).core.dht().counters.failures;
            let failed = failures(&net);
            let found = closest(&mut net, 0, &gone.key());
            assert_eq!(found.first(), Some(gone));
            assert_eq!(failures(&net), failed, "nobody has failed to answer");
            asked += 1;
            if asked == 3 {
                return;
            }
            before = linked(&net, 0);
        } else {
            before = now;
        }
    }
    panic!("only {asked} links were closed within a minute");
}

#[test]
fn a_node_that_everybody_asks_has_links_with_few_of_them_and_answers_all() {
    let mut net = filled(90, 5);
    net.run_until(seconds(60), "links that filled tables are gone", |net| {
        linked(net, 0).len() < 16
    });
    let failures = |net: &Net| -> u64 {
        let each = (0..90).map(|node| net.node(node).core.dht().counters.failures);
        each.sum()
    };
    let failed = failures(&net);
    let asked = net.peer_at(0);
    let (mut requests, mut linked_with, mut most) = (Vec::new(), BTreeSet::new(), 0);
    for node in 1..90 {
        let call = Call::Closest(asked.key());
        requests.push((
            node,
            net.command(node, |request| Command::Dht { request, call }),
        ));
        for _ in 0..10 {
            net.run(Duration::from_millis(1));
            let now = linked(&net, 0);
            most = now.len().max(most);
            linked_with.extend(now);
        }
    }
    net.run_until(seconds(20), "all calls are answered", |net| {
        let mut requests = requests.iter();
        requests.all(|(node, request)| net.node(*node).replies.contains_key(request))
    });
    println!("at most {most} links of {} at a time", linked_with.len());
    assert_eq!(failures(&net), failed);
    assert!(linked_with.len() > 80);
    assert!(most <= 56, "{most} links at a time");
}

#[test]
fn a_node_that_asks_everybody_has_links_with_few_of_them_and_an_answer_from_all() {
    let mut net = filled(90, 5);
    net.run_until(seconds(60), "links that filled tables are gone", |net| {
        linked(net, 0).len() < 16
    });
    let failures = |net: &Net| net.node(0).core.dht().counters.failures;
    let failed = failures(&net);
    let (mut linked_with, mut most) = (BTreeSet::new(), 0);
    for node in 1..90 {
        let call = Call::Closest(net.peer_at(node).key());
        let request = net.command(0, |request| Command::Dht { request, call });
        net.run_until(seconds(20), "the call is answered", |net| {
            let now = linked(net, 0);
            most = now.len().max(most);
            linked_with.extend(now);
            net.node(0).replies.contains_key(&request)
        });
        net.run(Duration::from_millis(100));
    }
    println!("at most {most} links of {} at a time", linked_with.len());
    assert_eq!(failures(&net), failed);
    assert!(linked_with.len() > 80);
    assert!(most <= 56, "{most} links at a time");
}
