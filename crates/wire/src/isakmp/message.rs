//! A whole ISAKMP message.

use crate::codec::{Reader, Result, Violation};

use super::{Flags, Header, Payloads, Version};

/// A message whose header is plausible and whose length is believed. The body may be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    octets: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message out of a whole datagram, without non-ESP marker.
    ///
    /// Fails with [`Violation::UnsupportedVersion`] if the major version is not 1 or the minor version is above 0, in
    /// which case [`Header::read`] still gives the cookies for an answer.
    pub fn parse(datagram: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(datagram);
        let (header, length) = Header::read(&mut reader)?;
        if header.version != Version::V1_0 {
            return Err(Reader::at(&[], 17).error(Violation::UnsupportedVersion, "Version"));
        }
        //= https://www.rfc-editor.org/rfc/rfc2408#section-5.1
        //# If the ISAKMP message length and the value in the Payload
        //# Length field of the ISAKMP Header are not the same, then the ISAKMP
        //# message MUST be rejected.
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(Reader::at(&[], 24).error(Violation::BadLength, "Length"));
        }
        Ok(Self { header, octets: datagram })
    }

    /// The whole message.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Everything after the header: payloads, or their encryption.
    pub fn body(&self) -> &'a [u8] {
        &self.octets[Header::LENGTH..]
    }

    /// Whether the header says that the body is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.header.flags.contains(Flags::ENCRYPTED)
    }

    /// The payloads of a body that is not encrypted.
    pub fn payloads(&self) -> Result<Payloads<'a>> {
        Payloads::parse_at(self.header.next_payload, self.body(), Header::LENGTH)
    }
}
