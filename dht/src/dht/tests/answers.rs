//! What a node answers, whom it believes, and what it makes of answers.

use super::*;
use crate::table::K;
use crate::testing::at;
use crate::{Contact, Key, Peer};

fn key() -> Key {
    Key::new(b"key").unwrap()
}

fn find(key: Key) -> Message<TestContact> {
    Message::Query(Query::FindNode { key })
}

/// The contacts of the one answer that a node gives.
fn closer(node: &mut Node) -> Vec<u32> {
    let answers: Vec<Vec<u32>> = sends(node)
        .into_iter()
        .filter_map(|(_, _, message)| match message {
            Message::Answer(
                Answer::Closer { contacts }
                | Answer::Providers {
                    closer: contacts, ..
                },
            ) => Some(contacts.iter().map(|c| c.peer).collect()),
            Message::Answer(Answer::Pong) | Message::Query(_) => None,
        })
        .collect();
    assert_eq!(answers.len(), 1);
    answers.into_iter().next().unwrap()
}

#[test]
fn contacts_from_the_overlay_enter_once_they_have_answered() {
    let mut node = node();
    let contacts = (0..3).map(contact).collect();
    node.handle(Input::Learned { contacts }, at(0));
    let pings = queries(&mut node);
    assert_eq!(
        pings.iter().map(|(to, ..)| *to).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(node.table().is_empty() && node.wants_contacts());
    receive(&mut node, 1, pings[1].1, pong(), at(40));
    assert_eq!(node.table().len(), 1);
    let rtt = node.table().entry(TestPeer(1)).unwrap().rtt();
    assert_eq!(rtt.smoothed().unwrap().as_millis(), 40);
}

#[test]
fn one_that_queries_us_is_answered_and_pinged_but_not_taken_at_its_word() {
    let mut node = node();
    receive(&mut node, 7, 55, find(key()), at(0));
    let sent = sends(&mut node);
    assert_eq!(sent.len(), 2);
    assert!(matches!(sent[0], (7, _, Message::Query(Query::Ping))));
    let empty = Answer::Closer { contacts: vec![] };
    assert_eq!(sent[1], (7, 55, Message::Answer(empty)));
    assert!(node.table().is_empty());
    receive(&mut node, 7, sent[0].1, pong(), at(10));
    assert_eq!(node.table().len(), 1);
}

#[test]
fn a_contact_that_is_not_the_senders_is_ignored() {
    let mut node = node();
    node.handle(
        Input::Received {
            from: TestPeer(7),
            contact: Some(contact(8)),
            request: RequestId(1),
            message: find(key()),
        },
        at(0),
    );
    assert!(queries(&mut node).is_empty());
}

#[test]
fn a_client_asks_and_is_neither_asked_nor_named() {
    let client = TestContact {
        serves: false,
        ..contact(ME)
    };
    let mut node = node_of(client.clone());
    acquaint(&mut node, &[1], at(0));
    receive(&mut node, 7, 1, find(key()), at(0));
    assert!(
        queries(&mut node)
            .iter()
            .all(|(_, _, query)| *query == Query::Ping)
    );
    assert_eq!(node.counters().queries_ignored, 1);

    // And a server that hears of this client doesn't ping it.
    let mut server = node_of(contact(2));
    let message = Input::Received {
        from: TestPeer(ME),
        contact: Some(client),
        request: RequestId(1),
        message: find(key()),
    };
    server.handle(message, at(0));
    assert!(matches!(
        sends(&mut server)[..],
        [(ME, 1, Message::Answer(_))]
    ));
}

#[test]
fn an_answer_names_the_twenty_closest_without_the_asking_peer() {
    let mut node = node();
    let peers: Vec<u32> = (0..60).collect();
    for some in peers.chunks(20) {
        acquaint(&mut node, some, at(0));
    }
    let target = key().point();
    let mut truth: Vec<u32> = node.table().entries().map(|entry| entry.peer().0).collect();
    truth.sort_by_key(|&peer| TestPeer(peer).point() ^ target);
    let asking = truth.remove(0);
    receive(&mut node, asking, 1, find(key()), at(1));
    assert_eq!(closer(&mut node), truth[..K]);
    let providers = Message::Query(Query::GetProviders { key: key() });
    receive(&mut node, asking, 2, providers, at(1));
    assert_eq!(closer(&mut node), truth[..K]);
}

#[test]
fn an_expired_contact_is_named_to_nobody() {
    let mut node = node();
    let expires_at = at(1_000).unix.0;
    let short = TestContact {
        expires_at,
        ..contact(1)
    };
    node.handle(
        Input::Learned {
            contacts: vec![short],
        },
        at(0),
    );
    let (_, id, _) = queries(&mut node)[0];
    node.handle(
        Input::Received {
            from: TestPeer(1),
            contact: None,
            request: RequestId(id),
            message: pong(),
        },
        at(0),
    );
    receive(&mut node, 9, 1, find(key()), at(999));
    assert_eq!(closer(&mut node), [1]);
    receive(&mut node, 9, 2, find(key()), at(1_000));
    assert_eq!(closer(&mut node), [0; 0]);
}

#[test]
fn of_an_answer_only_what_can_be_true_is_believed() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(&mut node, 1, Call::Closest(key()), at(10));
    let (_, id, _) = queries(&mut node)[0];
    let mut contacts = vec![
        contact(ME),
        TestContact {
            serves: false,
            ..contact(2)
        },
        TestContact {
            expires_at: at(10).unix.0,
            ..contact(3)
        },
        TestContact {
            issued_at: at(10).unix.0 + 301_000_000,
            ..contact(4)
        },
        contact(5),
    ];
    contacts.extend((100..130).map(contact));
    let message = Message::Answer(Answer::Closer { contacts });
    node.handle(
        Input::Received {
            from: TestPeer(1),
            contact: None,
            request: RequestId(id),
            message,
        },
        at(20),
    );
    let mut accused = 0;
    let mut asked = Vec::new();
    while let Some(output) = node.poll_output() {
        match output {
            Output::Misbehaviour { peer, .. } => {
                assert_eq!(peer, TestPeer(1));
                accused += 1;
            }
            Output::Send { to, .. } => asked.push(to.0),
            Output::Reply { .. } => {}
        }
    }
    assert_eq!(accused, 1, "35 contacts are more than 20");
    // Of the first twenty 5 and 100 to 114 are left.
    assert!(
        asked
            .iter()
            .all(|peer| *peer == 5 || (100..115).contains(peer)),
        "{asked:?}"
    );
    assert_eq!(node.counters().contacts_refused, 18);
}

#[test]
fn an_answer_from_another_peer_or_to_no_query_is_ignored() {
    let mut node = node();
    node.handle(
        Input::Learned {
            contacts: vec![contact(1)],
        },
        at(0),
    );
    let (_, id, _) = queries(&mut node)[0];
    receive(&mut node, 2, id, pong(), at(1));
    receive(&mut node, 1, id + 1, pong(), at(1));
    assert!(node.table().is_empty());
    assert_eq!(node.counters().unasked, 2);
}

#[test]
fn a_pong_for_an_answer_is_no_answer() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    call(&mut node, 1, Call::Closest(key()), at(10));
    let (_, id, _) = queries(&mut node)[0];
    receive(&mut node, 1, id, pong(), at(20));
    let accused = node.poll_output().unwrap();
    assert!(matches!(
        accused,
        Output::Misbehaviour {
            peer: TestPeer(1),
            ..
        }
    ));
    let (_, outcome, stats) = replies(&mut node).pop().unwrap();
    assert_eq!(outcome, Outcome::Closest { contacts: vec![] });
    assert_eq!(stats.failures, 1);
}

#[test]
fn a_provider_counts_for_itself_alone_and_is_told_to_others() {
    let mut node = node();
    let add = |provider| {
        Message::Query(Query::AddProvider {
            key: key(),
            provider,
        })
    };
    receive(&mut node, 1, 1, add(contact(1)), at(0));
    receive(&mut node, 1, 2, add(contact(2)), at(0));
    let late = TestContact {
        expires_at: 0,
        ..contact(3)
    };
    receive(&mut node, 3, 3, add(late), at(0));
    assert_eq!(
        (node.providers().len(), node.counters().providers_refused),
        (1, 2)
    );
    sends(&mut node);

    let ask = Message::Query(Query::GetProviders { key: key() });
    receive(&mut node, 9, 4, ask, at(1));
    let told = sends(&mut node)
        .into_iter()
        .find_map(|(_, _, message)| match message {
            Message::Answer(Answer::Providers { providers, .. }) => Some(providers),
            _ => None,
        });
    assert_eq!(told, Some(vec![contact(1)]));
}

#[test]
fn more_calls_than_may_run_are_told_to_come_again() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    for id in 0..65 {
        call(&mut node, id, Call::Closest(key()), at(1));
    }
    let replies = replies(&mut node);
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].0, &replies[0].1), (CallId(64), &Outcome::Busy));
    assert_eq!(node.counters().calls_refused, 1);
}

#[test]
fn a_peer_of_the_table_is_found_without_a_request() {
    let mut node = node();
    acquaint(&mut node, &[1], at(0));
    for (id, peer) in [(1, 1), (2, ME)] {
        call(&mut node, id, Call::FindPeer(TestPeer(peer)), at(1));
        let (_, outcome, stats) = replies(&mut node).pop().unwrap();
        assert_eq!(
            outcome,
            Outcome::Peer {
                contact: Some(contact(peer))
            }
        );
        assert_eq!(stats.requests, 0);
    }
}

#[test]
fn calls_of_a_node_that_knows_nobody_end_at_once() {
    let mut node = node();
    for (id, it) in [
        Call::FindPeer(TestPeer(5)),
        Call::Closest(key()),
        Call::Provide(key()),
        Call::Providers(key()),
    ]
    .into_iter()
    .enumerate()
    {
        call(&mut node, id as u64, it, at(0));
    }
    let outcomes: Vec<_> = replies(&mut node)
        .into_iter()
        .map(|(_, it, _)| it)
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Peer { contact: None },
            Outcome::Closest { contacts: vec![] },
            Outcome::Provided { told: vec![] },
            Outcome::Providers {
                providers: vec![],
                closest: vec![],
            },
        ]
    );
    assert_eq!(node.providers().len(), 1, "it is the closest that there is");
    assert_eq!(contact(ME).peer(), TestPeer(ME));
}

#[test]
fn one_that_fell_silent_is_asked_by_no_lookup_and_pinged_when_it_is_met_again() {
    let mut node = node();
    acquaint(&mut node, &[1, 2], at(0));
    let names_two = || {
        Message::Answer(Answer::Closer {
            contacts: vec![contact(2)],
        })
    };
    let lookup = |node: &mut Node, id: u64, millis: u64| {
        call(node, id, Call::Closest(key()), at(millis));
        let mut asked = Vec::new();
        for (to, request, query) in queries(node) {
            if matches!(query, Query::FindNode { .. }) {
                asked.push(to);
                if to == 1 {
                    receive(node, to, request, names_two(), at(millis));
                }
            }
        }
        asked.extend(queries(node).iter().map(|(to, ..)| *to));
        asked.sort_unstable();
        asked
    };
    assert_eq!(lookup(&mut node, 1, 10), [1, 2]);
    let lost = || Input::PeerLost { peer: TestPeer(2) };
    node.handle(lost(), at(20));
    assert!(matches!(queries(&mut node)[..], [(2, _, Query::Ping)]));
    assert_eq!(lookup(&mut node, 2, 30), [1], "though the other names it");
    node.handle(lost(), at(40));
    node.handle(lost(), at(50));
    assert_eq!(lookup(&mut node, 3, 60), [1]);
    let met = || Input::Met {
        contact: contact(2),
    };
    node.handle(met(), at(70));
    let pings = queries(&mut node);
    let [(2, request, Query::Ping)] = pings[..] else {
        panic!("{pings:?}");
    };
    receive(&mut node, 2, request, pong(), at(80));
    assert_eq!(lookup(&mut node, 4, 90), [1, 2]);
    node.handle(met(), at(100));
    assert!(queries(&mut node).is_empty(), "it is known to be there");
}
