//! `weft topic consumers`: who reads a topic by name, and how far each has come.

use weft_rpc::method::{TopicConsumers, TopicForgetConsumer};
use weft_rpc::types::{self, ForgetParams, TopicParams};

use super::{check_consumer, check_name};
use crate::failure::Failure;
use crate::global::Global;
use crate::output;

const AFTER_HELP: &str = "\
A consumer is who subscribes with weft sub --as NAME. LAG counts the messages that this daemon has
and it has not confirmed; what others hold, the daemon hears when somebody subscribes again.";

/// Lists who reads a topic by name, and how far each has come
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The topic's name
    topic: String,
    /// Forget a consumer's place instead: its next subscription is its first
    #[arg(long, value_name = "NAME")]
    forget: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    check_name(&args.topic)?;
    if let Some(consumer) = args.forget {
        return forget(global, args.topic, consumer).await;
    }
    let params = TopicParams { topic: args.topic };
    let consumers = global.call::<TopicConsumers>(params).await?;
    if global.json {
        return output::json(&consumers);
    }
    if consumers.consumers.is_empty() {
        let topic = &consumers.topic;
        global.note(format_args!(
            "nobody reads {topic} by name; weft sub {topic} --as NAME begins to"
        ));
    }
    output::text(&describe(&consumers))
}

async fn forget(global: &Global, topic: String, consumer: String) -> Result<(), Failure> {
    check_consumer(&consumer)?;
    let params = ForgetParams { topic, consumer };
    let forgotten = global.call::<TopicForgetConsumer>(params).await?;
    if global.json {
        return output::json(&forgotten);
    }
    let types::Forgotten { topic, consumer } = forgotten;
    output::text(&format!("forgot {consumer} of {topic}\n"))
}

fn describe(consumers: &types::TopicConsumers) -> String {
    let rows: Vec<_> = consumers
        .consumers
        .iter()
        .map(|it| {
            let unknown = || "-".to_owned();
            [
                it.consumer.clone(),
                it.lag.map_or_else(unknown, |lag| lag.to_string()),
                if it.connected { "yes" } else { "no" }.to_owned(),
                it.confirmed_age_s.map_or_else(unknown, output::seconds),
                it.cursor.clone(),
            ]
        })
        .collect();
    output::table(
        [
            "CONSUMER",
            "LAG",
            "SUBSCRIBED",
            "CONFIRMED",
            "GOES ON AFTER",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_read_well() {
        let consumers = types::TopicConsumers {
            topic: "t".to_owned(),
            consumers: vec![
                types::TopicConsumer {
                    consumer: "billing".to_owned(),
                    cursor: "c1.a".to_owned(),
                    lag: Some(12),
                    connected: true,
                    confirmed_age_s: Some(61.5),
                },
                types::TopicConsumer {
                    consumer: "new".to_owned(),
                    cursor: "c1.b".to_owned(),
                    lag: None,
                    connected: false,
                    confirmed_age_s: None,
                },
            ],
        };
        assert_eq!(
            describe(&consumers),
            "CONSUMER  LAG  SUBSCRIBED  CONFIRMED  GOES ON AFTER\n\
             billing   12   yes         1m 1s      c1.a\n\
             new       -    no          -          c1.b\n"
        );
    }
}
