//! A peer of the table, and where it stands.

use std::time::Duration;

use crate::rtt::Rtt;
use crate::{Contact, Point, Time};

/// Whether a peer of the table answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answered the last time it was asked.
    Live,
    /// It left a request unanswered and is being pinged.
    Suspect,
    /// It left a ping unanswered too: whoever wants its place gets it.
    Stale,
}

/// A peer that has answered at least once.
#[derive(Clone, Debug)]
pub struct Entry<C> {
    point: Point,
    contact: C,
    since: Time,
    seen_at: Time,
    rtt: Rtt,
    standing: Standing,
}

impl<C: Contact> Entry<C> {
    pub(super) fn new(point: Point, contact: C, seen_at: Time) -> Self {
        Self {
            point,
            contact,
            since: seen_at,
            seen_at,
            rtt: Rtt::default(),
            standing: Standing::Live,
        }
    }

    /// Takes the contact of an answer, unless the one that is held was issued later.
    pub(super) fn renew(&mut self, contact: C, now: Time) {
        if contact.issued_at() >= self.contact.issued_at() {
            self.contact = contact;
        }
        self.seen_at = now;
        self.standing = Standing::Live;
    }

    pub(super) fn hear(&mut self, now: Time) {
        self.seen_at = now;
    }

    pub(super) fn sample(&mut self, took: Duration) {
        self.rtt.sample(took);
    }

    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// Returns whose entry this is.
    pub fn peer(&self) -> C::Peer {
        self.contact.peer()
    }

    /// Returns where the peer stands in the key space.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Returns the newest contact at which the peer has answered.
    pub fn contact(&self) -> &C {
        &self.contact
    }

    /// Returns when the peer first answered.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Returns when the peer was heard last.
    pub fn seen_at(&self) -> Time {
        self.seen_at
    }

    /// Returns how fast the peer answers.
    pub fn rtt(&self) -> Rtt {
        self.rtt
    }

    /// Returns whether the peer answers.
    pub fn standing(&self) -> Standing {
        self.standing
    }
}
