//! Room for one more member in a group with `member-threshold`: what several servers give at the same moment must not exceed
//! it, so where another server makes the keys, that one is asked before message 4 leaves.
//!
//! ```text
//!   message 3 ── news: is there room? ──▶ leader: lists the member, or not ── news removed ──▶ message 4, or refusal
//! ```
//!
//! A server that is cut off cannot ask, and goes by the list as it knows it. Nor is it asked for who is on the list already.

use std::sync::Arc;

use super::Cooperating;
use crate::path::Path;
use crate::server::durable::{News, Registered};
use crate::server::group::{Group, Offer};
use crate::server::members::Registration;
use crate::time::Instant;

/// A member that is about to register.
pub(in crate::server) struct Newcomer<'a> {
    pub(in crate::server) gateway: &'a Arc<str>,
    pub(in crate::server) path: Path,
    /// Whether it showed our vendor id.
    pub(in crate::server) ours: bool,
    /// What it is given.
    pub(in crate::server) offer: &'a Offer,
}

impl Newcomer<'_> {
    /// Its registration at the server of that name.
    pub(in crate::server) fn registered(&self, now: Instant, server: Arc<str>) -> Registered {
        let registration = Registration {
            path: self.path,
            server,
            ours: self.ours,
            kek: self.offer.kek,
            keys_until: self.offer.template.last_expiry(),
        };
        let gateway = Arc::clone(self.gateway);
        Registered { gateway, registration, rekey: self.offer.rekey, at: now }
    }
}

/// Whether a member may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Admission {
    Admitted,
    /// The group has as many members as it may have.
    Full,
    /// The server that makes the keys is being asked.
    Asked,
}

impl Group {
    /// Whether a member that proved to be live may register. `asked`: the leader was asked for it before.
    pub(in crate::server) fn admit(
        &mut self,
        now: Instant,
        newcomer: &Newcomer<'_>,
        asked: bool,
        isolated: bool,
    ) -> Admission {
        let remote = newcomer.path.remote;
        let decides = !self.follows() || isolated || self.settings.member_threshold.is_none();
        if decides {
            return if self.has_room_for(now, remote) { Admission::Admitted } else { Admission::Full };
        }
        if self.members.is_registered(remote) {
            return Admission::Admitted;
        }
        let server = self.server_name();
        let Some(cooperating) = &mut self.cooperating else { return Admission::Full };
        if cooperating.wants_room.contains(&remote) {
            return Admission::Asked;
        }
        if asked {
            return Admission::Full;
        }
        cooperating.news.push(News::WantsRoom(newcomer.registered(now, server)));
        cooperating.wants_room.insert(remote);
        Admission::Asked
    }

    /// The leader is asked for room. If there is some, the member is on the list from now on.
    pub(super) fn make_room_for(&mut self, now: Instant, newcomer: Registered) {
        if self.has_room_for(now, newcomer.registration.path.remote) {
            self.take_in_registration(now, newcomer);
        }
    }
}

impl Cooperating {
    /// The leader was asked for room, by anybody.
    pub(super) fn note_question(&mut self, news: &News) {
        if let News::WantsRoom(newcomer) = news {
            self.wants_room.insert(newcomer.registration.path.remote);
        }
    }

    /// It has answered: what it decided is in the list.
    pub(super) fn note_answer(&mut self, news: &News) {
        if let News::WantsRoom(newcomer) = news {
            self.wants_room.remove(&newcomer.registration.path.remote);
        }
    }
}
