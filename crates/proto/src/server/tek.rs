//! The TEKs of one `ipsec-sa`: made, succeeded and retired when the timeline says so.
//!
//! ```text
//!   first TEK     made ------------------------------------- N ---- S - gone
//!   successor                                            made ----- active ------------------ ...
//! ```
//!
//! A changed policy takes effect with a successor as well, because members of a pull group learn of it by their next
//! PULL and no key that they hold is cut short. That successor is made at once where its own life allows it: it must
//! not need a successor while its predecessor is alive, because there are never three.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crypto::{CbcCipher, EspSuite, Random, Secret};
use wire::selector::Selector;

use super::settings::IpsecSaSettings;
use crate::policy::TekView;
use crate::time::Instant;
use crate::timeline::Timeline;

/// SPIs up to 255 are reserved (RFC 4303 section 2.1).
const LOWEST_SPI: u32 = 256;

/// One traffic encryption key.
#[derive(Debug)]
pub(super) struct Tek {
    pub(super) spi: u32,
    cipher_key: Secret,
    integrity_key: Secret,
    /// The statement it was made under, which may have been changed since.
    pub(super) settings: Arc<IpsecSaSettings>,
    selectors: Arc<[Selector]>,
    pub(super) timeline: Timeline,
    pub(super) activates: Instant,
    pub(super) expires: Instant,
    predecessor_expires: Option<Instant>,
    distributed: bool,
}

/// One `ipsec-sa` and its TEKs, at most two, oldest first.
#[derive(Debug)]
pub(super) struct IpsecSa {
    pub(super) settings: Arc<IpsecSaSettings>,
    selectors: Arc<[Selector]>,
    timeline: Timeline,
    pub(super) teks: VecDeque<Tek>,
    /// Removed from the configuration: its TEKs live out their lives and get no successor.
    retiring: bool,
}

impl IpsecSa {
    pub(super) fn new(settings: IpsecSaSettings) -> Self {
        Self {
            selectors: settings.policies.iter().map(|policy| policy.selector).collect(),
            timeline: Timeline::pull(settings.lifetime),
            settings: Arc::new(settings),
            teks: VecDeque::with_capacity(2),
            retiring: false,
        }
    }

    /// Takes over a changed statement of the same name.
    pub(super) fn change(&mut self, settings: IpsecSaSettings) {
        self.retiring = false;
        if *self.settings != settings {
            let teks = std::mem::take(&mut self.teks);
            *self = Self { teks, ..Self::new(settings) };
        }
    }

    /// Lets the TEKs live out their lives without successor.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.retiring && self.teks.is_empty()
    }

    /// Does what is due. Returns whether the set of TEKs, or of those handed out, changed.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        spis: &mut BTreeSet<u32>,
    ) -> bool {
        let mut changed = false;
        while let Some(oldest) = self.teks.pop_front_if(|oldest| oldest.expires <= now) {
            spis.remove(&oldest.spi);
            changed = true;
        }
        if self.retiring {
            // Whether it is still handed out depends on the time, so whoever asks now must look again.
            return true;
        }
        // Nobody has it, so nobody misses it.
        if let Some(unused) =
            self.teks.pop_back_if(|newest| newest.settings != self.settings && !newest.distributed)
        {
            spis.remove(&unused.spi);
            changed = true;
        }
        if self.successor_due().is_none_or(|due| due <= now) && self.teks.len() < 2 {
            self.make(now, random, spis);
            changed = true;
        }
        changed
    }

    /// When `advance` has something to do next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let expiry = self.teks.front().map(|oldest| oldest.expires);
        let other = if self.retiring {
            self.teks.back().map(Tek::end_of_distribution).filter(|end| *end > now)
        } else if self.teks.len() < 2 {
            Some(self.successor_due().unwrap_or(now))
        } else {
            None
        };
        expiry.into_iter().chain(other).min()
    }

    /// The TEKs that a member is given, oldest first.
    pub(super) fn handed_out(&self, now: Instant) -> impl Iterator<Item = &Tek> {
        self.teks.iter().filter(move |tek| !self.retiring || tek.end_of_distribution() > now)
    }

    /// A member has them now.
    pub(super) fn mark_distributed(&mut self, now: Instant) {
        for tek in &mut self.teks {
            tek.distributed |= tek.expires > now;
        }
    }

    /// When the successor of the newest TEK is made; `None` without any TEK.
    pub(super) fn successor_due(&self) -> Option<Instant> {
        let newest = self.teks.back()?;
        let mut remaining = newest.timeline.make_successor;
        if newest.settings != self.settings {
            remaining = remaining.max(self.timeline.lifetime.saturating_sub(self.timeline.make_successor));
        }
        Some(newest.expires - remaining)
    }

    pub(super) fn forget(&self, spis: &mut BTreeSet<u32>) {
        for tek in &self.teks {
            spis.remove(&tek.spi);
        }
    }

    fn make(&mut self, now: Instant, random: &mut dyn Random, spis: &mut BTreeSet<u32>) {
        let suite = self.settings.suite;
        let predecessor = self.teks.back();
        self.teks.push_back(Tek {
            spi: fresh_spi(random, spis),
            cipher_key: cipher_key(suite, random),
            integrity_key: random_secret(suite.integrity_key_len(), random),
            settings: Arc::clone(&self.settings),
            selectors: Arc::clone(&self.selectors),
            timeline: self.timeline,
            activates: predecessor.map_or(now, |tek| (tek.expires - tek.timeline.switch).max(now)),
            expires: now + self.timeline.lifetime,
            predecessor_expires: predecessor.map(|tek| tek.expires),
            distributed: false,
        });
    }
}

impl Tek {
    pub(super) fn view(&self) -> TekView<'_> {
        TekView {
            spi: self.spi,
            suite: self.settings.suite,
            cipher_key: &self.cipher_key,
            integrity_key: &self.integrity_key,
            lifetime: self.settings.lifetime,
            activates: self.activates,
            expires: self.expires,
            predecessor_expires: self.predecessor_expires,
            selectors: &self.selectors,
        }
    }

    /// From here on a TEK that will have no successor is not named any more, so that members do not ask for one again
    /// and again.
    fn end_of_distribution(&self) -> Instant {
        self.expires - self.timeline.make_successor
    }
}

fn fresh_spi(random: &mut dyn Random, spis: &mut BTreeSet<u32>) -> u32 {
    loop {
        let mut octets = [0; 4];
        random.fill(&mut octets);
        let spi = u32::from_be_bytes(octets);
        if spi >= LOWEST_SPI && spis.insert(spi) {
            return spi;
        }
    }
}

fn random_secret(length: usize, random: &mut dyn Random) -> Secret {
    let mut octets = vec![0; length];
    random.fill(&mut octets);
    Secret::new(octets)
}

fn cipher_key(suite: EspSuite, random: &mut dyn Random) -> Secret {
    let mut octets = vec![0; suite.cipher_key_len()];
    loop {
        random.fill(&mut octets);
        match suite {
            //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.1.1
            //# DES keys will consist of 64 bits (the 56 key bits with parity bits).
            EspSuite::Cbc { cipher: cipher @ (CbcCipher::Des | CbcCipher::TripleDes), .. } => {
                octets.iter_mut().for_each(|octet| *octet ^= u8::from(octet.count_ones() % 2 == 0));
                if cipher.is_weak_key(&octets) {
                    continue;
                }
            }
            EspSuite::Cbc { .. } | EspSuite::Gcm { .. } => {}
        }
        return Secret::new(octets);
    }
}

/// Remaining time as `show` prints it.
pub(super) fn remaining(now: Instant, end: Instant) -> u64 {
    Duration::as_secs(&(end - now))
}

#[cfg(test)]
mod tests {
    use crypto::{Integrity, SeededRandom};

    use super::*;
    use crate::server::MatchPolicy;

    fn statement(lifetime: u64, destination: &str) -> IpsecSaSettings {
        IpsecSaSettings {
            name: "sa".into(),
            suite: EspSuite::Cbc { cipher: CbcCipher::TripleDes, integrity: Integrity::HmacSha1_96 },
            lifetime: Duration::from_secs(lifetime),
            policies: vec![MatchPolicy {
                name: "p".into(),
                selector: Selector::between("10.0.0.0/8".parse().unwrap(), destination.parse().unwrap()),
            }],
        }
    }

    struct World {
        sa: IpsecSa,
        random: SeededRandom,
        spis: BTreeSet<u32>,
    }

    impl World {
        fn new(lifetime: u64) -> Self {
            let mut world = Self {
                sa: IpsecSa::new(statement(lifetime, "20.0.0.0/8")),
                random: SeededRandom::new(1),
                spis: BTreeSet::new(),
            };
            world.advance(0);
            world
        }

        fn advance(&mut self, seconds: u64) -> bool {
            self.sa.advance(at(seconds), &mut self.random, &mut self.spis)
        }

        fn spis(&self) -> Vec<u32> {
            self.sa.teks.iter().map(|tek| tek.spi).collect()
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_tek_is_active_at_once_and_its_successor_is_made_at_a_tenth() {
        let mut world = World::new(3600);
        assert_eq!(world.sa.teks[0].activates, at(0));
        assert_eq!(world.sa.due(at(0)), Some(at(3240)));
        assert!(!world.advance(3239));
        assert!(world.advance(3240));
        assert_eq!(world.sa.teks[1].activates, at(3570));
        assert_eq!(world.sa.teks[1].expires, at(6840));
        assert_eq!(world.sa.due(at(3240)), Some(at(3600)));
    }

    #[test]
    fn there_are_never_more_than_two_and_spis_are_given_back() {
        let mut world = World::new(60);
        for second in 0..1000 {
            world.advance(second);
            assert!((1..=2).contains(&world.sa.teks.len()));
            assert_eq!(world.spis.len(), world.sa.teks.len());
        }
    }

    #[test]
    fn following_the_due_times_is_enough() {
        let mut world = World::new(61);
        let mut now = at(0);
        for _ in 0..100 {
            let due = world.sa.due(now).unwrap();
            assert!(due > now);
            now = due;
            assert!(world.sa.advance(now, &mut world.random, &mut world.spis));
        }
    }

    #[test]
    fn a_changed_policy_comes_with_a_successor_and_cuts_nothing_short() {
        let mut world = World::new(3600);
        world.sa.mark_distributed(at(10));
        world.sa.change(statement(3600, "30.0.0.0/8"));
        assert!(!world.advance(10), "its successor would be due while this one is alive");
        assert!(world.advance(360));
        assert_eq!(world.sa.teks.len(), 2);
        assert_eq!(world.sa.teks[0].expires, at(3600));
        assert_eq!(world.sa.teks[1].activates, at(3570));
        assert_ne!(world.sa.teks[0].selectors, world.sa.teks[1].selectors);
        assert_eq!(world.sa.due(at(360)), Some(at(3600)));
    }

    #[test]
    fn a_changed_policy_replaces_a_tek_that_nobody_has() {
        let mut world = World::new(3600);
        let before = world.spis();
        world.sa.change(statement(3600, "30.0.0.0/8"));
        assert!(world.advance(10));
        assert_eq!(world.sa.teks.len(), 1);
        assert_ne!(world.spis(), before);
        assert_eq!(world.sa.teks[0].activates, at(10));
    }

    #[test]
    fn an_unchanged_statement_changes_nothing() {
        let mut world = World::new(3600);
        let before = world.spis();
        world.sa.change(statement(3600, "20.0.0.0/8"));
        assert!(!world.advance(10));
        assert_eq!(world.spis(), before);
    }

    #[test]
    fn a_retired_tek_is_handed_out_until_its_successor_would_have_been_made() {
        let mut world = World::new(3600);
        world.sa.mark_distributed(at(1));
        world.sa.retire();
        world.advance(2);
        assert_eq!(world.sa.handed_out(at(3239)).count(), 1);
        assert_eq!(world.sa.handed_out(at(3240)).count(), 0);
        assert_eq!(world.sa.due(at(2)), Some(at(3240)));
        world.advance(3600);
        assert!(world.sa.is_gone());
        assert!(world.spis.is_empty());
    }

    #[test]
    fn des_keys_have_odd_parity() {
        let world = World::new(60);
        let key = world.sa.teks[0].cipher_key.expose();
        assert_eq!(key.len(), 24);
        assert!(key.iter().all(|octet| octet.count_ones() % 2 == 1));
    }
}
