//! What the replicated store keeps, as keys and values of the log.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Records` | writer 32, epoch 8, counter 8, hash 32; the record's key | the record as it was signed |
//! | `Hints` | the replica's id 32; a key of `Records` | nothing |
//! | `Owned` | the record's key | the record as it was signed |
//! | `Dots` | the record's key | epoch 8, counter 8 |
//! | `Claims` | whose claim it is, 32 | its contact and the claim, as they travel |
//! | `Meta` | `network` | the network's name, in which all of that is signed |
//!
//! Topics' logs are in [`logs`], named consumers in [`consumers`]. Integers are big-endian. Nothing here is encoded anew: what was checked when it came is known to be the same bytes.

pub(crate) mod consumers;
pub(crate) mod logs;

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use weft_core::PeerContact;
use weft_core::wire::{decode_claim, encode_claim, restore_record};
use weft_dht::Contact;
use weft_dht::kv::{Dot, Header, KvKey, RecordId, Seq};
use weft_dht::store::{self, DiskError, Loaded, Restored};
use weft_identity::PeerId;

use super::{Finding, LoadError, Op, PersistError, Report, Store, Table};

/// Bytes of a peer's id, and of a hash.
const ID_BYTES: usize = 32;
/// Bytes of the part of a record's name that stands before its key.
const RECORD_ID_BYTES: usize = ID_BYTES + 8 + 8 + ID_BYTES;

/// Bytes of a dot's epoch and counter.
const SEQ_BYTES: usize = 8 + 8;

/// The key in [`Table::Meta`] of the network's name.
const NETWORK: &[u8] = b"network";

/// Refuses a store of another network: nobody there would take its records. A new one is the network's from here on.
pub(crate) fn belong_to(store: &Store, network: &str) -> Result<(), String> {
    let mut of = None;
    let scanned = store.scan(Table::Meta, |key, value| {
        if key == NETWORK {
            of = value;
        }
    });
    scanned.map_err(|error| error.to_string())?;
    match of {
        Some(of) if of == network.as_bytes() => Ok(()),
        Some(of) => Err(format!(
            "it is of the network {:?}, and this one is {network:?}; start with --network {} or in another directory",
            String::from_utf8_lossy(&of),
            String::from_utf8_lossy(&of),
        )),
        None => {
            let name = Op::Put {
                table: Table::Meta,
                key: Bytes::from_static(NETWORK),
                value: Bytes::copy_from_slice(network.as_bytes()),
            };
            // A full disk must not keep a node from starting: then it is written at a later start.
            store.persist(vec![name], |_| {});
            Ok(())
        }
    }
}

/// Returns the changes of the log that a batch of the replicated store means.
pub(crate) fn changes(ops: Vec<store::Op<PeerContact>>) -> Vec<Op> {
    ops.into_iter().map(change).collect()
}

fn change(op: store::Op<PeerContact>) -> Op {
    let put = |table, key, value| Op::Put { table, key, value };
    let remove = |table, key| Op::Remove { table, key };
    match op {
        store::Op::PutRecord(record) => {
            let name = record_name(&record.header.key, &record.header.id());
            put(Table::Records, name, record.signed)
        }
        store::Op::DropRecord { key, id } => remove(Table::Records, record_name(&key, &id)),
        store::Op::PutHint { replica, key, id } => {
            put(Table::Hints, hint_name(replica, &key, &id), Bytes::new())
        }
        store::Op::DropHint { replica, key, id } => {
            remove(Table::Hints, hint_name(replica, &key, &id))
        }
        store::Op::PutOwned(record) => {
            put(Table::Owned, key_name(&record.header.key), record.signed)
        }
        store::Op::DropOwned { key } => remove(Table::Owned, key_name(&key)),
        store::Op::PutDot { key, seq } => {
            let mut value = BytesMut::with_capacity(SEQ_BYTES);
            value.put_u64(seq.epoch);
            value.put_u64(seq.counter);
            put(Table::Dots, key_name(&key), value.freeze())
        }
        store::Op::DropDot { key } => remove(Table::Dots, key_name(&key)),
        store::Op::PutClaim { contact, claim } => {
            let value = encode_claim(&contact, &claim);
            put(Table::Claims, claim_name(contact.peer()), value)
        }
        store::Op::DropClaim { peer } => remove(Table::Claims, claim_name(peer)),
    }
}

/// Says what a failed write means for the replicated store.
pub(crate) fn disk_error(error: &PersistError) -> DiskError {
    match error {
        PersistError::Full => DiskError::Full,
        PersistError::Busy | PersistError::Failed(_) => DiskError::Failed,
    }
}

/// Returns the names under which records lie in [`Table::Records`].
pub(crate) fn record_names(wanted: &[(KvKey, RecordId<PeerId>)]) -> Vec<Bytes> {
    wanted
        .iter()
        .map(|(key, id)| record_name(key, id))
        .collect()
}

/// Reads what was found under records' names.
pub(crate) fn loaded(found: Vec<Result<Option<Bytes>, LoadError>>) -> Vec<Loaded<PeerId>> {
    let read = |found: Result<Option<Bytes>, LoadError>| match found {
        Ok(Some(bytes)) => restore_record(&bytes)
            .map_or(Loaded::Corrupt, |record| Loaded::Record(Box::new(record))),
        Ok(None) => Loaded::Missing,
        Err(LoadError::Corrupt) => Loaded::Corrupt,
        Err(LoadError::Busy | LoadError::Failed(_)) => Loaded::Failed,
    };
    found.into_iter().map(read).collect()
}

/// Returns which record is lost, where it is one.
pub(crate) fn lost_record(finding: &Finding) -> Option<(KvKey, RecordId<PeerId>)> {
    match finding {
        Finding::Lost {
            name: Some((Table::Records, name)),
            ..
        } => read_record_name(name),
        Finding::Lost { .. } | Finding::Undeleted { .. } => None,
    }
}

/// Reads what the replicated store begins with.
///
/// Where something is gone and nobody knows what, this node's own claim isn't restored: it holds no longer, and the node
/// is filled as if it were new. Nor are its last dots on keys.
pub(crate) fn restore(
    store: &Store,
    report: &Report,
    me: PeerId,
) -> io::Result<Restored<PeerContact>> {
    let mut restored = Restored::default();
    let mut is_lossy = report.is_lossy();
    let unnamed = store.scan(Table::Records, |name, value| {
        let Some((key, id)) = read_record_name(&name) else {
            is_lossy = true;
            return;
        };
        match value.as_deref().and_then(header) {
            Some(header) => restored.records.push(header),
            None => restored.lost.push((key, id)),
        }
    })?;
    is_lossy |= unnamed > 0;
    // What is lost of a hint is nothing: all it says is its name.
    store.scan(Table::Hints, |name, _| {
        restored.hints.extend(read_hint_name(&name));
    })?;
    // An own record that is lost is found again at the replicas; what comes after it is of a later epoch.
    store.scan(Table::Owned, |_, value| {
        restored.owned.extend(value.as_deref().and_then(header));
    })?;
    let mut dots = Vec::new();
    store.scan(Table::Dots, |name, value| {
        let dot = read_key_name(&name).zip(value.as_deref().and_then(read_seq));
        restored.dots.extend(dot);
        dots.push(name);
    })?;
    // A neighbour's claim that is lost is asked for again.
    store.scan(Table::Claims, |_, value| {
        let claim = value.and_then(|value| decode_claim(&value).ok());
        restored.claims.extend(claim);
    })?;
    if is_lossy {
        // What is there may be older than what was lost: a dot that wasn't the last, a claim that held.
        restored.dots.clear();
        restored.claims.retain(|(contact, _)| contact.peer() != me);
        let dots = dots.into_iter().map(|key| (Table::Dots, key));
        forget(store, dots.chain([(Table::Claims, claim_name(me))]))?;
    }
    Ok(restored)
}

/// Takes out what holds no longer, and waits until that is on disk: a later start finds no damage any more, and would believe
/// it.
fn forget(store: &Store, names: impl Iterator<Item = (Table, Bytes)>) -> io::Result<()> {
    let removals = names.map(|(table, key)| Op::Remove { table, key });
    let (told, outcome) = std::sync::mpsc::channel();
    store.persist(removals.collect(), move |outcome| {
        let _ = told.send(outcome);
    });
    let outcome = outcome.recv().map_err(io::Error::other)?;
    outcome.map_err(|error| {
        io::Error::other(format!(
            "it is damaged, and what doesn't hold any more can't be taken out: {error}"
        ))
    })
}

fn header(signed: &[u8]) -> Option<Header<PeerId>> {
    restore_record(signed).ok().map(|record| record.header)
}

fn record_name(key: &KvKey, id: &RecordId<PeerId>) -> Bytes {
    let mut name = BytesMut::with_capacity(RECORD_ID_BYTES + key.as_str().len());
    put_record_name(key, id, &mut name);
    name.freeze()
}

fn put_record_name(key: &KvKey, id: &RecordId<PeerId>, to: &mut BytesMut) {
    to.put_slice(id.dot.writer.as_bytes());
    to.put_u64(id.dot.seq.epoch);
    to.put_u64(id.dot.seq.counter);
    to.put_slice(&id.hash);
    to.put_slice(key.as_str().as_bytes());
}

fn read_record_name(name: &[u8]) -> Option<(KvKey, RecordId<PeerId>)> {
    let (id, key) = name.split_at_checked(RECORD_ID_BYTES)?;
    let (writer, id) = id.split_first_chunk::<ID_BYTES>()?;
    let (epoch, id) = id.split_first_chunk()?;
    let (counter, hash) = id.split_first_chunk()?;
    let seq = Seq {
        epoch: u64::from_be_bytes(*epoch),
        counter: u64::from_be_bytes(*counter),
    };
    let id = RecordId {
        dot: Dot {
            writer: PeerId::from_bytes(*writer),
            seq,
        },
        hash: hash.try_into().ok()?,
    };
    Some((KvKey::new(std::str::from_utf8(key).ok()?).ok()?, id))
}

fn hint_name(replica: PeerId, key: &KvKey, id: &RecordId<PeerId>) -> Bytes {
    let mut name = BytesMut::with_capacity(ID_BYTES + RECORD_ID_BYTES + key.as_str().len());
    name.put_slice(replica.as_bytes());
    put_record_name(key, id, &mut name);
    name.freeze()
}

fn read_hint_name(name: &[u8]) -> Option<(PeerId, KvKey, RecordId<PeerId>)> {
    let (replica, record) = name.split_first_chunk::<ID_BYTES>()?;
    let (key, id) = read_record_name(record)?;
    Some((PeerId::from_bytes(*replica), key, id))
}

fn key_name(key: &KvKey) -> Bytes {
    Bytes::copy_from_slice(key.as_str().as_bytes())
}

fn read_key_name(name: &[u8]) -> Option<KvKey> {
    KvKey::new(std::str::from_utf8(name).ok()?).ok()
}

fn read_seq(value: &[u8]) -> Option<Seq> {
    let (epoch, counter) = value.split_first_chunk()?;
    Some(Seq {
        epoch: u64::from_be_bytes(*epoch),
        counter: u64::from_be_bytes(counter.try_into().ok()?),
    })
}

fn claim_name(peer: PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::mpsc::channel;

    use weft_core::Roles;
    use weft_core::wire::write_record;
    use weft_dht::kv::{Content, Context};
    use weft_dht::store::{Claim, Kept};
    use weft_identity::Keypair;
    use weft_overlay::UnixMicros;

    use super::super::Options;
    use super::*;

    fn me() -> Keypair {
        Keypair::from_seed(&[1; 32])
    }

    fn record(key: &str, counter: u64) -> weft_dht::kv::Record<PeerId> {
        let value = vec![7; 300];
        let header = Header {
            key: KvKey::new(key).unwrap(),
            dot: Dot {
                writer: me().peer_id(),
                seq: Seq { epoch: 5, counter },
            },
            prev: None,
            context: Context::default(),
            content: Content::Value { bytes: 300 },
            written_at: UnixMicros(1_700_000_000_000_000),
            expires_at: None,
            copies: 3,
            hash: [0; 32],
        };
        write_record(&me(), "net", header, &value).unwrap()
    }

    fn batch() -> Vec<store::Op<PeerContact>> {
        let (kept, dropped) = (record("kept", 1), record("dropped", 2));
        let (issued_at, replica) = (
            UnixMicros(1_700_000_000_000_000),
            PeerId::from_bytes([3; 32]),
        );
        let contact = |seed| {
            let keypair = Keypair::from_seed(&[seed; 32]);
            PeerContact::issue(
                &keypair,
                &[],
                issued_at,
                UnixMicros(u64::MAX / 2),
                Roles::SERVER,
            )
        };
        let claim = Claim {
            round: 4,
            old: true,
            known: Vec::new(),
        };
        let at = |of: &weft_dht::kv::Record<PeerId>| (of.header.key.clone(), of.header.id());
        let ((kept_key, kept_id), (dropped_key, dropped_id)) = (at(&kept), at(&dropped));
        let hint = |replica| store::Op::PutHint {
            replica,
            key: kept_key.clone(),
            id: kept_id,
        };
        vec![
            store::Op::PutRecord(kept),
            store::Op::PutRecord(dropped),
            store::Op::DropRecord {
                key: dropped_key,
                id: dropped_id,
            },
            hint(replica),
            hint(PeerId::from_bytes([4; 32])),
            store::Op::DropHint {
                replica: PeerId::from_bytes([4; 32]),
                key: kept_key.clone(),
                id: kept_id,
            },
            store::Op::PutOwned(record("own a", 3)),
            store::Op::PutOwned(record("own b", 4)),
            store::Op::DropOwned {
                key: KvKey::new("own b").unwrap(),
            },
            store::Op::PutDot {
                key: KvKey::new("kept").unwrap(),
                seq: Seq {
                    epoch: 5,
                    counter: 1,
                },
            },
            store::Op::PutDot {
                key: KvKey::new("dropped").unwrap(),
                seq: Seq {
                    epoch: 5,
                    counter: 2,
                },
            },
            store::Op::DropDot {
                key: KvKey::new("dropped").unwrap(),
            },
            store::Op::PutClaim {
                contact: contact(1),
                claim: claim.clone(),
            },
            store::Op::PutClaim {
                contact: contact(2),
                claim,
            },
            store::Op::DropClaim {
                peer: Keypair::from_seed(&[9; 32]).peer_id(),
            },
        ]
    }

    fn open(dir: &Path) -> (Store, Report) {
        Store::open(dir, Options::default(), |_| {}).unwrap()
    }

    fn persist(store: &Store, ops: Vec<Op>) {
        let (told, outcome) = channel();
        store.persist(ops, move |outcome| told.send(outcome).unwrap());
        outcome.recv().unwrap().unwrap();
    }

    fn load(store: &Store, wanted: &[(KvKey, RecordId<PeerId>)]) -> Vec<Loaded<PeerId>> {
        let (told, outcome) = channel();
        let names = record_names(wanted);
        store.load(Table::Records, names, move |found| {
            told.send(found).unwrap();
        });
        loaded(outcome.recv().unwrap())
    }

    fn assert_same(one: &Restored<PeerContact>, other: &Restored<PeerContact>) {
        assert_eq!(one.records, other.records);
        assert_eq!(one.hints, other.hints);
        assert_eq!(one.owned, other.owned);
        assert_eq!(one.dots, other.dots);
        assert_eq!(one.claims, other.claims);
        assert_eq!(one.lost, other.lost);
    }

    #[test]
    fn a_start_finds_what_was_kept_as_a_disk_in_memory_would() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        persist(&store, changes(batch()));
        store.close();
        let mut memory = Kept::default();
        memory.write(batch());
        let (store, report) = open(dir.path());
        let mut restored = restore(&store, &report, me().peer_id()).unwrap();
        restored.claims.sort_by_key(|(contact, _)| contact.peer());
        let held = record("kept", 1);
        assert_eq!(restored.records, std::slice::from_ref(&held.header));
        assert_eq!((restored.hints.len(), restored.claims.len()), (1, 2));
        assert_eq!(restored.dots.len(), 1);
        assert_same(&restored, &memory.restore());
        let wanted = [
            (held.header.key.clone(), held.header.id()),
            (
                KvKey::new("dropped").unwrap(),
                record("dropped", 2).header.id(),
            ),
        ];
        let found = load(&store, &wanted);
        assert_eq!(found, [Loaded::Record(Box::new(held)), Loaded::Missing]);
        assert_eq!(found, memory.load(&wanted));
    }

    #[test]
    fn a_damaged_record_is_lost_by_name_and_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let held = record("kept", 1);
        persist(&store, changes(batch()));
        store.close();
        let path = dir.path().join("00000001.log");
        let bytes = std::fs::read(&path).unwrap();
        let of_value = bytes.windows(300).position(|window| window == [7; 300]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[8], of_value.unwrap() as u64 + 40)
            .unwrap();
        let (store, report) = open(dir.path());
        assert!(
            !report.damage.is_empty() && !report.is_lossy(),
            "{report:?}"
        );
        let restored = restore(&store, &report, me().peer_id()).unwrap();
        let at = (held.header.key.clone(), held.header.id());
        assert_eq!(restored.lost, std::slice::from_ref(&at));
        assert_eq!((restored.records.len(), restored.claims.len()), (0, 2));
        assert_eq!(load(&store, &[at]), [Loaded::Corrupt]);
    }

    #[test]
    fn where_nobody_knows_what_is_lost_the_own_claim_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        persist(&store, changes(batch()));
        let lossy = Report {
            damage: vec![super::super::Damage {
                file: "00000001.log".into(),
                unnamed_bytes: Some(300),
                aside: None,
            }],
            torn_bytes: 0,
        };
        let restored = restore(&store, &lossy, me().peer_id()).unwrap();
        let claims: Vec<PeerId> = restored.claims.iter().map(|(c, _)| c.peer()).collect();
        assert_eq!(claims, [Keypair::from_seed(&[2; 32]).peer_id()]);
        assert_eq!(restored.dots, []);
        // The next start finds no damage, and doesn't believe them either.
        let restored = restore(&store, &Report::default(), me().peer_id()).unwrap();
        assert_eq!((restored.claims.len(), restored.dots.len()), (1, 0));
    }

    #[test]
    fn a_store_of_another_network_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        assert_eq!(belong_to(&store, "net"), Ok(()));
        store.close();
        let (store, _) = open(dir.path());
        assert_eq!(belong_to(&store, "net"), Ok(()));
        let why = belong_to(&store, "other").unwrap_err();
        assert!(why.contains("--network net"), "{why}");
    }
}
