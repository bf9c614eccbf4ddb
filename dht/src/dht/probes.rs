//! Pings: of whom there is room for, of whom nobody heard for long, of whom a lookup waited for in vain.

use crate::message::Query;
use crate::{Contact, Now};

use super::config::{CONTACT_SKEW, PROBE_ATTEMPTS_MAX, PROBES_MAX};
use super::{Dht, Purpose};

/// A peer that is being pinged.
#[derive(Clone, Debug)]
pub(super) struct Probe<C> {
    contact: C,
    attempts: u8,
}

impl<C: Contact> Dht<C> {
    /// Somebody has reason to believe that a peer has gone.
    pub(super) fn on_doubt(&mut self, peer: C::Peer, now: Now) {
        let contact = self.table.entry(peer).map(|entry| entry.contact().clone());
        if let Some(contact) = contact.filter(|_| self.table.suspect(peer)) {
            self.probe(contact, now);
        }
    }

    pub(super) fn on_learned(&mut self, contacts: Vec<C>, now: Now) {
        let issued_max = now.unix + CONTACT_SKEW;
        for contact in contacts {
            let lasts = contact.expires_at() > now.unix && contact.issued_at() <= issued_max;
            if lasts && self.table.has_room_for(&contact) {
                self.probe(contact, now);
            }
        }
    }

    /// Pings a peer, unless it is being pinged already.
    pub(super) fn probe(&mut self, contact: C, now: Now) {
        let peer = contact.peer();
        if peer == self.me.peer() || self.probes.contains_key(&peer) {
            return;
        }
        if self.probes.len() >= PROBES_MAX {
            self.counters.probes_left_out += 1;
            return;
        }
        let probe = Probe {
            contact: contact.clone(),
            attempts: 1,
        };
        self.probes.insert(peer, probe);
        self.ask(contact, Query::Ping, Purpose::Probe, now);
    }

    /// Pings again, or gives the peer up.
    pub(super) fn on_probe_failed(&mut self, peer: C::Peer, now: Now) {
        let Some(probe) = self.probes.get_mut(&peer) else {
            return;
        };
        if probe.attempts < PROBE_ATTEMPTS_MAX {
            probe.attempts += 1;
            let contact = probe.contact.clone();
            self.table.suspect(peer);
            self.ask(contact, Query::Ping, Purpose::Probe, now);
            return;
        }
        self.probes.remove(&peer);
        self.table.silent(peer);
    }
}
