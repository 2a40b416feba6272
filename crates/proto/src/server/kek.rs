//! The KEKs of a group: the current one, those it succeeded, and those that nobody is to trust any more.
//!
//! ```text
//!   made ── current ── successor pushed ── succeeded ── expired ── forgotten
//!              │                              │                     (late acknowledgements)
//!              └───────── eviction ───────────┴──▶ revoked ──▶ forgotten
//! ```
//!
//! A succeeded KEK still brings keys to members that missed the change, its successor among them. A revoked one is held
//! by somebody who was evicted: it carries nothing but Deletes.

use std::sync::Arc;
use std::time::Duration;

use crypto::Random;
use crypto::signature::VerifyingKey;

use super::group::{Group, Numbers};
use super::key_material::{cbc_key, random_secret};
use super::settings::{Communication, PushSettings};
use crate::policy::KekView;
use crate::push::{self, AcknowledgementKeys, AcknowledgementPrf, Body, KekSpi, SealError};
use crate::time::Instant;
use crate::timeline::kek_push_point;

/// Sequence numbers from here on make a new KEK due; what is left is for the rounds that bring it.
const SEQUENCE_NEAR_END: u32 = 0xffff_0000;

/// How much longer than a span we keep an expired KEK: acknowledgements may take 5 seconds and a network's delay.
pub(super) const KEPT_FOR_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(10);

/// Runs of sequence numbers of which we remember what they brought. Rekeys of many ipsec-sas that take turns make runs
/// of one; half a day of eight of them every ten seconds fits.
const RUNS: usize = 1 << 15;

/// Sequence numbers that are reserved at a time. A restart skips what is left of them, a fiftieth of a percent of all.
pub(super) const RESERVED: u32 = 1 << 10;

/// What is kept of a KEK.
pub(super) struct Remembered {
    pub(super) index: u32,
    pub(super) state: KekState,
    pub(super) shared: push::Kek,
    pub(super) settings: Arc<PushSettings>,
    /// No sequence number above it has been used.
    pub(super) reserved: u32,
    pub(super) expires: Instant,
    pub(super) forget_at: Instant,
}

/// What may be sent under a KEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KekState {
    /// Everything; registering members get it.
    Current,
    /// Everything, always together with the current one.
    Succeeded,
    /// Deletes.
    Revoked,
}

/// What a message brought, as far as its acknowledgement tells us something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    /// The rekey it was a round of; 0 for none.
    pub(super) rekey: u64,
    /// Index of the KEK it brought; 0 for none.
    pub(super) carried: u32,
}

/// One KEK.
#[derive(Debug)]
pub(super) struct Kek {
    /// Unique on this server, never reused, never 0.
    pub(super) index: u32,
    /// The statement it was made under.
    pub(super) settings: Arc<PushSettings>,
    shared: push::Kek,
    verifying_key: VerifyingKey,
    acknowledgement_keys: AcknowledgementKeys,
    pub(super) state: KekState,
    sequence: u32,
    /// The highest sequence number that may be used before it is made durable that it may have been.
    reserved: u32,
    /// Whether more were reserved than is durable.
    reserves: bool,
    /// So many are reserved at a time.
    ahead: u32,
    pub(super) pushes: u64,
    pub(super) expires: Instant,
    /// When late acknowledgements do not count any more.
    pub(super) forget_at: Instant,
    /// First sequence number and errand of each run of messages with the same errand.
    runs: Vec<(u32, Errand)>,
}

impl Kek {
    pub(super) fn new(
        now: Instant,
        index: u32,
        settings: Arc<PushSettings>,
        ahead: u32,
        random: &mut dyn Random,
    ) -> Self {
        let mut spi = [0; 16];
        while spi == [0; 16] {
            // An SPI of zero means every KEK.
            random.fill(&mut spi);
        }
        let span = settings.retransmission_period * settings.number_of_retransmission;
        let shared = push::Kek {
            spi: KekSpi(spi),
            cipher: settings.cipher,
            key: cbc_key(settings.cipher, random),
            iv: random_secret(settings.cipher.block_len(), random),
            hash: settings.signing_key.kind().implied_hash().unwrap_or(settings.hash),
            acknowledgement: settings.is_unicast().then_some(AcknowledgementPrf::Sha256),
        };
        let made = Remembered {
            index,
            state: KekState::Current,
            shared,
            reserved: 0,
            expires: now + settings.lifetime,
            forget_at: now + settings.lifetime + span + KEPT_FOR_ACKNOWLEDGEMENTS,
            settings,
        };
        Self { reserved: ahead, ..Self::restored(made, ahead) }
    }

    /// The KEK that was kept. Every number that may have been used counts as used.
    pub(super) fn restored(kept: Remembered, ahead: u32) -> Self {
        let Remembered { index, state, shared, settings, reserved, expires, forget_at } = kept;
        Self {
            index,
            verifying_key: settings.signing_key.verifying_key(),
            acknowledgement_keys: AcknowledgementKeys::derive(AcknowledgementPrf::Sha256, &shared),
            shared,
            state,
            sequence: reserved,
            reserved,
            reserves: false,
            ahead,
            pushes: 0,
            expires,
            forget_at,
            runs: Vec::new(),
            settings,
        }
    }

    /// What is to be kept of it.
    pub(super) fn remember(&self) -> Remembered {
        Remembered {
            index: self.index,
            state: self.state,
            shared: self.shared.clone(),
            settings: Arc::clone(&self.settings),
            reserved: self.reserved,
            expires: self.expires,
            forget_at: self.forget_at,
        }
    }

    /// Whether it reserved numbers that are not durable yet.
    pub(super) fn reserves(&self) -> bool {
        self.reserves
    }

    /// What it reserved is durable.
    pub(super) fn is_stored(&mut self) {
        self.reserves = false;
    }

    /// Makes the next message under this KEK.
    ///
    /// A sequence number is used once: it counts as used even if nothing comes of the message.
    pub(super) fn seal(&mut self, errand: Errand, body: &Body<'_>) -> Result<Vec<u8>, SealFailure> {
        //= https://www.rfc-editor.org/rfc/rfc6407#section-4.3
        //# To begin the rekey datagram, the GCKS builds an ISAKMP HDR with the
        //# correct cookie pair, and a SEQ payload that includes a sequence
        //# number that is 1 greater than the previous rekey datagram.  If the
        //# message is using the new KEK attribute for the first time, the SEQ is
        //# reset to 1 in this message.
        let sequence = self.sequence.checked_add(1).ok_or(SealFailure::Exhausted)?;
        self.sequence = sequence;
        if sequence > self.reserved {
            self.reserved = sequence.saturating_add(self.ahead);
            self.reserves = true;
        }
        let datagram = push::seal(&self.shared, &self.settings.signing_key, sequence, body)?;
        self.pushes += 1;
        if self.runs.last().is_none_or(|(_, last)| *last != errand) {
            if self.runs.len() >= RUNS {
                self.runs.drain(..RUNS / 2);
            }
            self.runs.push((sequence, errand));
        }
        Ok(datagram)
    }

    /// Revokes it: it is kept for `until`, for its Deletes and their acknowledgements.
    pub(super) fn revoke(&mut self, until: Instant) {
        self.state = KekState::Revoked;
        self.expires = self.expires.min(until);
        self.forget_at = self.forget_at.min(until + KEPT_FOR_ACKNOWLEDGEMENTS);
    }

    /// What the message with this sequence number brought; `None` if there was none.
    pub(super) fn errand(&self, sequence: u32) -> Option<Errand> {
        if sequence == 0 || sequence > self.sequence {
            return None;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= sequence);
        let forgotten = Errand { rekey: 0, carried: 0 };
        Some(after.checked_sub(1).map_or(forgotten, |run| self.runs[run].1))
    }

    pub(super) fn spi(&self) -> KekSpi {
        self.shared.spi
    }

    /// The last sequence number used; 0 before the first.
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    pub(super) fn acknowledgement_keys(&self) -> &AcknowledgementKeys {
        &self.acknowledgement_keys
    }

    pub(super) fn is_near_end_of_sequence(&self) -> bool {
        self.sequence >= SEQUENCE_NEAR_END
    }

    /// Whether something can be sent under it.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.expires > now
    }

    pub(super) fn view(&self) -> KekView<'_> {
        KekView {
            kek: &self.shared,
            verifying_key: &self.verifying_key,
            source: self.settings.source,
            multicast_group: match &self.settings.communication {
                Communication::Unicast { .. } => None,
                Communication::Multicast { group, .. } => Some(*group),
            },
            lifetime: self.settings.lifetime,
            heartbeat: self.settings.heartbeat,
            expires: self.expires,
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &push::Kek {
        &self.shared
    }

    #[cfg(test)]
    pub(super) fn set_sequence(&mut self, sequence: u32) {
        self.sequence = sequence;
        self.reserved = sequence;
    }
}

/// Why a message could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealFailure {
    /// Every sequence number has been used.
    #[error("every sequence number of the KEK has been used")]
    Exhausted,
    /// See there.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The KEK that registering members get.
pub(super) fn current(keks: &[Kek]) -> Option<&Kek> {
    keks.iter().rfind(|kek| kek.state == KekState::Current)
}

impl Group {
    /// Whether new keys can be pushed to every member.
    pub(super) fn reaches_everyone(&self, now: Instant) -> bool {
        self.settings.push.is_some()
            && current(&self.keks).is_some_and(|kek| kek.is_alive(now))
            && self.members.without_kek() == 0
    }

    /// Makes and forgets KEKs. Returns whether there is a new one, or a new lack of one.
    pub(super) fn advance_keks(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        numbers: &mut Numbers,
    ) -> bool {
        self.keks.retain(|kek| kek.forget_at > now);
        let Some(push) = &self.settings.push else { return false };
        let wanted = match current(&self.keks) {
            None => true,
            Some(kek) => {
                !kek.settings.keyed_alike(push)
                    || kek.is_near_end_of_sequence()
                    || successor_due(kek, self.settings.activation_time_delay) <= now
            }
        };
        if wanted {
            for kek in self.keks.iter_mut().filter(|kek| kek.state == KekState::Current) {
                kek.state = KekState::Succeeded;
            }
            self.make_kek(now, random, numbers);
        }
        wanted
    }

    /// Makes a KEK for those who register from now on.
    pub(super) fn make_kek(&mut self, now: Instant, random: &mut dyn Random, numbers: &mut Numbers) {
        let Some(push) = &self.settings.push else { return };
        numbers.last_kek += 1;
        let ahead = self.reserved_ahead();
        self.keks.push(Kek::new(now, numbers.last_kek, Arc::new(push.clone()), ahead, random));
        self.heartbeat_at = push.heartbeat.map(|heartbeat| now + heartbeat);
        self.forget_offers();
    }

    pub(super) fn keks_due(&self) -> impl Iterator<Item = Instant> {
        let successor =
            current(&self.keks).map(|kek| successor_due(kek, self.settings.activation_time_delay));
        successor.into_iter().chain(self.keks.iter().map(|kek| kek.forget_at))
    }
}

/// When the successor of a KEK is pushed. A checked configuration leaves room for it; without room, at half its life.
pub(super) fn successor_due(kek: &Kek, activation_time_delay: Duration) -> Instant {
    let lifetime = kek.settings.lifetime;
    kek.expires - kek_push_point(lifetime, kek.settings.timing(activation_time_delay)).min(lifetime / 2)
}

#[cfg(test)]
mod tests {
    use crypto::signature::{SigningKey, SigningKeyKind};
    use crypto::{CbcCipher, Hash, SeededRandom};

    use super::*;

    fn settings() -> PushSettings {
        PushSettings {
            communication: Communication::Unicast { acknowledgement_required: false },
            source: None,
            lifetime: Duration::from_secs(3600),
            retransmission_period: Duration::from_secs(10),
            number_of_retransmission: 2,
            heartbeat: None,
            cipher: CbcCipher::TripleDes,
            hash: Hash::Sha256,
            signing_key: SigningKey::generate(SigningKeyKind::EcdsaP256).unwrap(),
        }
    }

    fn kek() -> Kek {
        Kek::new(Instant::ORIGIN, 1, Arc::new(settings()), RESERVED, &mut SeededRandom::new(1))
    }

    fn errand(rekey: u64) -> Errand {
        Errand { rekey, carried: 0 }
    }

    #[test]
    fn the_first_message_has_sequence_number_one_and_each_tells_its_errand() {
        let mut kek = kek();
        assert_eq!(kek.sequence(), 0);
        for rekey in [7, 7, 8, 7, 9] {
            kek.seal(errand(rekey), &Body::default()).unwrap();
        }
        assert_eq!(kek.sequence(), 5);
        let errands: Vec<_> =
            (0..=6).map(|sequence| kek.errand(sequence).map(|errand| errand.rekey)).collect();
        assert_eq!(errands, [None, Some(7), Some(7), Some(8), Some(7), Some(9), None]);
    }

    #[test]
    fn what_old_messages_brought_is_forgotten_and_never_mistaken() {
        let mut kek = kek();
        kek.runs = (1..=RUNS as u32).map(|sequence| (sequence, errand(sequence.into()))).collect();
        kek.set_sequence(RUNS as u32);
        kek.seal(errand(1), &Body::default()).unwrap();
        assert!(kek.runs.len() <= RUNS);
        assert_eq!(kek.errand(1), Some(errand(0)));
        assert_eq!(kek.errand(RUNS as u32), Some(errand(RUNS as u64)));
    }

    #[test]
    fn a_sequence_number_is_never_used_again_and_its_end_is_seen_coming() {
        let mut kek = kek();
        kek.set_sequence(SEQUENCE_NEAR_END - 1);
        assert!(!kek.is_near_end_of_sequence());
        kek.seal(errand(1), &Body::default()).unwrap();
        assert!(kek.is_near_end_of_sequence());
        kek.set_sequence(u32::MAX);
        assert_eq!(kek.seal(errand(1), &Body::default()), Err(SealFailure::Exhausted));
        assert_eq!(kek.sequence(), u32::MAX);
    }

    #[test]
    fn where_none_are_reserved_ahead_every_message_is_recorded_by_its_own_number() {
        let mut kek = Kek::new(Instant::ORIGIN, 1, Arc::new(settings()), 0, &mut SeededRandom::new(1));
        for sequence in 1..4 {
            kek.seal(errand(1), &Body::default()).unwrap();
            assert!(kek.reserves());
            kek.is_stored();
            assert_eq!(kek.remember().reserved, sequence);
        }
    }

    #[test]
    fn a_kek_is_forgotten_a_span_and_ten_seconds_after_its_end() {
        assert_eq!(kek().forget_at, Instant::ORIGIN + Duration::from_secs(3600 + 20 + 10));
    }

    #[test]
    fn its_successor_is_due_at_a_tenth_or_when_the_rounds_still_fit_but_never_at_once() {
        let delay = Duration::from_secs(15);
        assert_eq!(successor_due(&kek(), delay), Instant::ORIGIN + Duration::from_secs(3240));
        let short = PushSettings { lifetime: Duration::from_secs(60), ..settings() };
        let short = Kek::new(Instant::ORIGIN, 1, Arc::new(short), RESERVED, &mut SeededRandom::new(1));
        assert_eq!(successor_due(&short, delay), Instant::ORIGIN + Duration::from_secs(30));
    }

    #[test]
    fn only_what_members_are_told_needs_a_new_kek() {
        let settings = settings();
        let with = |change: fn(&mut PushSettings)| {
            let mut changed = settings.clone();
            change(&mut changed);
            settings.keyed_alike(&changed)
        };
        assert!(with(|push| push.heartbeat = Some(Duration::from_secs(60))));
        assert!(with(|push| push.number_of_retransmission = 9));
        assert!(with(|push| push.communication = Communication::Unicast { acknowledgement_required: true }));
        assert!(!with(|push| push.cipher = CbcCipher::Aes256));
        assert!(!with(|push| push.hash = Hash::Sha384));
        assert!(!with(|push| push.lifetime = Duration::from_secs(4000)));
        assert!(!with(|push| push.signing_key = SigningKey::generate(SigningKeyKind::EcdsaP384).unwrap()));
        assert!(!with(|push| {
            let group = "239.1.1.1".parse().unwrap();
            push.communication = Communication::Multicast { group, interface: "lo0.0".into() };
        }));
    }
}
