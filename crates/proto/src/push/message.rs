//! GROUPKEY-PUSH, made and taken apart.

use crypto::signature::{BareHash, SigningKey, VerifyingKey};
use crypto::{Hash, Secret};
use wire::gdoi::SequenceNumber;
use wire::isakmp::{Flags, Header, Message, MessageId, PayloadChain, Signature, Version};
use wire::registry::{ExchangeType, PayloadType};
use wire::{Error, Violation};

use super::{Contents, Deletion, Kek, KekSpi, PushError, SealError};

/// Octets of the longest message that a UDP datagram over IPv4 can carry.
pub const MAXIMUM_DATAGRAM: usize = 65_507;

//= https://www.rfc-editor.org/rfc/rfc6407#section-4
//# The HASH is taken over the string 'rekey', the
//# GROUPKEY-PUSH HDR, followed by all payloads preceding the SIG
//# payload.
const SIGNED_PREFIX: &[u8] = b"rekey";

/// What a push carries between SEQ and SIG.
#[derive(Clone, Copy, Debug, Default)]
pub struct Body<'a> {
    /// What members shall forget.
    pub deletions: &'a [Deletion],
    /// Body of the SA payload, if there is one.
    pub sa: Option<&'a [u8]>,
    /// Body of the KD payload; there is one exactly if there is an SA.
    pub kd: Option<&'a [u8]>,
}

/// Which Length the signed header had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLength {
    /// That of header and payloads, without encryption padding: what we send.
    WithoutPadding,
    /// That of the datagram.
    OnTheWire,
}

/// Makes the push with this sequence number, which must be used only once under `kek`.
pub fn seal(kek: &Kek, signing: &SigningKey, sequence: u32, body: &Body<'_>) -> Result<Vec<u8>, SealError> {
    let mut chain = PayloadChain::new();
    chain.push(&SequenceNumber(sequence))?;
    Deletion::write(body.deletions, &mut chain)?;
    if let Some(sa) = body.sa {
        chain.push_raw(PayloadType::SECURITY_ASSOCIATION, sa)?;
    }
    if let Some(kd) = body.kd {
        chain.push_raw(PayloadType::KEY_DOWNLOAD, kd)?;
    }
    // The payload before SIG announces it and is signed, so SIG must be there before it can be made.
    let signed = chain.bytes().len();
    chain.push(&Signature::from(vec![0; signing.signature_len()]))?;
    let header = header(kek.spi);
    let covered = header.octets(chain.bytes().len())?;
    let hash = signing.kind().implied_hash().unwrap_or(kek.hash);
    let signature = signing.sign(hash, &[SIGNED_PREFIX, &covered, &chain.bytes()[..signed]])?;

    let mut payloads = chain.padded(kek.cipher.block_len());
    payloads[chain.bytes().len() - signature.len()..chain.bytes().len()].copy_from_slice(&signature);
    if Header::LENGTH + payloads.len() > MAXIMUM_DATAGRAM {
        return Err(Error { violation: Violation::TooLong, field: "Length", offset: 24 }.into());
    }
    kek.cipher.encrypt_in_place(kek.key.expose(), kek.iv.expose(), &mut payloads)?;
    Ok(header.message(&payloads)?)
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-4.2
//# Flags MUST have the Encryption bit set according to Section 3.1 of
//# [RFC2408].  All other bits MUST be set to zero.
//#
//# Message ID MUST be set to zero.
fn header(spi: KekSpi) -> Header {
    let (initiator_cookie, responder_cookie) = spi.cookies();
    Header {
        initiator_cookie,
        responder_cookie,
        next_payload: PayloadType::SEQUENCE_NUMBER,
        version: Version::V1_0,
        exchange: ExchangeType::GROUPKEY_PUSH,
        flags: Flags::ENCRYPTED,
        message_id: MessageId(0),
    }
}

/// Decrypts a push and reads its payloads. Neither its age nor its signature is judged yet.
//= https://www.rfc-editor.org/rfc/rfc6407#section-4.4
//# The message is
//# decrypted, and the form of the datagram is validated.  This weeds out
//# obvious ill-formed messages (which may be sent as part of a denial-
//# of-service attack on the group).
pub fn open(kek: &Kek, datagram: &[u8]) -> Result<Opened, PushError> {
    let (_marker, octets) = wire::non_esp::strip(datagram);
    let message = Message::parse(octets).map_err(|error| match error.violation {
        Violation::UnsupportedVersion => PushError::Header("version"),
        _ => PushError::Truncated,
    })?;
    if KekSpi::of(&message.header) != kek.spi {
        return Err(PushError::UnknownKek);
    }
    let expected = header(kek.spi);
    if message.header.exchange != expected.exchange {
        return Err(PushError::Header("exchange type"));
    }
    if message.header.flags != expected.flags {
        return Err(PushError::Header("flags"));
    }
    if message.header.message_id != expected.message_id {
        return Err(PushError::Header("message id"));
    }
    if message.header.next_payload != expected.next_payload {
        return Err(PushError::Header("next payload"));
    }
    if message.body().is_empty() {
        return Err(PushError::NotDecryptable(0));
    }
    let mut payloads = message.body().to_vec();
    kek.cipher
        .decrypt_in_place(kek.key.expose(), kek.iv.expose(), &mut payloads)
        .map_err(|_| PushError::NotDecryptable(message.body().len()))?;
    let plaintext = Secret::new(payloads);
    let contents =
        Contents::read(PayloadType::SEQUENCE_NUMBER, plaintext.expose()).map_err(PushError::Malformed)?;
    let sequence = contents.sequence;
    let header = *octets.first_chunk().expect("a message that was parsed has a header");
    Ok(Opened { header, hash: kek.hash, sequence, plaintext })
}

/// A push that could be decrypted and read.
#[derive(Debug)]
pub struct Opened {
    header: [u8; Header::LENGTH],
    hash: Hash,
    sequence: u32,
    plaintext: Secret,
}

impl Opened {
    /// Its sequence number.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Compares with the greatest sequence number accepted under the KEK, which is 0 at first or what SEQ of the
    /// GROUPKEY-PULL said.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-4.4
    //# The sequence number in the SEQ payload is validated to ensure that it
    //# is greater than the previously received sequence number.
    pub fn newer_than(self, last: u32) -> Result<Newer, PushError> {
        if self.sequence > last {
            Ok(Newer(self))
        } else {
            Err(PushError::OldSequence { received: self.sequence, last })
        }
    }
}

/// A push whose sequence number is new: the only one whose signature is worth a check.
#[derive(Debug)]
pub struct Newer(Opened);

impl Newer {
    /// Its sequence number.
    pub fn sequence(&self) -> u32 {
        self.0.sequence
    }

    /// Checks the signature.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-4.4
    //# The SIG
    //# payload is then validated.  If the signature fails, the message is
    //# discarded.
    pub fn verify(self, key: &VerifyingKey, bare_hash: BareHash) -> Result<Verified, PushError> {
        let Opened { header, hash, sequence, plaintext } = self.0;
        let contents =
            Contents::read(PayloadType::SEQUENCE_NUMBER, plaintext.expose()).map_err(PushError::Malformed)?;
        let hash = key.kind().implied_hash().unwrap_or(hash);
        let verifies = |header: &[u8]| {
            key.verify(hash, &[SIGNED_PREFIX, header, contents.signed], contents.signature, bare_hash)
        };
        let mut unpadded = header;
        // A datagram, and so its payloads, has fewer octets than 32 bits can count.
        let length = (Header::LENGTH + contents.chain.len()) as u32;
        unpadded[Header::LENGTH - 4..].copy_from_slice(&length.to_be_bytes());
        let form = if verifies(&unpadded) {
            HeaderLength::WithoutPadding
        } else if unpadded != header && verifies(&header) {
            HeaderLength::OnTheWire
        } else {
            return Err(PushError::Signature);
        };
        Ok(Verified { sequence, form, plaintext })
    }
}

/// A push of the server that is not a replay.
#[derive(Debug)]
pub struct Verified {
    sequence: u32,
    form: HeaderLength,
    plaintext: Secret,
}

impl Verified {
    /// Its sequence number: what the next one must exceed.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Which header was signed, for the log.
    pub fn header_length(&self) -> HeaderLength {
        self.form
    }

    /// What it says. It could be read when it was opened, so this does not fail.
    pub fn contents(&self) -> Result<Contents<'_>, PushError> {
        Contents::read(PayloadType::SEQUENCE_NUMBER, self.plaintext.expose()).map_err(PushError::Malformed)
    }
}
