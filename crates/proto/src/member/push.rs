//! GROUPKEY-PUSH as the member takes it, and its acknowledgement.
//!
//! ```text
//!   KEK of that name? ─▶ copy? ─▶ header, decrypts, readable? ─▶ SEQ newer? ─▶ signature? ─▶ policy acceptable?
//!        each step cheaper than the next; what fails one is counted by reason and changes nothing but,
//!        once the signature is right, the sequence number
//!   ─▶ Deletes obeyed ─▶ KEK taken ─▶ TEKs taken ─▶ acknowledged under the KEK that it came under
//! ```
//!
//! The RFC leaves open what becomes of a message part of which is not acceptable. It says that an implementation must
//! abort when it meets what it does not understand, so the message is judged as a whole before anything is changed. An SPI in a
//! Delete that is not ours is no such part: a repeated round, or one that we receive after the SA has ended, names it too.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::PushRejections;
use crypto::signature::{BareHash, VerifyingKey};
use wire::isakmp::Identity;
use wire::selector::Selector;

use super::event::Event;
use super::kek_set::Origin;
use super::registration::random_number;
use super::sa_set::Held;
use super::state::{State, Trigger};
use super::{Keys, Member, Removal};
use crate::log::{Entry, Facility, Level};
use crate::path::Path;
use crate::policy::{KekKeys, KekRefusal, Offer, PolicyError, TekRefusal};
use crate::pseudo_time::AntiReplay;
use crate::push::{self, Deletion, KekSpi, PushError, Verified};
use crate::time::Instant;

//= https://www.rfc-editor.org/rfc/rfc8263#section-6
//# A GM receiving a GROUPKEY-PUSH message as a multicast message MAY
//# introduce jitter to the timing of its Acknowledgement Message to
//# help the GCKS better manage replies from GMs.  A GM MUST NOT delay
//# sending an Acknowledgement Message for more than 5 seconds.
const LONGEST_JITTER: Duration = Duration::from_secs(2);

/// Acknowledgements that wait to be sent. Each needs a push with a good signature, so a few are many.
const ACKNOWLEDGEMENTS: usize = 64;

/// Acknowledgements on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    ready: VecDeque<(Path, Vec<u8>)>,
    delayed: Vec<(Instant, Path, Vec<u8>)>,
}

/// What deletions have done.
#[derive(Debug, Default)]
struct Aftermath {
    /// The SAs that are left are to be installed anew: one may encrypt earlier, policies may be gone.
    install: bool,
    teks_deleted: bool,
    /// The number of the last KEK, if it is among what is deleted. Older ones that are left are not what the server uses.
    last_kek_deleted: Option<u32>,
    /// Policies that have lost their last TEK.
    bereft: Vec<Selector>,
}

/// A push that may be obeyed.
struct Judged {
    deletions: Vec<Deletion>,
    offer: Option<Offer>,
    tek_keys: Vec<Keys>,
    kek_keys: Option<KekKeys>,
}

impl Member {
    /// Takes a GROUPKEY-PUSH. It may be for several VPNs in one group, and come from any address.
    pub(super) fn handle_push(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Some(spi) = push::kek_spi_of(datagram) else { return };
        let holders: Vec<usize> =
            (0..self.vpns.len()).filter(|&index| self.vpns[index].keks.get(spi).is_some()).collect();
        if holders.is_empty() {
            return self.unknown_kek(now, path, spi);
        }
        for index in holders {
            if let Err(error) = self.take_push(now, index, spi, path, datagram) {
                self.reject_push(now, index, path, &error);
            }
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc6407#section-7.3.5
    //# The
    //# group member first decrypts the message using a symmetric cipher.  If
    //# it is a validly formed message, then the sequence number is checked
    //# against the most recently received sequence number.  Only when the
    //# sequence number is valid (i.e., it is a larger value than previously
    //# received) is the digital signature verified and the message further
    //# processed.
    fn take_push(
        &mut self,
        now: Instant,
        index: usize,
        spi: KekSpi,
        path: Path,
        datagram: &[u8],
    ) -> Result<(), PushError> {
        let vpn = &mut self.vpns[index];
        let bare_hash = if vpn.settings.rsa_bare_hash { BareHash::Accepted } else { BareHash::Refused };
        let server_is_ours = vpn.server_is_ours;
        let paired_only = vpn.settings.paired_policies_only;
        let held = vpn.keks.get_mut(spi).filter(|held| held.ends > now).ok_or(PushError::UnknownKek)?;
        //= https://www.rfc-editor.org/rfc/rfc6407#section-7.3.4
        //# Implementations SHOULD keep a record (e.g., a hash value) of recently
        //# received GROUPKEY-PUSH messages and reject duplicate messages prior
        //# to performing cryptographic operations.
        if held.recent.contains(datagram) {
            return Err(PushError::Duplicate);
        }
        let newer = push::open(&held.kek, datagram)?.newer_than(held.sequence)?;
        let verified = newer.verify(&held.verifying, bare_hash)?;
        // From here on it is the server's: its number is used up whatever becomes of it.
        held.sequence = verified.sequence();
        held.recent.remember(datagram);
        self.changed = true;
        let judged = match judge(&verified, server_is_ours, paired_only, &held.verifying) {
            Ok(judged) => judged,
            Err(error) => return Err(self.unacceptable_push(now, index, &error)),
        };
        // Under a KEK that was succeeded the present one comes along: without it, this was sent before there was one, and
        // took longer than a registration under the new one. Nothing else tells its age.
        let is_alone =
            judged.deletions.is_empty() && judged.offer.as_ref().is_some_and(|offer| offer.kek.is_none());
        if is_alone && self.vpns[index].keks.renewed_since(spi).is_some() {
            return Err(PushError::Superseded);
        }
        if let Some(offer) = &judged.offer
            && let Err(error) = self.vpns[index].sas.has_room_for(offer)
        {
            return Err(self.unacceptable_push(now, index, &error));
        }
        let vpn = &mut self.vpns[index];
        if let Some(held) = vpn.keks.get_mut(spi) {
            held.pushes += 1;
        }
        vpn.last_heard = Some(now);
        vpn.counters.pushes_succeeded += 1;
        self.obey(now, index, spi, path, datagram, &verified, judged);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one message with all that is known of it")]
    fn obey(
        &mut self,
        now: Instant,
        index: usize,
        spi: KekSpi,
        path: Path,
        datagram: &[u8],
        verified: &Verified,
        judged: Judged,
    ) {
        // The KEK may be among what is deleted.
        //= https://www.rfc-editor.org/rfc/rfc8263#section-4
        //# A GROUPKEY-PUSH ACK is
        //# sent even if the GROUPKEY-PUSH message contains a Delete payload for
        //# the KEK used to protect the GROUPKEY-PUSH message.
        let Some(mut under) = self.vpns[index].keks.get(spi).map(|held| held.kek.clone()) else { return };

        let aftermath = self.obey_deletions(now, index, spi, &judged.deletions);
        let mut named = 0;
        if let Some(offer) = judged.offer {
            let server = self.vpns[index].registered_with.unwrap_or(path.remote.ip());
            if let (Some(received), Some(keys)) = (&offer.kek, judged.kek_keys) {
                let (number, fraction) = (self.next_kek_index, random_number(&mut *self.random));
                let origin = Origin::Push { under: spi };
                let vpn = &mut self.vpns[index];
                if vpn.keks.take(origin, now, received, keys, server, number, fraction) {
                    self.next_kek_index += 1;
                    self.journal.record(
                        now,
                        Entry::new(Level::Info, Facility::PolicyManager, "new KEK by push")
                            .with("vpn", &vpn.name)
                            .with("kek", received.spi),
                    );
                }
            }
            named = offer.teks.len();
            let random = &mut self.random;
            let vpn = &mut self.vpns[index];
            let before: BTreeSet<u32> = vpn.sas.iter().map(|held| held.sa.spi).collect();
            let replaced = vpn.sas.apply_push(now, &offer, judged.tek_keys, vpn.server_is_ours, || {
                random_number(&mut **random)
            });
            let fresh = vpn.sas.iter().filter(|held| !before.contains(&held.sa.spi)).count();
            vpn.number_tunnels(&mut self.next_tunnel_id);
            vpn.learn_interval();
            if fresh > 0 {
                vpn.recovered_by_push();
                self.journal.record(
                    now,
                    Entry::new(Level::Info, Facility::PolicyManager, "new TEKs by push")
                        .with("vpn", &vpn.name)
                        .with("teks", fresh)
                        .with("sequence", verified.sequence()),
                );
            }
            self.take_pseudo_time(index, now, offer.anti_replay, false);
            self.removed(index, replaced, Removal::Deleted);
        }
        if named > 0 || aftermath.install {
            self.install(index);
        }
        self.tune_phase1(now);
        self.follow_deletions(now, index, &aftermath);
        self.sync_multicast(index);

        //= https://www.rfc-editor.org/rfc/rfc8263#section-7.2
        //# A GM transmits an ACK only when the policy of the most recently
        //# received SA KEK includes a request by the GCKS for ACKs, and the ACK
        //# is only returned after processing the GROUPKEY-PUSH message according
        //# to Section 4.4 of [RFC6407].
        if let Some(newest) = self.vpns[index].keks.newest() {
            under.acknowledgement = newest.kek.acknowledgement;
        }
        if let Some(keys) = under.acknowledgement_keys() {
            self.acknowledge(now, index, spi, &keys, verified.sequence(), path, datagram);
        }
        self.journal.record(
            now,
            Entry::new(Level::Debug, Facility::PolicyManager, "push obeyed")
                .with("vpn", &self.vpns[index].name)
                .with("sequence", verified.sequence())
                .with("kek", spi)
                .with("signed-length", format_args!("{:?}", verified.header_length()))
                .with("teks", named)
                .with("deletes", judged.deletions.len()),
        );
    }

    /// Removes what is to be deleted.
    ///
    /// A Delete of everything that comes under an older KEK says nothing of what a PULL has brought since, with a newer one:
    /// rounds go on for those who have not asked yet, and some are late.
    fn obey_deletions(
        &mut self,
        now: Instant,
        index: usize,
        under: KekSpi,
        deletions: &[Deletion],
    ) -> Aftermath {
        let mut aftermath = Aftermath::default();
        let renewed = self.vpns[index].keks.renewed_since(under);
        let last_kek = self.vpns[index].keks.newest().map(|kek| kek.index);
        let mut foreign = 0;
        for deletion in deletions {
            let vpn = &mut self.vpns[index];
            match *deletion {
                Deletion::Tek(_) | Deletion::EveryTek => {
                    let meant = |held: &Held| match *deletion {
                        Deletion::Tek(spi) => held.sa.spi == spi,
                        _ => renewed.is_none_or(|renewed| held.since < renewed),
                    };
                    let removed = vpn.sas.remove(now, meant);
                    foreign += u64::from(removed.spis.is_empty() && matches!(deletion, Deletion::Tek(_)));
                    aftermath.install |= !removed.spis.is_empty();
                    aftermath.teks_deleted |= !removed.spis.is_empty();
                    aftermath.bereft.extend(removed.bereft);
                    self.removed(index, removed.spis, Removal::Deleted);
                }
                Deletion::Kek(spi) => foreign += u64::from(!vpn.keks.remove(spi)),
                Deletion::EveryKek => match renewed {
                    Some(renewed) => vpn.keks.clear_before(renewed),
                    None => vpn.keks.clear(),
                },
                Deletion::Other(_) => {}
            }
        }
        let vpn = &mut self.vpns[index];
        let gone = |number: &u32| vpn.keks.iter().all(|kek| kek.index != *number);
        aftermath.last_kek_deleted = last_kek.filter(gone);
        vpn.counters.deletes_received += deletions.len() as u64;
        vpn.counters.rejections.foreign_delete += foreign;
        if !deletions.is_empty() {
            self.journal.record(
                now,
                Entry::new(Level::Info, Facility::PolicyManager, "deleted by the server")
                    .with("vpn", &vpn.name)
                    .with("deletes", deletions.len())
                    .with("unknown", foreign)
                    .with("teks-left", vpn.sas.iter().count()),
            );
        }
        // Without any SA the policies stay as they are in the data path: closed.
        aftermath.install &= !vpn.sas.is_empty();
        aftermath
    }

    /// After deletions: a member that is left without KEK, or with policies without TEK, asks for the rest.
    fn follow_deletions(&mut self, now: Instant, index: usize, aftermath: &Aftermath) {
        let vpn = &self.vpns[index];
        let newer = |last| vpn.keks.newest().is_some_and(|kek| kek.index > last);
        let deaf = aftermath.last_kek_deleted.is_some_and(|last| !newer(last));
        let still_closed = |selector| vpn.sas.closed.contains(selector);
        let bereft =
            aftermath.teks_deleted && (vpn.sas.is_empty() || aftermath.bereft.iter().any(still_closed));
        if !(deaf || bereft) {
            return;
        }
        if matches!(vpn.state, State::Pulling(_)) {
            // An answer that is under way may bring back what was deleted. Who has asked had a reason of its own, which
            // does not wait, and a moment of its own, so that few ask now.
            self.end_pull(index);
            self.vpns[index].state.step(Trigger::Failed, State::Waiting(now));
        } else {
            self.reregister_soon(now, index);
        }
    }

    /// Tells the shell all SAs of a VPN.
    pub(super) fn install(&mut self, index: usize) {
        let vpn = &self.vpns[index];
        self.events.push_back(Event::InstallSas {
            vpn: vpn.name.clone(),
            sas: vpn.sas.iter().map(|held| held.sa.clone()).collect(),
            closed: vpn.sas.closed.clone(),
        });
    }

    /// Tells the shell the pseudo-time that came in a message at the moment `at`.
    pub(super) fn take_pseudo_time(
        &mut self,
        index: usize,
        at: Instant,
        told: Option<AntiReplay>,
        set: bool,
    ) {
        let Some(anti_replay) = told else { return };
        let vpn = &mut self.vpns[index];
        vpn.pseudo_time = Some((at, anti_replay));
        self.events.push_back(Event::PseudoTime { vpn: vpn.name.clone(), at, anti_replay, set });
    }

    /// Tells the shell which multicast groups to be in.
    pub(super) fn sync_multicast(&mut self, index: usize) {
        let vpn = &mut self.vpns[index];
        let wanted = vpn.keks.multicast_groups();
        let joined = std::mem::replace(&mut vpn.joined, wanted);
        for (group, source) in &joined {
            if vpn.joined.get(group) != Some(source) {
                self.events.push_back(Event::LeaveGroup { vpn: vpn.name.clone(), group: *group });
            }
        }
        for (group, source) in &vpn.joined {
            if joined.get(group) != Some(source) {
                let event = Event::JoinGroup { vpn: vpn.name.clone(), group: *group, source: *source };
                self.events.push_back(event);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one message with all that is known of it")]
    fn acknowledge(
        &mut self,
        now: Instant,
        index: usize,
        spi: KekSpi,
        keys: &push::AcknowledgementKeys,
        sequence: u32,
        path: Path,
        datagram: &[u8],
    ) {
        //= https://www.rfc-editor.org/rfc/rfc8263#section-3.4
        //# The address
        //# provided in the ID payload represents the IP address of the GM and
        //# MUST match the source IP address used for the most recent
        //# GROUPKEY-PULL exchange.
        let specified = |address: &IpAddr| !address.is_unspecified();
        let multicast = path.local.ip().is_multicast();
        let own = self.vpns[index].pulled_from.filter(specified);
        let Some(own) = own.or(Some(path.local.ip()).filter(|_| !multicast).filter(specified)) else {
            return;
        };
        let Ok(message) = keys.seal(spi, sequence, &Identity::address(own)) else { return };
        //= https://www.rfc-editor.org/rfc/rfc8263#section-3
        //# That
        //# is, the source address of the GROUPKEY-PUSH message becomes the
        //# destination address of the GROUPKEY-PUSH Acknowledgement Message, and
        //# the GM includes its own IP address as the source address of the
        //# GROUPKEY-PUSH Acknowledgement Message.
        let local = if multicast || !specified(&path.local.ip()) { own } else { path.local.ip() };
        let path = Path { local: SocketAddr::new(local, path.local.port()), remote: path.remote };
        let (marker, _) = wire::non_esp::strip(datagram);
        let message = wire::non_esp::mirror(marker, &message);
        let delay = if multicast { self.random_within(LONGEST_JITTER) } else { Duration::ZERO };
        if self.outbox.put(now, delay, path, message) {
            self.vpns[index].counters.acknowledgements += 1;
        }
    }

    fn unknown_kek(&mut self, now: Instant, path: Path, spi: KekSpi) {
        let server = path.remote.ip();
        for vpn in &mut self.vpns {
            let asked = vpn.gateway.servers().contains(&server);
            if asked && !matches!(vpn.state, State::Down) {
                vpn.counters.rejections.unknown_kek += 1;
            }
        }
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::PolicyManager, "push under an unknown KEK")
                .with("from", path.remote)
                .with("kek", spi),
        );
    }

    fn reject_push(&mut self, now: Instant, index: usize, path: Path, error: &PushError) {
        let vpn = &mut self.vpns[index];
        count(&mut vpn.counters.rejections, error);
        // Copies and late rounds are everyday; the rest is somebody's mistake or malice.
        let level = match error {
            PushError::Duplicate | PushError::OldSequence { .. } => Level::Debug,
            _ => Level::Warn,
        };
        self.journal.record(
            now,
            Entry::new(level, Facility::PolicyManager, "push rejected")
                .with("vpn", &vpn.name)
                .with("from", path.remote)
                .with("reason", error),
        );
    }

    /// The reason to count for an authentic push whose policy is refused, which the log tells in full.
    fn unacceptable_push(&mut self, now: Instant, index: usize, error: &PolicyError) -> PushError {
        let vpn = &mut self.vpns[index];
        vpn.counters.exceeded_keys += u64::from(*error == PolicyError::TooManyTeks);
        vpn.counters.exceeded_policies += u64::from(*error == PolicyError::TooManyPolicies);
        self.journal.record(
            now,
            Entry::new(Level::Warn, Facility::PolicyManager, "the policy of a push is refused")
                .with("vpn", &vpn.name)
                .with("reason", error),
        );
        match error {
            PolicyError::GroupPolicy(class) => PushError::UnknownAttribute(class.0),
            PolicyError::Kek(KekRefusal::Attribute(class)) => PushError::UnknownAttribute(class.0),
            PolicyError::Tek(refused) => {
                vpn.counters.unsupported_algorithms += 1;
                match refused.refusal {
                    TekRefusal::Attribute(class) => PushError::UnknownAttribute(class.0),
                    _ => PushError::Policy,
                }
            }
            _ => PushError::Policy,
        }
    }
}

/// Judges all of an authentic push before anything of it is done.
//= https://www.rfc-editor.org/rfc/rfc6407#section-4.4
//# The SA and KD payloads are processed, which results in a new GDOI
//# Rekey SA (if the SA payload included an SA_KEK attribute) and/or new
//# Data-Security SAs being added to the system.
fn judge(
    verified: &Verified,
    server_is_ours: bool,
    paired_only: bool,
    known: &VerifyingKey,
) -> Result<Judged, PolicyError> {
    let contents = match verified.contents() {
        Ok(contents) => contents,
        Err(PushError::Malformed(error)) => return Err(PolicyError::Malformed(error)),
        Err(_) => return Err(PolicyError::Empty),
    };
    let mut judged =
        Judged { deletions: contents.deletions, offer: None, tek_keys: Vec::new(), kek_keys: None };
    if let Some(sa) = &contents.sa {
        let offer = Offer::judge_push(sa, server_is_ours)?;
        if let Some(spi) = offer.first_unpaired().filter(|_| paired_only) {
            return Err(PolicyError::Unpaired { spi });
        }
        if let Some(download) = &contents.keys {
            judged.tek_keys = offer.keys(download)?;
            judged.kek_keys = offer.kek_keys(download, Some(known))?;
        }
        judged.offer = Some(offer);
    }
    Ok(judged)
}

fn count(rejections: &mut PushRejections, error: &PushError) {
    let counter = match error {
        PushError::UnknownKek => &mut rejections.unknown_kek,
        PushError::Truncated => &mut rejections.truncated,
        PushError::Header(_) => &mut rejections.bad_header,
        PushError::NotDecryptable(_) => &mut rejections.not_decryptable,
        PushError::Malformed(_) => &mut rejections.malformed,
        PushError::Duplicate => &mut rejections.duplicate,
        PushError::OldSequence { .. } | PushError::Superseded => &mut rejections.old_sequence,
        PushError::Signature => &mut rejections.bad_signature,
        PushError::UnknownAttribute(_) => &mut rejections.unknown_attribute,
        PushError::Policy => &mut rejections.bad_policy,
        PushError::ForeignDelete => &mut rejections.foreign_delete,
    };
    *counter += 1;
}

impl Outbox {
    /// Queues a message; one that is queued already is not queued again. Returns whether it was.
    fn put(&mut self, now: Instant, delay: Duration, path: Path, message: Vec<u8>) -> bool {
        let same = |known: &Path, octets: &Vec<u8>| *known == path && *octets == message;
        let known = self.ready.iter().any(|(path, octets)| same(path, octets))
            || self.delayed.iter().any(|(_, path, octets)| same(path, octets));
        if known || self.ready.len() + self.delayed.len() >= ACKNOWLEDGEMENTS {
            return false;
        }
        if delay.is_zero() {
            self.ready.push_back((path, message));
        } else {
            self.delayed.push((now + delay, path, message));
        }
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let (due, waiting) = std::mem::take(&mut self.delayed).into_iter().partition(|(at, _, _)| *at <= now);
        self.delayed = waiting;
        let due: Vec<(Instant, Path, Vec<u8>)> = due;
        self.ready.extend(due.into_iter().map(|(_, path, message)| (path, message)));
    }

    pub(super) fn poll(&mut self) -> Option<(Path, Vec<u8>)> {
        self.ready.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.delayed.iter().map(|(at, _, _)| *at).min()
    }
}
