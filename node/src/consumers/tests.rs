//! The table, its rules, and when it is written.

use std::sync::Arc;
use std::task::Poll;

use futures::poll;
use weft_rpc::Start;

use super::claim::BeginsAt;
use super::*;
use crate::handle::SubscribeError;

const LIFE: u64 = 7;

fn key(topic: &str, name: &str) -> Key {
    Key {
        topic: topic.parse().unwrap(),
        name: name.parse().unwrap(),
    }
}

fn consumers() -> (Arc<Consumers>, mpsc::UnboundedReceiver<Gone>) {
    let (gone, taken) = mpsc::unbounded_channel();
    (Arc::new(Consumers::new(Vec::new(), gone)), taken)
}

/// Writes what is due, as the core's task does; returns the places that were written.
fn write(consumers: &Consumers, is_written: bool) -> Vec<Option<u64>> {
    let due = consumers.due().expect("something is to be written");
    let changes = consumers.take_due(due).expect("it is due");
    consumers.wrote(is_written);
    let places = changes.iter().map(|it| it.stand.map(|stand| stand.place));
    places.collect()
}

async fn claim(consumers: &Arc<Consumers>, name: &str) -> (Claim, BeginsAt) {
    let claimed = consumers.claim(key("t", name), &Begin::AtItsPlace).await;
    claimed.unwrap()
}

/// Lets a consumer stand somewhere, on disk.
async fn stand(consumers: &Arc<Consumers>, name: &str, place: u64) -> Claim {
    let (claim, _) = claim(consumers, name).await;
    let mut stands = Box::pin(claim.stand_at(LIFE, place));
    assert!(poll!(stands.as_mut()).is_pending(), "it waits for the disk");
    assert_eq!(write(consumers, true), [Some(place)]);
    assert_eq!(stands.await, Ok(()));
    claim
}

#[tokio::test]
async fn a_consumer_goes_on_at_what_it_has_confirmed() {
    let (consumers, _gone) = consumers();
    let first = stand(&consumers, "a", 10).await;
    let mut confirming = Box::pin(first.confirm(15));
    assert!(poll!(confirming.as_mut()).is_pending());
    let known = consumers.of(&key("t", "a").topic);
    assert_eq!((known.len(), known[0].is_connected), (1, true));
    drop(confirming);
    drop(first);
    // It has gone, so what it confirmed last waits for nobody.
    assert_eq!(write(&consumers, true), [Some(15)]);
    let (again, from) = claim(&consumers, "a").await;
    let BeginsAt::Stand(stand) = from else {
        panic!("{from:?}");
    };
    assert_eq!((stand.life, stand.place), (LIFE, 15));
    // Never back.
    assert_eq!(again.confirm(12).await, Ok(15));
    assert_eq!(consumers.of(&key("t", "a").topic)[0].stand.place, 15);
}

#[tokio::test]
async fn a_name_has_one_subscription_at_a_time() {
    let (consumers, _gone) = consumers();
    let first = stand(&consumers, "a", 10).await;
    let begin = Begin::AtItsPlace;
    let second = consumers.claim(key("t", "a"), &begin).await;
    assert_eq!(second.unwrap_err(), SubscribeError::NameBusy);
    // Of another topic it is another consumer.
    assert!(consumers.claim(key("u", "a"), &begin).await.is_ok());
    // One that waits gets it from one that goes.
    let mut waiting = Box::pin(consumers.claim(key("t", "a"), &begin));
    assert!(poll!(waiting.as_mut()).is_pending());
    drop(first);
    assert!(matches!(poll!(waiting), Poll::Ready(Ok(_))));
}

#[tokio::test]
async fn a_place_is_given_once_or_explicitly_again() {
    let (consumers, mut gone) = consumers();
    let earliest = Start::Earliest;
    let first = Begin::First(earliest.clone());
    let (begun, from) = consumers.claim(key("t", "a"), &first).await.unwrap();
    assert_eq!(from, BeginsAt::Anew(earliest.clone()));
    // It was never placed: there is none of its name, and perhaps none of its topic.
    assert!(consumers.has_any(&key("t", "a").topic));
    drop(begun);
    assert!(!consumers.has_any(&key("t", "a").topic));
    assert!(matches!(gone.try_recv(), Ok(Gone::Consumer(_))));
    drop(stand(&consumers, "a", 10).await);
    let known = consumers.claim(key("t", "a"), &first).await;
    assert_eq!(known.unwrap_err(), SubscribeError::NameKnown);
    let again = Begin::Again(earliest.clone());
    let (claim, from) = consumers.claim(key("t", "a"), &again).await.unwrap();
    assert_eq!(from, BeginsAt::Anew(earliest));
    let mut stands = Box::pin(claim.stand_at(LIFE, 3));
    assert!(poll!(stands.as_mut()).is_pending());
    assert_eq!(consumers.of(&key("t", "a").topic)[0].stand.place, 3);
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_disk() {
    let (consumers, mut gone) = consumers();
    let claim = stand(&consumers, "a", 10).await;
    assert_eq!(
        consumers.forget(key("t", "a")).await,
        Err(ForgetError::Busy)
    );
    drop(claim);
    {
        let mut forgetting = Box::pin(consumers.forget(key("t", "a")));
        assert!(poll!(forgetting.as_mut()).is_pending());
        assert_eq!(write(&consumers, true), [None]);
        assert_eq!(forgetting.await, Ok(()));
    }
    assert!(matches!(gone.try_recv(), Ok(Gone::Consumer(_))));
    assert_eq!(
        consumers.forget(key("t", "a")).await,
        Err(ForgetError::None)
    );
}

#[tokio::test]
async fn confirmations_are_written_together_and_not_too_often() {
    let (consumers, _gone) = consumers();
    let claims = [
        stand(&consumers, "a", 10).await,
        stand(&consumers, "b", 10).await,
    ];
    let [mut first, mut second] = claims.each_ref().map(|it| Box::pin(it.confirm(20)));
    assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
    let due = consumers.due().unwrap();
    assert!(due <= Instant::now() + GATHERED_FOR);
    let early = consumers.take_due(due - Duration::from_millis(1));
    assert!(early.is_none(), "one was written before it");
    assert_eq!(write(&consumers, true), [Some(20), Some(20)]);
    assert_eq!((first.await, second.await), (Ok(20), Ok(20)));
    assert_eq!(consumers.due(), None);
}

#[tokio::test]
async fn what_the_disk_did_not_take_is_told_and_tried_again() {
    let (consumers, _gone) = consumers();
    let claim = stand(&consumers, "a", 10).await;
    let mut confirming = Box::pin(claim.confirm(20));
    assert!(poll!(confirming.as_mut()).is_pending());
    write(&consumers, false);
    assert_eq!(confirming.await, Err(Unwritten::Disk));
    // It is known here, and on disk with the next attempt.
    assert_eq!(consumers.of(&key("t", "a").topic)[0].stand.place, 20);
    assert!(consumers.due().unwrap() > Instant::now());
    let mut again = Box::pin(claim.confirm(20));
    assert!(poll!(again.as_mut()).is_pending());
    assert_eq!(consumers.take_last().len(), 1);
    consumers.wrote(true);
    assert_eq!(again.await, Ok(20));
    // What changes while it is written is written again.
    let mut late = Box::pin(claim.confirm(30));
    assert!(poll!(late.as_mut()).is_pending());
    consumers.close();
    assert_eq!(late.await, Err(Unwritten::Stopped));
}

#[tokio::test]
async fn a_node_keeps_so_many_consumers_and_no_more() {
    let (gone, _taken) = mpsc::unbounded_channel();
    let stand = Stand {
        life: LIFE,
        place: 1,
        confirmed_at: None,
    };
    let many = (0..CONSUMERS_MAX).map(|n| (key("t", &format!("c{n}")), stand));
    let consumers = Arc::new(Consumers::new(many.collect(), gone));
    let begin = Begin::AtItsPlace;
    let one_more = consumers.claim(key("t", "more"), &begin).await;
    assert_eq!(one_more.unwrap_err(), SubscribeError::TooManyNames);
    assert!(consumers.claim(key("t", "c0"), &begin).await.is_ok());
}
