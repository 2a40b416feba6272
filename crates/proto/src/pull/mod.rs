//! GROUPKEY-PULL (RFC 6407 section 3): the four messages, written and read. Both roles use it; who keeps what state
//! between the messages is theirs.
//!
//! ```text
//!         Group Member                      GCKS
//!         ------------                      ----
//!     (1) HDR*, HASH(1), Ni, ID     -->
//!     (2)                           <--     HDR*, HASH(2), Nr, SA
//!     (3) HDR*, HASH(3) [,GAP]      -->
//!     (4)                           <--     HDR*, HASH(4), [SEQ,] KD
//!         * Protected by the Phase 1 SA; encryption occurs after HDR
//!
//!     HASH(1) = prf(SKEYID_a, M-ID | Ni | ID)
//!     HASH(2) = prf(SKEYID_a, M-ID | Ni_b | Nr | SA)
//!     HASH(3) = prf(SKEYID_a, M-ID | Ni_b | Nr_b [ | GAP ])
//!     HASH(4) = prf(SKEYID_a, M-ID | Ni_b | Nr_b [ | SEQ ] | KD)
//! ```
//!
//! HASH comes first, the order of the others is not judged. Encryption, message ids and repetition are phase 1's.
//! A hash is computed over the octets received, never over what we would have written.

mod refusal;

use crypto::{Digest, PrfKey, Secret};
use wire::isakmp::{Hash, Identification, Identity, MessageId, Nonce, PayloadChain, Payloads};
use wire::registry::{Doi, GapAttribute, PayloadType};
use wire::{Error, Violation};

use crate::phase1::{Association, PeerVendorIds, push_vendor_ids};

pub use refusal::{NOTIFY_GROUP_FULL, Refusal, notification, refused_exchange};

/// Octets of the nonces we make. RFC 6407 section 5.8 allows 8 to 128.
pub const NONCE_LENGTH: usize = 32;

/// A nonce of ours.
pub type OwnNonce = [u8; NONCE_LENGTH];

/// What keys the hashes: SKEYID_a of a phase 1 SA.
pub trait Prf {
    /// `prf(SKEYID_a, parts)`.
    fn prf_a(&self, parts: &[&[u8]]) -> Digest;
}

impl Prf for Association {
    fn prf_a(&self, parts: &[&[u8]]) -> Digest {
        Association::prf_a(self, parts)
    }
}

/// SKEYID_a itself, for sessions recorded elsewhere.
impl Prf for PrfKey {
    fn prf_a(&self, parts: &[&[u8]]) -> Digest {
        self.tag(parts)
    }
}

/// Why a message of the exchange is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It cannot be cut into payloads, or does not begin with a HASH: not authenticated, so nobody is told.
    #[error("{0}")]
    Unreadable(Error),
    /// The hash is wrong: not authenticated.
    #[error("the HASH is wrong")]
    Hash,
    /// It is authentic and one of its payloads cannot be read.
    #[error("{0}")]
    Malformed(Error),
    /// It is authentic and holds a payload that has no business there.
    #[error("a {0} payload has no place in this message")]
    Unexpected(PayloadType),
    /// It is authentic and lacks a payload.
    #[error("the {0} payload is missing")]
    Missing(PayloadType),
    /// It is authentic and its nonce has the wrong length.
    #[error("a nonce of {0} octets, allowed are 8 to 128")]
    Nonce(usize),
    /// It is authentic and asks for something nobody has defined.
    #[error("the policy attribute {0} is unknown")]
    UnknownAttribute(GapAttribute),
    /// It is the first message of a Quick Mode, whose exchange number is that of GROUPKEY-PULL.
    #[error("this is a Quick Mode, not a GROUPKEY-PULL")]
    QuickMode,
}

impl MessageError {
    /// Whether the message proved to come from the peer of the phase 1 SA.
    pub fn is_authentic(&self) -> bool {
        !matches!(self, MessageError::Unreadable(_) | MessageError::Hash)
    }
}

/// The payloads of a message, encoded: HASH and what it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    chain: PayloadChain,
}

impl Encoded {
    /// The octets of all payloads, without padding.
    pub fn octets(&self) -> &[u8] {
        self.chain.bytes()
    }

    /// Type of the first payload.
    pub fn first(&self) -> PayloadType {
        self.chain.first()
    }
}

/// Writes message 1. `vendor_ids` are those that a peer of our own is told [again](PeerVendorIds).
pub fn message_1(
    prf: &impl Prf,
    id: MessageId,
    ni: &[u8],
    group: &Identity<'_>,
    vendor_ids: &[[u8; 16]],
) -> wire::Result<Encoded> {
    let mut rest = PayloadChain::new();
    rest.push(&Nonce::from(ni))?;
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.1
    //# When used with the GDOI, the DOI-Specific ID Data field MUST be set
    //# to 0.
    rest.push(&Identification::new(group.clone()))?;
    push_vendor_ids(&mut rest, vendor_ids)?;
    encode(prf, id, &[], &rest)
}

/// Writes message 2. `sa` is the body of the SA payload, `vendor_ids` as in message 1.
pub fn message_2(
    prf: &impl Prf,
    id: MessageId,
    ni: &[u8],
    nr: &[u8],
    sa: &[u8],
    vendor_ids: &[[u8; 16]],
) -> wire::Result<Encoded> {
    let mut rest = PayloadChain::new();
    rest.push(&Nonce::from(nr))?;
    rest.push_raw(PayloadType::SECURITY_ASSOCIATION, sa)?;
    push_vendor_ids(&mut rest, vendor_ids)?;
    encode(prf, id, &[ni], &rest)
}

/// Writes message 3. `gap` is the body of a GAP payload, if the member asks for something.
pub fn message_3(
    prf: &impl Prf,
    id: MessageId,
    ni: &[u8],
    nr: &[u8],
    gap: Option<&[u8]>,
) -> wire::Result<Encoded> {
    let mut rest = PayloadChain::new();
    if let Some(gap) = gap {
        rest.push_raw(PayloadType::GROUP_ASSOCIATED_POLICY, gap)?;
    }
    encode(prf, id, &[ni, nr], &rest)
}

/// Writes message 4. `kd` is the body of the KD payload, `sequence` that of the SEQ payload where there is a KEK.
pub fn message_4(
    prf: &impl Prf,
    id: MessageId,
    ni: &[u8],
    nr: &[u8],
    sequence: Option<u32>,
    kd: &[u8],
) -> wire::Result<Encoded> {
    let mut rest = PayloadChain::new();
    if let Some(sequence) = sequence {
        rest.push(&wire::gdoi::SequenceNumber(sequence))?;
    }
    rest.push_raw(PayloadType::KEY_DOWNLOAD, kd)?;
    encode(prf, id, &[ni, nr], &rest)
}

/// A decrypted message: its id, the type of its first payload, and its payloads with whatever padding follows.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Message id.
    pub id: MessageId,
    /// Type of the first payload.
    pub first: PayloadType,
    /// The payloads.
    pub octets: &'a [u8],
}

/// Message 1, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message1<'a> {
    /// Ni_b.
    pub nonce: Vec<u8>,
    /// The group.
    pub group: Identity<'a>,
    /// What the member is, authenticated.
    pub vendor_ids: PeerVendorIds,
}

/// Message 2, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message2<'a> {
    /// Nr_b.
    pub nonce: Vec<u8>,
    /// The policy.
    pub sa: wire::gdoi::GroupSecurityAssociation<'a>,
    /// What the server is, authenticated.
    pub vendor_ids: PeerVendorIds,
}

/// Message 4, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message4<'a> {
    /// The sequence number, where it came.
    pub sequence: Option<u32>,
    /// The keys.
    pub keys: wire::gdoi::KeyDownload<'a>,
}

/// Reads message 1.
pub fn read_message_1<'a>(prf: &impl Prf, message: Received<'a>) -> Result<Message1<'a>, MessageError> {
    let payloads = verify(prf, message, &[])?;
    if payloads.find(PayloadType::SECURITY_ASSOCIATION).is_some() {
        return Err(MessageError::QuickMode);
    }
    only_these(&payloads, &[PayloadType::NONCE, PayloadType::IDENTIFICATION])?;
    let nonce = nonce(&payloads)?;
    let identification: Identification<'a> = required(payloads.only(), PayloadType::IDENTIFICATION)?;
    let vendor_ids = PeerVendorIds::default().with(&payloads);
    Ok(Message1 { nonce, group: identification.identity, vendor_ids })
}

/// Reads message 2.
pub fn read_message_2<'a>(
    prf: &impl Prf,
    message: Received<'a>,
    ni: &[u8],
) -> Result<Message2<'a>, MessageError> {
    let payloads = verify(prf, message, &[ni])?;
    only_these(&payloads, &[PayloadType::NONCE, PayloadType::SECURITY_ASSOCIATION])?;
    let nonce = nonce(&payloads)?;
    let sa = required(payloads.only(), PayloadType::SECURITY_ASSOCIATION)?;
    Ok(Message2 { nonce, sa, vendor_ids: PeerVendorIds::default().with(&payloads) })
}

/// Reads message 3. The requests of a GAP payload are returned: a member may ask for sender ids.
pub fn read_message_3<'a>(
    prf: &impl Prf,
    message: Received<'a>,
    ni: &[u8],
    nr: &[u8],
) -> Result<Option<wire::gdoi::GroupAssociatedPolicy<'a>>, MessageError> {
    let payloads = verify(prf, message, &[ni, nr])?;
    only_these(&payloads, &[PayloadType::GROUP_ASSOCIATED_POLICY])?;
    let requests: Option<wire::gdoi::GroupAssociatedPolicy<'a>> =
        payloads.only().map_err(MessageError::Malformed)?;
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.4
    //# A GDOI implementation MUST abort if it encounters an attribute or
    //# capability that it does not understand.
    let known = [
        GapAttribute::ACTIVATION_TIME_DELAY,
        GapAttribute::DEACTIVATION_TIME_DELAY,
        GapAttribute::SENDER_ID_REQUEST,
    ];
    let classes = requests.iter().flat_map(|requests| requests.attributes.iter());
    match classes.map(|attribute| GapAttribute(attribute.class)).find(|class| !known.contains(class)) {
        None => Ok(requests),
        Some(class) => Err(MessageError::UnknownAttribute(class)),
    }
}

/// Reads message 4.
pub fn read_message_4<'a>(
    prf: &impl Prf,
    message: Received<'a>,
    ni: &[u8],
    nr: &[u8],
) -> Result<Message4<'a>, MessageError> {
    let payloads = verify(prf, message, &[ni, nr])?;
    only_these(&payloads, &[PayloadType::SEQUENCE_NUMBER, PayloadType::KEY_DOWNLOAD])?;
    let sequence: Option<wire::gdoi::SequenceNumber> = payloads.only().map_err(MessageError::Malformed)?;
    let keys = required(payloads.only(), PayloadType::KEY_DOWNLOAD)?;
    Ok(Message4 { sequence: sequence.map(|sequence| sequence.0), keys })
}

fn encode(prf: &impl Prf, id: MessageId, nonces: &[&[u8]], rest: &PayloadChain) -> wire::Result<Encoded> {
    let hash = hash(prf, id, nonces, rest.bytes());
    let mut chain = PayloadChain::new();
    chain.push(&Hash::from(&*hash))?;
    chain.append(rest);
    Ok(Encoded { chain })
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
//# Each HASH calculation is a pseudo-random function ("prf")
//# over the message ID (M-ID) from the ISAKMP header concatenated with
//# the entire message that follows the hash including all payload
//# headers, but excluding any padding added for encryption.
fn hash(prf: &impl Prf, id: MessageId, nonces: &[&[u8]], rest: &[u8]) -> Digest {
    let id = id.0.to_be_bytes();
    let mut parts: Vec<&[u8]> = Vec::with_capacity(4);
    parts.push(&id);
    parts.extend_from_slice(nonces);
    parts.push(rest);
    prf.prf_a(&parts)
}

fn verify<'a>(prf: &impl Prf, message: Received<'a>, nonces: &[&[u8]]) -> Result<Payloads<'a>, MessageError> {
    let payloads =
        Payloads::parse_decrypted(message.first, message.octets).map_err(MessageError::Unreadable)?;
    let Some(first) = payloads.as_slice().first().filter(|first| first.kind == PayloadType::HASH) else {
        let error = Error { violation: Violation::BadOrder, field: "HASH", offset: 0 };
        return Err(MessageError::Unreadable(error));
    };
    let expected = hash(prf, message.id, nonces, payloads.after_first());
    if Secret::from_slice(&expected).matches(first.body()) { Ok(payloads) } else { Err(MessageError::Hash) }
}

/// Vendor ids, notifications and certificates may accompany any message; a second HASH or anything else may not.
//= https://www.rfc-editor.org/rfc/rfc2408#section-3.9
//# The
//# Certificate payload MUST be accepted at any point during an exchange.
fn only_these(payloads: &Payloads<'_>, allowed: &[PayloadType]) -> Result<(), MessageError> {
    let tolerated = [
        PayloadType::VENDOR_ID,
        PayloadType::NOTIFICATION,
        PayloadType::CERTIFICATE,
        PayloadType::CERTIFICATE_REQUEST,
    ];
    match payloads.kinds().skip(1).find(|kind| !allowed.contains(kind) && !tolerated.contains(kind)) {
        None => Ok(()),
        Some(kind) => Err(MessageError::Unexpected(kind)),
    }
}

fn required<T>(payload: wire::Result<Option<T>>, kind: PayloadType) -> Result<T, MessageError> {
    payload.map_err(MessageError::Malformed)?.ok_or(MessageError::Missing(kind))
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.8
//# The data portion of the Nonce payload (i.e., Ni_b and Nr_b included
//# in the HASHs) MUST be a value between 8 and 128 octets.
fn nonce(payloads: &Payloads<'_>) -> Result<Vec<u8>, MessageError> {
    let nonce: Nonce<'_> = required(payloads.only(), PayloadType::NONCE)?;
    match nonce.octets().len() {
        8..=128 => Ok(nonce.octets().to_vec()),
        length => Err(MessageError::Nonce(length)),
    }
}

/// The DOI of the notifications of this exchange.
const NOTIFICATION_DOI: Doi = Doi::GDOI;
