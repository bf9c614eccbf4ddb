//! `weft sub`: a topic's messages as they come.

use std::io::{self, BufWriter, Write};

use serde_json::json;
use weft_rpc::types::{Gap, GapReason, Item, Message, Notification};
use weft_rpc::{CallError, Start, TopicStream};

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
stderr once it is subscribed; Ctrl-C ends it.";

/// Subscribes to a topic and prints its messages as they come
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The topic's name
    topic: String,
    /// Begin at: latest, earliest, -N (messages), -15m (any duration), a time (RFC 3339) or a cursor
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    from: String,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    topic::check_name(&args.topic)?;
    let start = topic::start(&args.from)?;
    let interrupted = signals::end_of_stream()?;
    let printer = Printer::new(global.json, args.count);
    let stream = global.within_if_asked(print_all(global, &args.topic, &start, printer));
    tokio::select! {
        ended = stream => ended,
        () = interrupted => Ok(()),
    }
}

async fn print_all(
    global: &Global,
    topic: &str,
    start: &Start,
    mut printer: Printer<io::Stdout>,
) -> Result<(), Failure> {
    let mut stream = global.within(subscribe(global, topic, start)).await?;
    while printer.left > 0 {
        match stream.next().await {
            Ok(Notification::Ready(ready)) => {
                global.note(format_args!(
                    "subscribed to {topic} ({})",
                    crate::output::count(ready.neighbours, "neighbour")
                ));
            }
            Ok(Notification::Items(batch)) => printer.batch(topic, batch.items)?,
            Err(CallError::Disconnected) => {
                return Err(Failure::new(
                    Exit::Unreachable,
                    "the daemon has ended the subscription",
                )
                .hint("it stopped or died; start it again, then subscribe again"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn subscribe(global: &Global, topic: &str, start: &Start) -> Result<TopicStream, Failure> {
    Ok(global.connect().await?.subscribe(topic, start).await?)
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
    pub(crate) fn batch(&mut self, topic: &str, items: Vec<Item>) -> Result<(), Failure> {
        for item in items {
            if self.left == 0 {
                break;
            }
            match item {
                Item::Message(message) => {
                    self.left -= 1;
                    self.message(message)?;
                }
                Item::Gap(gap) => self.gap(topic, &gap)?,
            }
        }
        Ok(self.out.flush()?)
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
            "lost: {} messages that came faster than they were read here",
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
            "lost: 5 messages that came faster than they were read here"
        );
    }
}
