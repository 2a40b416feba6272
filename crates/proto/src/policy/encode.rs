//! A group's policy as octets, encoded once for each set of TEKs; only the times in it are written per registration.

use std::time::Duration;

use crypto::{EspSuite, Secret};
use wire::attribute::{Attribute, Attributes};
use wire::codec::LengthWidth;
use wire::gdoi::{
    Endpoint, GroupAssociatedPolicy, GroupSecurityAssociation, IpsecTek, KeyDownload, KeyPacket, SaTek,
};
use wire::isakmp::{Identity, PayloadBody};
use wire::registry::{EncapsulationMode, GapAttribute, IpsecAttribute, KeyDownloadType, TekKeyAttribute};
use wire::selector::Selector;

use super::algorithms::{Names, names};
use super::encode_kek::{KekView, kek_packet, sa_kek};
use super::sender_ids::SenderIdDownload;
use super::{ACTIVATION_DELAY, CONFIGURED_LIFETIME, PSEUDO_TIME_CARRIED};
use crate::pseudo_time::{self, PseudoClock};
use crate::time::Instant;
use crate::timeline::{wire_seconds, wire_seconds_short};

/// RFC 2407 section 4.5: life type "seconds".
pub(super) const LIFE_TYPE_SECONDS: u16 = 1;

/// Octets of a basic attribute, of a variable one with four octets, and of DOI, situation, next payload, RESERVED2.
const BASIC: usize = 4;
const VARIABLE_U32: usize = 8;
const SA_HEADER: usize = 12;
/// Octets of the generic payload header.
const GENERIC_HEADER: usize = 4;
/// Octets of the number of key packets and RESERVED2.
const KD_HEADER: usize = 4;

/// What encoding needs to know of a TEK.
#[derive(Debug, Clone, Copy)]
pub struct TekView<'a> {
    /// SPI.
    pub spi: u32,
    /// Algorithms.
    pub suite: EspSuite,
    /// Cipher key as it is handed out.
    pub cipher_key: &'a Secret,
    /// Integrity key.
    pub integrity_key: &'a Secret,
    /// Configured lifetime.
    pub lifetime: Duration,
    /// When it starts to encrypt.
    pub activates: Instant,
    /// When it is gone.
    pub expires: Instant,
    /// While it waits: the end of the TEK it succeeds.
    pub predecessor_expires: Option<Instant>,
    /// What it protects, in order.
    pub selectors: &'a [Selector],
    /// Whether its packets carry pseudo-time, and the window around it.
    pub anti_replay: Option<Duration>,
}

/// The pseudo-time of a group, where a message tells it.
#[derive(Debug, Clone, Copy)]
pub struct ToldTime {
    pub(crate) clock: PseudoClock,
    pub(crate) window: Duration,
}

/// What a PULL or a PUSH tells of a group.
#[derive(Debug, Clone, Copy)]
pub struct GroupPolicy<'a> {
    /// The KEK, where the message brings one.
    pub kek: Option<KekView<'a>>,
    /// Effective ATD and DTD, where the message names them.
    pub gap: Option<PendingTimes>,
    /// The pseudo-time, where packets carry it.
    pub pseudo_time: Option<ToldTime>,
    /// TEKs, in the order of the configuration, oldest first within each ipsec-sa.
    pub teks: &'a [TekView<'a>],
    /// Width of the identification lengths.
    pub id_length: LengthWidth,
    /// Whether to add our private attributes.
    pub private: bool,
}

/// Effective ATD and DTD as moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingTimes {
    /// End of the activation time delay.
    pub activation: Instant,
    /// End of the deactivation time delay.
    pub deactivation: Instant,
}

/// Bodies of the SA and KD payloads of one policy.
#[derive(Debug)]
pub struct Template {
    sa: Vec<u8>,
    lives: Vec<(usize, Instant)>,
    delays: Vec<(usize, Instant)>,
    pseudo_time: Option<(usize, PseudoClock)>,
    kd: Secret,
    spis: Vec<u32>,
    first_expiry: Instant,
    last_expiry: Instant,
    last_tek_expiry: Instant,
    wants_sender_ids: bool,
}

impl Template {
    /// Encodes a policy.
    ///
    /// Fails if it does not fit the length fields of the payloads.
    pub fn new(policy: &GroupPolicy<'_>) -> wire::Result<Self> {
        let GroupPolicy { kek, gap, pseudo_time, teks, id_length, private } = *policy;
        let mut lives = Vec::new();
        let mut delays = Vec::new();
        let mut offset = SA_HEADER;
        let sak = kek.map(|kek| sa_kek(&kek, id_length, private));
        if let (Some(sak), Some(kek)) = (&sak, kek) {
            offset += GENERIC_HEADER + sak.to_octets()?.len();
            // The lifetime is the last attribute.
            lives.push((offset - 4, kek.expires));
        }
        if gap.is_some() || pseudo_time.is_some() {
            offset += GENERIC_HEADER;
        }
        if let Some(gap) = gap {
            delays.push((offset + 2, gap.activation));
            delays.push((offset + BASIC + 2, gap.deactivation));
            offset += 2 * BASIC;
        }
        let time_place = pseudo_time.map(|told| (offset + pseudo_time::TIME_OFFSET, told.clock));
        if pseudo_time.is_some() {
            offset += pseudo_time::ATTRIBUTES_LENGTH;
        }
        let mut sats = Vec::new();
        for tek in teks {
            let names = names(tek.suite);
            for (index, selector) in tek.selectors.iter().enumerate() {
                let private = private && index == 0;
                let plain = private && pseudo_time.is_some() && tek.anti_replay.is_none();
                let sat = sa_tek(tek, names, selector, id_length, private, plain);
                let end = offset + GENERIC_HEADER + sat.to_octets()?.len();
                let private_length = if private { VARIABLE_U32 + BASIC } else { 0 };
                let optional = [names.authentication.is_some(), names.key_length.is_some(), plain];
                let after_life =
                    BASIC * (1 + optional.iter().filter(|present| **present).count()) + private_length;
                lives.push((end - after_life - 4, tek.expires));
                if private {
                    delays.push((end - 2, tek.activates));
                }
                offset = end;
                sats.push(sat);
            }
        }
        let mut associated = Vec::new();
        if gap.is_some() {
            associated.push(Attribute::basic(GapAttribute::ACTIVATION_TIME_DELAY, 0_u16));
            associated.push(Attribute::basic(GapAttribute::DEACTIVATION_TIME_DELAY, 0_u16));
        }
        associated.extend(pseudo_time.into_iter().flat_map(|told| pseudo_time::attributes(told.window)));
        let policy = GroupAssociatedPolicy { attributes: Attributes(associated) };
        let policy = Some(policy).filter(|policy| policy.attributes.iter().next().is_some());
        let expiries = teks.iter().map(|tek| tek.expires).chain(kek.map(|kek| kek.expires));
        Ok(Self {
            first_expiry: teks.iter().map(|tek| tek.expires).min().unwrap_or(Instant::from_micros(u64::MAX)),
            last_expiry: expiries.max().unwrap_or_default(),
            last_tek_expiry: teks.iter().map(|tek| tek.expires).max().unwrap_or_default(),
            wants_sender_ids: teks.iter().any(|tek| !tek.suite.wants_random_iv()),
            sa: GroupSecurityAssociation { kek: sak, policy, teks: sats }.to_octets()?,
            lives,
            delays,
            pseudo_time: time_place,
            kd: Secret::new(key_download(kek.as_ref(), teks).to_octets()?),
            spis: teks.iter().map(|tek| tek.spi).collect(),
        })
    }

    /// Body of the SA payload as of `now`.
    pub fn sa(&self, now: Instant) -> Vec<u8> {
        let mut sa = self.sa.clone();
        for &(offset, expires) in &self.lives {
            sa[offset..offset + 4].copy_from_slice(&wire_seconds(expires - now).to_be_bytes());
        }
        for &(offset, due) in &self.delays {
            sa[offset..offset + 2].copy_from_slice(&wire_seconds_short(due - now).to_be_bytes());
        }
        if let Some((offset, clock)) = self.pseudo_time {
            sa[offset..offset + 8].copy_from_slice(&clock.read(now).to_octets());
        }
        sa
    }

    /// Whether it tells the pseudo-time, which only a member understands that has shown the D3P vendor id.
    pub fn tells_pseudo_time(&self) -> bool {
        self.pseudo_time.is_some()
    }

    /// Body of the KD payload, without sender ids.
    pub fn kd(&self) -> &[u8] {
        self.kd.expose()
    }

    /// Body of the KD payload for a member that gets these sender ids.
    ///
    /// Fails if it does not fit the length fields of the payload.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.4.4
    //# If any KD payload includes keying material that is associated with a
    //# counter-mode of operation, a SID Download Type KD payload containing
    //# at least one SID_VALUE attribute MUST be included.
    pub fn kd_with(&self, sender_ids: &SenderIdDownload) -> wire::Result<Secret> {
        let sids = KeyDownload { packets: vec![sender_ids.packet()] }.to_octets()?;
        let kd = self.kd.expose();
        let mut joined = Vec::with_capacity(kd.len() + sids.len());
        joined.extend_from_slice(kd);
        joined.extend_from_slice(&sids[KD_HEADER..]);
        let packets = u16::from_be_bytes([kd[0], kd[1]]).checked_add(1);
        let error =
            wire::Error { violation: wire::Violation::BadLength, field: "Number of Key Packets", offset: 0 };
        joined[..2].copy_from_slice(&packets.ok_or(error)?.to_be_bytes());
        Ok(Secret::new(joined))
    }

    /// Whether a TEK is of a counter mode.
    pub fn wants_sender_ids(&self) -> bool {
        self.wants_sender_ids
    }

    /// When the last of the TEKs is gone.
    pub fn last_tek_expiry(&self) -> Instant {
        self.last_tek_expiry
    }

    /// SPIs of the TEKs, in order.
    pub fn spis(&self) -> &[u32] {
        &self.spis
    }

    /// When the first of the TEKs is gone; far in the future without any.
    pub fn first_expiry(&self) -> Instant {
        self.first_expiry
    }

    /// When the last of the keys is gone.
    pub fn last_expiry(&self) -> Instant {
        self.last_expiry
    }
}

impl PendingTimes {
    /// What one GAP says for the TEKs of several ipsec-sas, while a successor waits.
    ///
    /// A successor that encrypts early is worse than one that is late, as long as its predecessor lives: hence the
    /// latest activation, but not after the first end of a predecessor. An SA that is deactivated early is worse than
    /// one that is kept: hence the latest end.
    pub fn of_all(teks: &[TekView<'_>]) -> Option<Self> {
        // A predecessor that is not told any more is gone, and its successor waits for nothing.
        let told = |expires| teks.iter().any(|tek| tek.expires == expires);
        let waiting = |tek: &TekView<'_>| {
            let expires = tek.predecessor_expires.filter(|expires| told(*expires))?;
            Some((tek.activates, expires))
        };
        let pending = || teks.iter().filter_map(waiting);
        let activation = pending().map(|(activates, _)| activates).max()?;
        let first_end = pending().map(|(_, expires)| expires).min()?;
        let last_end = pending().map(|(_, expires)| expires).max()?;
        Some(Self { activation: activation.min(first_end), deactivation: last_end })
    }

    /// What a GAP says for one ipsec-sa: the times of its newest TEK, if that one waits.
    pub fn of_newest(teks: &[TekView<'_>]) -> Option<Self> {
        let newest = teks.last()?;
        Some(Self { activation: newest.activates, deactivation: newest.predecessor_expires? })
    }
}

fn sa_tek<'a>(
    tek: &TekView<'_>,
    names: Names,
    selector: &Selector,
    id_length: LengthWidth,
    private: bool,
    plain: bool,
) -> SaTek<'a> {
    let mut attributes = vec![
        Attribute::basic(IpsecAttribute::LIFE_TYPE, LIFE_TYPE_SECONDS),
        Attribute::variable_u32(IpsecAttribute::LIFE_DURATION, 0),
        Attribute::basic(IpsecAttribute::ENCAPSULATION_MODE, EncapsulationMode::TUNNEL),
    ];
    if let Some(algorithm) = names.authentication {
        attributes.push(Attribute::basic(IpsecAttribute::AUTHENTICATION_ALGORITHM, algorithm));
    }
    if let Some(bits) = names.key_length {
        attributes.push(Attribute::basic(IpsecAttribute::KEY_LENGTH, bits));
    }
    if private {
        attributes.push(Attribute::variable_u32(CONFIGURED_LIFETIME, wire_seconds(tek.lifetime)));
    }
    if plain {
        attributes.push(Attribute::basic(PSEUDO_TIME_CARRIED, 0_u16));
    }
    if private {
        attributes.push(Attribute::basic(ACTIVATION_DELAY, 0_u16));
    }
    SaTek::Esp(IpsecTek {
        protocol: selector.protocol,
        source: Endpoint { identity: Identity::subnet(selector.source), port: selector.source_port },
        destination: Endpoint {
            identity: Identity::subnet(selector.destination),
            port: selector.destination_port,
        },
        transform: names.transform.into(),
        spi: tek.spi,
        attributes: Attributes(attributes),
        id_length,
    })
}

fn key_download<'a>(kek: Option<&KekView<'a>>, teks: &[TekView<'a>]) -> KeyDownload<'a> {
    let packets = teks.iter().map(|tek| {
        let mut attributes =
            vec![Attribute::variable(TekKeyAttribute::ALGORITHM_KEY, tek.cipher_key.expose())];
        if !tek.integrity_key.is_empty() {
            attributes.push(Attribute::variable(TekKeyAttribute::INTEGRITY_KEY, tek.integrity_key.expose()));
        }
        KeyPacket {
            kind: KeyDownloadType::TEK,
            spi: tek.spi.to_be_bytes().to_vec().into(),
            attributes: Attributes(attributes),
        }
    });
    KeyDownload { packets: kek.map(kek_packet).into_iter().chain(packets).collect() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::{CbcCipher, Integrity};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn tek(activates: u64, expires: u64, predecessor_expires: Option<u64>, key: &Secret) -> TekView<'_> {
        TekView {
            spi: 256,
            suite: EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 },
            cipher_key: key,
            integrity_key: key,
            lifetime: Duration::from_secs(100),
            activates: at(activates),
            expires: at(expires),
            predecessor_expires: predecessor_expires.map(at),
            selectors: &[],
            anti_replay: None,
        }
    }

    #[test]
    fn a_predecessor_that_is_gone_hastens_nothing() {
        let key = Secret::from_slice(&[0; 16]);
        let third = [tek(80, 190, Some(82), &key), tek(187, 270, Some(190), &key)];
        let pending = PendingTimes::of_all(&third).expect("the third TEK waits");
        assert_eq!((pending.activation, pending.deactivation), (at(187), at(190)));
        assert!(PendingTimes::of_all(&third[..1]).is_none());
    }
}
