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
use super::{ACTIVATION_DELAY, CONFIGURED_LIFETIME};
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
    /// The end of the TEK it succeeds, if that one is alive.
    pub predecessor_expires: Option<Instant>,
    /// What it protects, in order.
    pub selectors: &'a [Selector],
}

/// Bodies of the SA and KD payloads of one set of TEKs.
#[derive(Debug)]
pub struct Template {
    sa: Vec<u8>,
    lives: Vec<(usize, Instant)>,
    delays: Vec<(usize, Instant)>,
    kd: Secret,
    spis: Vec<u32>,
    last_expiry: Instant,
}

impl Template {
    /// Encodes the policy of `teks`, oldest first within each ipsec-sa, with identification lengths of `id_length`.
    /// `private` adds our private attributes.
    ///
    /// Fails if the policy does not fit the length fields of the payloads.
    pub fn new(teks: &[TekView<'_>], id_length: LengthWidth, private: bool) -> wire::Result<Self> {
        let gap = pending_times(teks);
        let mut lives = Vec::new();
        let mut delays = Vec::new();
        let mut offset = SA_HEADER;
        if let Some((activation, deactivation)) = gap {
            delays.push((offset + GENERIC_HEADER + 2, activation));
            delays.push((offset + GENERIC_HEADER + BASIC + 2, deactivation));
            offset += GENERIC_HEADER + 2 * BASIC;
        }
        let mut sats = Vec::new();
        for tek in teks {
            let names = names(tek.suite);
            for (index, selector) in tek.selectors.iter().enumerate() {
                let private = private && index == 0;
                let sat = sa_tek(tek, names, selector, id_length, private);
                let end = offset + GENERIC_HEADER + sat.to_octets()?.len();
                let private_length = if private { VARIABLE_U32 + BASIC } else { 0 };
                let optional = [names.authentication.is_some(), names.key_length.is_some()];
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
        let policy = gap.map(|_| GroupAssociatedPolicy {
            attributes: Attributes::from([
                Attribute::basic(GapAttribute::ACTIVATION_TIME_DELAY, 0_u16),
                Attribute::basic(GapAttribute::DEACTIVATION_TIME_DELAY, 0_u16),
            ]),
        });
        Ok(Self {
            sa: GroupSecurityAssociation { kek: None, policy, teks: sats }.to_octets()?,
            lives,
            delays,
            kd: Secret::new(key_download(teks).to_octets()?),
            spis: teks.iter().map(|tek| tek.spi).collect(),
            last_expiry: teks.iter().map(|tek| tek.expires).max().unwrap_or_default(),
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
        sa
    }

    /// Body of the KD payload.
    pub fn kd(&self) -> &[u8] {
        self.kd.expose()
    }

    /// SPIs of the TEKs, in order.
    pub fn spis(&self) -> &[u32] {
        &self.spis
    }

    /// When the last of the TEKs is gone.
    pub fn last_expiry(&self) -> Instant {
        self.last_expiry
    }
}

/// Effective ATD and DTD as moments, while a successor waits.
///
/// One GAP speaks for all TEKs. A successor that encrypts early is worse than one that is late, as long as its
/// predecessor lives: hence the latest activation, but not after the first end of a predecessor. An SA that is
/// deactivated early is worse than one that is kept: hence the latest end.
fn pending_times(teks: &[TekView<'_>]) -> Option<(Instant, Instant)> {
    let pending = || teks.iter().filter_map(|tek| Some((tek.activates, tek.predecessor_expires?)));
    let activation = pending().map(|(activates, _)| activates).max()?;
    let first_end = pending().map(|(_, expires)| expires).min()?;
    let last_end = pending().map(|(_, expires)| expires).max()?;
    Some((activation.min(first_end), last_end))
}

fn sa_tek<'a>(
    tek: &TekView<'_>,
    names: Names,
    selector: &Selector,
    id_length: LengthWidth,
    private: bool,
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

fn key_download<'a>(teks: &[TekView<'a>]) -> KeyDownload<'a> {
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
    KeyDownload { packets: packets.collect() }
}
