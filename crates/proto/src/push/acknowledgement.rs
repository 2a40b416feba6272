//! GROUPKEY-PUSH-ACK (RFC 8263): a member tells that it has acted upon a push.

use crypto::{Hash, PrfKey};
use wire::gdoi::SequenceNumber;
use wire::isakmp::{
    Flags, Hash as HashPayload, Header, Identification, Identity, Message, MessageId, PayloadChain, Version,
};
use wire::registry::{ExchangeType, KekAcknowledgement, PayloadType};
use wire::{Error, Violation};

use super::{Kek, KekSpi};

//= https://www.rfc-editor.org/rfc/rfc8263#section-3.2
//# "GROUPKEY-PUSH ACK" is a label encoded as a null-terminated ASCII
//# string.
const LABEL: &[u8] = b"GROUPKEY-PUSH ACK\0";

/// What keys and protects acknowledgements: the values of KEK_ACK_REQUESTED that need no LKH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcknowledgementPrf {
    /// REKEY_ACK_KEK_SHA256.
    Sha256,
    /// REKEY_ACK_KEK_SHA512.
    Sha512,
}

impl AcknowledgementPrf {
    /// What a value of KEK_ACK_REQUESTED asks for, if it is something that we can do.
    //= https://www.rfc-editor.org/rfc/rfc8263#section-4
    //# If a GM cannot respond with the requested type of Acknowledgement, it
    //# continues with protocol exchange and participates in the group.
    pub fn requested(value: KekAcknowledgement) -> Option<Self> {
        match value {
            KekAcknowledgement::KEK_SHA256 => Some(Self::Sha256),
            KekAcknowledgement::KEK_SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The value of KEK_ACK_REQUESTED that asks for it.
    pub const fn value(self) -> KekAcknowledgement {
        match self {
            Self::Sha256 => KekAcknowledgement::KEK_SHA256,
            Self::Sha512 => KekAcknowledgement::KEK_SHA512,
        }
    }

    const fn hash(self) -> Hash {
        match self {
            Self::Sha256 => Hash::Sha256,
            Self::Sha512 => Hash::Sha512,
        }
    }

    fn length(self, reading: AcknowledgementLength) -> u16 {
        let octets = match reading {
            AcknowledgementLength::PrfBlock => self.hash().block_len(),
            AcknowledgementLength::PrfOutput => self.hash().output_len(),
        };
        (8 * octets) as u16
    }
}

/// How a peer reads "L" of RFC 8263 section 3.2, which is said to match both the ack_key (the prf's output) and, with an
/// example, the zero-filled base_key (its block).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgementLength {
    /// 512 for SHA-256, 1024 for SHA-512: what we send.
    PrfBlock,
    /// 256 and 512.
    PrfOutput,
}

/// The keys of acknowledgements under one KEK.
#[derive(Clone, Debug)]
pub struct AcknowledgementKeys {
    own: PrfKey,
    other_reading: PrfKey,
}

impl AcknowledgementKeys {
    //= https://www.rfc-editor.org/rfc/rfc8263#section-3.2
    //# ack_key = prf(base_key, "GROUPKEY-PUSH ACK" | SPI | L)
    pub(crate) fn derive(prf: AcknowledgementPrf, kek: &Kek) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc8263#section-2.1
        //# The base_key
        //# (also defined in Section 3.2) is the KEK_ALGORITHM_KEY used to
        //# decrypt the GROUPKEY-PUSH message.  Note that for some algorithms the
        //# KEK_ALGORITHM_KEY will include an explicit Initialization Vector (IV)
        //# before the actual key (Section 5.6.2.1 of [RFC6407]), but it is not
        //# used in the definition of the base_key.
        let base_key = PrfKey::new(prf.hash(), kek.key.expose());
        let key = |reading| {
            let length = prf.length(reading).to_be_bytes();
            PrfKey::new(prf.hash(), base_key.prf(&[LABEL, &kek.spi.0, &length]).expose())
        };
        Self {
            own: key(AcknowledgementLength::PrfBlock),
            other_reading: key(AcknowledgementLength::PrfOutput),
        }
    }

    /// The acknowledgement of the push with this sequence number, under the KEK named `spi`, by the member with this
    /// identity: the address from which it registered.
    //= https://www.rfc-editor.org/rfc/rfc8263#section-3.4
    //# The Protocol ID and Port fields MUST be set to 0.
    pub fn seal(&self, spi: KekSpi, sequence: u32, member: &Identity<'_>) -> wire::Result<Vec<u8>> {
        let mut covered = PayloadChain::new();
        covered.push(&SequenceNumber(sequence))?.push(&Identification::new(member.clone()))?;
        let mut chain = PayloadChain::new();
        //= https://www.rfc-editor.org/rfc/rfc8263#section-3.2
        //# HASH = prf(ack_key, SEQ | ID)
        chain.push(&HashPayload::from(&*self.own.tag(&[covered.bytes()])))?.append(&covered);
        header(spi).message(chain.bytes())
    }
}

//= https://www.rfc-editor.org/rfc/rfc8263#section-3.1
//# The Exchange Type has value 35 for the GDOI GROUPKEY-PUSH
//# Acknowledgement Message.  Flags are set to 0.  Message ID MUST be set
//# to 0.
fn header(spi: KekSpi) -> Header {
    let (initiator_cookie, responder_cookie) = spi.cookies();
    Header {
        initiator_cookie,
        responder_cookie,
        next_payload: PayloadType::HASH,
        version: Version::V1_0,
        exchange: ExchangeType::GROUPKEY_PUSH_ACK,
        flags: Flags::NONE,
        message_id: MessageId(0),
    }
}

/// Why an acknowledgement does not count. Each variant is one counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcknowledgementError {
    /// The datagram has not the length that its header says.
    #[error("the datagram has not the length that its header says")]
    Truncated,
    /// The header is not that of an acknowledgement.
    #[error("the header's {0} is not that of an acknowledgement")]
    Header(&'static str),
    /// The payloads are not HASH, SEQ and ID.
    #[error("malformed: {0}")]
    Malformed(Error),
    /// No KEK of that name is held.
    #[error("no KEK of that name")]
    UnknownKek,
    /// The group asks for none.
    #[error("the group asks for no acknowledgements")]
    NotRequested,
    /// The identity is not that of a registered member.
    #[error("no member of that identity is registered")]
    UnknownMember,
    /// The member has acknowledged that push, or a later one, before.
    #[error("a copy of an earlier acknowledgement")]
    Duplicate,
    /// No push with that sequence number was sent.
    #[error("no push has sequence number {0}")]
    UnknownSequence(u32),
    /// The hash is wrong.
    #[error("the HASH is wrong")]
    Hash,
}

impl AcknowledgementError {
    /// Every reason in the order of [`AcknowledgementError::index`], with a line for people.
    pub const REASONS: [(&'static str, &'static str); 9] = [
        ("truncated", "the datagram has not the length that its header says"),
        ("bad-header", "version, flags, message id or first payload are not those of an acknowledgement"),
        ("malformed", "the payloads are not HASH, SEQ and ID"),
        ("unknown-kek", "the cookies name no KEK that is held"),
        ("not-requested", "the group asks for no acknowledgements"),
        ("unknown-member", "the identity is not that of a registered member"),
        ("duplicate", "the member has acknowledged that push or a later one before"),
        ("unknown-sequence", "no push with that sequence number was sent"),
        ("bad-hash", "the HASH is wrong"),
    ];

    /// Position of the reason in [`AcknowledgementError::REASONS`].
    pub const fn index(&self) -> usize {
        match self {
            Self::Truncated => 0,
            Self::Header(_) => 1,
            Self::Malformed(_) => 2,
            Self::UnknownKek => 3,
            Self::NotRequested => 4,
            Self::UnknownMember => 5,
            Self::Duplicate => 6,
            Self::UnknownSequence(_) => 7,
            Self::Hash => 8,
        }
    }

    /// Short name in kebab-case, stable.
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[self.index()].0
    }
}

/// An acknowledgement that could be read. It proves nothing before [`Acknowledgement::verify`].
///
/// Reading it costs no cryptography, so that copies of earlier ones are thrown away first, as RFC 8263 section 5 wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The KEK of the push.
    pub spi: KekSpi,
    /// The sequence number of the push.
    pub sequence: u32,
    /// The member.
    pub member: Identity<'a>,
    hash: &'a [u8],
    covered: &'a [u8],
}

impl<'a> Acknowledgement<'a> {
    /// Reads a datagram. A non-ESP marker is read over. Protocol and port of the identity are not judged.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, AcknowledgementError> {
        let (_marker, octets) = wire::non_esp::strip(datagram);
        let message = Message::parse(octets).map_err(|error| match error.violation {
            Violation::UnsupportedVersion => AcknowledgementError::Header("version"),
            _ => AcknowledgementError::Truncated,
        })?;
        let spi = KekSpi::of(&message.header);
        let expected = header(spi);
        if message.header.exchange != expected.exchange {
            return Err(AcknowledgementError::Header("exchange type"));
        }
        if message.header.flags != expected.flags {
            return Err(AcknowledgementError::Header("flags"));
        }
        if message.header.message_id != expected.message_id {
            return Err(AcknowledgementError::Header("message id"));
        }
        let payloads = message.payloads().map_err(AcknowledgementError::Malformed)?;
        let [hash, sequence, member] = payloads.as_slice() else {
            return Err(out_of_place(Header::LENGTH));
        };
        let order = [PayloadType::HASH, PayloadType::SEQUENCE_NUMBER, PayloadType::IDENTIFICATION];
        if [hash.kind, sequence.kind, member.kind] != order {
            return Err(out_of_place(hash.offset()));
        }
        let sequence: SequenceNumber = sequence.parse().map_err(AcknowledgementError::Malformed)?;
        let member: Identification<'a> = member.parse().map_err(AcknowledgementError::Malformed)?;
        if !member.identity.has_plausible_length() {
            let error = Error { violation: Violation::BadLength, field: "Identification Data", offset: 0 };
            return Err(AcknowledgementError::Malformed(error));
        }
        Ok(Self {
            spi,
            sequence: sequence.0,
            member: member.identity,
            hash: hash.body(),
            covered: payloads.after_first(),
        })
    }

    /// Checks the hash and returns the reading of L under which it is right.
    pub fn verify(&self, keys: &AcknowledgementKeys) -> Result<AcknowledgementLength, AcknowledgementError> {
        if keys.own.tag(&[self.covered]).matches(self.hash) {
            Ok(AcknowledgementLength::PrfBlock)
        } else if keys.other_reading.tag(&[self.covered]).matches(self.hash) {
            Ok(AcknowledgementLength::PrfOutput)
        } else {
            Err(AcknowledgementError::Hash)
        }
    }
}

fn out_of_place(offset: usize) -> AcknowledgementError {
    AcknowledgementError::Malformed(Error { violation: Violation::BadOrder, field: "payload", offset })
}
