//! The TEKs that a VPN of the member holds: which encrypts from when, which asks for a successor when, which ends when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wire::selector::Selector;

use super::event::{GroupSa, Keys};
use crate::policy::{MAXIMUM_TEKS, Offer, ReceivedTek};
use crate::time::Instant;
use crate::timeline::Timeline;

/// Two readings of the same end of life differ by rounding; a larger difference is meant.
const ROUNDING: Duration = Duration::from_secs(2);

/// A TEK that is held.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) sa: GroupSa,
    pub(super) timeline: Timeline,
    /// Whether the last PULL named it. A server that no longer does will not succeed it either.
    pub(super) named: bool,
    /// Whether a later TEK has all of its policies.
    pub(super) succeeded: bool,
    /// Where in the window of re-registration this member stands.
    fraction: u32,
}

/// The TEKs of one VPN.
#[derive(Debug, Default)]
pub(super) struct SaSet {
    held: Vec<Held>,
    pub(super) closed: Vec<Selector>,
}

impl SaSet {
    /// Takes what a PULL brought. `asked` is when message 1 was first sent: the server's times are counted from
    /// there, so that nothing ends later here than at the server. Returns the SPIs whose keys were replaced.
    pub(super) fn apply(
        &mut self,
        asked: Instant,
        now: Instant,
        offer: &Offer,
        keys: Vec<Keys>,
        mut random: impl FnMut() -> u32,
    ) -> Vec<u32> {
        let mut earlier: BTreeMap<u32, Held> =
            std::mem::take(&mut self.held).into_iter().map(|held| (held.sa.spi, held)).collect();
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
        let mut unnamed: Vec<Held> = earlier.into_values().collect();
        for held in &mut unnamed {
            held.named = false;
            if let Some(delay) = offer.deactivation_delay {
                held.sa.hard_expiry = held.sa.hard_expiry.min(asked + delay);
            }
        }
        unnamed.retain(|held| held.sa.hard_expiry > now);
        unnamed.sort_by_key(|held| (held.sa.hard_expiry, held.sa.spi));
        let surplus = (named.len() + unnamed.len()).saturating_sub(2 * MAXIMUM_TEKS);
        unnamed.drain(..surplus.min(unnamed.len()));

        activate(asked, now, offer, &mut named, &unnamed);
        self.held = named;
        self.held.append(&mut unnamed);
        self.closed.clone_from(&offer.closed);
        self.mark_succeeded();
        replaced
    }

    /// Removes what is over. Returns the SPIs.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<u32> {
        let gone = self.spis_where(|held| held.sa.hard_expiry <= now);
        if !gone.is_empty() {
            self.held.retain(|held| held.sa.hard_expiry > now);
            self.mark_succeeded();
        }
        gone
    }

    /// Removes everything. Returns the SPIs.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        let gone = self.spis_where(|_| true);
        *self = Self::default();
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

    fn mark_succeeded(&mut self) {
        let ends = latest_end_by_policy(self.held.iter().filter(|held| held.named));
        for held in &mut self.held {
            let end = held.sa.hard_expiry;
            held.succeeded =
                held.sa.selectors.iter().all(|selector| ends.get(selector).is_some_and(|last| *last > end));
        }
    }
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
    let timeline = Timeline::pull(lifetime);
    let known_selectors = known.as_ref().map(|known| Arc::clone(&known.sa.selectors));
    let selectors = known_selectors.filter(|known| **known == *tek.selectors);
    Held {
        sa: GroupSa {
            spi: tek.spi,
            suite: tek.suite,
            keys: known.as_ref().map_or_else(|| Arc::new(keys), |known| Arc::clone(&known.sa.keys)),
            selectors: selectors.unwrap_or_else(|| tek.selectors.as_slice().into()),
            direction: tek.direction,
            activate_at: known.as_ref().map_or(Instant::from_micros(u64::MAX), |known| known.sa.activate_at),
            soft_expiry: (hard_expiry - timeline.reregister_at(fraction)).max(now),
            hard_expiry,
        },
        timeline,
        named: true,
        succeeded: false,
        fraction,
    }
}

/// A TEK is active at once if the member has no other live TEK for the policy; else when its activation delay has
/// run: what the server said of this TEK, or the GAP's delay, or when its predecessor has the switch left.
fn activate(asked: Instant, now: Instant, offer: &Offer, named: &mut [Held], unnamed: &[Held]) {
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
    for (tek, held) in offer.teks.iter().zip(named) {
        let predecessor = held.sa.selectors.iter().filter_map(|selector| older.get(selector)).max().copied();
        let computed = match predecessor {
            None => now,
            Some((end, switch)) => {
                let delay = tek.activation_delay.or(offer.activation_delay);
                delay.map_or(end - switch, |delay| asked + delay).min(end)
            }
        };
        // One that encrypts already goes on.
        held.sa.activate_at = if held.sa.activate_at <= now { held.sa.activate_at } else { computed };
        remember(&mut older, held);
    }
}
