//! GROUPKEY-PUSH (RFC 6407 section 4) and its acknowledgement (RFC 8263): the two messages, written and read. Who sends
//! them when, and what becomes of their contents, is the roles' matter.
//!
//! ```text
//!         GM                                      GCKS
//!         --                                      ----
//!                                           <---- HDR*, SEQ, [D,] [SA, KD,] SIG
//!         HDR, HASH, SEQ, ID                ---->
//!         * Protected by the Rekey SA KEK; encryption occurs after HDR
//!
//!     SIG  = signature of hash("rekey" | HDR | all payloads before SIG), before encryption
//!     HASH = prf(ack_key, SEQ | ID)
//!     ack_key = prf(KEK, "GROUPKEY-PUSH ACK" with its null | SPI | L)
//! ```
//!
//! A member looks at a push in this order, each step cheaper than the next, so that a signature is only checked of what
//! somebody who holds the KEK has sent, and once:
//!
//! 1. [`kek_spi_of`]: the cookies name a KEK that the member holds;
//! 2. [`Recent`]: it is not a copy of a push that was accepted;
//! 3. [`open`]: the header is that of a push, the body decrypts to payloads that can be read;
//! 4. [`Opened::newer_than`]: its sequence number is greater than that of every push accepted under this KEK;
//! 5. [`Newer::verify`]: the signature.
//!
//! What the texts leave open, and what we do:
//! - The Length in the header that is signed does not count the padding; a signature over the Length that is sent, which
//!   does, is verified too.
//! - CBC starts from the IV of KEK_ALGORITHM_KEY for every push.
//! - The order of D, SA and KD is not judged; SEQ comes first and SIG last, because what follows SIG is not signed.
//! - A push without SA is one of Deletes, or a sign of life.
//! - L of an acknowledgement's key is 512 (SHA-256) or 1024 (SHA-512); 256 and 512 are verified too.
//!
//! Not here: LKH.

mod acknowledgement;
mod contents;
mod deletion;
mod error;
mod message;
mod recent;

use std::fmt;

use crypto::{CbcCipher, CipherError, Hash, Secret};
use wire::isakmp::{Cookie, Header};
use wire::registry::ExchangeType;

pub use acknowledgement::{
    Acknowledgement, AcknowledgementError, AcknowledgementKeys, AcknowledgementLength, AcknowledgementPrf,
};
pub use contents::Contents;
pub use deletion::Deletion;
pub use error::{PushError, SealError};
pub use message::{Body, HeaderLength, MAXIMUM_DATAGRAM, Newer, Opened, Verified, open, seal};
pub use recent::Recent;

/// The name of a Rekey SA: initiator and responder cookie of its messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekSpi(pub [u8; 16]);

impl KekSpi {
    /// The SPI that is made of two cookies.
    pub fn from_cookies(initiator: Cookie, responder: Cookie) -> Self {
        let mut spi = [0; 16];
        spi[..8].copy_from_slice(&initiator.0);
        spi[8..].copy_from_slice(&responder.0);
        Self(spi)
    }

    /// Initiator and responder cookie.
    pub fn cookies(self) -> (Cookie, Cookie) {
        let number = u128::from_be_bytes(self.0);
        (Cookie(((number >> 64) as u64).to_be_bytes()), Cookie((number as u64).to_be_bytes()))
    }

    fn of(header: &Header) -> Self {
        Self::from_cookies(header.initiator_cookie, header.responder_cookie)
    }
}

impl fmt::Display for KekSpi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (initiator, responder) = self.cookies();
        write!(formatter, "{initiator}.{responder}")
    }
}

impl fmt::Debug for KekSpi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KekSpi({self})")
    }
}

/// A key encryption key: what both ends of a Rekey SA share, without its life and its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kek {
    /// Its name.
    pub spi: KekSpi,
    /// KEK_ALGORITHM and KEK_KEY_LENGTH.
    pub cipher: CbcCipher,
    /// The key, as long as `cipher` needs it.
    pub key: Secret,
    /// The IV of every push, one block of `cipher`.
    pub iv: Secret,
    /// SIG_HASH_ALGORITHM. ECDSA implies its own and this one is not looked at.
    pub hash: Hash,
    /// KEK_ACK_REQUESTED, where members acknowledge.
    pub acknowledgement: Option<AcknowledgementPrf>,
}

impl Kek {
    /// KEK_ALGORITHM_KEY: IV, then key.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.2.1
    //# If the mode of operation for the algorithm requires an IV, an
    //# explicit IV MUST be included in the KEK_ALGORITHM_KEY before the
    //# actual key.
    pub fn algorithm_key(&self) -> Secret {
        Secret::new([self.iv.expose(), self.key.expose()].concat())
    }

    /// IV and key of a KEK_ALGORITHM_KEY, which must have the length that `cipher` needs.
    pub fn split_algorithm_key(cipher: CbcCipher, octets: &[u8]) -> Result<(Secret, Secret), CipherError> {
        let (block, key) = (cipher.block_len(), cipher.key_len());
        match octets.split_at_checked(block) {
            Some((iv, rest)) if rest.len() == key => Ok((Secret::from_slice(iv), Secret::from_slice(rest))),
            _ => Err(CipherError::KeyLength { expected: block + key, actual: octets.len() }),
        }
    }

    /// The keys of acknowledgements under this KEK, where members acknowledge.
    pub fn acknowledgement_keys(&self) -> Option<AcknowledgementKeys> {
        self.acknowledgement.map(|prf| AcknowledgementKeys::derive(prf, self))
    }
}

/// The KEK that a datagram names if it is a GROUPKEY-PUSH, without looking at the rest of it. A non-ESP marker is read over.
pub fn kek_spi_of(datagram: &[u8]) -> Option<KekSpi> {
    spi_of(datagram, ExchangeType::GROUPKEY_PUSH)
}

/// The KEK that a datagram names if it is a GROUPKEY-PUSH-ACK, likewise.
pub fn acknowledged_kek_spi_of(datagram: &[u8]) -> Option<KekSpi> {
    spi_of(datagram, ExchangeType::GROUPKEY_PUSH_ACK)
}

/// The exchange type of a datagram that is at least as long as a header. A non-ESP marker is read over.
pub fn exchange_of(datagram: &[u8]) -> Option<ExchangeType> {
    header_of(datagram).map(|header| ExchangeType(header[18]))
}

fn spi_of(datagram: &[u8], exchange: ExchangeType) -> Option<KekSpi> {
    let header = header_of(datagram).filter(|header| header[18] == exchange.0)?;
    header.first_chunk().map(|spi| KekSpi(*spi))
}

fn header_of(datagram: &[u8]) -> Option<&[u8; Header::LENGTH]> {
    let (_marker, message) = wire::non_esp::strip(datagram);
    message.first_chunk()
}
