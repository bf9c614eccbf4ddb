//! The address book: peers that were linked, with what they say of themselves; and the node's own descriptor.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_identity::{Keypair, PeerId};
use weft_overlay::hyparview::ContactSource;
use weft_overlay::{Contact, Now, Time, swarm};

use super::{Core, peer_of};
use crate::address::ADDRESSES_MAX;
use crate::wire::book::BOOK_MAX;
use crate::wire::encode_hello;
use crate::{Address, Direction, Output, PeerContact, Roles};

/// A descriptor is passed on for this long after it was issued (a guess: a node that moves is found again within the hour).
const DESCRIPTOR_VALID: Duration = Duration::from_secs(3_600);
/// The own descriptor is issued anew this often, well before it expires.
pub(super) const DESCRIPTOR_RENEWED: Duration = Duration::from_secs(1_200);
/// Peers of the book that this node has never reached itself: what they say of where they are is unproven, and whoever dials in under
/// many names shall not drive out those that were reached.
const UNPROVEN_MAX: usize = BOOK_MAX / 4;
/// How often a changed address book is written (the design's bound).
const PERSIST_EVERY: Duration = Duration::from_secs(30);

pub(super) fn issue(
    keypair: &Keypair,
    addresses: &[Address],
    roles: Roles,
    now: Now,
) -> PeerContact {
    let expires_at = now.unix + DESCRIPTOR_VALID;
    PeerContact::issue(keypair, addresses, now.unix, expires_at, roles)
}

/// Peers that were linked, at most [`BOOK_MAX`]; the one seen longest ago goes first.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    peers: BTreeMap<PeerId, Known>,
    sights: u64,
}

#[derive(Debug)]
struct Known {
    contact: PeerContact,
    /// Grows from sight to sight.
    seen: u64,
    /// Whether this node has reached it, or it stood in the book that the run before left.
    proven: bool,
}

impl AddressBook {
    /// Takes up a book that names the peer seen last first.
    pub(super) fn new(contacts: Vec<PeerContact>) -> Self {
        let mut book = Self::default();
        for contact in contacts.into_iter().take(BOOK_MAX).rev() {
            book.see(contact, true);
        }
        book
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Takes in a peer that has just been linked; returns whether the book has changed in more than order.
    fn see(&mut self, contact: PeerContact, proven: bool) -> bool {
        let peer = peer_of(&contact);
        let known = self.peers.get(&peer);
        if known.is_some_and(|known| known.contact.issued_at() > contact.issued_at()) {
            return false;
        }
        let same =
            known.filter(|known| known.contact.0.value.addresses == contact.0.value.addresses);
        let changed = same.is_none();
        let proven = proven || same.is_some_and(|known| known.proven);
        self.sights += 1;
        let seen = self.sights;
        let known = Known {
            contact,
            seen,
            proven,
        };
        self.peers.insert(peer, known);
        let unproven = self.peers.values().filter(|known| !known.proven).count();
        if unproven > UNPROVEN_MAX {
            self.forget_oldest(|known| !known.proven);
        } else if self.peers.len() > BOOK_MAX {
            self.forget_oldest(|_| true);
        }
        changed
    }

    fn forget_oldest(&mut self, among: impl Fn(&Known) -> bool) {
        let oldest = self
            .peers
            .iter()
            .filter(|(_, known)| among(known))
            .min_by_key(|(_, known)| known.seen)
            .map(|(peer, _)| *peer);
        if let Some(oldest) = oldest {
            self.peers.remove(&oldest);
        }
    }

    pub(super) fn addresses(&self, peer: PeerId) -> Option<Vec<Address>> {
        self.peers
            .get(&peer)
            .map(|known| known.contact.0.value.addresses.clone())
    }

    pub(super) fn knows(&self, peer: PeerId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// Returns a peer's descriptor unless it has expired.
    pub(super) fn lasting(&self, peer: PeerId, now: Now) -> Option<PeerContact> {
        let known = self.peers.get(&peer)?;
        (known.contact.expires_at() > now.unix).then(|| known.contact.clone())
    }

    /// Returns whether a peer was reached at these addresses, in this run or the one before.
    pub(super) fn is_proven(&self, contact: &PeerContact) -> bool {
        self.peers.get(&peer_of(contact)).is_some_and(|known| {
            known.proven && known.contact.0.value.addresses == contact.0.value.addresses
        })
    }

    /// Returns the peers, the one seen last first.
    pub(super) fn newest_first(&self) -> Vec<PeerContact> {
        let mut known: Vec<&Known> = self.peers.values().collect();
        known.sort_by_key(|known| std::cmp::Reverse(known.seen));
        known
            .into_iter()
            .map(|known| known.contact.clone())
            .collect()
    }
}

impl ContactSource for AddressBook {
    type Contact = PeerContact;

    fn contacts(&mut self, _now: Now) -> Vec<PeerContact> {
        self.newest_first()
    }
}

impl Core {
    /// A linked peer has said who it is.
    pub(super) fn remember(&mut self, contact: PeerContact, direction: Direction, now: Now) {
        if contact.0.value.addresses.is_empty() {
            return;
        }
        let proven = direction == Direction::Outbound;
        if self.book.see(contact, proven) && self.persist_at == Time::NEVER {
            self.persist_at = now.time + PERSIST_EVERY;
        }
    }

    /// Forgets a peer's addresses; returns whether it was known.
    pub(super) fn forget_peer(&mut self, peer: PeerId, now: Now) -> bool {
        let known = self.book.peers.remove(&peer).is_some();
        if known {
            self.persist_at = self.persist_at.min(now.time + PERSIST_EVERY);
        }
        known
    }

    pub(super) fn listening(&mut self, addresses: Vec<Address>, now: Now) {
        let mut addresses = addresses;
        addresses.truncate(ADDRESSES_MAX);
        if addresses != self.addresses {
            self.addresses = addresses;
            self.renew_contact(now);
        }
    }

    pub(super) fn tick_book(&mut self, now: Now) {
        if self.renew_at <= now.time {
            self.renew_contact(now);
        }
        if self.persist_at <= now.time {
            self.persist_at = Time::NEVER;
            self.outputs.push_back(Output::PersistAddressBook);
        }
    }

    fn renew_contact(&mut self, now: Now) {
        self.renew_at = now.time + DESCRIPTOR_RENEWED;
        self.contact = issue(&self.keypair, &self.addresses, self.roles, now);
        self.tell_dht_of_me(now);
        self.tell_store_of_me(now);
        let topics: Vec<_> = self.swarms.keys().copied().collect();
        for topic in topics {
            self.tell_swarm(topic, swarm::Input::SetMe(self.contact.clone()), now);
        }
        let peers: Vec<PeerId> = self.links.keys().copied().collect();
        for peer in peers {
            self.send_control(peer, encode_hello(Some(&self.contact)));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weft_overlay::UnixMicros;

    use super::*;

    fn contact(who: u16) -> PeerContact {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&who.to_be_bytes());
        let address = Address::new(Bytes::from(seed.to_vec())).expect("a short address");
        let now = Now {
            time: Time::ZERO,
            unix: UnixMicros(1),
        };
        issue(
            &Keypair::from_seed(&seed),
            &[address],
            Roles::default(),
            now,
        )
    }

    #[test]
    fn peers_that_dial_in_drive_out_none_that_were_reached() {
        let mut book = AddressBook::default();
        let reached = BOOK_MAX as u16 / 2;
        for who in 0..reached {
            book.see(contact(who), true);
        }
        for who in 1_000..3_000 {
            book.see(contact(who), false);
        }
        assert_eq!(book.peers.len(), usize::from(reached) + UNPROVEN_MAX);
        for who in 0..reached {
            let known = book.peers.get(&peer_of(&contact(who)));
            assert!(known.is_some_and(|known| known.proven));
        }
        // One that is reached after it dialled in counts as such, and stays so when it dials in again.
        book.see(contact(2_999), true);
        book.see(contact(2_999), false);
        assert!(book.peers[&peer_of(&contact(2_999))].proven);
    }
}
