//! What must hold at every moment of every world. Written before the runs; a run that fails is a defect of the protocol
//! roles (or of this page, which then has to be argued with first).
//!
//! # Who is owed a key
//!
//! "A member is owed a key if a datagram each way could pass between it and one of its servers in each of three
//! consecutive retry periods before the senders' switch; nobody may send with a key that an owed member lacks."
//!
//! - A *retry period* is what the timeline lets a member wait before it tries again: min(10 s, F/12), the longest of the
//!   group's TEKs if they differ; 10 s for a member that never had a key. Periods are counted as they were when they passed.
//! - *Could pass* is decided by what the network did, not by its rates: in that period both were running and reachable
//!   throughout, and each way, of the datagrams that were sent, at least one passed ([`Touch`](crate::touch)). A period
//!   in which nobody sent anything is a good one: silence is no excuse.
//! - The periods count from when the member itself has to ask at the latest: when, of the TEKs it holds, the first of
//!   those that end last for their `ipsec-sa` has only Rlo left, and not before the key was made. A member without any
//!   TEK has to ask at once, from when its interface came up or its keys were cleared; one whose server has taken them all
//!   back (Delete), within the spread J.
//!   A key that its server will not succeed counts for that only while the member holds nothing else: it was not told.
//! - Three periods are enough for the two round trips of GROUPKEY-PULL under a phase 1 SA that both ends have held all
//!   that time. A member without one needs three round trips more, and two tries to find out that the server has
//!   forgotten the one it has: [`PERIODS_WITH_PHASE_1`].
//! - The periods need not be the last ones before the switch: any three in a row, once they have passed, oblige for
//!   as long as the key lives. This is more than the sentence above asks.
//! - A member that is not authorized any more is owed nothing, and one whose interface is down has no traffic.
//! - With several servers nothing is owed yet, because they share no keys yet; see [`PERIODS_ELSEWHERE`]. They do not push
//!   either: what one pushes would end what another gave (a DTD names no key).
//!
//! By a push group's pushes a member is owed a key earlier: three rounds of `retransmission-period` in which nothing
//! between both was lost (a round of each `ipsec-sa` is a message of its own; of those sent at one moment only the last
//! is sure not to be overtaken, which takes turns: so it is as many rounds as `ipsec-sa`s and one, if that is more), while it
//! holds a KEK that its server has too and is on the active list, and the key is not one that an eviction made. Rounds go on until
//! the switch, so three that come after it oblige to nothing: who was cut off all that time sees ESP that it cannot read, and asks. What an
//! eviction made it is owed after three rounds (the Delete), the spread J, and a registration.
//!
//! # The last seconds of a key
//!
//! All senders switch when the old key has S left, and wire seconds are rounded down and counted from a question that may
//! have been asked again: two tries of F/12 each, and a second, are never more than S. So a member that has had a key
//! holds it until S before its end, without any exception (`judge.rs`), and whoever holds the successor sends with it
//! by then (`check_switched`). What a sender that was cut off at the switch sends in those last S, having no better key,
//! may be lost: it is not connected, and the only remedy would be to keep keys beyond their lives.
//!
//! # A push that an attacker holds back
//!
//! Nothing in a GROUPKEY-PUSH of RFC 6407 tells its age, so a member that has missed the rounds counts the lives in one that
//! an attacker brings later from its arrival. What such a member holds may end as much later as that push was old
//! (`Watched::held_back`), TEK or KEK, and never more: everything else that it holds is judged as ever.
//!
//! # A server that starts anew
//!
//! In some worlds it finds what it has kept ([`proto::server::Server::restored`]), with every datagram that it had not
//! kept the reasons of lost: its keys go on, and so do its debts. In the others it makes new keys and knows nobody. Members that hold keys of its earlier life go on
//! with them and learn of the new ones when they have to ask, as above. The old keys have ended at their server with
//! its life: they may be used to their announced ends, but nobody is owed them any more.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proto::server::Server;
use proto::time::Instant;
use proto::timeline::{EVICTION_SPREAD, Timeline};

use crate::keys::{Cookies, Key, Keys, READING};
use crate::parties::{Host, Parties, member_address};
use crate::plan::Plan;
use crate::scenario::Communication;
use crate::watched::Watched;

/// Consecutive retry periods in touch after which a member with a phase 1 SA is owed what it asks for.
pub(crate) const PERIODS: u32 = 3;

/// The same for a member that has to open a phase 1 SA first: three round trips more, and two tries before.
pub(crate) const PERIODS_WITH_PHASE_1: u32 = PERIODS + 3 + 2;

/// Where there are several servers: retry periods after which a member has some key for everything. Three tries at
/// each of three others, and a registration.
pub(crate) const PERIODS_ELSEWHERE: u32 = 3 * 3 + PERIODS_WITH_PHASE_1;

/// How far a member's reading of a moment may be before the server's: rounding, and two tries between its question and
/// the answer. It is never after.
fn early(interval: Duration) -> Duration {
    READING + 2 * interval + Duration::from_millis(500)
}

/// What different quartzes make of ten minutes.
const DRIFT: Duration = Duration::from_millis(150);

/// The end of a key's life in which nobody is owed it any more, because all who are in touch have switched.
pub(crate) fn last_seconds(key: &Key) -> Duration {
    Timeline::pull(key.lifetime).switch + DRIFT
}

/// Everything that a judgement needs.
pub(crate) struct Court<'a> {
    pub(crate) now: Instant,
    pub(crate) plan: &'a Plan,
    pub(crate) keys: &'a Keys,
    pub(crate) watched: &'a [Watched],
    pub(crate) parties: &'a Parties,
    /// What each server knows now, asked for when it is first needed: it is long where there are many members.
    books: Vec<OnceCell<Books>>,
}

/// What a server knows.
struct Books {
    keks: BTreeSet<Cookies>,
    /// Phase 1 SAs.
    phase1: BTreeSet<Cookies>,
    /// Addresses of members that are on the active list.
    active: BTreeSet<IpAddr>,
}

impl Books {
    fn of(host: &Host<Server>, now: Instant) -> Self {
        let local = host.local(now);
        let (keks, associations) =
            (host.role.kek_security_associations(local), host.role.ike_security_associations(local));
        let groups = host.role.registered_members(local);
        let active = |member: &&control::RegisteredMember| member.state == control::MemberState::Active;
        Self {
            keks: keks.iter().map(|kek| [kek.initiator_cookie.0, kek.responder_cookie.0]).collect(),
            phase1: associations.iter().map(|sa| [sa.initiator_cookie.0, sa.responder_cookie.0]).collect(),
            active: groups
                .iter()
                .flat_map(|group| group.members.iter().filter(active))
                .map(|member| member.address)
                .collect(),
        }
    }
}

impl<'a> Court<'a> {
    pub(crate) fn new(
        now: Instant,
        plan: &'a Plan,
        keys: &'a Keys,
        watched: &'a [Watched],
        parties: &'a Parties,
    ) -> Self {
        let books = parties.servers.iter().map(|_| OnceCell::new()).collect();
        Self { now, plan, keys, watched, parties, books }
    }

    fn books(&self, server: usize) -> &Books {
        self.books[server].get_or_init(|| Books::of(&self.parties.servers[server], self.now))
    }

    /// Invariant 6 for one key that is used: every member that is owed it holds it.
    pub(crate) fn check_key(&self, spi: u32, up: &crate::bits::Bits) -> Result<(), String> {
        let Some(key) = self.keys.find(spi) else { return Ok(()) };
        for member in up.without(&key.holders) {
            self.check_lack(member, spi, key)?;
        }
        Ok(())
    }

    /// Invariant 6 for one member that lacks a key which somebody uses.
    pub(crate) fn check_lack(&self, member: usize, spi: u32, key: &Key) -> Result<(), String> {
        if key.lasts - self.now <= last_seconds(key) || !self.is_owed(member, key) {
            return Ok(());
        }
        let sender = key.senders.first();
        Err(format!(
            "member {member} lacks {spi:08x} of {} (made {:?} ago, {:?} left), which {} uses; it has been in touch \
             since {:?} ago",
            key.sa,
            self.now - key.made,
            key.ends - self.now,
            sender.map_or("everybody".to_owned(), |sender| format!("member {sender}")),
            self.now - self.watched[member].touch[key.server].good(self.now).0,
        ))
    }

    fn is_owed(&self, member: usize, key: &Key) -> bool {
        let watched = &self.watched[member];
        if self.parties.servers.len() > 1
            || !self.plan.authorized.contains(member)
            || watched.up_since.is_none()
        {
            return false;
        }
        if !key.replaces && self.is_owed_by_pull(member, watched, key) {
            return true;
        }
        if !self.plan.pushes() {
            return false;
        }
        let since = key.made.max(watched.began);
        let touch = &watched.push_touch[key.server];
        let needed = PERIODS.max(self.plan.sas.len() as u32 + 1);
        // There are no rounds after the switch.
        if touch.periods_between(self.now, since, key.activates) < needed {
            return false;
        }
        if key.replaces {
            let touch = &watched.touch[key.server];
            let wait = self.plan.round_period() * (PERIODS + 1) + EVICTION_SPREAD;
            touch.periods_since(self.now, since + wait) >= PERIODS_WITH_PHASE_1
        } else {
            self.has_kek_in_common(member, key.server) && self.is_active(member, key.server)
        }
    }

    /// Whether member and server have a KEK that both use.
    fn has_kek_in_common(&self, member: usize, server: usize) -> bool {
        let member = &self.parties.members[member];
        let ours = member.role.kek_security_associations(member.local(self.now));
        let theirs = &self.books(server).keks;
        ours.iter().any(|kek| theirs.contains(&[kek.initiator_cookie.0, kek.responder_cookie.0]))
    }

    /// Whether the server pushes to a member.
    fn is_active(&self, member: usize, server: usize) -> bool {
        self.plan.communication == Communication::Multicast
            || self.books(server).active.contains(&member_address(member))
    }

    /// Whoever holds a successor sends with it once its predecessor has only seconds left.
    pub(crate) fn check_switched(&self, server: usize) -> Result<(), String> {
        let late = early(self.plan.try_interval());
        for (spi, key) in
            self.keys.current(self.now, server).filter(|(_, key)| key.activates + late < self.now)
        {
            let older = self.keys.iter().filter(|(_, older)| {
                (older.server, &older.sa, &older.policies) == (server, &key.sa, &key.policies)
                    && older.activates < key.activates
            });
            for (old, older) in older {
                let both = older.senders.iter().find(|member| {
                    let late = late + self.watched[*member].held_back;
                    key.holders.contains(*member)
                        && !key.senders.contains(*member)
                        && key.activates + late < self.now
                });
                if let Some(member) = both {
                    return Err(format!(
                        "member {member} still sends with {old:08x}, {:?} after the switch to {spi:08x}",
                        self.now - key.activates
                    ));
                }
            }
        }
        Ok(())
    }

    /// A member holds no KEK that its server never had, nor beyond its end.
    pub(crate) fn check_keks(&self, member: usize) -> Result<(), String> {
        let host = &self.parties.members[member];
        for kek in host.role.kek_security_associations(host.local(self.now)) {
            let end = self.keys.end_of_kek([kek.initiator_cookie.0, kek.responder_cookie.0]);
            let late = READING + self.watched[member].held_back;
            if end.is_none_or(|end| end + late < self.now) {
                return Err(format!("member {member} holds a KEK whose end was {end:?}"));
            }
        }
        Ok(())
    }

    fn is_owed_by_pull(&self, member: usize, watched: &Watched, key: &Key) -> bool {
        let since = self.asks_at(watched).max(key.made).max(watched.began).max(watched.spread_until);
        let touch = &watched.touch[key.server];
        let periods = touch.periods_since(self.now, since);
        if periods < PERIODS {
            return false;
        }
        let needed = touch.period() * PERIODS;
        periods >= PERIODS_WITH_PHASE_1 || self.phase1_age(member, key.server).is_some_and(|age| age > needed)
    }

    /// When a member has to ask its server at the latest, with what it holds.
    ///
    /// For a key that its server will not succeed it does not ask, unless it has nothing else: then it was not told.
    fn asks_at(&self, watched: &Watched) -> Instant {
        let mut last: Vec<(&str, Instant)> = Vec::new();
        let mut retired = None;
        for sa in watched.data_path.live(self.now) {
            let Some(key) = self.keys.find(sa.spi) else { continue };
            let asks = sa.ends - Timeline::pull(key.lifetime).reregister_until;
            if key.retired {
                retired = retired.max(Some(asks));
                continue;
            }
            match last.iter_mut().find(|(name, _)| *name == &*key.sa) {
                Some((_, at)) => *at = asks.max(*at),
                None => last.push((&key.sa, asks)),
            }
        }
        last.into_iter().map(|(_, at)| at).min().or(retired).unwrap_or_default()
    }

    /// How old the oldest phase 1 SA is that both ends hold.
    fn phase1_age(&self, member: usize, server: usize) -> Option<Duration> {
        let member = &self.parties.members[member];
        let ours = member.role.ike_security_associations(member.local(self.now));
        let theirs = &self.books(server).phase1;
        let common =
            ours.into_iter().filter(|sa| theirs.contains(&[sa.initiator_cookie.0, sa.responder_cookie.0]));
        common
            .filter_map(|sa| sa.detail?.lifetime_remaining_secs)
            .map(|left| self.plan.ike_lifetime().saturating_sub(Duration::from_secs(left) + READING))
            .max()
    }

    /// Invariant 4 for one member: what it holds was made by a server and is not kept longer than there, and what it
    /// sends with is active.
    pub(crate) fn check_lives(&self, member: usize) -> Result<(), String> {
        let (now, watched) = (self.now, &self.watched[member]);
        if watched.up_since.is_none() && watched.data_path.live(now).next().is_some() {
            return Err(format!("member {member} holds keys while its interface is down"));
        }
        for sa in watched.data_path.live(now) {
            let spi = sa.spi;
            let Some(key) = self.keys.find(spi) else {
                return Err(format!("member {member} holds {spi:08x}, which no server made"));
            };
            // To the second: a push is counted from its arrival.
            if sa.ends > key.announced_end + READING + watched.held_back {
                let (ends, end) = (sa.ends, key.announced_end);
                return Err(format!("member {member} keeps {spi:08x} until {ends:?}, its end is {end:?}"));
            }
            if let Some(at) = watched.evicted_at.filter(|at| *at < key.made) {
                return Err(format!("member {member}, evicted {:?} ago, has the newer {spi:08x}", now - at));
            }
        }
        for spi in &watched.sending {
            let Some(key) = self.keys.find(*spi) else { continue };
            let Some(own) = watched.data_path.live(now).find(|sa| sa.spi == *spi) else { continue };
            let others = watched.data_path.live(now).any(|other| {
                let older = self.keys.find(other.spi).is_some_and(|older| older.made < key.made);
                older && own.selectors.iter().all(|selector| other.selectors.contains(selector))
            });
            let alone = self.parties.servers.len() == 1;
            if alone && others && key.activates > now + early(self.plan.try_interval()) {
                return Err(format!(
                    "member {member} sends with {spi:08x} {:?} before its time, holding an older one",
                    key.activates - now
                ));
            }
        }
        Ok(())
    }

    /// With several servers that share nothing: a member that is in touch with all of them holds something for every
    /// `ipsec-sa`.
    pub(crate) fn check_presence(&self, member: usize) -> Result<(), String> {
        let watched = &self.watched[member];
        let Some(up_since) = watched.up_since.filter(|_| self.plan.authorized.contains(member)) else {
            return Ok(());
        };
        let since = up_since.max(watched.began).max(self.asks_at(watched));
        let undisturbed =
            watched.touch.iter().all(|touch| touch.periods_since(self.now, since) >= PERIODS_ELSEWHERE);
        if undisturbed && watched.sending.is_empty() {
            return Err(format!("member {member} has nothing to encrypt with"));
        }
        Ok(())
    }
}
