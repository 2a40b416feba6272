//! The TEKs that a VPN of the member holds: which encrypts from when, which asks for a successor when, which ends when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crypto::Hash;
use wire::selector::Selector;

use super::event::{GroupSa, Keys};
use crate::policy::{MAXIMUM_TEKS, Offer, PolicyError, ReceivedTek};
use crate::time::Instant;
use crate::timeline::{MINIMUM_LIFETIME, Timeline};

/// Two readings of the same end of life differ by rounding; a larger difference is meant.
pub(super) const ROUNDING: Duration = Duration::from_secs(2);

/// Policies of one VPN: as many as a server can tell in one message several times over.
const MAXIMUM_POLICIES: usize = 16_384;

/// TEKs remembered that have ended: more than end while a datagram may be on its way.
const ENDED: usize = 2 * MAXIMUM_TEKS;

/// Between the activations of two TEKs, so that the later one is the newer one.
const JUST_BEFORE: Duration = Duration::from_micros(1);

/// A TEK that is held.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) sa: GroupSa,
    pub(super) timeline: Timeline,
    /// Whether the last PULL named it. A server that no longer does will not succeed it either.
    pub(super) named: bool,
    /// Whether a later TEK has taken its place.
    pub(super) succeeded: bool,
    /// The TEK that a push of our own server named after this one: its successor, whatever policies it has.
    pub(super) follower: Option<u32>,
    /// Where in the window of re-registration this member stands.
    pub(super) fraction: u32,
    /// When it came.
    pub(super) since: Instant,
}

/// The TEKs of one VPN.
#[derive(Debug, Default)]
pub(super) struct SaSet {
    pub(super) held: Vec<Held>,
    /// Policies without a TEK that nothing may pass by in clear.
    pub(super) closed: Vec<Selector>,
    /// TEKs that have ended: a push that was held up on the way does not bring them back.
    pub(super) ended: VecDeque<Ended>,
}

/// What is remembered of a TEK that has ended: its SPI and a digest of its keys.
type Ended = (u32, [u8; 16]);

/// What removing TEKs does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// The TEKs that were held.
    pub(super) spis: Vec<u32>,
    /// Policies that have lost their last TEK while nobody said what is to become of them: they are closed now.
    pub(super) bereft: Vec<Selector>,
    /// Whether policies are gone with the TEK that had them: its successor has others.
    pub(super) policies_gone: bool,
}

impl SaSet {
    /// Takes what a PULL brought. `asked` is when message 1 was first sent: ends are counted from there, so that nothing
    /// ends later here than at the server. `heard` is when message 2 came: activations are counted from there, so that
    /// nothing encrypts earlier here than elsewhere. Returns the SPIs whose keys were replaced.
    pub(super) fn apply(
        &mut self,
        [asked, heard]: [Instant; 2],
        now: Instant,
        offer: &Offer,
        keys: Vec<Keys>,
        mut random: impl FnMut() -> u32,
    ) -> Vec<u32> {
        let mut earlier: BTreeMap<u32, Held> =
            std::mem::take(&mut self.held).into_iter().map(|held| (held.sa.spi, held)).collect();
        self.ended.retain(|(spi, _)| offer.teks.iter().all(|tek| tek.spi != *spi));
        let mut replaced = Vec::new();
        let mut named: Vec<Held> = Vec::with_capacity(offer.teks.len());
        for (tek, keys) in offer.teks.iter().zip(keys) {
            let mut known = earlier.remove(&tek.spi);
            if known.as_ref().is_some_and(|known| known.sa.suite != tek.suite || *known.sa.keys != keys) {
                replaced.push(tek.spi);
                known = None;
            }
            named.push(received(asked, now, tek, keys, known, &mut random));
        }
        // What a push brought after we asked may be newer than the answer, which then says nothing about it.
        let (mut unnamed, mut newer): (Vec<Held>, Vec<Held>) =
            earlier.into_values().partition(|held| held.since < asked);
        for held in &mut unnamed {
            held.named = false;
            if let Some(delay) = offer.deactivation_delay {
                held.sa.hard_expiry = held.sa.hard_expiry.min(asked + delay);
            }
        }
        unnamed.retain(|held| held.sa.hard_expiry > now);
        unnamed.sort_by_key(|held| (held.sa.hard_expiry, held.sa.spi));
        let surplus = (named.len() + newer.len() + unnamed.len()).saturating_sub(2 * MAXIMUM_TEKS);
        unnamed.drain(..surplus.min(unnamed.len()));

        activate(heard, now, offer, &mut named, &unnamed);
        for held in &mut unnamed {
            // One that waited for its turn when the server last named it has missed it.
            let named = named.iter().filter(|named| named.sa.shares_policies(&held.sa.selectors));
            if let Some(at) = named.map(|named| named.sa.activate_at).min() {
                held.sa.activate_at = held.sa.activate_at.min(at - JUST_BEFORE);
            }
        }
        keep_successors_in_use(now, named.iter_mut().chain(&mut newer).rev());
        self.held = named;
        self.held.append(&mut unnamed);
        self.held.append(&mut newer);
        self.closed.clone_from(&offer.closed);
        self.mark_succeeded();
        replaced
    }

    /// Goes on with TEKs of before a restart.
    pub(super) fn take_over(&mut self) {
        self.mark_succeeded();
    }

    /// Removes what is over.
    pub(super) fn expire(&mut self, now: Instant) -> Removed {
        self.remove(now, |held| held.sa.hard_expiry <= now)
    }

    /// Removes TEKs. What encrypts after them begins to, if it was waiting for their end.
    pub(super) fn remove(&mut self, now: Instant, condition: impl Fn(&Held) -> bool) -> Removed {
        let (gone, kept): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| condition(held));
        self.held = kept;
        let mut removed = Removed::default();
        for held in &gone {
            removed.spis.push(held.sa.spi);
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back((held.sa.spi, digest(&held.sa.keys)));
            for selector in held.sa.selectors.iter() {
                let covered = self.held.iter().any(|other| other.sa.selectors.contains(selector));
                if covered || self.closed.contains(selector) {
                    continue;
                }
                // One that the server no longer names went with its policies, and so did one whose successor has others.
                if held.succeeded || !held.named {
                    removed.policies_gone = true;
                } else {
                    removed.bereft.push(*selector);
                    self.closed.push(*selector);
                }
            }
        }
        if !gone.is_empty() {
            self.activate_orphans(now);
            self.mark_succeeded();
        }
        removed
    }

    /// Whether what a push brings fits into what a VPN may hold.
    pub(super) fn has_room_for(&self, offer: &Offer) -> Result<(), PolicyError> {
        let new = || offer.teks.iter().filter(|tek| self.held.iter().all(|held| held.sa.spi != tek.spi));
        if self.held.len() + new().count() > 2 * MAXIMUM_TEKS {
            return Err(PolicyError::TooManyTeks);
        }
        let held: usize = self.held.iter().map(|held| held.sa.selectors.len()).sum();
        let coming: usize = new().map(|tek| tek.selectors.len()).sum();
        if held + coming + self.closed.len() > MAXIMUM_POLICIES {
            return Err(PolicyError::TooManyPolicies);
        }
        Ok(())
    }

    /// Takes what a push brought: the TEKs it names, and nothing else but the predecessors of those. Its times count from
    /// `now`, when it arrived, and only ever bring an end or an activation nearer: a push that was held up extends nothing.
    /// Returns the SPIs whose keys were replaced.
    pub(super) fn apply_push(
        &mut self,
        now: Instant,
        offer: &Offer,
        keys: Vec<Keys>,
        server_is_ours: bool,
        mut random: impl FnMut() -> u32,
    ) -> Vec<u32> {
        // A push of ours with a TEK that waits is about one ipsec-sa; one without is a sign of life that names all.
        let waits = |delay: Option<Duration>| delay.is_some_and(|delay| !delay.is_zero());
        let one_ipsec_sa = server_is_ours
            && (waits(offer.activation_delay) || offer.teks.iter().any(|tek| waits(tek.activation_delay)));
        let mut replaced = Vec::new();
        let mut place = None;
        let mut previous: Option<u32> = None;
        for (tek, keys) in offer.teks.iter().zip(keys) {
            if self.ended.contains(&(tek.spi, digest(&keys))) {
                continue;
            }
            let mut position = self.held.iter().position(|held| held.sa.spi == tek.spi);
            if let Some(known) = position
                && (self.held[known].sa.suite != tek.suite || *self.held[known].sa.keys != keys)
            {
                replaced.push(tek.spi);
                self.held.remove(known);
                position = None;
            }
            let at = match position {
                Some(known) => {
                    self.held[known].shorten(now, tek);
                    known
                }
                None => {
                    // After the TEKs that have its policies, or that the push named before it, or at the end.
                    let shares = |held: &Held| held.sa.shares_policies(&tek.selectors);
                    let after = self.held.iter().rposition(shares).max(place).map(|at| at + 1);
                    let at = after.unwrap_or(self.held.len()).min(self.held.len());
                    self.held.insert(at, received(now, now, tek, keys, None, &mut random));
                    at
                }
            };
            self.held[at].named = true;
            self.activate_pushed(now, at, offer, tek, previous.filter(|_| one_ipsec_sa));
            if let Some(previous) = previous.filter(|_| one_ipsec_sa)
                && let Some(earlier) = self.held.iter_mut().find(|held| held.sa.spi == previous)
            {
                earlier.follower = Some(tek.spi);
            }
            previous = Some(tek.spi);
            place = Some(at);
        }
        //= https://www.rfc-editor.org/rfc/rfc6407#section-5.4.1
        //# The DTD defines how
        //# long after receiving new SAs that it SHOULD deactivate SAs that are
        //# destroyed by the rekey event.
        if let Some(delay) = offer.deactivation_delay {
            let named = |spi| offer.teks.iter().any(|tek| tek.spi == spi);
            for index in 0..self.held.len() {
                let held = &self.held[index];
                // What came later is not destroyed by it: messages under two KEKs overtake each other unseen.
                let follows = |(at, other): (usize, &Held)| {
                    named(other.sa.spi)
                        && (other.since, at) > (held.since, index)
                        && other.sa.hard_expiry > held.sa.hard_expiry.min(now + delay)
                        && other.sa.shares_policies(&held.sa.selectors)
                };
                if !named(held.sa.spi) && self.held.iter().enumerate().any(follows) {
                    let end = held.sa.hard_expiry.min(now + delay);
                    self.held[index].end_at(now, end);
                }
            }
        }
        let held = &self.held;
        self.closed.retain(|selector| !held.iter().any(|held| held.sa.selectors.contains(selector)));
        self.mark_succeeded();
        replaced
    }

    /// Removes everything. Returns the SPIs.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        let gone = self.spis_where(|_| true);
        let ended = std::mem::take(&mut self.ended);
        *self = Self { ended, ..Self::default() };
        gone
    }

    /// All SAs, named ones first and in the server's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// When the next SA ends.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.sa.hard_expiry).min()
    }

    /// When the member must ask for a successor; `None` if every TEK that the server still names has one.
    pub(super) fn next_registration(&self) -> Option<Instant> {
        self.held.iter().filter(|held| held.named && !held.succeeded).map(|held| held.sa.soft_expiry).min()
    }

    /// Time between two tries, as the shortest life demands.
    pub(super) fn try_interval(&self) -> Option<Duration> {
        self.held.iter().map(|held| held.timeline.try_interval()).min()
    }

    fn spis_where(&self, condition: impl Fn(&Held) -> bool) -> Vec<u32> {
        self.held.iter().filter(|held| condition(held)).map(|held| held.sa.spi).collect()
    }

    /// When a TEK that a push named starts to encrypt: at once if it has no predecessor that lives, else after its delay,
    /// or when the predecessor has the switch left.
    fn activate_pushed(
        &mut self,
        now: Instant,
        at: usize,
        offer: &Offer,
        tek: &ReceivedTek,
        previous: Option<u32>,
    ) {
        let own = &self.held[at].sa;
        if own.activate_at <= now {
            return;
        }
        let later_in_message = |spi| {
            offer.teks.iter().rposition(|other| other.spi == spi)
                > offer.teks.iter().position(|other| other.spi == own.spi)
        };
        let predecessors = self.held.iter().filter(|held| {
            held.sa.spi != own.spi
                && held.sa.hard_expiry > now
                && !later_in_message(held.sa.spi)
                && (Some(held.sa.spi) == previous || held.sa.shares_policies(&own.selectors))
        });
        let computed = match predecessors.map(|held| (held.sa.hard_expiry, held.timeline.switch)).max() {
            None => now,
            Some((end, switch)) => {
                let delay = tek.activation_delay.or(offer.activation_delay);
                delay.map_or(end - switch, |delay| now + delay).min(end).max(now)
            }
        };
        // Nor does one that comes to its last seconds take over from its successor.
        let in_use = self.held.iter().map(|held| &held.sa).filter(|sa| {
            later_in_message(sa.spi)
                && sa.activate_at <= now
                && sa.hard_expiry > own.hard_expiry
                && sa.shares_policies(&own.selectors)
        });
        let before = in_use.map(|sa| sa.activate_at - JUST_BEFORE).min();
        let own = &mut self.held[at].sa;
        own.activate_at = own.activate_at.min(before.unwrap_or(computed)).min(computed);
    }

    /// TEKs that wait for their activation although nothing else encrypts for their policies do not wait any longer.
    fn activate_orphans(&mut self, now: Instant) {
        for index in 0..self.held.len() {
            let own = &self.held[index];
            let others = |held: &Held| {
                held.sa.spi != own.sa.spi
                    && held.sa.activate_at <= own.sa.activate_at
                    && (held.follower == Some(own.sa.spi) || held.sa.shares_policies(&own.sa.selectors))
            };
            if own.sa.activate_at > now && !self.held.iter().any(others) {
                self.held[index].sa.activate_at = now;
            }
        }
    }

    fn mark_succeeded(&mut self) {
        let ends = latest_end_by_policy(self.held.iter().filter(|held| held.named));
        let named_ends: BTreeMap<u32, Instant> = self
            .held
            .iter()
            .filter(|held| held.named)
            .map(|held| (held.sa.spi, held.sa.hard_expiry))
            .collect();
        for held in &mut self.held {
            let end = held.sa.hard_expiry;
            let later = |last: Option<&Instant>| last.is_some_and(|last| *last > end);
            // A successor may have fewer policies, or, where our server says so, none of them.
            held.succeeded = held.sa.selectors.iter().any(|selector| later(ends.get(selector)))
                || later(held.follower.and_then(|follower| named_ends.get(&follower)));
        }
    }
}

impl Held {
    /// Takes over what a push says of a TEK that is held.
    fn shorten(&mut self, now: Instant, tek: &ReceivedTek) {
        if *self.sa.selectors != *tek.selectors {
            self.sa.selectors = tek.selectors.as_slice().into();
        }
        self.sa.direction = tek.direction;
        if let Some(lifetime) = tek.lifetime {
            self.timeline = timeline(lifetime);
        }
        self.end_at(now, self.sa.hard_expiry.min(now + tek.remaining));
    }

    fn end_at(&mut self, now: Instant, end: Instant) {
        self.sa.hard_expiry = end;
        self.sa.activate_at = self.sa.activate_at.min(end);
        self.sa.soft_expiry = (end - self.timeline.reregister_at(self.fraction)).max(now);
    }
}

impl GroupSa {
    fn shares_policies(&self, selectors: &[Selector]) -> bool {
        self.selectors.iter().any(|own| selectors.contains(own))
    }
}

/// The timeline of a life. Where we only know what is left of it, it may look too short to try anything in.
pub(super) fn timeline(lifetime: Duration) -> Timeline {
    Timeline::pull(lifetime.max(MINIMUM_LIFETIME))
}

fn digest(keys: &Keys) -> [u8; 16] {
    let digest = Hash::Sha256.digest(&[keys.cipher.expose(), keys.integrity.expose()]);
    *digest.first_chunk().expect("the digest has 32 octets")
}

fn latest_end_by_policy<'a>(held: impl Iterator<Item = &'a Held>) -> BTreeMap<Selector, Instant> {
    let mut ends = BTreeMap::new();
    for held in held {
        for selector in held.sa.selectors.iter() {
            let end = ends.entry(*selector).or_insert(held.sa.hard_expiry);
            *end = held.sa.hard_expiry.max(*end);
        }
    }
    ends
}

fn received(
    asked: Instant,
    now: Instant,
    tek: &ReceivedTek,
    keys: Keys,
    known: Option<Held>,
    random: &mut impl FnMut() -> u32,
) -> Held {
    let mut hard_expiry = asked + tek.remaining;
    let mut lifetime = tek.lifetime.unwrap_or(tek.remaining);
    let fraction = known.as_ref().map_or_else(random, |known| known.fraction);
    if let Some(known) = &known {
        if known.sa.hard_expiry > hard_expiry && known.sa.hard_expiry - hard_expiry <= ROUNDING {
            hard_expiry = known.sa.hard_expiry;
        }
        // A server that does not tell the configured life tells at least what was left when we first asked.
        lifetime = tek.lifetime.unwrap_or(known.timeline.lifetime);
    }
    let timeline = timeline(lifetime);
    let known_selectors = known.as_ref().map(|known| Arc::clone(&known.sa.selectors));
    let selectors = known_selectors.filter(|known| **known == *tek.selectors);
    Held {
        sa: GroupSa {
            spi: tek.spi,
            suite: tek.suite,
            keys: known.as_ref().map_or_else(|| Arc::new(keys), |known| Arc::clone(&known.sa.keys)),
            selectors: selectors.unwrap_or_else(|| tek.selectors.as_slice().into()),
            direction: tek.direction,
            carries_time: tek.carries_time,
            activate_at: known.as_ref().map_or(Instant::from_micros(u64::MAX), |known| known.sa.activate_at),
            soft_expiry: (hard_expiry - timeline.reregister_at(fraction)).max(now),
            hard_expiry,
        },
        timeline,
        named: true,
        succeeded: false,
        follower: known.as_ref().and_then(|known| known.follower),
        fraction,
        since: known.map_or(now, |known| known.since),
    }
}

/// A TEK is active at once if the member has no other live TEK for the policy; else when its activation delay has
/// run: what the server said of this TEK, or the GAP's delay, or when its predecessor has the switch left.
fn activate(heard: Instant, now: Instant, offer: &Offer, named: &mut [Held], unnamed: &[Held]) {
    // What is unnamed is older than what a server names now. Where a policy has several predecessors, the one that
    // ends last counts: until then there is something to encrypt with.
    let mut older: BTreeMap<Selector, (Instant, Duration)> = BTreeMap::new();
    let remember = |older: &mut BTreeMap<Selector, (Instant, Duration)>, held: &Held| {
        for selector in held.sa.selectors.iter() {
            let entry = (held.sa.hard_expiry, held.timeline.switch);
            let known = older.entry(*selector).or_insert(entry);
            *known = entry.max(*known);
        }
    };
    unnamed.iter().for_each(|held| remember(&mut older, held));
    for (at, (tek, held)) in offer.teks.iter().zip(named).enumerate() {
        // They are named oldest first. Of two that may both be used the later one is used, so they do not begin at the
        // same moment, nor the older one later because its time is not told.
        let first = heard + Duration::from_micros(at as u64);
        let predecessor = held.sa.selectors.iter().filter_map(|selector| older.get(selector)).max().copied();
        let computed = match predecessor {
            None => heard,
            Some((end, switch)) => {
                let delay = tek.activation_delay.or(offer.activation_delay);
                delay.map_or(end - switch, |delay| first + delay).min(end).max(first)
            }
        };
        // One that encrypts already goes on.
        held.sa.activate_at = if held.sa.activate_at <= now { held.sa.activate_at } else { computed };
        remember(&mut older, held);
    }
}

/// A TEK that comes while its successor is in use, because the server names it to its last second, does not take over from
/// that. The last one comes first in `backwards`.
fn keep_successors_in_use<'a>(now: Instant, backwards: impl Iterator<Item = &'a mut Held>) {
    // For each policy the one in use that ends last, with its activation.
    let mut in_use: BTreeMap<Selector, (Instant, Instant)> = BTreeMap::new();
    for held in backwards {
        let own = &mut held.sa;
        let successors = own.selectors.iter().filter_map(|selector| in_use.get(selector));
        if let Some((_, at)) = successors.filter(|(end, _)| *end > own.hard_expiry).min_by_key(|(_, at)| *at)
        {
            own.activate_at = own.activate_at.min(*at - JUST_BEFORE);
        }
        if own.activate_at <= now {
            for selector in own.selectors.iter() {
                let entry = (own.hard_expiry, own.activate_at);
                let known = in_use.entry(*selector).or_insert(entry);
                *known = entry.max(*known);
            }
        }
    }
}
