//! What tests take for a peer: a number.

use crate::{Contact, Group, Key, Now, Peer, Point, Time, UnixMicros};

/// Where the wall clock stands when the monotonic one starts.
pub(crate) const UNIX_START: u64 = 1_000_000_000_000;

/// A peer that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestPeer(pub(crate) u32);

impl Peer for TestPeer {
    fn key(&self) -> Key {
        Key::new(&self.0.to_be_bytes()).unwrap()
    }

    fn point(&self) -> Point {
        Point::of(&self.0.to_be_bytes())
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
