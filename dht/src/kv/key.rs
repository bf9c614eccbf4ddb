//! Names in the store, and where they belong.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use weft_identity::PeerId;

use crate::{Key, Peer, Point};

/// Bytes of a name. A guess: longer than any path that a person types, and 65,536 of them in a replica's memory are
/// 32 MiB at worst.
pub const KV_KEY_BYTES_MAX: usize = 512;

/// What the key of a lookup begins with, so that a name in the store and a provided key never share a point by chance.
const PLACE_PREFIX: &[u8; 9] = b"/weft/kv/";

/// A name in the store: UTF-8, 1 to [`KV_KEY_BYTES_MAX`] bytes, no control characters.
///
/// A name `@PEER/path` is the peer's own, which nobody else can write; nothing else begins with `@`. A clone shares the
/// text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvKey(Arc<str>);

/// Why a text is no name in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no characters.
    #[error("the key is empty")]
    Empty,
    /// It has so many bytes.
    #[error("the key has {0} bytes, at most {KV_KEY_BYTES_MAX} are possible")]
    TooLong(usize),
    /// It has a control character at this byte.
    #[error("the key has a control character at byte {0}")]
    Control(usize),
    /// It begins with `@`, but is not `@PEER/path`.
    #[error("a key that begins with @ is @PEER/path, with a peer id such as 12D3KooW… and a path")]
    NoOwner,
}

impl KvKey {
    /// Takes a name.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > KV_KEY_BYTES_MAX {
            return Err(KeyError::TooLong(text.len()));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(KeyError::Control(at));
        }
        if text.starts_with('@') && owner_of(text).is_none() {
            return Err(KeyError::NoOwner);
        }
        Ok(Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the name is some peer's own.
    pub fn is_owned(&self) -> bool {
        self.0.starts_with('@')
    }

    /// Returns whose own the name is; `None` for one that everybody may write.
    pub fn owner(&self) -> Option<PeerId> {
        owner_of(&self.0)
    }

    /// Returns whether a peer may write here: anybody where the name has no owner.
    pub fn may_be_written_by<P: Peer>(&self, peer: &P) -> bool {
        self.owner()
            .is_none_or(|owner| peer.key().as_bytes() == owner.to_multihash())
    }

    /// Returns the tag: what stands between the first `{` and the `}` that follows, if that is not empty (Redis
    /// Cluster's specification, "Hash tags").
    pub fn tag(&self) -> Option<&str> {
        tag_of(&self.0)
    }

    /// Returns what places the name: its tag, or all of it. Names of one placement lie at the same replicas.
    pub fn placement(&self) -> &str {
        self.tag().unwrap_or(&self.0)
    }

    /// Returns the key that a lookup of the name's replicas carries: 41 bytes.
    pub fn lookup_key(&self) -> Key {
        Key::new(&self.place()).expect("41 bytes are no long key")
    }

    /// Returns where the name stands.
    pub fn point(&self) -> Point {
        Point::of(&self.place())
    }

    fn place(&self) -> [u8; 41] {
        let mut place = [0; 41];
        place[..9].copy_from_slice(PLACE_PREFIX);
        place[9..].copy_from_slice(&Sha256::digest(self.placement()));
        place
    }
}

impl fmt::Display for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvKey({:?})", &self.0)
    }
}

/// The beginning of names that can be listed: it contains the whole tag, so that all of them lie at the same replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvPrefix(KvKey);

/// Why a text begins no names that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It could not begin a name.
    #[error(transparent)]
    NoKey(KeyError),
    /// It has no whole tag, so that the names that begin with it lie all over the network.
    #[error(
        "only keys with a {{tag}} can be listed, by a prefix that contains it whole, such as {{users}}/"
    )]
    NoTag,
}

impl KvPrefix {
    /// Takes a prefix.
    pub fn new(text: &str) -> Result<Self, PrefixError> {
        let key = KvKey::new(text).map_err(PrefixError::NoKey)?;
        if key.tag().is_none() {
            return Err(PrefixError::NoTag);
        }
        Ok(Self(key))
    }

    /// Returns the prefix.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the prefix as the name that it would be itself, the first of those that begin with it.
    pub fn as_key(&self) -> &KvKey {
        &self.0
    }

    /// Returns whether a name begins with it.
    pub fn begins(&self, key: &KvKey) -> bool {
        key.as_str().starts_with(self.as_str())
    }

    /// Returns the key that a lookup of the names' replicas carries.
    pub fn lookup_key(&self) -> Key {
        self.0.lookup_key()
    }

    /// Returns where all the names stand.
    pub fn point(&self) -> Point {
        self.0.point()
    }
}

/// Returns the owner in `@PEER/path` with a path that is not empty.
fn owner_of(text: &str) -> Option<PeerId> {
    let (owner, path) = text.strip_prefix('@')?.split_once('/')?;
    if path.is_empty() {
        return None;
    }
    owner.parse().ok()
}

fn tag_of(text: &str) -> Option<&str> {
    let (_, after) = text.split_once('{')?;
    let (tag, _) = after.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::super::slot;
    use super::*;

    fn key(text: &str) -> KvKey {
        KvKey::new(text).unwrap()
    }

    #[test]
    fn a_tag_is_found_by_redis_clusters_rule() {
        // The examples of its specification.
        for (name, placement) in [
            ("{user1000}.following", "user1000"),
            ("{user1000}.followers", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo}bar{zap", "foo}bar{zap"),
        ] {
            assert_eq!(key(name).placement(), placement, "{name}");
        }
        let slot_of = |name| slot(key(name).placement().as_bytes());
        assert_eq!(
            slot_of("{user1000}.following"),
            slot_of("{user1000}.followers")
        );
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
    }

    #[test]
    fn one_tag_is_one_point() {
        assert_eq!(key("{a}1").point(), key("x{a}2").point());
        assert_eq!(key("{a}1").point(), key("a").point());
        assert_ne!(key("a").point(), key("b").point());
    }

    #[test]
    fn the_point_is_the_one_of_the_key_that_a_lookup_carries() {
        let key = key("colour");
        let travels = key.lookup_key();
        assert_eq!(travels.point(), key.point());
        assert!(travels.as_bytes().starts_with(b"/weft/kv/"));
        assert_eq!(travels.as_bytes()[9..], *Sha256::digest(b"colour"));
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert_eq!(KvKey::new(""), Err(KeyError::Empty));
        assert!(KvKey::new(&"é".repeat(256)).is_ok());
        assert_eq!(KvKey::new(&"a".repeat(513)), Err(KeyError::TooLong(513)));
        assert_eq!(KvKey::new("a\nb"), Err(KeyError::Control(1)));
        assert_eq!(KvKey::new("é\u{85}"), Err(KeyError::Control(2)));
    }

    #[test]
    fn an_owners_name_names_its_owner() {
        let (owner, other) = (PeerId::from_bytes([7; 32]), PeerId::from_bytes([8; 32]));
        let name = key(&format!("@{owner}/colour"));
        assert_eq!((name.owner(), name.is_owned()), (Some(owner), true));
        assert!(name.may_be_written_by(&owner) && !name.may_be_written_by(&other));
        assert_eq!(
            (key("a@b/c").owner(), key("a@b/c").is_owned()),
            (None, false)
        );
        assert!(key("colour").may_be_written_by(&other));
        for wrong in [
            "@",
            "@/",
            "@me/colour",
            &format!("@{owner}"),
            &format!("@{owner}/"),
        ] {
            assert_eq!(KvKey::new(wrong), Err(KeyError::NoOwner), "{wrong}");
        }
    }

    #[test]
    fn only_a_prefix_with_a_whole_tag_can_be_listed() {
        let prefix = KvPrefix::new("{users}/a").unwrap();
        assert!(prefix.begins(&key("{users}/ada")) && !prefix.begins(&key("{users}/bob")));
        assert_eq!(prefix.point(), key("{users}/bob").point());
        assert_eq!(prefix.lookup_key(), key("{users}/bob").lookup_key());
        for wrong in ["users", "{users", "{}users", "{}{users}"] {
            assert_eq!(KvPrefix::new(wrong), Err(PrefixError::NoTag), "{wrong}");
        }
        assert_eq!(
            KvPrefix::new("@{users}"),
            Err(PrefixError::NoKey(KeyError::NoOwner))
        );
    }
}
