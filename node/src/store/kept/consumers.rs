//! Where named consumers stand, as keys and values of the store's log.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Consumers` | the topic's point 32, the consumer's name | its log's life 8, the place of its next item 8, when it last confirmed 8, the topic's name |
//!
//! Integers are big-endian; all ones stand for none.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use weft_core::TopicName;
use weft_overlay::UnixMicros;

use crate::consumers::{Change, Key, Stand};
use crate::store::{Op, Store, Table};

/// Bytes of a topic's point.
const POINT_BYTES: usize = 32;
/// What stands for a moment that isn't there.
const NEVER: u64 = u64::MAX;

/// Returns the changes of the store that changes of consumers mean.
pub(crate) fn changes(changes: Vec<Change>, network: &str) -> Vec<Op> {
    let table = Table::Consumers;
    let op = |Change { key, stand }: Change| {
        let name = name(&key, network);
        match stand {
            Some(stand) => Op::Put {
                table,
                key: name,
                value: value(&key.topic, stand),
            },
            None => Op::Remove { table, key: name },
        }
    };
    changes.into_iter().map(op).collect()
}

/// Reads a network's consumers. One that is damaged is let go of, and begins anew: it is told in the log.
pub(crate) fn restore(store: &Store, network: &str) -> io::Result<Vec<(Key, Stand)>> {
    let (mut restored, mut removed) = (Vec::new(), Vec::new());
    store.scan(Table::Consumers, |name, value| {
        match value.and_then(|value| read(&name, value, network)) {
            Some(consumer) => restored.push(consumer),
            None => removed.push(name),
        }
    })?;
    for name in &removed {
        let consumer = name.get(POINT_BYTES..).unwrap_or_default();
        tracing::warn!(
            consumer = %String::from_utf8_lossy(consumer),
            "where a consumer stood is damaged on disk: it is forgotten, and begins anew; look to your disk"
        );
    }
    if !removed.is_empty() {
        let table = Table::Consumers;
        let remove = |key| Op::Remove { table, key };
        // Where that fails they are met again at the next start.
        store.persist(removed.into_iter().map(remove).collect(), |_| {});
    }
    Ok(restored)
}

fn name(key: &Key, network: &str) -> Bytes {
    let name = key.name.as_str().as_bytes();
    let mut bytes = BytesMut::with_capacity(POINT_BYTES + name.len());
    bytes.put_slice(key.topic.id(network).as_bytes());
    bytes.put_slice(name);
    bytes.freeze()
}

fn value(topic: &TopicName, stand: Stand) -> Bytes {
    let topic = topic.as_str().as_bytes();
    let mut bytes = BytesMut::with_capacity(24 + topic.len());
    bytes.put_u64(stand.life);
    bytes.put_u64(stand.place);
    bytes.put_u64(stand.confirmed_at.map_or(NEVER, |at| at.0));
    bytes.put_slice(topic);
    bytes.freeze()
}

fn read(name: &[u8], mut value: Bytes, network: &str) -> Option<(Key, Stand)> {
    let (point, name) = name.split_at_checked(POINT_BYTES)?;
    let (life, place) = (value.try_get_u64().ok()?, value.try_get_u64().ok()?);
    let confirmed_at = value.try_get_u64().ok()?;
    let topic: TopicName = std::str::from_utf8(&value).ok()?.parse().ok()?;
    if topic.id(network).as_bytes() != point {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.parse().ok()?;
    let stand = Stand {
        life,
        place,
        confirmed_at: (confirmed_at != NEVER).then_some(UnixMicros(confirmed_at)),
    };
    Some((Key { topic, name }, stand))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;

    use crate::store::Options;

    use super::*;

    fn key(topic: &str, name: &str) -> Key {
        Key {
            topic: topic.parse().unwrap(),
            name: name.parse().unwrap(),
        }
    }

    fn open(dir: &Path) -> Store {
        Store::open(dir, Options::default(), |_| {}).unwrap().0
    }

    fn persist(store: &Store, ops: Vec<Op>) {
        let (told, outcome) = channel();
        store.persist(ops, move |outcome| told.send(outcome).unwrap());
        outcome.recv().unwrap().unwrap();
    }

    #[test]
    fn a_start_finds_consumers_where_they_stood() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let never = Stand {
            life: 7,
            place: 1 << 40,
            confirmed_at: None,
        };
        let lately = Stand {
            confirmed_at: Some(UnixMicros(9)),
            ..never
        };
        let put = |key, stand| Change {
            key,
            stand: Some(stand),
        };
        let stands = vec![
            put(key("a", "one"), never),
            put(key("a", "gone"), never),
            put(key("b", "one"), never),
            put(key("b", "one"), lately),
            Change {
                key: key("a", "gone"),
                stand: None,
            },
        ];
        persist(&store, changes(stands, "net"));
        // What can't be read, or is of another network, is nobody's.
        let damaged = Op::Put {
            table: Table::Consumers,
            key: name(&key("c", "one"), "net"),
            value: Bytes::from_static(b"?"),
        };
        persist(&store, vec![damaged]);
        persist(&store, changes(vec![put(key("d", "one"), never)], "other"));
        let expected = [(key("a", "one"), never), (key("b", "one"), lately)];
        let restored = |store: &Store| {
            let mut restored = restore(store, "net").unwrap();
            restored.sort_by(|(a, _), (b, _)| a.cmp(b));
            restored
        };
        assert_eq!(restored(&store), expected);
        store.close();
        let store = open(dir.path());
        assert_eq!(restored(&store), expected);
        let mut names = 0;
        store.scan(Table::Consumers, |_, _| names += 1).unwrap();
        assert_eq!(names, 2, "what is nobody's is gone");
    }
}
