//! What tests take for a peer: a number.

use weft_identity::PeerId;

use crate::{Contact, Group, Key, Now, Peer, Point, Time, UnixMicros};

/// Where the wall clock stands when the monotonic one starts.
pub(crate) const UNIX_START: u64 = 1_000_000_000_000;

/// A peer that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestPeer(pub(crate) u32);

/// Peers from this number on have ids as they are in the daemon, so that keys can be their own.
pub(crate) const OWNERS: u32 = 1 << 31;

impl TestPeer {
    /// The id of a peer that can own keys.
    pub(crate) fn id(self) -> PeerId {
        assert!(self.0 >= OWNERS);
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&self.0.to_be_bytes());
        PeerId::from_bytes(bytes)
    }
}

impl Peer for TestPeer {
    fn key(&self) -> Key {
        if self.0 >= OWNERS {
            return self.id().key();
        }
        Key::new(&self.0.to_be_bytes()).unwrap()
    }

    fn point(&self) -> Point {
        self.key().point()
    }
}

/// A contact that says what a test wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestContact {
    pub(crate) peer: u32,
    pub(crate) serves: bool,
    pub(crate) group: Option<u16>,
    pub(crate) issued_at: u64,
    pub(crate) expires_at: u64,
}

impl Contact for TestContact {
    type Peer = TestPeer;

    fn peer(&self) -> TestPeer {
        TestPeer(self.peer)
    }

    fn issued_at(&self) -> UnixMicros {
        UnixMicros(self.issued_at)
    }

    fn expires_at(&self) -> UnixMicros {
        UnixMicros(self.expires_at)
    }

    fn serves(&self) -> bool {
        self.serves
    }

    fn group(&self) -> Option<Group> {
        self.group.map(|group| Group(group.into()))
    }
}

/// A server's contact that lasts, of no group.
pub(crate) fn contact(peer: u32) -> TestContact {
    TestContact {
        peer,
        serves: true,
        group: None,
        issued_at: UNIX_START,
        expires_at: u64::MAX,
    }
}

/// A moment so many milliseconds after the start.
pub(crate) fn at(millis: u64) -> Now {
    Now {
        time: Time::from_micros(millis * 1_000),
        unix: UnixMicros(UNIX_START + millis * 1_000),
    }
}
