//! Links that swarms share: a node in many swarms has as many links as it wants, and then they choose among these.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weft_identity::PeerId;
use weft_overlay::hyparview::{Links, Room};
use weft_overlay::{Now, swarm};

use super::Core;
use super::links::Link;

/// Links that a node wants for all its swarms. Of a swarm with fifty members in a network of two hundred, eight are at the other ends
/// of so many: enough for five neighbours, and for the swarm to hang together. Some more come from others, and for questions.
const LINKS_WANTED: usize = 32;
/// From how many on those that there are come first: half, so that the others are left for swarms that need them.
const LINKS_MANY: usize = 16;
/// How long a link that was made for a swarm counts though it is no neighbour's yet: the request is answered by then.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);

/// What swarms know of links.
#[derive(Debug, Default)]
pub(super) struct Shared {
    told: Arc<Links<PeerId>>,
    /// Whether links have come or gone since.
    has_moved: bool,
}

impl Link {
    /// Returns whether a swarm needs it, or may in a moment.
    fn is_shared(&self, now: Now) -> bool {
        let begins = self
            .made_for_swarm_at
            .is_some_and(|at| now.time.since(at) < BEGINS_WITHIN);
        self.is_alive() && (begins || !self.neighbour_in.is_empty())
    }
}

impl Core {
    /// A link has come to be a swarm's, or is none's any more.
    pub(super) fn links_moved(&mut self) {
        self.shared.has_moved = true;
    }

    /// Tells swarms whom this node is linked with for them, if that is many or just was.
    pub(super) fn tell_links(&mut self, now: Now) {
        if !std::mem::take(&mut self.shared.has_moved) {
            return;
        }
        let links = self.links.iter().filter(|(_, link)| link.is_shared(now));
        let dials = self.pending.iter().filter(|(_, dial)| dial.is_for_swarm());
        let peers = links
            .map(|(peer, _)| *peer)
            .chain(dials.map(|(peer, _)| *peer));
        let peers: BTreeSet<_> = peers.collect();
        let room = match peers.len() {
            LINKS_WANTED.. => Room::None,
            LINKS_MANY.. => Room::Little,
            _ => Room::Free,
        };
        let links = Links { peers, room };
        let is_free = room == Room::Free && self.shared.told.room == Room::Free;
        if is_free || links == *self.shared.told {
            return;
        }
        self.shared.told = Arc::new(links);
        for topic in self.swarms.keys().copied().collect::<Vec<_>>() {
            let links = Arc::clone(&self.shared.told);
            self.tell_swarm(topic, swarm::Input::Links(links), now);
        }
    }

    /// Returns what to tell a swarm that is opened now.
    pub(super) fn links_told(&self) -> Option<Arc<Links<PeerId>>> {
        let told = &self.shared.told;
        (told.room != Room::Free).then(|| Arc::clone(told))
    }
}
