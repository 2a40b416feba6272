//! The server that a test writes.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use crypto::signature::{SigningKey, SigningKeyKind};
use crypto::{CbcCipher, EspSuite, Hash, Integrity, Secret, SeededRandom};
use proto::Role;
use proto::member::{Event, GroupSa, Member};
use proto::path::Path;
use proto::policy::{GroupPolicy, KekView, PendingTimes, TekView, Template};
use proto::push::{AcknowledgementPrf, Body, Deletion, Kek, KekSpi, seal};
use proto::time::Instant;
use wire::codec::LengthWidth;
use wire::gdoi::GroupSecurityAssociation;
use wire::isakmp::PayloadBody;
use wire::selector::Selector;

use crate::stranger::Stranger;
use crate::world::*;

pub static SIGNING: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(SigningKeyKind::EcdsaP256).expect("a key can be made"));

pub const SUITE: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };

pub const SPREAD: Duration = Duration::from_secs(10);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The KEK with this number.
pub fn kek(number: u8) -> Kek {
    Kek {
        spi: KekSpi([number; 16]),
        cipher: CbcCipher::Aes128,
        key: Secret::new(vec![number; 16]),
        iv: Secret::new(vec![number ^ 0xff; 16]),
        hash: Hash::Sha256,
        acknowledgement: Some(AcknowledgementPrf::Sha256),
    }
}

/// What a SAK tells of a KEK besides.
#[derive(Clone, Copy, Debug)]
pub struct Rekey {
    pub number: u8,
    pub ends: Instant,
    pub acknowledge: bool,
    pub multicast: Option<&'static str>,
    pub heartbeat: Option<u64>,
}

/// A TEK as the server has it.
#[derive(Clone, Debug)]
pub struct Tek {
    pub spi: u32,
    pub ends: Instant,
    pub activates: Instant,
    pub lifetime: Duration,
    pub selectors: Vec<Selector>,
    key: Secret,
    integrity: Secret,
}

impl Tek {
    /// One that encrypts for a policy.
    pub fn new(spi: u32, ends: Instant, policies: &[u32]) -> Self {
        Self {
            spi,
            ends,
            activates: Instant::ORIGIN,
            lifetime: secs(3600),
            selectors: policies.iter().map(|number| policy(*number).selector).collect(),
            key: Secret::new(vec![spi as u8; 16]),
            integrity: Secret::new(vec![spi as u8 ^ 0xff; 20]),
        }
    }

    pub fn from(mut self, activates: Instant) -> Self {
        self.activates = activates;
        self
    }

    pub fn with_another_key(mut self) -> Self {
        self.key = Secret::new(vec![0x77; 16]);
        self
    }
}

/// What is in a push.
#[derive(Clone, Debug, Default)]
pub struct Push {
    pub deletions: Vec<Deletion>,
    pub teks: Vec<Tek>,
    pub kek: Option<Rekey>,
    /// ATD and DTD as moments.
    pub gap: Option<(Instant, Instant)>,
}

pub struct Scripted {
    pub member: Member,
    pub stranger: Stranger,
    pub now: Instant,
    pub ours: bool,
    pub events: Vec<Event>,
    /// Acknowledgements that the member sent, and where.
    pub acknowledgements: Vec<(Path, Vec<u8>)>,
}

impl Scripted {
    /// A member and a server of ours.
    pub fn ours() -> Self {
        Self::new(true, |_| {})
    }

    pub fn foreign() -> Self {
        Self::new(false, |_| {})
    }

    /// The same with another random source of the member.
    pub fn seeded(seed: u64) -> Self {
        Self::of(true, 100 + seed, |_| {})
    }

    pub fn new(ours: bool, change: impl FnOnce(&mut proto::member::Settings)) -> Self {
        Self::of(ours, 2, change)
    }

    fn of(ours: bool, seed: u64, change: impl FnOnce(&mut proto::member::Settings)) -> Self {
        let stranger = if ours { Stranger::server_with_our_vendor_id() } else { Stranger::server() };
        let now = stranger.now;
        let mut settings = member_settings(0, &[GROUP]);
        change(&mut settings);
        let mut member = Member::new(now, settings, Box::new(SeededRandom::new(seed)));
        member.interface_up(now, "vpn-1", None);
        Self { member, stranger, now, ours, events: Vec::new(), acknowledgements: Vec::new() }
    }

    /// A moment from now.
    pub fn after(&self, seconds: u64) -> Instant {
        self.now + secs(seconds)
    }

    pub fn rekey(&self, number: u8, seconds: u64) -> Rekey {
        Rekey { number, ends: self.after(seconds), acknowledge: true, multicast: None, heartbeat: None }
    }

    /// Answers the registration that the member is at.
    pub fn register(&mut self, kek: Option<Rekey>, sequence: Option<u32>, teks: &[Tek]) {
        self.register_with(kek, sequence, teks, |_| {});
    }

    pub fn register_with(
        &mut self,
        kek: Option<Rekey>,
        sequence: Option<u32>,
        teks: &[Tek],
        change: impl FnOnce(&mut GroupSecurityAssociation<'_>),
    ) {
        let push = Push { teks: teks.to_vec(), kek, ..Push::default() };
        let (sa, kd) = self.bodies(&push, change);
        self.stranger.serve(&mut self.member, &sa, sequence, &kd);
        self.collect();
    }

    /// With one TEK of an hour and one KEK that lasts, which is where most tests begin.
    pub fn registered(mut self) -> Self {
        let (kek, tek) = (self.rekey(1, 20_000), Tek::new(0x1000, self.after(3600), &[1]));
        self.register(Some(kek), Some(0), &[tek]);
        assert_eq!(self.spis(), [0x1000]);
        self.events.clear();
        self
    }

    pub fn bodies(
        &self,
        push: &Push,
        change: impl FnOnce(&mut GroupSecurityAssociation<'_>),
    ) -> (Vec<u8>, Vec<u8>) {
        let verifying_key = SIGNING.verifying_key();
        let held = push.kek.map(|rekey| {
            let kek = kek(rekey.number);
            Kek { acknowledgement: kek.acknowledgement.filter(|_| rekey.acknowledge), ..kek }
        });
        let teks: Vec<TekView<'_>> = push
            .teks
            .iter()
            .map(|tek| TekView {
                spi: tek.spi,
                suite: SUITE,
                cipher_key: &tek.key,
                integrity_key: &tek.integrity,
                lifetime: tek.lifetime,
                activates: tek.activates,
                expires: tek.ends,
                predecessor_expires: None,
                selectors: &tek.selectors,
                anti_replay: None,
            })
            .collect();
        let policy = GroupPolicy {
            kek: push.kek.zip(held.as_ref()).map(|(rekey, kek)| KekView {
                kek,
                verifying_key: &verifying_key,
                source: Some(SERVER),
                multicast_group: rekey.multicast.map(|group| group.parse().unwrap()),
                lifetime: secs(3600),
                heartbeat: rekey.heartbeat.map(secs),
                expires: rekey.ends,
            }),
            gap: push.gap.map(|(activation, deactivation)| PendingTimes { activation, deactivation }),
            pseudo_time: None,
            teks: &teks,
            id_length: LengthWidth::One,
            private: self.ours,
        };
        let template = Template::new(&policy).unwrap();
        let octets = template.sa(self.now);
        let mut sa = GroupSecurityAssociation::parse(&octets).unwrap();
        change(&mut sa);
        (sa.to_octets().unwrap(), template.kd().to_vec())
    }

    /// The datagram of a push under a KEK.
    pub fn seal(&self, under: u8, sequence: u32, push: &Push) -> Vec<u8> {
        self.seal_with(under, sequence, push, |_| {})
    }

    pub fn seal_with(
        &self,
        under: u8,
        sequence: u32,
        push: &Push,
        change: impl FnOnce(&mut GroupSecurityAssociation<'_>),
    ) -> Vec<u8> {
        let bodies = (!push.teks.is_empty() || push.kek.is_some()).then(|| self.bodies(push, change));
        let body = Body {
            deletions: &push.deletions,
            sa: bodies.as_ref().map(|(sa, _)| &sa[..]),
            kd: bodies.as_ref().map(|(_, kd)| &kd[..]),
        };
        seal(&kek(under), &SIGNING, sequence, &body).unwrap()
    }

    pub fn push(&mut self, under: u8, sequence: u32, push: &Push) {
        let datagram = self.seal(under, sequence, push);
        self.deliver(&datagram);
    }

    pub fn deliver(&mut self, datagram: &[u8]) {
        let path = Path::new(SocketAddr::new(member_address(0), 848), SocketAddr::new(SERVER, 848));
        self.deliver_on(path, datagram);
    }

    pub fn deliver_on(&mut self, path: Path, datagram: &[u8]) {
        self.member.handle_datagram(self.now, path, datagram);
        let mut buffer = Vec::new();
        while let Some(path) = self.member.poll_transmit(&mut buffer) {
            self.acknowledgements.push((path, buffer.clone()));
        }
        self.collect();
    }

    /// Lets time pass; what the member sends to register waits for [`Scripted::register`].
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.member.poll_timeout().filter(|next| *next <= end) {
            self.to(next.max(self.now));
        }
        self.to(end);
    }

    fn to(&mut self, moment: Instant) {
        self.now = moment;
        self.stranger.now = moment;
        self.stranger.endpoint.handle_timeout(moment);
        self.member.handle_timeout(moment);
        let mut buffer = Vec::new();
        while let Some(path) = self.member.poll_transmit(&mut buffer) {
            if buffer[18] == 35 {
                self.acknowledgements.push((path, buffer.clone()));
            } else {
                let theirs = path.reversed();
                let random = &mut SeededRandom::new(self.now.as_micros());
                let outcome = self.stranger.endpoint.handle_datagram(moment, theirs, &buffer, random);
                if let proto::phase1::Outcome::Phase2(message) = outcome {
                    self.stranger.messages.push(message);
                }
            }
        }
        self.collect();
    }

    /// Lets time pass until the member asks for a registration. Returns when that is, if it does.
    pub fn asks_within(&mut self, limit: Duration) -> Option<Duration> {
        let (start, end) = (self.now, self.now + limit);
        while self.stranger.messages.is_empty() {
            let next = self.member.poll_timeout().filter(|next| *next <= end)?;
            self.to(next.max(self.now));
        }
        Some(self.now - start)
    }

    fn collect(&mut self) {
        while let Some(event) = self.member.poll_event() {
            if !matches!(event, Event::Log(_)) {
                self.events.push(event);
            }
        }
    }

    pub fn spis(&self) -> Vec<u32> {
        let vpns = self.member.ipsec_security_associations(self.now);
        vpns.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.spi.0).collect()
    }

    pub fn keks(&self) -> Vec<u8> {
        let keks = self.member.kek_security_associations(self.now);
        keks.iter().map(|kek| kek.initiator_cookie.0[0]).collect()
    }

    pub fn counters(&self) -> control::MemberCounters {
        self.member.ipsec_security_associations(self.now)[0].counters
    }

    /// The SAs that the shell was told last.
    pub fn installed(&self) -> Vec<GroupSa> {
        self.last_install().0
    }

    /// The policies that the shell was told last to keep closed.
    pub fn closed(&self) -> Vec<Selector> {
        self.last_install().1
    }

    fn last_install(&self) -> (Vec<GroupSa>, Vec<Selector>) {
        let installs = self.events.iter().rev().find_map(|event| match event {
            Event::InstallSas { sas, closed, .. } => Some((sas.clone(), closed.clone())),
            _ => None,
        });
        installs.expect("SAs were installed")
    }

    pub fn installed_sa(&self, spi: u32) -> GroupSa {
        self.installed().into_iter().find(|sa| sa.spi == spi).expect("the SA is installed")
    }
}
