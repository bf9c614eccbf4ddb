//! What comes from links.

use std::sync::Arc;

use weft_core::{DialError, DownReason, Input, KadQueryId};

use super::{Actor, Linked, STOP_SLACK};
use crate::links::{KadQuery, Link, LinkEvent, ReadFrames, Up, Waiting};

impl Actor {
    /// Tells the core how its links stand, where that has changed.
    pub(super) fn tell_links(&mut self) {
        let now = self.clock.now();
        for (&peer, linked) in &mut self.peers {
            let heard = linked.link.take_heard();
            let waiting = linked.link.waiting();
            let told = linked.told.replace(waiting);
            let is_told =
                |told: Waiting| (told.data, told.repair) == (waiting.data, waiting.repair);
            if !heard && told.is_some_and(is_told) {
                continue;
            }
            let state = Input::LinkState {
                peer,
                heard,
                data_bytes: waiting.data,
                repair_bytes: waiting.repair,
            };
            self.core.handle(state, now);
        }
    }

    pub(super) fn on_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Listening(addresses) => self.tell(Input::Listening(addresses)),
            LinkEvent::Up(up) => self.on_up(up),
            LinkEvent::Frames(frames) => self.on_frames(frames),
            LinkEvent::Ended(link) => self.on_ended(&link),
            LinkEvent::Dialled { dial, peer } => self.tell(Input::Dialled { dial, peer }),
            LinkEvent::DialFailed { dial, error } => {
                if let DialError::WrongNetwork(_) = error {
                    self.core.count("wrong_network");
                }
                self.tell(Input::DialFailed { dial, error });
            }
            LinkEvent::KadQuery(query) => self.on_kad_query(query),
            LinkEvent::KadAnswer {
                peer,
                request,
                met_at,
                message,
            } => self.tell(Input::KadAnswer {
                peer,
                request,
                met_at,
                message,
            }),
            LinkEvent::KadFailed { peer } => self.tell(Input::KadFailed { peer }),
            LinkEvent::KadRefused { peer, error } => {
                self.core.count("kad_refused");
                if self.log.is_new("kad", peer.to_string()) {
                    tracing::warn!(%peer, %error, "a peer's kad stream is reset");
                }
            }
            LinkEvent::Stranger { peer, network } => {
                self.core.count("wrong_network");
                if self.log.is_new("stranger", peer.to_string()) {
                    tracing::warn!(%peer, theirs = network, "a peer of another network dialled and is refused");
                }
            }
        }
    }

    fn on_kad_query(&mut self, query: KadQuery) {
        self.kad_queries += 1;
        let id = KadQueryId(self.kad_queries);
        self.kad_replies.insert(id, query.reply);
        self.tell(Input::KadQuery {
            query: id,
            peer: query.peer,
            addresses: query.addresses,
            message: query.message,
        });
    }

    fn on_up(&mut self, up: Up) {
        let peer = up.link.peer();
        if let Some(old) = self.peers.get(&peer) {
            // Its reader has not said so yet, and what it still brings is of a dead link.
            let old = old.link.clone();
            self.down(&old);
        }
        if self.stop_by.is_some() {
            up.link.close(STOP_SLACK);
        }
        let linked = Linked {
            link: up.link,
            told: Some(Waiting::default()),
            is_dirty: false,
        };
        self.peers.insert(peer, linked);
        self.tell(Input::LinkUp {
            peer,
            direction: up.direction,
            address: up.address,
            transport: up.transport,
        });
    }

    fn on_frames(&mut self, read: ReadFrames) {
        let peer = read.link.peer();
        if self.is_current(&read.link) {
            for _ in 0..read.forged {
                self.core.count("forged");
            }
            if read.forged > 0 && self.log.is_new("forged", peer.to_string()) {
                tracing::warn!(%peer, "frames with a forged signature are dropped; the peer passes on what it did not check");
            }
            if read.slowed {
                self.core.count("links_slowed");
                if self.log.is_new("slowed", peer.to_string()) {
                    tracing::warn!(%peer, "a peer floods this node with frames and is read more slowly");
                }
            }
            let now = self.clock.now();
            for frame in read.frames {
                self.tell_at(Input::Frame { peer, frame }, now);
            }
        }
        read.link.taken(read.cost);
    }

    fn on_ended(&mut self, link: &Arc<Link>) {
        if self.is_current(link) {
            self.down(link);
        }
    }

    fn down(&mut self, link: &Arc<Link>) {
        let peer = link.peer();
        let reason = link.reason();
        tracing::debug!(%peer, ?reason, "link down");
        if let DownReason::BadFrame(what) = &reason
            && self.log.is_new("bad frame", peer.to_string())
        {
            tracing::warn!(%peer, what, "a peer sent a malformed frame and is dropped");
        }
        self.peers.remove(&peer);
        self.tell(Input::LinkDown { peer, reason });
    }

    fn is_current(&self, link: &Link) -> bool {
        let current = self.peers.get(&link.peer());
        current.is_some_and(|linked| linked.link.id() == link.id())
    }
}
