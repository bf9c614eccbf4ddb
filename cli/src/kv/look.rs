//! `weft kv ls`, `weft kv locate` and `weft kv repair`.

use weft_rpc::method::{KvList, KvLocate, KvRepair};
use weft_rpc::types::{KvHolder, KvKeyParams, KvKeys, KvListParams, KvLocated};

use super::ReadTerms;
use crate::failure::Failure;
use crate::global::Global;
use crate::output;

/// Lists keys by their beginning, which contains a whole {tag}
#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    /// What the keys begin with, such as {users}/
    prefix: String,
    /// Print this many keys at most
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    terms: ReadTerms,
}

/// Shows where a key stands, who its replicas are and what each holds
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// The key
    key: String,
    /// How many replicas there are to be, 1 to 8 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    n: Option<u8>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    key: KeyArgs,
}

impl KeyArgs {
    fn params(self, global: &Global) -> KvKeyParams {
        KvKeyParams {
            key: self.key,
            n: self.n,
            timeout_ms: Some(global.patience_ms()),
        }
    }
}

pub(super) async fn ls(global: &Global, args: LsArgs) -> Result<(), Failure> {
    let mut left = args.count.unwrap_or(usize::MAX);
    let mut after = None;
    let mut all: Option<KvKeys> = None;
    while left > 0 {
        let params = KvListParams {
            prefix: args.prefix.clone(),
            after: after.take(),
            n: args.terms.all.n,
            r: args.terms.r,
            level: args.terms.all.level(),
            strict: args.terms.all.strict,
            timeout_ms: Some(global.patience_ms()),
        };
        let mut page = global.call::<KvList>(params).await?;
        page.keys.truncate(left);
        left -= page.keys.len();
        after.clone_from(&page.after);
        if !global.json {
            let lines: String = page.keys.iter().map(|key| format!("{key}\n")).collect();
            output::text(&lines)?;
            page.keys.clear();
        }
        let all = all.get_or_insert_with(|| KvKeys {
            keys: Vec::new(),
            ..page.clone()
        });
        all.keys.append(&mut page.keys);
        all.after.clone_from(&page.after);
        if after.is_none() {
            break;
        }
    }
    match all {
        Some(all) if global.json => output::json(&all),
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn locate(global: &Global, args: KeyArgs) -> Result<(), Failure> {
    let located = global.call::<KvLocate>(args.params(global)).await?;
    if global.json {
        return output::json(&located);
    }
    output::text(&describe(&located))
}

fn describe(located: &KvLocated) -> String {
    let head = output::pairs(&[
        ["placed by".to_owned(), located.placement.clone()],
        ["point".to_owned(), located.point.clone()],
        ["slot".to_owned(), located.slot.to_string()],
    ]);
    let rows: Vec<_> = located.replicas.iter().map(row).collect();
    format!(
        "{head}\n{}",
        output::table(["PEER", "STATE", "HOLDS"], &rows)
    )
}

fn row(holder: &KvHolder) -> [String; 3] {
    let state = match (holder.alive, holder.settled) {
        (true, true) => "settled",
        (true, false) => "filling",
        (false, _) => "gone",
    };
    let holds = holder.versions.as_ref().map(|versions| {
        let versions = versions.iter().map(|version| {
            let what = match version.value_bytes {
                Some(bytes) => format!("{bytes} bytes"),
                None => "deleted".to_owned(),
            };
            format!("{} of {} ({what})", version.version, version.writer)
        });
        output::list(&versions.collect::<Vec<_>>())
    });
    [
        holder.peer_id.clone(),
        state.to_owned(),
        holds.unwrap_or_else(|| "no answer".to_owned()),
    ]
}

pub(super) async fn repair(global: &Global, args: RepairArgs) -> Result<(), Failure> {
    let repaired = global.call::<KvRepair>(args.key.params(global)).await?;
    if global.json {
        return output::json(&repaired);
    }
    output::text(&format!(
        "{}: {}; {} of {} answered lacked some, and have them now\n",
        repaired.key,
        output::count(repaired.records, "record"),
        repaired.repaired,
        output::count(repaired.got, "replica"),
    ))
}

#[cfg(test)]
mod tests {
    use weft_rpc::types::KvVersion;

    use super::*;

    #[test]
    fn where_a_key_stands_reads_well() {
        let holder = |peer_id: &str, alive, settled, versions| KvHolder {
            peer_id: peer_id.to_owned(),
            settled,
            alive,
            versions,
        };
        let version = |value_bytes| KvVersion {
            writer: "W".to_owned(),
            version: "7.1".to_owned(),
            written_at: String::new(),
            expires_at: None,
            value_bytes,
        };
        let located = KvLocated {
            key: "{a}b".to_owned(),
            placement: "a".to_owned(),
            point: "00ff".to_owned(),
            slot: 15_495,
            replicas: vec![
                holder("P", true, true, Some(vec![version(Some(4)), version(None)])),
                holder("Q", true, false, Some(Vec::new())),
                holder("R", false, true, None),
            ],
        };
        assert_eq!(
            describe(&located),
            "placed by  a\npoint      00ff\nslot       15495\n\n\
             PEER  STATE    HOLDS\n\
             P     settled  7.1 of W (4 bytes), 7.1 of W (deleted)\n\
             Q     filling  -\n\
             R     gone     no answer\n"
        );
    }
}
