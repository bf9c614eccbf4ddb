//! What neighbours claim: how they are asked, told and remembered.

use crate::{Contact, Now, RequestId};

use super::super::claim::{Claim, Known, Region};
use super::super::config::RETRY;
use super::super::disk::{Then, Write};
use super::super::messages::{Answer, Query};
use super::super::view::Member;
use super::super::{Purpose, Store};
use super::Stage;

impl<C: Contact> Store<C> {
    /// Tells a peer this node's claim, and asks for the peer's.
    pub(in crate::store) fn ask_claim(&mut self, peer: C::Peer, now: Now) {
        let claim = match &self.fill.stage {
            Stage::Tells { claim, .. } | Stage::Keeps(claim) => Some(claim.clone()),
            Stage::Reads {
                claim, told: true, ..
            } => Some(claim.clone()),
            Stage::Idle | Stage::Reads { .. } => self.members.own().map(|own| own.claim().clone()),
        };
        let Some(contact) = self.members.get(peer).map(|member| member.contact.clone()) else {
            return;
        };
        if self.fill.asking.insert(peer) {
            let query = Query::Claim {
                contact: self.members.contact().clone(),
                claim,
                leaving: self.members.leaving(),
            };
            self.ask(&contact, query, Purpose::Claim, now);
        } else {
            // What was sent may be older than this.
            self.fill.again.insert(peer);
        }
    }

    pub(in crate::store) fn on_claim(
        &mut self,
        from: C::Peer,
        request: RequestId,
        contact: C,
        claim: Option<Claim<C::Peer>>,
        leaving: bool,
        now: Now,
    ) {
        let good = contact.peer() == from && claim.as_ref().is_none_or(Claim::is_well_formed);
        if !good {
            self.misbehaved(from, "a claim that is none");
            self.unable(from, request);
            return;
        }
        self.appeared(contact.clone(), now);
        let Some(member) = self.members.get_mut(from) else {
            // There are as many neighbours as may be.
            self.unable(from, request);
            return;
        };
        if member.leaving != leaving {
            member.leaving = leaving;
            self.fill_soon(now);
        }
        if let Some(claim) = &claim {
            self.on_taking(from, claim, now);
        }
        match claim {
            Some(claim) if self.is_news(from, &claim) => {
                if !self.paces.may_claim(from, now.time) {
                    self.counters.held_back += 1;
                    self.unable(from, request);
                    return;
                }
                let then = Then::AnswerClaim(from, request);
                self.disk.write(Write::Claim(contact, claim), then);
            }
            Some(_) | None => self.answer_claim(from, request, true),
        }
    }

    fn is_news(&self, peer: C::Peer, claim: &Claim<C::Peer>) -> bool {
        let known = self.members.get(peer).and_then(|m| m.region.as_ref());
        known.is_none_or(|known| {
            let known = known.claim();
            claim.round > known.round || claim.round == known.round && claim != known
        })
    }

    pub(in crate::store) fn answer_claim(&mut self, to: C::Peer, request: RequestId, kept: bool) {
        if !kept {
            self.unable(to, request);
            return;
        }
        let answer = Answer::Claim {
            claim: self.members.own().map(|own| own.claim().clone()),
            // Not what it has just told: it must learn whether it was forgotten, however often it asks.
            yours: self.members.get(to).map_or(0, Member::remembered),
            leaving: self.members.leaving(),
        };
        self.answer(to, request, answer);
    }

    /// Takes a claim that is on disk.
    pub(in crate::store) fn adopt_claim(&mut self, peer: C::Peer, claim: Claim<C::Peer>, now: Now) {
        if peer == self.members.me() {
            self.members.set_own(claim);
            let others: Vec<C::Peer> = self.members.iter().map(|(peer, _)| peer).collect();
            for other in others {
                self.note(other);
            }
            return;
        }
        let known = self.members.own().and_then(|own| own.claim().of(peer));
        let is_known = known.is_some_and(|known| !known.gone && known.round >= claim.round);
        if self.is_news(peer, &claim)
            && let Some(member) = self.members.get_mut(peer)
        {
            if member.region.is_none() && !is_known {
                member.unheard = Some(claim.round);
            }
            member.region = Some(Region::new(peer, claim));
            self.note(peer);
            self.fill_soon(now);
            self.check_left();
        }
    }

    /// Notes in this node's claim that a peer claims something: its region becomes smaller by that.
    pub(super) fn note(&mut self, peer: C::Peer) {
        let Some(round) = self.members.get(peer).map(Member::round) else {
            return;
        };
        let Some(own) = self.members.own_mut().filter(|_| round > 0) else {
            return;
        };
        match own.claim().of(peer) {
            Some(known) if known.round >= round => {}
            Some(known) => {
                let known = Known {
                    round,
                    // It has been filled since.
                    gone: false,
                    ..*known
                };
                own.note(known);
            }
            None => own.note(Known {
                peer,
                round,
                gone: false,
                // It came later: what was acknowledged before didn't need it.
                reached: true,
                before: true,
            }),
        }
    }

    pub(in crate::store) fn on_claim_answer(&mut self, from: C::Peer, answer: Answer<C>, now: Now) {
        self.fill.asking.remove(&from);
        let Answer::Claim {
            claim,
            yours,
            leaving,
        } = answer
        else {
            self.on_claim_failed(from, now);
            return;
        };
        if let Some(member) = self.members.get_mut(from) {
            member.leaving = leaving;
        }
        let own = self.members.own().map_or(0, |own| own.claim().round);
        self.fill.heard = self.fill.heard.max(yours);
        if !self.members.recovered() && claim.is_some() && yours < own {
            self.fill.forgotten = true;
        }
        if yours > own && self.fill.is_idle() {
            // Its disk has lost what this node claimed, and so perhaps more.
            self.members.unsettle();
        }
        if let Some(claim) = &claim {
            self.on_taken(from, claim);
        }
        let contact = self.members.get(from).map(|member| member.contact.clone());
        let news = claim.filter(|claim| claim.is_well_formed() && self.is_news(from, claim));
        if let Some((contact, claim)) = contact.zip(news) {
            self.disk.write(Write::Claim(contact, claim), Then::Nothing);
        }
        self.on_told(from, true, now);
        if self.fill.again.remove(&from) {
            self.ask_claim(from, now);
        }
        self.fill_soon(now);
    }

    pub(in crate::store) fn on_claim_failed(&mut self, peer: C::Peer, now: Now) {
        self.fill.asking.remove(&peer);
        self.fill.again.remove(&peer);
        self.on_told(peer, false, now);
        if self.members.is_alive(peer) {
            self.fill.again.insert(peer);
            self.fill.wake = self.fill.wake.min(now.time + RETRY);
        }
    }
}
