//! What lookups of topics' points have shown of who is where: a lookup finds everybody around its point, and so whoever is closest to
//! other topics that lie there.
//!
//! A member of hundreds of topics in a network of hundreds of nodes would ask everybody there is many times over otherwise.

use std::collections::VecDeque;
use std::time::Duration;

use weft_dht::table::K;
use weft_dht::{Contact as _, Peer as _, Point};
use weft_identity::PeerId;
use weft_overlay::{Now, Time};

use crate::core::peer_of;
use crate::keeping::MET;
use crate::{KadContact, PeerContact};

/// How many are remembered (a guess: a network of a thousand nodes has about so many).
const NEIGHBOURHOODS_MAX: usize = 64;
/// How long what a lookup has shown stands for another: whoever subscribes to many topics at once does so within it, and who joins the
/// network meanwhile has hardly become a keeper yet. A guess.
const LASTS: Duration = Duration::from_secs(60);

/// All who are in one part of the key space.
#[derive(Debug)]
struct Neighbourhood {
    around: Point,
    /// Points that share so many leading bits with `around` lie in it.
    shared: u32,
    /// Its nodes that keep things: enough for any topic.
    stores: Vec<PeerContact>,
    seen_at: Time,
}

/// The neighbourhoods that lookups have shown lately.
#[derive(Debug, Default)]
pub(super) struct Neighbourhoods {
    seen: VecDeque<Neighbourhood>,
}

impl Neighbourhoods {
    /// Notes whom a lookup that came to its end has found around its point, the closest first.
    pub(super) fn note(&mut self, around: Point, closest: &[KadContact], now: Now) {
        let shared_by = |contact: &KadContact| contact.peer().point().shared_prefix(around);
        // Beyond the farthest of them others may stand that share as many bits as it does.
        let Some(farthest) = closest.last().filter(|_| closest.len() >= K) else {
            return;
        };
        let shared = shared_by(farthest) + 1;
        let within = closest
            .iter()
            .filter(|it| it.stores() && shared_by(it) >= shared);
        let stores: Vec<_> = within.filter_map(|it| it.descriptor().cloned()).collect();
        if stores.len() < MET {
            return;
        }
        self.seen
            .retain(|it| it.around.shared_prefix(around) < shared);
        if self.seen.len() >= NEIGHBOURHOODS_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Neighbourhood {
            around,
            shared,
            stores,
            seen_at: now.time,
        });
    }

    /// Returns those closest to a point, the closest first, if it was seen lately who is there.
    pub(super) fn closest(&self, point: Point, now: Now) -> Option<Vec<PeerContact>> {
        let seen = self.seen.iter().rev().find(|it| {
            it.around.shared_prefix(point) >= it.shared && now.time.since(it.seen_at) < LASTS
        })?;
        let mut closest = seen.stores.clone();
        closest.sort_by_key(|contact| peer_of(contact).point() ^ point);
        closest.truncate(MET);
        Some(closest)
    }

    /// Forgets a peer that has not answered. Where too few are left, who is there is to be looked up again.
    pub(super) fn forget(&mut self, peer: PeerId) {
        for it in &mut self.seen {
            it.stores.retain(|contact| peer_of(contact) != peer);
        }
        self.seen.retain(|it| it.stores.len() >= MET);
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::Keypair;
    use weft_overlay::UnixMicros;

    use super::*;
    use crate::core::book::issue;
    use crate::{KadPeer, Roles};

    fn at(secs: u64) -> Now {
        Now {
            time: Time::from_micros(secs * 1_000_000),
            unix: UnixMicros(1),
        }
    }

    /// A network of servers that keep things.
    fn network(count: u16) -> Vec<KadContact> {
        let contact = |n: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&n.to_le_bytes());
            let key = Keypair::from_seed(&seed);
            let contact = issue(&key, &[], Roles::SERVER, at(0));
            KadContact::new(KadPeer::Signed(contact), UnixMicros(1))
        };
        (0..count).map(contact).collect()
    }

    /// The closest to a point, as a lookup finds them.
    fn closest(network: &[KadContact], point: Point, count: usize) -> Vec<KadContact> {
        let mut closest = network.to_vec();
        closest.sort_by_key(|contact| contact.peer().point() ^ point);
        closest.truncate(count);
        closest
    }

    fn peers<'a>(contacts: impl IntoIterator<Item = &'a PeerContact>) -> Vec<PeerId> {
        contacts.into_iter().map(peer_of).collect()
    }

    #[test]
    fn few_lookups_show_who_is_closest_to_many_points_and_show_it_right() {
        let network = network(200);
        let mut known = Neighbourhoods::default();
        let mut lookups = 0;
        for n in 0..=255 {
            let point = Point::of(&[n]);
            let truly = closest(&network, point, K);
            match known.closest(point, at(0)) {
                Some(shown) => {
                    let truly: Vec<_> = truly[..MET].iter().map(KadContact::peer).collect();
                    assert_eq!(peers(&shown), truly);
                }
                None => {
                    lookups += 1;
                    known.note(point, &truly, at(0));
                }
            }
        }
        assert!(lookups < 64, "{lookups} lookups for 256 points");
        assert!(known.seen.len() <= lookups);
    }

    #[test]
    fn what_was_seen_is_forgotten_in_time_and_where_peers_do_not_answer() {
        let network = network(40);
        let point = Point::of(b"here");
        let mut known = Neighbourhoods::default();
        known.note(point, &closest(&network, point, K - 1), at(0));
        assert!(known.closest(point, at(0)).is_none(), "others may be there");
        known.note(point, &closest(&network, point, K), at(0));
        let shown = known.closest(point, at(59)).unwrap();
        assert!(known.closest(point, at(60)).is_none());
        let first = peers(&shown)[0];
        known.forget(first);
        let shown = known.closest(point, at(1));
        assert!(shown.is_none_or(|shown| !peers(&shown).contains(&first)));
        for contact in &network {
            known.forget(contact.peer());
        }
        assert!(known.seen.is_empty(), "none of them has enough left");
    }

    #[test]
    fn so_many_are_remembered_the_newest_of_them() {
        let network = network(2_000);
        let mut known = Neighbourhoods::default();
        for n in 0..=255 {
            let point = Point::of(&[n]);
            known.note(point, &closest(&network, point, K), at(u64::from(n)));
            assert!(known.seen.len() <= NEIGHBOURHOODS_MAX);
        }
        assert_eq!(known.seen.len(), NEIGHBOURHOODS_MAX, "there are more");
        let newest = known.seen.iter().map(|it| it.seen_at).max();
        assert!(newest > Some(at(200).time), "{newest:?}");
    }
}
