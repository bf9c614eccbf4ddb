//! Peers that mean harm, on the wire against live daemons.
//!
//! Three honest nodes pass on a steady stream of messages while a peer that is written by hand ([`weft_tests::peer`]) does to one of them
//! what no honest peer does. After each case the daemon lives, its memory has hardly grown, everything honest was delivered
//! everywhere, a counter names what happened, and the log has a few warnings about it and not one a frame.
//! `WEFT_HOSTILE_N` says how often each case repeats its attack (8 by default, 1000 for the figures), `WEFT_HOSTILE_ONLY` picks the
//! cases whose names contain a word.

mod bases;
mod broadcast;
mod bundles;
mod frames;
mod membership;
mod scene;

use scene::{Expected, Scene};

/// Expects a counter.
const fn counter(name: &'static str) -> Expected {
    Expected {
        counter: Some(name),
        warning: None,
    }
}

/// Expects a counter and a warning.
const fn warned(name: &'static str, warning: &'static str) -> Expected {
    Expected {
        counter: Some(name),
        warning: Some(warning),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_peers_cost_honest_ones_nothing() {
    let mut scene = Scene::start().await;
    let s = &mut scene;
    let bad = warned("bad_frames", "malformed frame");
    let misbehaviour = warned("misbehaviour", "no honest peer sends");
    let slowed = warned("links_slowed", "floods this node");
    let nothing = Expected::default();

    s.case("garbage instead of frames", bad, frames::garbage)
        .await;
    s.case("a frame over 2 MiB", bad, frames::oversize).await;
    s.case("a length of 4 GiB", bad, frames::four_gib).await;
    s.case("a length without end", bad, frames::endless_length)
        .await;
    s.case("frames a byte at a time", nothing, frames::dribble)
        .await;
    s.case("half a frame, then nothing", nothing, frames::half_frame)
        .await;
    s.case("frames of length zero without end", nothing, frames::zeros)
        .await;
    s.case("malformed and doubled fields", bad, frames::malformed)
        .await;
    s.case(
        "unknown kinds and fields",
        counter("unknown_frames"),
        frames::unknown,
    )
    .await;
    s.case("a flood of frames of no kind", slowed, frames::empty_flood)
        .await;
    s.case("a flood of pings", slowed, frames::ping_flood).await;
    s.case("a flood of hellos", slowed, frames::hello_flood)
        .await;
    s.case(
        "a peer that reads and says nothing",
        counter("links_silent"),
        frames::silent,
    )
    .await;
    s.case(
        "another network's name",
        counter("wrong_network"),
        frames::other_network,
    )
    .await;
    s.case(
        "streams that are never used",
        nothing,
        frames::idle_connections,
    )
    .await;

    s.case(
        "hops and samples at their maxima",
        misbehaviour,
        membership::maxima,
    )
    .await;
    s.case(
        "shuffle replies nobody asked for",
        misbehaviour,
        membership::unasked_replies,
    )
    .await;
    s.case(
        "joins under many identities",
        counter("neighbours_refused"),
        membership::join_flood,
    )
    .await;
    s.case(
        "the daemon's own address as the peer's",
        counter("self_dials"),
        membership::own_address,
    )
    .await;
    s.case(
        "a member of thousands of topics",
        counter("memberships_past_the_bound"),
        membership::many_topics,
    )
    .await;
    s.case(
        "memberships of others",
        counter("bad_frames"),
        membership::memberships_of_others,
    )
    .await;
    s.case(
        "bundles where nobody publishes",
        counter("bundles_on_the_root"),
        membership::bundles_on_the_root,
    )
    .await;

    s.case(
        "GRAFT and PRUNE from strangers",
        warned("frames_of_strangers", "no honest peer sends"),
        broadcast::strangers,
    )
    .await;
    s.case(
        "topics the daemon isn't in",
        counter("frames_of_other_swarms"),
        broadcast::other_swarms,
    )
    .await;
    s.case(
        "trees and digests at their maxima",
        nothing,
        broadcast::maxima,
    )
    .await;
    s.case("wants for what never was", misbehaviour, broadcast::wants)
        .await;
    s.case(
        "honest streams announced, never supplied",
        misbehaviour,
        broadcast::claims_on_honest_streams,
    )
    .await;
    s.case(
        "streams announced that don't exist",
        misbehaviour,
        broadcast::claims_of_no_stream,
    )
    .await;
    s.case(
        "fingerprints that ask for everything",
        slowed,
        broadcast::fingerprints,
    )
    .await;

    s.case(
        "a first member that claims heads that never were",
        nothing,
        bases::poisoned,
    )
    .await;

    s.case(
        "forged bundles",
        warned("forged", "forged signature"),
        bundles::forged,
    )
    .await;
    s.case("one bundle again and again", nothing, bundles::replayed)
        .await;
    s.case(
        "expired bundles",
        counter("bundles_too_old"),
        bundles::expired,
    )
    .await;
    s.case(
        "bundles of the future",
        counter("bundles_of_the_future"),
        bundles::future,
    )
    .await;
    s.case(
        "epochs from next year",
        counter("bundles_of_the_future"),
        bundles::next_year,
    )
    .await;
    s.case(
        "more epochs than are known",
        counter("bundles_of_retired_epochs"),
        bundles::epochs_too_many,
    )
    .await;
    s.case(
        "chains that don't hold",
        counter("bundles_with_a_broken_chain"),
        bundles::broken_chain,
    )
    .await;
    s.case(
        "two bundles for one place",
        warned("equivocations", "two different bundles"),
        bundles::equivocation,
    )
    .await;
    s.case("thousands of publishers", nothing, bundles::many_publishers)
        .await;

    scene.finish().await;
}
