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
//!
//! Where every member can be pushed to, it is made at once in any case, and the lives of the TEKs that are out there are
//! cut to what the rounds need. Then there may be three for a while: the one in use, a successor of it that is out there
//! already, and the new one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crypto::{Random, Secret};
use wire::selector::Selector;

use super::key_material::{cipher_key, random_secret};
use super::settings::IpsecSaSettings;
use crate::policy::TekView;
use crate::time::Instant;
use crate::timeline::{self, Push, Timeline};

/// SPIs up to 255 are reserved (RFC 4303 section 2.1).
const LOWEST_SPI: u32 = 256;

/// TEKs of one ipsec-sa that live at a time where members pull, and where a server pushes.
const ALIVE_PULLED: usize = 2;
const ALIVE_PUSHED: usize = 3;

/// TEKs of one ipsec-sa when evictions follow each other faster than members can register.
const ALIVE_EVICTING: usize = 6;

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
    /// Whether a member may have it.
    pub(super) distributed: bool,
}

/// What is kept of a TEK.
pub(super) struct RememberedTek {
    pub(super) spi: u32,
    pub(super) cipher_key: Secret,
    pub(super) integrity_key: Secret,
    pub(super) settings: Arc<IpsecSaSettings>,
    pub(super) activates: Instant,
    pub(super) expires: Instant,
    pub(super) predecessor_expires: Option<Instant>,
}

/// What is kept of an `ipsec-sa`.
pub(super) struct RememberedSa {
    pub(super) name: String,
    /// Oldest first.
    pub(super) teks: Vec<RememberedTek>,
}

/// What `advance` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Advanced {
    /// The set of TEKs, or of those handed out, changed.
    pub(super) changed: bool,
    /// There is a new TEK.
    pub(super) made: bool,
    /// It comes of a changed policy, and the lives of the others were cut.
    pub(super) cut: bool,
}

/// One `ipsec-sa` and its TEKs, oldest first.
#[derive(Debug)]
pub(super) struct IpsecSa {
    pub(super) settings: Arc<IpsecSaSettings>,
    selectors: Arc<[Selector]>,
    timeline: Timeline,
    push: Option<Push>,
    pub(super) teks: VecDeque<Tek>,
    /// Removed from the configuration: its TEKs live out their lives and get no successor.
    retiring: bool,
}

impl IpsecSa {
    /// `push` is how the server announces new keys, if it does.
    pub(super) fn new(settings: IpsecSaSettings, push: Option<Push>) -> Self {
        Self {
            selectors: settings.policies.iter().map(|policy| policy.selector).collect(),
            timeline: timeline_of(&settings, push),
            push,
            settings: Arc::new(settings),
            teks: VecDeque::with_capacity(2),
            retiring: false,
        }
    }

    /// Takes over TEKs that were kept. Whether a member has them is not known, so it is supposed.
    pub(super) fn restore(&mut self, now: Instant, teks: Vec<RememberedTek>, spis: &mut BTreeSet<u32>) {
        for kept in teks.into_iter().filter(|kept| kept.expires > now) {
            spis.insert(kept.spi);
            let selectors = kept.settings.policies.iter().map(|policy| policy.selector).collect();
            let timeline = timeline_of(&kept.settings, self.push);
            let RememberedTek { spi, cipher_key, integrity_key, settings, .. } = kept;
            let RememberedTek { activates, expires, predecessor_expires, .. } = kept;
            self.teks.push_back(Tek {
                spi,
                cipher_key,
                integrity_key,
                settings,
                selectors,
                timeline,
                activates,
                expires,
                predecessor_expires,
                distributed: true,
            });
        }
    }

    /// What was kept of a statement that is not in the configuration any more, if there is anything.
    pub(super) fn removed(
        now: Instant,
        kept: RememberedSa,
        push: Option<Push>,
        spis: &mut BTreeSet<u32>,
    ) -> Option<Self> {
        let mut sa = Self::loaded(now, kept, push, spis)?;
        sa.retire();
        Some(sa)
    }

    /// What another server made, with or without a statement for it here. `None` if all of it has ended.
    pub(super) fn loaded(
        now: Instant,
        kept: RememberedSa,
        push: Option<Push>,
        spis: &mut BTreeSet<u32>,
    ) -> Option<Self> {
        let settings = IpsecSaSettings::clone(&kept.teks.last()?.settings);
        let mut sa = Self::new(IpsecSaSettings { name: kept.name, ..settings }, push);
        sa.restore(now, kept.teks, spis);
        Some(sa).filter(|sa| !sa.teks.is_empty())
    }

    /// Takes over a changed statement of the same name, or another way to announce keys.
    pub(super) fn change(&mut self, settings: IpsecSaSettings, push: Option<Push>) {
        self.retiring = false;
        if *self.settings != settings || self.push != push {
            let mut teks = std::mem::take(&mut self.teks);
            for tek in &mut teks {
                tek.timeline = timeline_of(&tek.settings, push);
            }
            *self = Self { teks, ..Self::new(settings, push) };
        }
    }

    /// Lets the TEKs live out their lives without successor.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.retiring && self.teks.is_empty()
    }

    /// Does what is due. With `at_once` a changed policy does not wait for the end of what is out there: every member
    /// can be pushed to.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        spis: &mut BTreeSet<u32>,
        at_once: bool,
    ) -> Advanced {
        let mut done = Advanced { changed: self.drop_expired(now, spis), ..Advanced::default() };
        if self.retiring {
            // Whether it is still handed out depends on the time, so whoever asks now must look again.
            return Advanced { changed: true, ..done };
        }
        // Nobody has it, so nobody misses it.
        while let Some(unused) =
            self.teks.pop_back_if(|newest| newest.settings != self.settings && !newest.distributed)
        {
            spis.remove(&unused.spi);
            done.changed = true;
        }
        if let (true, Some(push), Some(newest)) = (at_once, self.push, self.teks.back())
            && newest.settings != self.settings
            && self.teks.len() < ALIVE_PUSHED
        {
            let life = timeline::life_after_policy_change(newest.expires - now, &newest.timeline, push);
            self.cut(now + life.min(self.before_the_next()));
            done.cut = true;
        }
        let alive = if self.push.is_some() { ALIVE_PUSHED } else { ALIVE_PULLED };
        let due = done.cut || self.successor_due().is_none_or(|due| due <= now);
        if due && self.teks.len() < alive {
            self.make(now, random, spis);
            done.made = true;
            done.changed = true;
        }
        done
    }

    /// Forgets TEKs that have ended. Returns whether there was one.
    pub(super) fn drop_expired(&mut self, now: Instant, spis: &mut BTreeSet<u32>) -> bool {
        let before = self.teks.len();
        self.teks.retain(|tek| {
            let lives = tek.expires > now;
            if !lives {
                spis.remove(&tek.spi);
            }
            lives
        });
        self.teks.len() != before
    }

    /// Makes a TEK that replaces every one that is out there, and cuts their lives so that all switch to it when the
    /// members that stay can have it. Returns how long that takes.
    pub(super) fn evict(
        &mut self,
        now: Instant,
        push: Push,
        random: &mut dyn Random,
        spis: &mut BTreeSet<u32>,
    ) -> Option<Duration> {
        if self.retiring {
            return None;
        }
        while let Some(unused) = self.teks.pop_back_if(|newest| !newest.distributed) {
            spis.remove(&unused.spi);
        }
        let Some(newest) = self.teks.back() else {
            self.make(now, random, spis);
            return Some(Duration::ZERO);
        };
        let delay = timeline::eviction_delay(newest.expires - now, &newest.timeline, push);
        let delay = delay.min(self.before_the_next().saturating_sub(newest.timeline.switch));
        let end = now + delay + newest.timeline.switch;
        self.cut(end);
        // Members that came for the last but one may have it by now, so it is not forgotten, unless they are many.
        if self.teks.len() >= ALIVE_EVICTING
            && let Some(oldest) = self.teks.pop_front()
        {
            spis.remove(&oldest.spi);
        }
        self.make(now, random, spis);
        self.teks.back().map(|newest| newest.activates - now)
    }

    /// How long a TEK made now lives before it needs a successor. Until then those before it must be gone: one that waited
    /// for them longer than that would end before it has been used.
    fn before_the_next(&self) -> Duration {
        self.timeline.lifetime.saturating_sub(self.timeline.make_successor)
    }

    /// Forgets every TEK; the next one is active at once.
    pub(super) fn start_over(&mut self, spis: &mut BTreeSet<u32>) {
        self.forget(spis);
        self.teks.clear();
    }

    /// Whether one of the TEKs is of a counter mode.
    pub(super) fn has_counter_mode(&self) -> bool {
        self.teks.iter().any(|tek| !tek.settings.suite.wants_random_iv())
    }

    /// In how long everybody uses keys that nobody has now, if nothing but time passes.
    pub(super) fn fresh_in(&self, now: Instant) -> Duration {
        self.teks.iter().rfind(|tek| tek.distributed).map_or(Duration::ZERO, |tek| {
            tek.expires.saturating_duration_since(now).saturating_sub(tek.timeline.switch)
        })
    }

    /// When `advance` has something to do next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let expiry = self.teks.iter().map(|tek| tek.expires).min();
        let other = if self.retiring {
            self.teks.back().map(Tek::end_of_distribution).filter(|end| *end > now)
        } else if self.teks.len() < if self.push.is_some() { ALIVE_PUSHED } else { ALIVE_PULLED } {
            Some(self.successor_due().unwrap_or(now))
        } else {
            None
        };
        expiry.into_iter().chain(other).min()
    }

    /// The TEKs that a member is given, oldest first. One with less than a second left has no life that could be told: lives
    /// are rounded down, and a strict member refuses everything that comes with a life of zero.
    pub(super) fn handed_out(&self, now: Instant) -> impl Iterator<Item = &Tek> {
        self.teks.iter().filter(move |tek| {
            tek.expires >= now + SHORTEST_LIFE_TOLD && (!self.retiring || tek.end_of_distribution() > now)
        })
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
            remaining = remaining.max(self.before_the_next());
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

    /// Ends every life at `end` that would last longer. One that waits becomes active before the new one that follows,
    /// lest it be taken for the newer one.
    ///
    /// Each ends a second before the next, so that whole seconds still tell which one succeeds which.
    fn cut(&mut self, end: Instant) {
        const APART: Duration = Duration::from_secs(1);
        let mut end = end;
        for tek in self.teks.iter_mut().rev() {
            tek.expires = tek.expires.min(end);
            tek.activates = tek.activates.min(tek.expires - tek.timeline.switch - APART);
            end = tek.expires - APART;
        }
        let mut predecessor = None;
        for tek in &mut self.teks {
            tek.predecessor_expires = tek.predecessor_expires.and(predecessor);
            predecessor = Some(tek.expires);
        }
    }
}

fn timeline_of(settings: &IpsecSaSettings, push: Option<Push>) -> Timeline {
    match push {
        Some(push) => Timeline::push(settings.lifetime, push),
        None => Timeline::pull(settings.lifetime),
    }
}

/// The least life that is not zero on the wire.
pub(super) const SHORTEST_LIFE_TOLD: Duration = Duration::from_secs(1);

impl Tek {
    /// Whether senders may use it.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.activates <= now
    }

    /// What is to be kept of it.
    pub(super) fn remember(&self) -> RememberedTek {
        RememberedTek {
            spi: self.spi,
            cipher_key: self.cipher_key.clone(),
            integrity_key: self.integrity_key.clone(),
            settings: Arc::clone(&self.settings),
            activates: self.activates,
            expires: self.expires,
            predecessor_expires: self.predecessor_expires,
        }
    }

    pub(super) fn view(&self, now: Instant) -> TekView<'_> {
        TekView {
            spi: self.spi,
            suite: self.settings.suite,
            cipher_key: &self.cipher_key,
            integrity_key: &self.integrity_key,
            lifetime: self.settings.lifetime,
            activates: self.activates,
            expires: self.expires,
            predecessor_expires: self.predecessor_expires.filter(|_| !self.is_active(now)),
            selectors: &self.selectors,
            anti_replay: self.settings.anti_replay,
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

/// Remaining time as `show` prints it.
pub(super) fn remaining(now: Instant, end: Instant) -> u64 {
    Duration::as_secs(&(end - now))
}

#[cfg(test)]
mod tests {
    use crypto::{CbcCipher, EspSuite, Integrity, SeededRandom};

    use super::*;
    use crate::server::MatchPolicy;

    fn statement(lifetime: u64, destination: &str) -> IpsecSaSettings {
        IpsecSaSettings {
            name: "sa".into(),
            suite: EspSuite::Cbc { cipher: CbcCipher::TripleDes, integrity: Integrity::HmacSha1_96 },
            lifetime: Duration::from_secs(lifetime),
            anti_replay: None,
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
                sa: IpsecSa::new(statement(lifetime, "20.0.0.0/8"), None),
                random: SeededRandom::new(1),
                spis: BTreeSet::new(),
            };
            world.advance(0);
            world
        }

        fn advance(&mut self, seconds: u64) -> bool {
            self.sa.advance(at(seconds), &mut self.random, &mut self.spis, false).changed
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
    fn a_tek_without_a_whole_second_is_not_handed_out() {
        let mut world = World::new(3600);
        world.advance(3240);
        assert_eq!(world.sa.handed_out(at(3599)).count(), 2);
        let late = at(3599) + Duration::from_micros(1);
        assert_eq!(world.sa.handed_out(late).map(|tek| tek.spi).collect::<Vec<_>>(), world.spis()[1..]);
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
            assert!(world.sa.advance(now, &mut world.random, &mut world.spis, false).changed);
        }
    }

    #[test]
    fn a_changed_policy_comes_with_a_successor_and_cuts_nothing_short() {
        let mut world = World::new(3600);
        world.sa.mark_distributed(at(10));
        world.sa.change(statement(3600, "30.0.0.0/8"), None);
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
        world.sa.change(statement(3600, "30.0.0.0/8"), None);
        assert!(world.advance(10));
        assert_eq!(world.sa.teks.len(), 1);
        assert_ne!(world.spis(), before);
        assert_eq!(world.sa.teks[0].activates, at(10));
    }

    #[test]
    fn an_unchanged_statement_changes_nothing() {
        let mut world = World::new(3600);
        let before = world.spis();
        world.sa.change(statement(3600, "20.0.0.0/8"), None);
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

    fn plan() -> Push {
        Push {
            retransmission_period: Duration::from_secs(10),
            number_of_retransmission: 2,
            activation_time_delay: Duration::from_secs(15),
        }
    }

    fn pushed(lifetime: u64) -> World {
        let mut world = World {
            sa: IpsecSa::new(statement(lifetime, "20.0.0.0/8"), Some(plan())),
            random: SeededRandom::new(1),
            spis: BTreeSet::new(),
        };
        world.advance(0);
        world.sa.mark_distributed(at(0));
        world
    }

    #[test]
    fn where_everybody_is_reached_a_changed_policy_cuts_lives_to_what_the_rounds_need() {
        let mut world = pushed(3600);
        world.sa.change(statement(3600, "30.0.0.0/8"), Some(plan()));
        let done = world.sa.advance(at(1000), &mut world.random, &mut world.spis, true);
        assert_eq!(done, Advanced { changed: true, made: true, cut: true });
        assert_eq!(world.sa.teks[0].expires, at(1180));
        assert_eq!(world.sa.teks[1].activates, at(1150));
        assert_eq!(world.sa.teks[1].expires, at(4600));
    }

    #[test]
    fn a_successor_that_is_out_there_is_cut_too_and_ends_after_its_predecessor() {
        let mut world = pushed(3600);
        world.advance(3240);
        world.sa.mark_distributed(at(3240));
        world.sa.change(statement(3600, "30.0.0.0/8"), Some(plan()));
        world.sa.advance(at(3300), &mut world.random, &mut world.spis, true);
        let ends: Vec<_> = world.sa.teks.iter().map(|tek| tek.expires).collect();
        assert_eq!(ends, [at(3479), at(3480), at(6900)]);
        let activations: Vec<_> = world.sa.teks.iter().map(|tek| tek.activates).collect();
        assert_eq!(activations, [at(0), at(3449), at(3450)], "in the order in which they were made");
    }

    #[test]
    fn a_shorter_lifetime_does_not_let_the_new_tek_end_before_its_turn() {
        let mut world = pushed(300);
        world.sa.change(statement(60, "20.0.0.0/8"), Some(plan()));
        world.sa.advance(at(10), &mut world.random, &mut world.spis, true);
        assert_eq!(world.sa.teks[0].expires, at(40), "not the 90 seconds that a change has otherwise");
        assert_eq!(world.sa.teks[1].expires, at(70));
        assert!(world.sa.teks[1].activates < at(40));
        assert_eq!(world.sa.due(at(10)), Some(at(40)), "its successor is due when there is but one");
    }

    #[test]
    fn an_eviction_ends_every_tek_that_is_out_there_when_all_have_switched() {
        let mut world = pushed(3600);
        let delay = world.sa.evict(at(1000), plan(), &mut world.random, &mut world.spis);
        assert_eq!(delay, Some(Duration::from_secs(150)));
        assert_eq!(world.sa.teks[0].expires, at(1180));
        assert_eq!(world.sa.teks[1].activates, at(1150));
    }

    #[test]
    fn an_eviction_near_the_end_of_a_tek_waits_for_that_and_no_longer() {
        let mut world = pushed(3600);
        let delay = world.sa.evict(at(3560), plan(), &mut world.random, &mut world.spis);
        assert_eq!(delay, Some(Duration::from_secs(10)));
        assert_eq!(world.sa.teks[0].expires, at(3600));
    }

    #[test]
    fn evictions_in_a_row_keep_a_bounded_number_of_teks() {
        let mut world = pushed(3600);
        for second in 1000..1050 {
            world.sa.evict(at(second), plan(), &mut world.random, &mut world.spis);
            world.sa.mark_distributed(at(second));
            assert!(world.sa.teks.len() <= ALIVE_EVICTING);
            assert_eq!(world.spis.len(), world.sa.teks.len());
        }
    }

    #[test]
    fn following_the_due_times_is_enough_where_a_server_pushes() {
        for lifetime in [60, 90, 240, 3600] {
            let mut world = pushed(lifetime);
            let mut now = at(0);
            for round in 0..100 {
                if round % 7 == 0 {
                    world.sa.change(
                        statement(lifetime, ["30.0.0.0/8", "31.0.0.0/8"][round / 7 % 2]),
                        Some(plan()),
                    );
                    world.sa.advance(now, &mut world.random, &mut world.spis, true);
                }
                world.sa.mark_distributed(now);
                let due = world.sa.due(now).unwrap();
                assert!(due > now, "{lifetime} {round}");
                now = due;
                world.sa.advance(now, &mut world.random, &mut world.spis, true);
                assert!((1..=ALIVE_PUSHED).contains(&world.sa.teks.len()));
                assert!(world.sa.teks.iter().any(|tek| tek.is_active(now)), "{lifetime} {round}");
            }
        }
    }

    #[test]
    fn des_keys_have_odd_parity() {
        let world = World::new(60);
        let key = world.sa.teks[0].cipher_key.expose();
        assert_eq!(key.len(), 24);
        assert!(key.iter().all(|octet| octet.count_ones() % 2 == 1));
    }
}
