//! The SA payload of phase 1: what is offered, what is chosen, and whether an answer is one of the offers.
//!
//! An offer is one proposal with one transform per acceptable suite. The responder takes the first transform of the
//! initiator's list that it accepts, and returns exactly the octets of that transform.

use std::borrow::Cow;
use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash};
use wire::isakmp::{self, PayloadBody, SecurityAssociation, Transform};
use wire::registry::{
    AuthenticationMethod, Doi, EncryptionAlgorithm, GroupDescription, HashAlgorithm, LifeType, NotifyType,
    PhaseOneAttribute, ProtocolId, TransformId,
};
use wire::{Attribute, Attributes};

use super::association::Suite;
use super::event::Failure;
use super::refusal::Refusal;
use super::settings::Proposal;

/// Group type of groups over a prime field (RFC 2409 appendix A).
const GROUP_TYPE_MODP: u16 = 1;
/// Group type of elliptic curves over a prime field.
const GROUP_TYPE_ECP: u16 = 2;

/// What both peers agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) suite: Suite,
    /// The shorter of both lifetimes.
    pub(super) lifetime: Duration,
    /// Kilobytes after which the SA ends, if the initiator set such a limit.
    pub(super) kilobytes: Option<u64>,
}

/// The situation that belongs to a DOI in phase 1: GDOI knows none (RFC 6407 section 5.2), the IPsec DOI identity only.
fn situation(doi: Doi) -> u32 {
    if doi == Doi::IPSEC { SecurityAssociation::SIT_IDENTITY_ONLY } else { 0 }
}

/// The body of the SA payload that offers `proposals`: SAi_b.
///
/// # Errors
/// If there are more proposals than one payload can number (255).
//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# If multiple offers are being
//# made for phase 1 exchanges (Main Mode and Aggressive Mode) they MUST
//# take the form of multiple Transform Payloads for a single Proposal
//# Payload in a single SA payload.
pub(super) fn offer<'p>(doi: Doi, proposals: impl Iterator<Item = &'p Proposal>) -> wire::Result<Vec<u8>> {
    let transforms = proposals
        .zip(1..=u8::MAX)
        .map(|(proposal, number)| Transform {
            number,
            id: TransformId::KEY_IKE,
            attributes: Terms::of(proposal).attributes(),
        })
        .collect();
    let proposal =
        isakmp::Proposal { number: 1, protocol: ProtocolId::ISAKMP, spi: Cow::Borrowed(&[]), transforms };
    SecurityAssociation { doi, situation: situation(doi), proposals: vec![proposal] }.to_octets()
}

/// Reads the body of an SA payload, with the refusal that fits what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<SecurityAssociation<'_>, Refusal> {
    let doi = body.first_chunk().map(|octets| Doi(u32::from_be_bytes(*octets)));
    match doi {
        Some(Doi::IPSEC | Doi::GDOI) => {}
        Some(_) => return Err(Refusal::new(NotifyType::DOI_NOT_SUPPORTED, "unknown DOI in the SA payload")),
        None => return Err(Refusal::new(NotifyType::PAYLOAD_MALFORMED, "SA payload is cut off")),
    }
    SecurityAssociation::parse(body).map_err(|error| match error.field {
        "Situation" => Refusal::new(NotifyType::SITUATION_NOT_SUPPORTED, "unknown situation"),
        _ => Refusal::malformed(error),
    })
}

/// Chooses the first offered transform that is one of `acceptable`; returns what it means and the body of the SA
/// payload that answers.
pub(super) fn choose(
    offered: &SecurityAssociation<'_>,
    acceptable: &[Proposal],
) -> Result<(Agreed, Vec<u8>), Refusal> {
    let proposal = only_proposal(offered)?;
    //= https://www.rfc-editor.org/rfc/rfc2408#section-4.2
    //# The multiple
    //# transforms MUST be presented with monotonically increasing numbers in
    //# the initiator's preference order.
    if !proposal.transforms.is_sorted_by(|earlier, later| earlier.number < later.number) {
        return Err(Refusal::new(
            NotifyType::BAD_PROPOSAL_SYNTAX,
            "the numbers of transforms do not increase",
        ));
    }
    for transform in &proposal.transforms {
        let Some(agreed) = Terms::read(transform).ok().and_then(|terms| terms.accept(acceptable)) else {
            continue;
        };
        //= https://www.rfc-editor.org/rfc/rfc2409#section-5
        //# Responders MUST
        //# NOT modify attributes of any offer, attribute encoding excepted (see
        //# Appendix A).
        let chosen = isakmp::Proposal {
            number: proposal.number,
            protocol: ProtocolId::ISAKMP,
            spi: Cow::Borrowed(&[]),
            transforms: vec![transform.clone()],
        };
        let answer =
            SecurityAssociation { doi: offered.doi, situation: offered.situation, proposals: vec![chosen] };
        return Ok((agreed, answer.to_octets().map_err(Refusal::malformed)?));
    }
    Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no common proposal"))
}

/// Judges the answer to our offer of `proposals`.
//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# If the initiator of an exchange notices that attribute
//# values have changed or attributes have been added or deleted from an
//# offer made, that response MUST be rejected.
pub(super) fn verify_answer(
    answer: &SecurityAssociation<'_>,
    proposals: &[Proposal],
) -> Result<Agreed, Refusal> {
    let not_offered = || {
        Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "the peer chose a proposal that was not offered")
            .because(Failure::ProposalNotOffered)
    };
    let [transform] = only_proposal(answer)?.transforms.as_slice() else {
        return Err(Refusal::new(NotifyType::BAD_PROPOSAL_SYNTAX, "the peer did not choose one transform"));
    };
    let terms = Terms::read(transform).map_err(|_| not_offered())?;
    let offered = proposals.iter().find(|&proposal| Terms::of(proposal) == terms).ok_or_else(not_offered)?;
    Ok(Agreed { suite: Suite::of(offered), lifetime: offered.lifetime, kilobytes: None })
}

//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# To put it another way, for phase 1
//# exchanges there MUST NOT be multiple Proposal Payloads for a single
//# SA payload and there MUST NOT be multiple SA payloads.
fn only_proposal<'a, 'b>(sa: &'b SecurityAssociation<'a>) -> Result<&'b isakmp::Proposal<'a>, Refusal> {
    let [proposal] = sa.proposals.as_slice() else {
        return Err(Refusal::new(NotifyType::BAD_PROPOSAL_SYNTAX, "not exactly one proposal"));
    };
    if proposal.protocol != ProtocolId::ISAKMP {
        return Err(Refusal::new(NotifyType::INVALID_PROTOCOL_ID, "proposal for another protocol"));
    }
    //= https://www.rfc-editor.org/rfc/rfc2408#section-3.5
    //# In the case of ISAKMP, the Initiator and
    //# Responder cookie pair from the ISAKMP Header is the ISAKMP SPI,
    //# therefore, the SPI Size is irrelevant and MAY be from zero (0) to
    //# sixteen (16).  If the SPI Size is non-zero, the content of the
    //# SPI field MUST be ignored.
    if proposal.spi.len() > 16 {
        return Err(Refusal::new(NotifyType::INVALID_SPI, "SPI longer than both cookies"));
    }
    Ok(proposal)
}

/// The attributes of one transform, in whatever order and encoding they came.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    cipher: EncryptionAlgorithm,
    key_bits: Option<u16>,
    hash: HashAlgorithm,
    authentication: AuthenticationMethod,
    group: GroupDescription,
    group_type: Option<u16>,
    seconds: Option<u64>,
    kilobytes: Option<u64>,
}

/// A transform that we cannot accept whatever our proposals are.
struct Unacceptable;

impl Terms {
    /// What a proposal of ours looks like when it is offered.
    fn of(proposal: &Proposal) -> Self {
        let (cipher, key_bits) = cipher_numbers(proposal.cipher);
        Self {
            cipher,
            key_bits,
            hash: hash_number(proposal.hash),
            authentication: AuthenticationMethod::PRE_SHARED_KEY,
            group: GroupDescription(proposal.group.iana()),
            group_type: None,
            seconds: Some(proposal.lifetime.as_secs()),
            kilobytes: None,
        }
    }

    fn attributes(&self) -> Attributes<'static> {
        let mut list = vec![Attribute::basic(PhaseOneAttribute::ENCRYPTION_ALGORITHM, self.cipher)];
        list.extend(self.key_bits.map(|bits| Attribute::basic(PhaseOneAttribute::KEY_LENGTH, bits)));
        list.push(Attribute::basic(PhaseOneAttribute::HASH_ALGORITHM, self.hash));
        list.push(Attribute::basic(PhaseOneAttribute::AUTHENTICATION_METHOD, self.authentication));
        list.push(Attribute::basic(PhaseOneAttribute::GROUP_DESCRIPTION, self.group));
        if let Some(seconds) = self.seconds {
            list.push(Attribute::basic(PhaseOneAttribute::LIFE_TYPE, LifeType::SECONDS));
            list.push(match u16::try_from(seconds) {
                Ok(seconds) => Attribute::basic(PhaseOneAttribute::LIFE_DURATION, seconds),
                Err(_) => Attribute::variable_u32(
                    PhaseOneAttribute::LIFE_DURATION,
                    u32::try_from(seconds).unwrap_or(u32::MAX),
                ),
            });
        }
        Attributes(list)
    }

    /// Reads a transform. An attribute that is missing, twice there, unknown or wrongly encoded makes it unacceptable.
    fn read(transform: &Transform<'_>) -> Result<Self, Unacceptable> {
        if transform.id != TransformId::KEY_IKE {
            return Err(Unacceptable);
        }
        let (mut cipher, mut key_bits, mut hash, mut authentication) = (None, None, None, None);
        let (mut group, mut group_type, mut seconds, mut kilobytes) = (None, None, None, None);
        let mut life_type = None;
        for attribute in transform.attributes.iter() {
            let class = PhaseOneAttribute(attribute.class);
            if class == PhaseOneAttribute::LIFE_DURATION {
                let duration = attribute.number().filter(|&duration| duration > 0).ok_or(Unacceptable)?;
                match life_type.take().map(LifeType) {
                    Some(LifeType::SECONDS) => set(&mut seconds, duration)?,
                    Some(LifeType::KILOBYTES) => set(&mut kilobytes, duration)?,
                    _ => return Err(Unacceptable),
                }
                continue;
            }
            //= https://www.rfc-editor.org/rfc/rfc2409#appendix-A
            //# Attributes described as basic MUST NOT be encoded as variable.
            let value = attribute.as_basic().ok_or(Unacceptable)?;
            match class {
                PhaseOneAttribute::ENCRYPTION_ALGORITHM => set(&mut cipher, EncryptionAlgorithm(value))?,
                PhaseOneAttribute::KEY_LENGTH => set(&mut key_bits, value)?,
                PhaseOneAttribute::HASH_ALGORITHM => set(&mut hash, HashAlgorithm(value))?,
                PhaseOneAttribute::AUTHENTICATION_METHOD => {
                    set(&mut authentication, AuthenticationMethod(value))?;
                }
                PhaseOneAttribute::GROUP_DESCRIPTION => set(&mut group, GroupDescription(value))?,
                PhaseOneAttribute::GROUP_TYPE => set(&mut group_type, value)?,
                PhaseOneAttribute::LIFE_TYPE => set(&mut life_type, value)?,
                _ => return Err(Unacceptable),
            }
        }
        match (cipher, hash, authentication, group, life_type) {
            (Some(cipher), Some(hash), Some(authentication), Some(group), None) => {
                Ok(Self { cipher, key_bits, hash, authentication, group, group_type, seconds, kilobytes })
            }
            _ => Err(Unacceptable),
        }
    }

    /// The first of `proposals` with this suite, and what both agree on.
    fn accept(&self, proposals: &[Proposal]) -> Option<Agreed> {
        let suite = self.suite()?;
        let proposal = proposals.iter().find(|proposal| Suite::of(proposal) == suite)?;
        let offered = self.seconds.map_or(proposal.lifetime, Duration::from_secs);
        let lifetime = proposal.lifetime.min(offered);
        Some(Agreed { suite, lifetime, kilobytes: self.kilobytes })
    }

    fn suite(&self) -> Option<Suite> {
        let group = DhGroup::from_iana(self.group.0)?;
        let group_type_fits = match (self.group_type, group) {
            (None, _) => true,
            (Some(kind), DhGroup::Ecp256 | DhGroup::Ecp384 | DhGroup::Ecp521) => kind == GROUP_TYPE_ECP,
            (Some(kind), _) => kind == GROUP_TYPE_MODP,
        };
        if self.authentication != AuthenticationMethod::PRE_SHARED_KEY || !group_type_fits {
            return None;
        }
        let hash = *ALL_HASHES.iter().find(|&&hash| hash_number(hash) == self.hash)?;
        let cipher =
            *CbcCipher::ALL.iter().find(|&&cipher| cipher_numbers(cipher) == (self.cipher, self.key_bits))?;
        Some(Suite { hash, cipher, group })
    }
}

impl Suite {
    fn of(proposal: &Proposal) -> Self {
        Self { hash: proposal.hash, cipher: proposal.cipher, group: proposal.group }
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Unacceptable> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unacceptable),
    }
}

const ALL_HASHES: [Hash; 5] = [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

fn hash_number(hash: Hash) -> HashAlgorithm {
    match hash {
        Hash::Md5 => HashAlgorithm::MD5,
        Hash::Sha1 => HashAlgorithm::SHA1,
        Hash::Sha256 => HashAlgorithm::SHA2_256,
        Hash::Sha384 => HashAlgorithm::SHA2_384,
        Hash::Sha512 => HashAlgorithm::SHA2_512,
    }
}

/// The algorithm and, where it has keys of several lengths, the key length in bits.
//= https://www.rfc-editor.org/rfc/rfc2409#appendix-A
//# This attribute MUST NOT be used when the specified
//# Encryption Algorithm uses a fixed length key.
fn cipher_numbers(cipher: CbcCipher) -> (EncryptionAlgorithm, Option<u16>) {
    match cipher {
        CbcCipher::Des => (EncryptionAlgorithm::DES_CBC, None),
        CbcCipher::TripleDes => (EncryptionAlgorithm::TRIPLE_DES_CBC, None),
        CbcCipher::Aes128 => (EncryptionAlgorithm::AES_CBC, Some(128)),
        CbcCipher::Aes192 => (EncryptionAlgorithm::AES_CBC, Some(192)),
        CbcCipher::Aes256 => (EncryptionAlgorithm::AES_CBC, Some(256)),
    }
}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
