//! Numbered messages through a network, and a book at every subscriber of what came, in which order, how fast.
//!
//! Each [`Publisher`] numbers its messages from 1, in the payload, independently of the node's own sequence: so a
//! subscriber's [`Book`] shows what an application sees, whatever the nodes believe.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use tokio::task::JoinHandle;
use weft_rpc::payload::Payload;
use weft_rpc::types::{Ack, Item, Message, NoParams, Notification, PublishParams, Receipt};
use weft_rpc::{Client, Start, TopicStream, method};

/// How long a daemon may take to connect, subscribe or take one message. `topic_publish` waits up to a second for a
/// first neighbour; everything else takes milliseconds.
const CALL_WAIT_MAX: Duration = Duration::from_secs(10);

/// How many irregularities of one stream are kept word by word; the rest is counted.
const REMARKS_MAX: usize = 8;

/// One delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The message's number.
    pub number: u64,
    /// Links that it travelled.
    pub hops: u32,
    /// From publication to reception, on this machine's one clock.
    pub latency: Duration,
}

/// What one subscriber got from one publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamBook {
    /// Every delivery as it came.
    pub arrivals: Vec<Arrival>,
    /// The number that must come next; none before the first.
    pub next: Option<u64>,
    /// Ranges (from, to) that were passed over, the first few.
    pub skipped: Vec<(u64, u64)>,
    /// Messages that were passed over.
    pub skipped_count: u64,
    /// Messages that came again or late.
    pub repeated_count: u64,
}

impl StreamBook {
    fn enter(&mut self, arrival: Arrival) {
        let number = arrival.number;
        match self.next {
            Some(next) if number < next => self.repeated_count += 1,
            Some(next) => {
                if number > next {
                    self.skipped_count += number - next;
                    if self.skipped.len() < REMARKS_MAX {
                        self.skipped.push((next, number - 1));
                    }
                }
                self.next = Some(number + 1);
            }
            None => self.next = Some(number + 1),
        }
        self.arrivals.push(arrival);
    }

    /// The first number that came.
    pub fn first(&self) -> Option<u64> {
        self.arrivals.first().map(|arrival| arrival.number)
    }

    /// The last number that has come, in order.
    pub fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }

    /// Whether everything from the first to the last that came, came once and in order.
    pub fn is_gapless(&self) -> bool {
        self.skipped_count == 0 && self.repeated_count == 0
    }

    /// Whether the messages `from..=to` came, once each and in order.
    pub fn holds(&self, from: u64, to: u64) -> bool {
        self.is_gapless()
            && self.first().is_some_and(|first| first <= from)
            && self.last().is_some_and(|last| last >= to)
    }
}

/// What one subscriber got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// By publisher's peer id.
    pub streams: BTreeMap<String, StreamBook>,
    /// Gaps that the daemon told, in words.
    pub gaps: Vec<String>,
    /// Messages that no publisher of this run has sent.
    pub foreign_count: u64,
    /// Why the subscription ended, if it did.
    pub ended: Option<String>,
    /// The cursor of the last message.
    cursor: Option<String>,
}

impl Book {
    /// What came from one publisher.
    pub fn stream(&self, publisher: &str) -> Option<&StreamBook> {
        self.streams.get(publisher)
    }

    /// Whether one publisher's messages `from..=to` came, once each and in order.
    pub fn holds(&self, publisher: &str, from: u64, to: u64) -> bool {
        self.stream(publisher)
            .is_some_and(|stream| stream.holds(from, to))
    }

    fn enter(&mut self, mut message: Message) {
        self.cursor = Some(std::mem::take(&mut message.cursor));
        match arrival(message) {
            Some((publisher, arrival)) => self.streams.entry(publisher).or_default().enter(arrival),
            None => self.foreign_count += 1,
        }
    }
}

/// Reads a message of a publisher of ours.
fn arrival(message: Message) -> Option<(String, Arrival)> {
    let published = parse_time(&message.published_at)?;
    let received = parse_time(&message.received_at)?;
    let payload = message.payload.into_bytes().ok()?;
    let text = std::str::from_utf8(&payload).ok()?;
    let number = text.strip_prefix('#')?.split(' ').next()?.parse().ok()?;
    let arrival = Arrival {
        number,
        hops: message.hops,
        latency: received.duration_since(published).unwrap_or_default(),
    };
    Some((message.publisher, arrival))
}

fn parse_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// A subscription that keeps book until it is dropped.
#[derive(Debug)]
pub struct Subscriber {
    /// The node's name in the testnet.
    pub name: String,
    /// The node's peer id.
    pub peer_id: String,
    topic: String,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Subscribes at a daemon; answers once all that is published from now on will come.
    pub async fn start(name: &str, dir: &Path, topic: &str) -> anyhow::Result<Self> {
        let (peer_id, stream) = subscribe(name, dir, topic, &Start::Latest).await?;
        let book = Arc::new(Mutex::new(Book::default()));
        let task = tokio::spawn(keep_book(stream, Arc::clone(&book)));
        Ok(Self {
            name: name.to_owned(),
            peer_id,
            topic: topic.to_owned(),
            book,
            task,
        })
    }

    /// Goes on in the same book where it stopped, once the subscription has ended because the daemon did: after the last message
    /// that came, or with what is published from now on where none has.
    pub async fn go_on(&mut self, dir: &Path) -> anyhow::Result<()> {
        // What the daemon had sent is read first.
        let ended = tokio::time::timeout(CALL_WAIT_MAX, &mut self.task).await;
        ended.with_context(|| format!("the subscription at {} has not ended", self.name))??;
        let start = match &self.book().cursor {
            Some(cursor) => Start::After(cursor.clone()),
            None => Start::Latest,
        };
        let (_, stream) = subscribe(&self.name, dir, &self.topic, &start).await?;
        self.book().ended = None;
        self.task = tokio::spawn(keep_book(stream, Arc::clone(&self.book)));
        Ok(())
    }

    /// What has come so far.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        // A writer that panicked has entered a message or not; either is a book.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Subscribes, and returns the daemon's peer id as well.
async fn subscribe(
    name: &str,
    dir: &Path,
    topic: &str,
    start: &Start,
) -> anyhow::Result<(String, TopicStream)> {
    let ready = async {
        let client = Client::connect(dir).await?;
        let identity = client.call::<method::NodeIdentity>(NoParams {}).await?;
        let mut stream = client.subscribe(topic, start).await?;
        if !matches!(stream.next().await?, Notification::Ready(_)) {
            bail!("the first word of the subscription isn't that it is ready");
        }
        Ok((identity.peer_id, stream))
    };
    let within = tokio::time::timeout(CALL_WAIT_MAX, ready).await;
    within
        .map_err(|_| anyhow!("no answer within {} s", CALL_WAIT_MAX.as_secs()))
        .and_then(|ready| ready)
        .with_context(|| format!("can't subscribe at {name}"))
}

async fn keep_book(mut stream: TopicStream, book: Arc<Mutex<Book>>) {
    loop {
        let next = stream.next().await;
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Ok(Notification::Items(batch)) => {
                for item in batch.items {
                    match item {
                        Item::Message(message) => book.enter(message),
                        Item::Gap(gap) => book.gaps.push(format!("{gap:?}")),
                    }
                }
            }
            Ok(Notification::Ready(_)) => {}
            Err(error) => {
                book.ended = Some(error.to_string());
                return;
            }
        }
    }
}

/// Publishes numbered messages at one daemon.
#[derive(Debug)]
pub struct Publisher {
    /// The node's name in the testnet.
    pub name: String,
    /// The node's peer id.
    pub peer_id: String,
    topic: String,
    client: Client,
    accepted: u64,
}

impl Publisher {
    /// Connects to a daemon.
    pub async fn connect(name: &str, dir: &Path, topic: &str) -> anyhow::Result<Self> {
        let client = Client::connect(dir)
            .await
            .with_context(|| format!("can't publish at {name}"))?;
        let identity = tokio::time::timeout(
            CALL_WAIT_MAX,
            client.call::<method::NodeIdentity>(NoParams {}),
        )
        .await;
        let peer_id = identity
            .map_err(|_| anyhow!("{name} doesn't answer"))??
            .peer_id;
        Ok(Self {
            name: name.to_owned(),
            peer_id,
            topic: topic.to_owned(),
            client,
            accepted: 0,
        })
    }

    /// Publishes the next message. One that wasn't accepted keeps its number for the next try.
    pub async fn publish(&mut self) -> anyhow::Result<Receipt> {
        let number = self.accepted + 1;
        let text = format!("#{number} of {} through {}", self.name, self.topic);
        let params = PublishParams {
            topic: self.topic.clone(),
            messages: vec![Payload::of(text.as_bytes()).into()],
            request_id: None,
            // What is measured is the way through the network.
            via: None,
            ack: Some(Ack::Sent),
        };
        let answer = tokio::time::timeout(
            CALL_WAIT_MAX,
            self.client.call::<method::TopicPublish>(params),
        )
        .await;
        let published = answer
            .map_err(|_| anyhow!("no receipt within {} s", CALL_WAIT_MAX.as_secs()))
            .and_then(|answer| Ok(answer?))
            .with_context(|| format!("{} can't publish message {number}", self.name))?;
        self.accepted = number;
        published
            .receipts
            .into_iter()
            .next()
            .with_context(|| format!("{} answered without a receipt", self.name))
    }

    /// How many messages the daemon has accepted: they are numbered from 1 to this.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }
}

/// Returns the value below which the share `q` (0 to 1) of sorted values lies (nearest rank).
pub fn quantile(sorted: &[Duration], q: f64) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * q).ceil() as usize).saturating_sub(1);
    Some(sorted[index.min(last)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(book: &mut StreamBook, numbers: &[u64]) {
        for number in numbers {
            book.enter(Arrival {
                number: *number,
                hops: 1,
                latency: Duration::ZERO,
            });
        }
    }

    #[test]
    fn messages_in_order_are_gapless() {
        let mut book = StreamBook::default();
        enter(&mut book, &[1, 2, 3]);
        assert!(book.holds(1, 3));
        assert!(book.holds(2, 2));
        assert!(!book.holds(1, 4));
    }

    #[test]
    fn a_skipped_range_is_told_exactly() {
        let mut book = StreamBook::default();
        enter(&mut book, &[1, 5, 6]);
        assert_eq!(book.skipped, [(2, 4)]);
        assert_eq!(book.skipped_count, 3);
        assert!(!book.holds(1, 6));
    }

    #[test]
    fn what_comes_again_or_late_is_counted() {
        let mut book = StreamBook::default();
        enter(&mut book, &[1, 2, 2, 4, 3]);
        assert_eq!((book.repeated_count, book.skipped_count), (2, 1));
        assert_eq!(book.last(), Some(4));
    }

    #[test]
    fn only_messages_of_a_publisher_of_ours_are_booked() {
        let message = |data: &str| Message {
            topic: "t".to_owned(),
            publisher: "p".to_owned(),
            epoch: 1,
            seq: 9,
            hops: 2,
            published_at: "2026-01-02T03:04:05.000100Z".to_owned(),
            received_at: "2026-01-02T03:04:05.000350Z".to_owned(),
            cursor: String::new(),
            content_type: None,
            headers: BTreeMap::new(),
            payload: Payload::Text(data.to_owned()),
        };
        let mut book = Book::default();
        book.enter(message("#1 of n1 through t"));
        book.enter(message("hello"));
        assert_eq!(book.foreign_count, 1);
        let arrivals = &book.stream("p").unwrap().arrivals;
        assert_eq!(
            arrivals,
            &[Arrival {
                number: 1,
                hops: 2,
                latency: Duration::from_micros(250)
            }]
        );
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let values: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&values, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&values, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&values, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
