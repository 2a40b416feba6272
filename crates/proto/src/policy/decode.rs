//! What a member makes of the policy that a server sends: TEKs it can use, policies it must keep closed, or a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crypto::signature::VerifyingKey;
use crypto::{EspSuite, Secret};
use wire::attribute::{Attribute, Attributes};
use wire::gdoi::{GroupAssociatedPolicy, GroupSecurityAssociation, IpsecTek, KeyDownload, KeyPacket, SaTek};
use wire::registry::{
    AddressPreservation, AuthenticationAlgorithm, EncapsulationMode, EspTransform, GapAttribute,
    IpsecAttribute, KeyDownloadType, NotifyType, SaDirection, TekKeyAttribute, TekProtocol,
};
use wire::selector::Selector;

use super::algorithms::{Names, suite};
use super::decode_kek::{KekKeys, KekRefusal, ReceivedKek};
use super::encode::LIFE_TYPE_SECONDS;
use super::sender_ids::SenderIdDownload;
use super::{ACTIVATION_DELAY, CONFIGURED_LIFETIME, PRIVATE_USE, PSEUDO_TIME_CARRIED};
use crate::member::{Direction, Keys};
use crate::pseudo_time::AntiReplay;

/// TEKs that a member takes in one PULL: 400 `ipsec-sa`s with their successors, and room.
pub const MAXIMUM_TEKS: usize = 1024;

/// RFC 2407 section 4.5: life type "kilobytes". A group has no common count of octets, so it is read over.
const LIFE_TYPE_KILOBYTES: u64 = 2;

/// RFC 6407 section 5.5: protocols 128 to 255 are for private use.
const FIRST_PRIVATE_PROTOCOL: TekProtocol = TekProtocol(128);

/// RFC 2407 section 4.5.4: the life of an SA whose life is not told.
const DEFAULT_LIFE: Duration = Duration::from_secs(28_800);

/// Longest life we believe, ten years: what is longer is a mistake and only our arithmetic would notice.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why the policy of a server is not acceptable as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A payload cannot be read.
    #[error("malformed: {0}")]
    Malformed(wire::Error),
    /// A payload is missing, or there are two of it.
    #[error("message {message} lacks or repeats a payload")]
    Payloads {
        /// Number of the GROUPKEY-PULL message.
        message: u8,
    },
    /// The nonce is too short or too long.
    #[error("a nonce of {0} octets, allowed are 8 to 128")]
    Nonce(usize),
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.4
    //# A GDOI implementation MUST abort if it encounters an attribute or
    //# capability that it does not understand.
    /// The group has a policy that we do not know.
    #[error("unknown group policy attribute {0}")]
    GroupPolicy(GapAttribute),
    /// A TEK says what it protects in a way that we cannot even keep closed.
    #[error("the traffic of TEK {spi:08x} is not told by prefixes")]
    Traffic {
        /// SPI of the TEK.
        spi: u32,
    },
    /// A TEK of a protocol that we do not know, for traffic that we do not know.
    #[error("a TEK for protocol {0}")]
    Protocol(TekProtocol),
    /// A TEK has several policies that are not two mirror images, and only those are to be accepted.
    #[error("the policies of TEK {spi:08x} are not paired")]
    Unpaired {
        /// SPI of the TEK.
        spi: u32,
    },
    /// No TEK at all.
    #[error("the server sent no TEK")]
    Empty,
    /// More TEKs than we take.
    #[error("more than {MAXIMUM_TEKS} TEKs")]
    TooManyTeks,
    /// More policies than we take.
    #[error("too many policies")]
    TooManyPolicies,
    /// The Rekey SA is not usable.
    #[error("the Rekey SA is refused: {0}")]
    Kek(#[from] KekRefusal),
    /// A TEK of a rekey is not usable.
    #[error("TEK {spi:08x} is refused: {refusal}", spi = .0.spi, refusal = .0.refusal)]
    Tek(RefusedTek),
    /// Not one TEK is usable.
    #[error("no common policy: {0}")]
    NoCommonPolicy(TekRefusal),
    /// A TEK has no key packet, or not exactly one of each key it needs, or none of the right length.
    #[error("no proper key for TEK {spi:08x}")]
    Key {
        /// SPI of the TEK.
        spi: u32,
    },
    /// The sender ids are not well formed, or of a width that RFC 6054 and we do not know.
    #[error("the sender ids cannot be used")]
    SenderIds,
    /// There is a TEK of a counter mode and no sender id to use it with.
    #[error("no sender id came with a TEK of a counter mode")]
    NoSenderIds,
    /// A TEK's key is one that must not be used.
    #[error("weak key for TEK {spi:08x}")]
    WeakKey {
        /// SPI of the TEK.
        spi: u32,
    },
}

impl PolicyError {
    /// What a server is told that offers such a policy.
    pub fn notify_type(&self) -> NotifyType {
        match self {
            PolicyError::Malformed(_) | PolicyError::Payloads { .. } | PolicyError::Nonce(_) => {
                NotifyType::PAYLOAD_MALFORMED
            }
            PolicyError::GroupPolicy(_) | PolicyError::Kek(KekRefusal::Attribute(_)) => {
                NotifyType::ATTRIBUTES_NOT_SUPPORTED
            }
            PolicyError::Key { .. }
            | PolicyError::WeakKey { .. }
            | PolicyError::SenderIds
            | PolicyError::NoSenderIds
            | PolicyError::Kek(
                KekRefusal::KeyPacket
                | KekRefusal::KeyLength
                | KekRefusal::WeakKey
                | KekRefusal::PublicKey(_)
                | KekRefusal::OtherPublicKey(_),
            ) => NotifyType::INVALID_KEY_INFORMATION,
            PolicyError::Traffic { .. }
            | PolicyError::Protocol(_)
            | PolicyError::Empty
            | PolicyError::TooManyTeks
            | PolicyError::TooManyPolicies
            | PolicyError::Unpaired { .. }
            | PolicyError::Tek(_)
            | PolicyError::Kek(_)
            | PolicyError::NoCommonPolicy(_) => NotifyType::NO_PROPOSAL_CHOSEN,
        }
    }
}

impl From<wire::Error> for PolicyError {
    fn from(error: wire::Error) -> Self {
        PolicyError::Malformed(error)
    }
}

/// Why one TEK is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TekRefusal {
    /// Not ESP.
    #[error("protocol {0} is not ESP")]
    Protocol(TekProtocol),
    /// The algorithms are unknown, not allowed, or not all told.
    #[error(
        "{transform} with authentication {authentication:?} and key length {key_length:?} is not supported"
    )]
    Algorithms {
        /// Transform.
        transform: EspTransform,
        /// Authentication algorithm, if told.
        authentication: Option<AuthenticationAlgorithm>,
        /// Bits of the key, if told.
        key_length: Option<u16>,
    },
    /// Not tunnel mode.
    #[error("encapsulation mode {0} is not supported")]
    Mode(EncapsulationMode),
    /// An address is not preserved.
    #[error("address preservation {0} is not supported")]
    AddressPreservation(AddressPreservation),
    /// A direction that does not exist.
    #[error("direction {0} is not supported")]
    Direction(SaDirection),
    /// An attribute that we do not know, or do not know with this value.
    #[error("attribute {0} is not supported")]
    Attribute(IpsecAttribute),
    /// SPIs up to 255 are reserved.
    #[error("the SPI is reserved")]
    ReservedSpi,
    /// Two TEKs share an SPI.
    #[error("another TEK with the same SPI has other algorithms")]
    DuplicateSpi,
    /// It has no life left.
    #[error("its life is over")]
    Expired,
}

/// A TEK that is not used, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTek {
    /// SPI.
    pub spi: u32,
    /// Why.
    pub refusal: TekRefusal,
}

/// A TEK that we can use, once its keys have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedTek {
    /// SPI.
    pub spi: u32,
    /// Algorithms.
    pub suite: EspSuite,
    /// Remaining life.
    pub remaining: Duration,
    /// Configured life, if the server told it.
    pub lifetime: Option<Duration>,
    /// How long until it encrypts, if the server told it.
    pub activation_delay: Option<Duration>,
    /// Directions.
    pub direction: Direction,
    /// What it protects, in the server's order.
    pub selectors: Vec<Selector>,
    /// Whether its packets carry the group's pseudo-time.
    pub carries_time: bool,
}

/// The SA payload of message 2, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// TEKs that we can use, in the server's order.
    pub teks: Vec<ReceivedTek>,
    /// What TEKs that we refuse would have protected.
    pub closed: Vec<Selector>,
    /// The TEKs that we refuse.
    pub refused: Vec<RefusedTek>,
    /// The Rekey SA, if there is one.
    pub kek: Option<ReceivedKek>,
    /// GAP ACTIVATION_TIME_DELAY.
    pub activation_delay: Option<Duration>,
    /// GAP DEACTIVATION_TIME_DELAY.
    pub deactivation_delay: Option<Duration>,
    /// The pseudo-time of the group, where packets carry it.
    pub anti_replay: Option<AntiReplay>,
    /// SATs that were read over: they are not about a TEK, as far as can be seen.
    pub ignored: usize,
}

/// What the attributes of a SAT say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    suite: EspSuite,
    remaining: Duration,
    lifetime: Option<Duration>,
    activation_delay: Option<Duration>,
    direction: Direction,
    /// Whether it says that packets carry no pseudo-time.
    timeless: bool,
}

impl Offer {
    /// Judges the policy that a server tells in GROUPKEY-PULL, which is all of its policy: TEKs that we cannot use are
    /// kept closed as long as there is one that we can. `server_is_ours`: it showed our vendor id, so private attributes
    /// are ours.
    pub fn judge(sa: &GroupSecurityAssociation<'_>, server_is_ours: bool) -> Result<Self, PolicyError> {
        let (offer, last_refusal) = Self::read(sa, server_is_ours)?;
        match last_refusal {
            Some(refusal) if offer.teks.is_empty() => Err(PolicyError::NoCommonPolicy(refusal)),
            // A group may begin with its Rekey SA and push its first TEK.
            None if offer.teks.is_empty() && offer.kek.is_none() => Err(PolicyError::Empty),
            _ => Ok(offer),
        }
    }

    /// Judges the policy that a server tells in GROUPKEY-PUSH, which is what changes: it is taken as a whole or not at
    /// all, because what it replaces stays in use. A TEK in its last second is no change.
    pub fn judge_push(sa: &GroupSecurityAssociation<'_>, server_is_ours: bool) -> Result<Self, PolicyError> {
        let (mut offer, _) = Self::read(sa, server_is_ours)?;
        match offer.refused.iter().find(|refused| refused.refusal != TekRefusal::Expired) {
            Some(refused) => Err(PolicyError::Tek(refused.clone())),
            None => {
                offer.closed.clear();
                offer.refused.clear();
                Ok(offer)
            }
        }
    }

    fn read(
        sa: &GroupSecurityAssociation<'_>,
        server_is_ours: bool,
    ) -> Result<(Self, Option<TekRefusal>), PolicyError> {
        let mut offer = Self::default();
        if let Some(sak) = &sa.kek {
            offer.kek = ReceivedKek::judge(sak, server_is_ours)?;
        }
        if let Some(policy) = &sa.policy {
            offer.read_group_policy(policy)?;
        }
        let mut known = BTreeMap::<u32, usize>::new();
        let mut last_refusal = None;
        for sat in &sa.teks {
            if is_no_tek(sat) {
                offer.ignored += 1;
                continue;
            }
            let tek = match sat {
                SaTek::Esp(tek) | SaTek::Ah(tek) => tek,
                SaTek::Iec61850(_) | SaTek::Other { .. } => {
                    return Err(PolicyError::Protocol(sat.protocol()));
                }
            };
            let selector =
                tek.selector().ok().filter(same_family).ok_or(PolicyError::Traffic { spi: tek.spi })?;
            let verdict = match sat {
                SaTek::Esp(tek) => offer.place(tek, selector, server_is_ours, &mut known)?,
                _ => Err(TekRefusal::Protocol(sat.protocol())),
            };
            if let Err(refusal) = verdict {
                last_refusal = Some(refusal.clone());
                offer.refuse(tek.spi, selector, refusal);
            }
        }
        Ok((offer, last_refusal))
    }

    /// The keys of the Rekey SA, where there is one. `known` is the public key of the group as far as one is held.
    pub fn kek_keys(
        &self,
        download: &KeyDownload<'_>,
        known: Option<&VerifyingKey>,
    ) -> Result<Option<KekKeys>, PolicyError> {
        let keys = self.kek.as_ref().map(|kek| kek.keys(download, known)).transpose();
        keys.map_err(PolicyError::Kek)
    }

    /// The keys of every TEK, in the order of [`Offer::teks`].
    pub fn keys(&self, download: &KeyDownload<'_>) -> Result<Vec<Keys>, PolicyError> {
        let mut packets = BTreeMap::<[u8; 4], Option<&KeyPacket<'_>>>::new();
        for packet in &download.packets {
            let Ok(spi) = <[u8; 4]>::try_from(&*packet.spi) else { continue };
            if packet.kind == KeyDownloadType::TEK {
                // A second packet for the same SPI leaves open which one counts: then neither does.
                packets.entry(spi).and_modify(|known| *known = None).or_insert(Some(packet));
            }
        }
        self.teks
            .iter()
            .map(|tek| {
                let packet = packets.get(&tek.spi.to_be_bytes()).copied().flatten();
                packet.ok_or(PolicyError::Key { spi: tek.spi }).and_then(|packet| keys_of(tek, packet))
            })
            .collect()
    }

    /// The first TEK with several policies that are not two mirror images of each other.
    pub fn first_unpaired(&self) -> Option<u32> {
        let is_paired = |tek: &&ReceivedTek| match &tek.selectors[..] {
            [_] => true,
            [one, other] => one.mirror() == *other,
            _ => false,
        };
        self.teks.iter().find(|tek| !is_paired(tek)).map(|tek| tek.spi)
    }

    /// Whether there is a TEK that needs sender ids to send with.
    pub fn wants_sender_ids(&self) -> bool {
        let sends = |tek: &&ReceivedTek| tek.direction != Direction::ReceiverOnly;
        self.teks.iter().filter(sends).any(|tek| !tek.suite.wants_random_iv())
    }

    /// The sender ids that came in a PULL, where a TEK needs them.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-4.4
    //# If it is a
    //# sender and does not hold a current SID value, it MUST NOT install the
    //# Data-Security SAs.
    pub fn sender_ids(&self, download: &KeyDownload<'_>) -> Result<Option<SenderIdDownload>, PolicyError> {
        if !self.wants_sender_ids() {
            return Ok(None);
        }
        SenderIdDownload::of(download)?.ok_or(PolicyError::NoSenderIds).map(Some)
    }

    fn read_group_policy(&mut self, policy: &GroupAssociatedPolicy<'_>) -> Result<(), PolicyError> {
        for attribute in policy.attributes.iter() {
            let class = GapAttribute(attribute.class);
            let seconds = attribute.number().map(Duration::from_secs);
            match (class, seconds) {
                (GapAttribute::ACTIVATION_TIME_DELAY, Some(seconds)) => self.activation_delay = Some(seconds),
                (GapAttribute::DEACTIVATION_TIME_DELAY, Some(seconds)) => {
                    self.deactivation_delay = Some(seconds)
                }
                (GapAttribute::D3P_TYPE | GapAttribute::D3P_WINDOW | GapAttribute::D3P_PSEUDO_TIME, _) => {}
                _ => return Err(PolicyError::GroupPolicy(class)),
            }
        }
        self.anti_replay = AntiReplay::of(&policy.attributes).map_err(PolicyError::GroupPolicy)?;
        Ok(())
    }

    fn place(
        &mut self,
        tek: &IpsecTek<'_>,
        selector: Selector,
        server_is_ours: bool,
        known: &mut BTreeMap<u32, usize>,
    ) -> Result<Result<(), TekRefusal>, PolicyError> {
        let terms = match terms(tek, server_is_ours) {
            Ok(terms) => terms,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(&index) = known.get(&tek.spi) {
            let earlier = &mut self.teks[index];
            if earlier.suite != terms.suite || earlier.direction != terms.direction {
                return Ok(Err(TekRefusal::DuplicateSpi));
            }
            // The terms of one TEK are those of its first SAT, except that no SAT may promise more than another.
            earlier.remaining = earlier.remaining.min(terms.remaining);
            earlier.lifetime = earlier.lifetime.or(terms.lifetime);
            earlier.activation_delay = earlier.activation_delay.or(terms.activation_delay);
            earlier.carries_time &= !terms.timeless;
            earlier.selectors.push(selector);
            return Ok(Ok(()));
        }
        if self.teks.len() == MAXIMUM_TEKS {
            return Err(PolicyError::TooManyTeks);
        }
        known.insert(tek.spi, self.teks.len());
        self.teks.push(ReceivedTek {
            spi: tek.spi,
            suite: terms.suite,
            remaining: terms.remaining,
            lifetime: terms.lifetime,
            activation_delay: terms.activation_delay,
            direction: terms.direction,
            selectors: vec![selector],
            carries_time: self.anti_replay.is_some() && !terms.timeless,
        });
        Ok(Ok(()))
    }

    fn refuse(&mut self, spi: u32, selector: Selector, refusal: TekRefusal) {
        self.closed.push(selector);
        if self.refused.last().is_none_or(|last| last.spi != spi) {
            self.refused.push(RefusedTek { spi, refusal });
        }
    }
}

impl ReceivedTek {
    /// Whether each policy of `other` is also one of this TEK.
    pub fn covers(&self, other: &[Selector]) -> bool {
        let own: BTreeSet<_> = self.selectors.iter().collect();
        other.iter().all(|selector| own.contains(selector))
    }
}

/// Servers of other makes tell their members what is exempt from protection ("deny"), in a form that is not published. Such
/// an entry has no key, so it has no SPI, or it is of a protocol for private use. It is read over: what it exempts stays
/// protected here, unless an `exclude` rule says otherwise.
fn is_no_tek(sat: &SaTek<'_>) -> bool {
    match sat {
        SaTek::Esp(tek) | SaTek::Ah(tek) => tek.spi == 0,
        SaTek::Iec61850(_) => false,
        SaTek::Other { protocol, .. } => *protocol >= FIRST_PRIVATE_PROTOCOL,
    }
}

fn same_family(selector: &Selector) -> bool {
    selector.source.addr().is_ipv4() == selector.destination.addr().is_ipv4()
}

fn terms(tek: &IpsecTek<'_>, server_is_ours: bool) -> Result<Terms, TekRefusal> {
    if tek.spi <= 255 {
        return Err(TekRefusal::ReservedSpi);
    }
    let mut names = Names { transform: EspTransform(tek.transform), authentication: None, key_length: None };
    let mut terms_remaining = DEFAULT_LIFE;
    let mut life_type = None;
    let mut lifetime = None;
    let mut activation_delay = None;
    let mut direction = Direction::Symmetric;
    let mut timeless = false;
    for attribute in tek.attributes.iter() {
        let class = IpsecAttribute(attribute.class);
        let unsupported = || TekRefusal::Attribute(class);
        let number = || attribute.number().ok_or_else(unsupported);
        let short = || short_number(attribute).ok_or_else(unsupported);
        match class {
            IpsecAttribute::LIFE_TYPE => life_type = Some(number()?),
            IpsecAttribute::LIFE_DURATION => match life_type.take() {
                Some(kind) if kind == u64::from(LIFE_TYPE_SECONDS) => {
                    terms_remaining = Duration::from_secs(number()?).min(LONGEST_LIFE);
                }
                Some(LIFE_TYPE_KILOBYTES) => {}
                // A duration belongs to the type before it.
                Some(_) | None => return Err(unsupported()),
            },
            IpsecAttribute::GROUP_DESCRIPTION => {}
            IpsecAttribute::ENCAPSULATION_MODE => match EncapsulationMode(short()?) {
                EncapsulationMode::TUNNEL => {}
                mode => return Err(TekRefusal::Mode(mode)),
            },
            IpsecAttribute::AUTHENTICATION_ALGORITHM => {
                names.authentication = Some(AuthenticationAlgorithm(short()?));
            }
            IpsecAttribute::KEY_LENGTH => names.key_length = Some(short()?),
            // Whether congestion marks cross the tunnel is decided by RFC 6040, not by the peer.
            IpsecAttribute::ECN_TUNNEL => {}
            IpsecAttribute::ADDRESS_PRESERVATION => match AddressPreservation(short()?) {
                AddressPreservation::SOURCE_AND_DESTINATION => {}
                other => return Err(TekRefusal::AddressPreservation(other)),
            },
            IpsecAttribute::SA_DIRECTION => direction = read_direction(SaDirection(short()?))?,
            _ if server_is_ours && class.0 == CONFIGURED_LIFETIME => {
                lifetime = Some(Duration::from_secs(number()?).min(LONGEST_LIFE));
            }
            _ if server_is_ours && class.0 == ACTIVATION_DELAY => {
                activation_delay = Some(Duration::from_secs(short()?.into()));
            }
            _ if server_is_ours && class.0 == PSEUDO_TIME_CARRIED => timeless = short()? == 0,
            //= https://www.rfc-editor.org/rfc/rfc2407#section-4.5.3
            //# If an implementation receives an attribute value in the reserved
            //# range, an implementation MAY chose to continue based on local policy.
            _ if class.0 >= PRIVATE_USE => {}
            _ => return Err(unsupported()),
        }
    }
    let suite = suite(names).ok_or(TekRefusal::Algorithms {
        transform: names.transform,
        authentication: names.authentication,
        key_length: names.key_length,
    })?;
    if terms_remaining.is_zero() {
        return Err(TekRefusal::Expired);
    }
    Ok(Terms { suite, remaining: terms_remaining, lifetime, activation_delay, direction, timeless })
}

fn read_direction(direction: SaDirection) -> Result<Direction, TekRefusal> {
    match direction {
        SaDirection::SENDER_ONLY => Ok(Direction::SenderOnly),
        SaDirection::RECEIVER_ONLY => Ok(Direction::ReceiverOnly),
        SaDirection::SYMMETRIC => Ok(Direction::Symmetric),
        other => Err(TekRefusal::Direction(other)),
    }
}

fn short_number(attribute: &Attribute<'_>) -> Option<u16> {
    attribute.number().and_then(|number| u16::try_from(number).ok())
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.1
//# Exactly one attribute matching each type sent in the SAT payload MUST
//# be present.
fn keys_of(tek: &ReceivedTek, packet: &KeyPacket<'_>) -> Result<Keys, PolicyError> {
    let error = || PolicyError::Key { spi: tek.spi };
    let cipher = exactly_one(&packet.attributes, TekKeyAttribute::ALGORITHM_KEY.0).map_err(|()| error())?;
    let integrity =
        exactly_one(&packet.attributes, TekKeyAttribute::INTEGRITY_KEY.0).map_err(|()| error())?;
    let keys = Keys {
        cipher: Secret::from_slice(cipher.unwrap_or_default()),
        integrity: Secret::from_slice(integrity.unwrap_or_default()),
    };
    if keys.cipher.len() != tek.suite.cipher_key_len()
        || keys.integrity.len() != tek.suite.integrity_key_len()
    {
        return Err(error());
    }
    match tek.suite {
        EspSuite::Cbc { cipher, .. } if cipher.is_weak_key(keys.cipher.expose()) => {
            Err(PolicyError::WeakKey { spi: tek.spi })
        }
        EspSuite::Cbc { .. } | EspSuite::Gcm { .. } => Ok(keys),
    }
}

/// The value of the only attribute of `class`, `None` if there is none.
pub(super) fn exactly_one<'a>(attributes: &'a Attributes<'_>, class: u16) -> Result<Option<&'a [u8]>, ()> {
    let mut found = attributes.iter().filter(|attribute| attribute.class == class);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(attribute), None) => attribute.as_bytes().map(Some).ok_or(()),
        (Some(_), Some(_)) => Err(()),
    }
}
