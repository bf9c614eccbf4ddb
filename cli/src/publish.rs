//! `weft pub`: one message, or one for each line of standard input.

mod lines;
mod said;

use std::io::{self, BufWriter, IsTerminal, Read, Write};

use weft_rpc::limits::MESSAGE_BYTES_MAX;
use weft_rpc::method::TopicPublish;
use weft_rpc::types::{Ack, NewMessage, PublishParams, Receipt, Via};
use weft_rpc::{CallError, Client};

use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::{output, signals, topic};
use lines::{Batches, Stopped};
use said::{Said, SaidArgs};

const AFTER_HELP: &str = "\
weft pub news 'hello'            publishes one message
weft pub news -- -5              publishes one that begins with a dash
weft pub news < page.html --content-type text/html
                                 publishes standard input as one message, and says what it is
tail -F log | weft pub news -    publishes a message for each line, as it comes

A line is published without its newline; an empty line is an empty message. Exit code 0 means
that the messages are queued to neighbours and on this node's disk, or what --ack asks for; with
--json each has a receipt.";

/// Publishes a message to a topic, or a message for each line of standard input
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The topic's name
    topic: String,
    /// The message; - for a message a line of standard input; without it, all of standard input
    message: Option<String>,
    /// Which way: gossip (over this node's links alone), dht (through the topic's keepers, who spread it) or both
    #[arg(long, value_name = "WAY", value_parser = one_of::<Via>, default_value = "both")]
    via: Via,
    /// What to wait for: sent (queued to neighbours), local (on this node's disk; the default), link (a neighbour has it) or
    /// keepers (most of the topic's keepers have it on disk; the default with --via dht)
    #[arg(long, value_name = "WHAT", value_parser = one_of::<Ack>)]
    ack: Option<Ack>,
    #[command(flatten)]
    said: SaidArgs,
    /// A number of your choice: a repeat of the command with it is answered as the first was, and publishes nothing more
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Reads a word as JSON has it.
fn one_of<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    topic::check_name(&args.topic)?;
    let mut publisher = Publisher {
        global,
        topic: &args.topic,
        way: Way {
            via: args.via,
            ack: args.ack,
        },
        said: args.said.read()?,
        prints_receipts: global.json,
        summary: Summary::default(),
    };
    match args.message.as_deref() {
        Some("-") if args.request_id.is_some() => Err(Failure::new(
            Exit::Usage,
            "--request-id names one message, and - publishes many",
        )
        .hint("leave it away, or publish each line with a number of its own")),
        Some("-") => {
            let interrupted = signals::end_of_stream()?;
            let (stopped, ended) = {
                let lines = publisher.lines();
                tokio::select! {
                    ended = global.within_if_asked(lines) => (false, ended),
                    () = interrupted => (true, Ok(())),
                }
            };
            let said = publisher.finish();
            if stopped {
                global.note("interrupted; what was read and not yet published is dropped");
            }
            // That nobody reads the summary must not hide what went wrong before.
            ended.and(said)
        }
        message => {
            let message = match message {
                Some(message) => message.as_bytes().to_vec(),
                None => whole_input()?,
            };
            let bytes_max = publisher.said.payload_bytes_max();
            check_size(message.len(), bytes_max)?;
            let message = publisher.said.of(&message);
            let receipts = global
                .within(async {
                    let client = global.connect().await?;
                    let way = publisher.way;
                    call(&client, &args.topic, vec![message], way, args.request_id).await
                })
                .await?;
            publisher.take(receipts)?;
            publisher.finish()
        }
    }
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), Failure> {
    if bytes > bytes_max {
        return Err(Failure::new(
            Exit::Error,
            format!("the message is larger than {bytes_max} bytes"),
        )
        .hint("split it, or publish a reference to it; nothing was published"));
    }
    Ok(())
}

/// Reads a message from standard input, one byte further than may be published.
fn whole_input() -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no message")
            .hint("give one after the topic, or - to type one a line"));
    }
    let mut message = Vec::new();
    stdin
        .lock()
        .take(MESSAGE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut message)
        .map_err(|error| {
            Failure::new(Exit::Error, format!("can't read standard input: {error}"))
        })?;
    Ok(message)
}

async fn call(
    client: &Client,
    topic: &str,
    messages: Vec<NewMessage>,
    way: Way,
    request_id: Option<String>,
) -> Result<Vec<Receipt>, Failure> {
    let params = PublishParams {
        topic: topic.to_owned(),
        messages,
        request_id,
        via: Some(way.via),
        ack: way.ack,
    };
    Ok(client.call::<TopicPublish>(params).await?.receipts)
}

/// How messages leave, and what is waited for.
#[derive(Debug, Clone, Copy)]
struct Way {
    via: Via,
    ack: Option<Ack>,
}

/// What was published so far.
#[derive(Debug, Default)]
struct Summary {
    published: u64,
    first: Option<(u64, u64)>,
    last: Option<Receipt>,
}

struct Publisher<'a> {
    global: &'a Global,
    topic: &'a str,
    way: Way,
    said: Said,
    prints_receipts: bool,
    summary: Summary,
}

impl Publisher<'_> {
    /// Publishes standard input line by line, each batch after the one before it.
    async fn lines(&mut self) -> Result<(), Failure> {
        let client = self.global.within(self.global.connect()).await?;
        let bounds = self.said.bounds();
        let mut batches = Batches::of_stdin(bounds);
        loop {
            let batch = tokio::select! {
                batch = batches.next() => batch,
                // It may be hours until the next line shows that nobody takes it.
                () = client.closed() => return Err(CallError::Disconnected.into()),
            };
            match batch {
                Ok(batch) => {
                    let messages = batch.iter().map(|line| self.said.of(line)).collect();
                    let receipts = call(&client, self.topic, messages, self.way, None).await?;
                    self.take(receipts)?;
                }
                Err(Stopped::End) => return Ok(()),
                Err(Stopped::TooLong { line }) => {
                    return Err(Failure::new(
                        Exit::Error,
                        format!(
                            "line {line} is longer than {} bytes; the {} before it are published",
                            bounds.line_bytes_max,
                            line - 1
                        ),
                    )
                    .hint("split it; then go on from that line"));
                }
                Err(Stopped::Read { line, error }) => {
                    return Err(Failure::new(
                        Exit::Error,
                        format!("can't read line {line} of standard input: {error}"),
                    ));
                }
            }
        }
    }

    /// Counts receipts, and prints them with `--json`.
    fn take(&mut self, receipts: Vec<Receipt>) -> Result<(), Failure> {
        if self.prints_receipts {
            match print(&receipts) {
                // Whoever read the receipts has gone; the messages go on.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.prints_receipts = false;
                }
                printed => printed?,
            }
        }
        self.summary.published += receipts.len() as u64;
        if let Some(first) = receipts.first() {
            self.summary.first.get_or_insert((first.epoch, first.seq));
        }
        self.summary.last = receipts
            .into_iter()
            .next_back()
            .or(self.summary.last.take());
        Ok(())
    }

    /// Says what was published, and warns where nobody is there to get it.
    fn finish(&self) -> Result<(), Failure> {
        if !self.global.json {
            crate::output::text(&self.summary.describe(self.topic))?;
        }
        if self
            .summary
            .last
            .as_ref()
            .is_some_and(|last| last.subscribers_known == 0)
        {
            self.global.note(format_args!(
                "warning: nobody is known to be subscribed to {}",
                self.topic
            ));
        }
        Ok(())
    }
}

fn print(receipts: &[Receipt]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for receipt in receipts {
        serde_json::to_writer(&mut out, receipt)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl Summary {
    fn describe(&self, topic: &str) -> String {
        let (Some((epoch, seq)), Some(last)) = (self.first, &self.last) else {
            return format!("nothing to publish to {topic}\n");
        };
        let what = match self.published {
            1 => format!("message {seq}"),
            count => format!("{count} messages, {seq} to {}", last.seq),
        };
        format!(
            "published to {topic}: {what} (epoch {epoch}); pushed to {}, announced to {}; {} known\n",
            output::count(last.eager, "neighbour"),
            last.lazy,
            output::count(last.subscribers_known, "subscriber")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(seq: u64) -> Receipt {
        Receipt {
            topic: "t".into(),
            publisher: "P".into(),
            epoch: 7,
            seq,
            eager: 2,
            lazy: 1,
            keepers: Vec::new(),
            subscribers_known: 3,
        }
    }

    #[test]
    fn summaries_read_well() {
        let mut summary = Summary::default();
        assert_eq!(summary.describe("t"), "nothing to publish to t\n");
        summary = Summary {
            published: 1,
            first: Some((7, 1)),
            last: Some(receipt(1)),
        };
        assert_eq!(
            summary.describe("t"),
            "published to t: message 1 (epoch 7); pushed to 2 neighbours, announced to 1; 3 subscribers known\n"
        );
        summary = Summary {
            published: 4,
            first: Some((7, 1)),
            last: Some(receipt(4)),
        };
        assert!(
            summary
                .describe("t")
                .starts_with("published to t: 4 messages, 1 to 4 (epoch 7)")
        );
    }

    #[test]
    fn an_oversize_message_is_refused() {
        assert!(check_size(10, 10).is_ok());
        assert_eq!(check_size(11, 10).unwrap_err().exit, Exit::Error);
    }
}
