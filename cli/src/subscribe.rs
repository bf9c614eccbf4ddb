//! `weft sub`: a topic's messages as they come.

mod confirm;

use std::io::{self, BufWriter, Write};

use serde_json::json;
use weft_rpc::types::{Gap, GapReason, Item, Message, Notification, Ready, SubscribeParams};
use weft_rpc::{CallError, TopicStream};

use confirm::Confirmer;

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::{signals, topic};

/// Bytes that are gathered before they are written; a batch is flushed at its end anyway.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

const AFTER_HELP: &str = "\
Prints each message's payload and a newline. With --json an object a line: topic, publisher,
epoch, seq, hops, published_at, received_at, cursor, content_type and headers where the publisher
has said them, and data (or data_base64); --from CURSOR goes on after a message. Messages that will
not come are told on stderr (with --json as {\"topic\": …, \"gap\": {…}} in their place). Says on
stderr once it is subscribed; Ctrl-C ends it.

With --as NAME the daemon keeps how far this reader has come: what was printed and flushed. The
first time it begins at --from, afterwards where it stopped, with all that came meanwhile. Ended by
--count or Ctrl-C it prints each message once; killed, it prints again what it had not confirmed, a
fifth of a second's worth. One subscription has a name at a time.";

/// Subscribes to a topic and prints its messages as they come
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The topic's name
    topic: String,
    /// Begin at: latest, earliest, -N (messages), -15m (any duration), a time (RFC 3339) or a cursor [default: latest]
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    from: Option<String>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on where the subscription of this name stopped
    #[arg(long = "as", value_name = "NAME")]
    consumer: Option<String>,
    /// Begin at --from though the name has a place already
    #[arg(long, requires = "from", requires = "consumer")]
    reset: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    topic::check_name(&args.topic)?;
    if let Some(name) = &args.consumer {
        topic::check_consumer(name)?;
    }
    let start = args.from.as_deref().map(topic::start).transpose()?;
    let interrupted = signals::end_of_stream()?;
    let params = SubscribeParams {
        topic: args.topic,
        from: start.map(|start| start.to_string()),
        consumer: args.consumer,
        reset: args.reset,
    };
    let printer = Printer::new(global.json, args.count);
    let mut reading = Reading {
        global,
        params,
        printer,
        stream: None,
        confirmer: Confirmer::new(global),
    };
    let ended = tokio::select! {
        ended = global.within_if_asked(reading.print_all()) => ended,
        () = interrupted => Ok(()),
    };
    let confirmed = reading.confirmer.finish().await;
    ended.and(confirmed)
}

/// A subscription that is printed.
struct Reading<'a> {
    global: &'a Global,
    params: SubscribeParams,
    printer: Printer<io::Stdout>,
    /// Stays until all is confirmed: a subscription that has ended confirms nothing.
    stream: Option<TopicStream>,
    confirmer: Confirmer<'a>,
}

impl Reading<'_> {
    async fn print_all(&mut self) -> Result<(), Failure> {
        let subscribed = self.global.within(self.subscribe()).await?;
        let stream = self.stream.insert(subscribed);
        while self.printer.left > 0 {
            let notification = tokio::select! {
                notification = stream.next() => notification,
                confirmed = self.confirmer.step() => {
                    confirmed?;
                    continue;
                }
            };
            match notification {
                Ok(Notification::Ready(ready)) => say_ready(self.global, &self.params, &ready),
                Ok(Notification::Items(batch)) => {
                    let handled = self.printer.batch(&self.params.topic, batch.items)?;
                    // What stopped within a batch has come as far as the last message.
                    let cursor = match handled {
                        Handled::All => batch.cursor,
                        Handled::UpTo(cursor) => cursor,
                    };
                    if self.params.consumer.is_some() {
                        self.confirmer.printed(stream, cursor);
                    }
                }
                Err(CallError::Disconnected) => return Err(ended()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn subscribe(&self) -> Result<TopicStream, Failure> {
        let client = self.global.connect().await?;
        Ok(client.subscribe_with(&self.params).await?)
    }
}

/// The daemon has gone, or is about to.
fn ended() -> Failure {
    Failure::new(Exit::Unreachable, "the daemon has ended the subscription")
        .hint("it stopped or died; start it again, then subscribe again")
}

fn say_ready(global: &Global, params: &SubscribeParams, ready: &Ready) {
    let name = params.consumer.as_ref();
    global.note(format_args!(
        "subscribed to {}{} ({})",
        params.topic,
        name.map_or_else(String::new, |name| format!(" as {name}")),
        crate::output::count(ready.neighbours, "neighbour")
    ));
}

/// How much of a batch was printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// All of it.
    All,
    /// What was wanted of it: up to the message that carries this cursor.
    UpTo(String),
}

/// Prints messages until enough were printed.
pub(crate) struct Printer<W: Write> {
    out: BufWriter<W>,
    json: bool,
    /// Messages that are still to be printed.
    pub(crate) left: u64,
}

impl Printer<io::Stdout> {
    /// Prints to standard output, at most `count` messages.
    pub(crate) fn new(json: bool, count: Option<u64>) -> Self {
        Self {
            out: BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout()),
            json,
            left: count.unwrap_or(u64::MAX),
        }
    }
}

impl<W: Write> Printer<W> {
    /// Prints a batch and flushes once.
    pub(crate) fn batch(&mut self, topic: &str, items: Vec<Item>) -> Result<Handled, Failure> {
        let mut handled = Handled::All;
        let mut items = items.into_iter().peekable();
        while self.left > 0
            && let Some(item) = items.next()
        {
            match item {
                Item::Message(message) => {
                    self.left -= 1;
                    if self.left == 0 && items.peek().is_some() {
                        handled = Handled::UpTo(message.cursor.clone());
                    }
                    self.message(message)?;
                }
                Item::Gap(gap) => self.gap(topic, &gap)?,
            }
        }
        self.out.flush()?;
        Ok(handled)
    }

    fn message(&mut self, message: Message) -> Result<(), Failure> {
        if self.json {
            serde_json::to_writer(&mut self.out, &message).map_err(io::Error::from)?;
        } else {
            let payload = message.payload.into_bytes().map_err(|error| {
                Failure::new(
                    Exit::Error,
                    format!("the daemon sent a payload that is no base64: {error}"),
                )
            })?;
            self.out.write_all(&payload)?;
        }
        Ok(self.out.write_all(b"\n")?)
    }

    fn gap(&mut self, topic: &str, gap: &Gap) -> Result<(), Failure> {
        if self.json {
            serde_json::to_writer(&mut self.out, &json!({"topic": topic, "gap": gap}))
                .map_err(io::Error::from)?;
            return Ok(self.out.write_all(b"\n")?);
        }
        // In order with what was printed before it, where both go to one terminal.
        self.out.flush()?;
        crate::output::say(describe(gap));
        Ok(())
    }
}

fn describe(gap: &Gap) -> String {
    let Gap {
        publisher,
        epoch,
        from,
        to,
        reason,
    } = gap;
    match reason {
        GapReason::Lost => format!(
            "lost: messages {from} to {to} of {} (epoch {}); no neighbour has them",
            publisher.as_deref().unwrap_or("?"),
            epoch.map_or_else(|| "?".to_owned(), |epoch| epoch.to_string()),
        ),
        GapReason::SlowReader => format!(
            "lost: {} messages that this node let go of before they were read",
            to.saturating_sub(*from).saturating_add(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weft_rpc::payload::Payload;

    use super::*;

    fn message(payload: Payload) -> Item {
        Item::Message(Message {
            topic: "t".into(),
            publisher: "P".into(),
            epoch: 1,
            seq: 2,
            hops: 3,
            published_at: "2026-01-01T00:00:00.000000Z".into(),
            received_at: "2026-01-01T00:00:00.000001Z".into(),
            cursor: "c1.x".into(),
            content_type: None,
            headers: BTreeMap::new(),
            payload,
        })
    }

    fn printed(json: bool, left: u64, items: Vec<Item>) -> String {
        let mut printer = Printer {
            out: BufWriter::new(Vec::new()),
            json,
            left,
        };
        printer.batch("t", items).unwrap();
        String::from_utf8(printer.out.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn payloads_come_with_a_newline_and_count_ends_them() {
        let items = ["a", "", "c\r"].map(|text| message(Payload::Text(text.into())));
        assert_eq!(printed(false, 9, items.to_vec()), "a\n\nc\r\n");
        assert_eq!(printed(false, 2, items.to_vec()), "a\n\n");
    }

    #[test]
    fn json_lines_have_the_documented_keys() {
        let gap = Gap {
            publisher: Some("P".into()),
            epoch: Some(1),
            from: 3,
            to: 4,
            reason: GapReason::Lost,
        };
        let text = printed(
            true,
            1,
            vec![
                message(Payload::Base64("/w==".into())),
                Item::Gap(gap.clone()),
            ],
        );
        assert_eq!(
            text,
            "{\"topic\":\"t\",\"publisher\":\"P\",\"epoch\":1,\"seq\":2,\"hops\":3,\
             \"published_at\":\"2026-01-01T00:00:00.000000Z\",\"received_at\":\"2026-01-01T00:00:00.000001Z\",\
             \"cursor\":\"c1.x\",\"data_base64\":\"/w==\"}\n"
        );
        let text = printed(true, 1, vec![Item::Gap(gap)]);
        assert_eq!(
            text,
            "{\"gap\":{\"epoch\":1,\"from\":3,\"publisher\":\"P\",\"reason\":\"lost\",\"to\":4},\"topic\":\"t\"}\n"
        );
    }

    #[test]
    fn gaps_say_what_is_missing() {
        let slow = Gap {
            publisher: None,
            epoch: None,
            from: 5,
            to: 9,
            reason: GapReason::SlowReader,
        };
        assert_eq!(
            describe(&slow),
            "lost: 5 messages that this node let go of before they were read"
        );
    }
}
