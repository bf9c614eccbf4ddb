//! A network whose links go over QUIC does what one over TCP does, though a process that is killed says nothing.

use std::time::Duration;

use weft_testnet::Transport;
use weft_tests::crash::{Crash, Roles};
use weft_tests::net::{Base, Net, names};
use weft_tests::{alone, wait};

const WEFT: &str = env!("CARGO_BIN_EXE_weft-under-test");
const NODES: usize = 20;
const RATE: u32 = 50;
/// The bound for being whole again.
const WHOLE_AGAIN_WITHIN: Duration = Duration::from_secs(8);
/// How long the machine may take for what takes it well under a second when idle.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survivors_of_five_kills_over_quic_lose_nothing() {
    let _alone = alone().await;
    let mut net = Net::up_over(WEFT, NODES, Transport::Quic).await;
    // Every fourth one dies, among them one of those that others joined through.
    let roles = Roles {
        victims: names((1..=NODES).filter(|number| number % 4 == 3)),
        survivors: names((1..=NODES).filter(|number| number % 4 != 3)),
        publishing: names([1, 6, 12, 18]),
    };
    let crash = Crash::cause(&mut net, &roles, RATE, PATIENCE).await;
    let whole_after = crash.whole_after;
    let (_, latency) = crash.end(PATIENCE).await;
    println!(
        "{NODES} nodes over QUIC, {RATE} messages/s, kill -9 of {} at once\n\
         whole again after {whole_after:?} (bound {WHOLE_AGAIN_WITHIN:?})\n\
         every survivor has each message once and in order\n\
         latency from the kill until one second after: {latency}",
        roles.victims.len(),
    );
    assert!(
        whole_after <= WHOLE_AGAIN_WITHIN,
        "whole again only after {whole_after:?}"
    );
    net.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_over_quic_passes_its_check_and_keeps_its_transport_over_restarts() {
    let _alone = alone().await;
    let base = Base::new();
    let weft = base.weft(WEFT);
    let up = [
        "testnet",
        "up",
        "--nodes",
        "5",
        "--transport",
        "quic",
        "--detach",
    ];
    weft.run(up).expect_code(0);
    weft.run(["testnet", "restart", "n2"]).expect_code(0);
    wait::until("the restarted node's neighbours", PATIENCE, || {
        let status = weft.run(["testnet", "status", "--json"]).json();
        assert_eq!(status["transport"], "quic");
        (status["components"] == 1 && status["symmetric"] == true).then_some(())
    });
    for name in ["n1", "n2"] {
        let peers = weft.run(["--node", name, "peer", "ls", "--json"]).json();
        let peers = peers["peers"].as_array().expect("a list");
        assert!(!peers.is_empty());
        for peer in peers {
            assert_eq!(peer["transport"], "quic", "{peer}");
        }
    }
    let checked = weft.run(["testnet", "check"]).expect_code(0);
    println!("over QUIC: {}", checked.text());
    weft.run(["testnet", "down"]).expect_code(0);
    let odd = ["testnet", "up", "--transport", "pigeon"];
    weft.run(odd).expect_code(2);
}
