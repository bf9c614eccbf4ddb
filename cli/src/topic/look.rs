//! `weft topic ls`, `members` and `stats`: topics as the node knows them.

use weft_rpc::method::{TopicList, TopicMembers, TopicStats};
use weft_rpc::types::{self, NoParams, TopicParams};

use super::check_name;
use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// Lists the other members of a topic that the node knows of
#[derive(Debug, clap::Args)]
pub(super) struct MembersArgs {
    /// The topic's name
    topic: String,
}

/// Shows what the node holds of a topic, and what it has counted
#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// The topic's name
    topic: String,
}

pub(super) async fn ls(global: &Global) -> Result<(), Failure> {
    let topics = global.call::<TopicList>(NoParams {}).await?;
    if global.json {
        return output::json(&topics);
    }
    if topics.topics.is_empty() {
        global.note("no topics yet; weft sub TOPIC joins one");
    }
    let rows: Vec<_> = topics
        .topics
        .iter()
        .map(|topic| {
            [
                topic.topic.clone(),
                topic.subscriptions.to_string(),
                topic.members_known.to_string(),
            ]
        })
        .collect();
    output::text(&output::table(
        ["TOPIC", "SUBSCRIPTIONS HERE", "OTHER MEMBERS KNOWN"],
        &rows,
    ))
}

pub(super) async fn members(global: &Global, args: MembersArgs) -> Result<(), Failure> {
    check_name(&args.topic)?;
    let params = TopicParams { topic: args.topic };
    let members = global.call::<TopicMembers>(params).await?;
    if global.json {
        return output::json(&members);
    }
    if members.members.is_empty() {
        global.note("no other member is known; weft topic stats shows what this node holds");
    }
    output::text(&describe_members(&members))
}

fn describe_members(members: &types::TopicMembers) -> String {
    let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
    let rows: Vec<_> = members
        .members
        .iter()
        .map(|member| {
            [
                member.peer_id.clone(),
                member.subscribed.map_or_else(|| "-".to_owned(), yes),
                yes(member.neighbour),
                yes(member.keeper),
                output::seconds(member.age_s),
            ]
        })
        .collect();
    output::table(
        ["MEMBER", "SUBSCRIBED", "NEIGHBOUR", "KEEPER", "HEARD OF"],
        &rows,
    )
}

pub(super) async fn stats(global: &Global, args: StatsArgs) -> Result<(), Failure> {
    check_name(&args.topic)?;
    let params = TopicParams { topic: args.topic };
    let stats = global.call::<TopicStats>(params).await?;
    if global.json {
        output::json(&stats)
    } else {
        output::text(&describe_stats(&stats))
    }
}

fn describe_stats(stats: &types::TopicStats) -> String {
    let member = match (stats.member, stats.keeps) {
        (false, _) => "no member",
        (true, false) => "a member",
        (true, true) => "a member and keeper",
    };
    let mut held = format!(
        "{} messages in {} bundles of {} streams, {} B",
        stats.messages_held, stats.bundles_held, stats.streams, stats.bytes_held
    );
    if let (Some(oldest), Some(newest)) = (&stats.oldest, &stats.newest) {
        held += &format!("; came {oldest} to {newest}");
    }
    let log = match stats.log {
        Some(log) => format!(
            "{} items from place {} on, the next one's is {}",
            log.items, log.first, log.next
        ),
        None => "-".to_owned(),
    };
    output::pairs(&[
        ["topic".to_owned(), stats.topic.clone()],
        [
            "node".to_owned(),
            format!(
                "{member}, {} here; {} known, keepers among them: {}",
                output::count(stats.subscriptions, "subscription"),
                output::count(stats.members_known, "other member"),
                stats.keepers_known
            ),
        ],
        ["held".to_owned(), held],
        [
            "counted".to_owned(),
            format!(
                "{} messages delivered, {} lost; {} bundles again",
                stats.delivered, stats.lost, stats.duplicates
            ),
        ],
        ["arrival log".to_owned(), log],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_read_well() {
        let member = |peer_id: &str, subscribed, neighbour| types::TopicMember {
            peer_id: peer_id.to_owned(),
            subscribed,
            neighbour,
            keeper: neighbour,
            age_s: 61.5,
        };
        let members = types::TopicMembers {
            topic: "t".to_owned(),
            members: vec![member("A", Some(true), true), member("B", None, false)],
        };
        assert_eq!(
            describe_members(&members),
            "MEMBER  SUBSCRIBED  NEIGHBOUR  KEEPER  HEARD OF\n\
             A       yes         yes        yes     1m 1s\n\
             B       -           no         no      1m 1s\n"
        );
    }

    #[test]
    fn stats_read_well() {
        let mut stats = types::TopicStats {
            topic: "news".to_owned(),
            member: true,
            keeps: false,
            subscriptions: 1,
            members_known: 2,
            keepers_known: 1,
            streams: 1,
            bundles_held: 2,
            messages_held: 3,
            bytes_held: 900,
            oldest: Some("EARLY".to_owned()),
            newest: Some("LATE".to_owned()),
            delivered: 3,
            lost: 0,
            duplicates: 1,
            log: Some(types::TopicLog {
                first: 4,
                next: 7,
                items: 3,
            }),
        };
        assert_eq!(
            describe_stats(&stats),
            "topic        news\n\
             node         a member, 1 subscription here; 2 other members known, keepers among them: 1\n\
             held         3 messages in 2 bundles of 1 streams, 900 B; came EARLY to LATE\n\
             counted      3 messages delivered, 0 lost; 1 bundles again\n\
             arrival log  3 items from place 4 on, the next one's is 7\n"
        );
        (stats.oldest, stats.log) = (None, None);
        let text = describe_stats(&stats);
        assert!(text.contains("900 B\n"), "{text}");
        assert!(text.ends_with("arrival log  -\n"), "{text}");
    }
}
