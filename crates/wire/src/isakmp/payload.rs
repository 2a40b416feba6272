//! The chain of payloads (RFC 2408 section 3.2).
//!
//! ```text
//!                          1                   2                   3
//!      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     ! Next Payload  !   RESERVED    !         Payload Length        !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use crate::codec::{Error, LengthWidth, Reader, Result, Violation, Writer};
use crate::registry::PayloadType;

/// Payloads in one message. A peer with a hundred certificate authorities sends as many certificate requests.
pub const MAXIMUM_PAYLOADS: usize = 128;

/// Octets of padding after the last payload of a decrypted message: the longest that its last octet can count.
pub const MAXIMUM_PADDING: usize = 256;

const GENERIC_HEADER_LENGTH: usize = 4;

/// The contents of a payload, after the generic header.
pub trait PayloadBody<'a>: Sized {
    /// Type by which a chain announces the payload.
    const KIND: PayloadType;

    /// Reads the body to the end of `reader`.
    fn read(reader: &mut Reader<'a>) -> Result<Self>;

    /// Writes the body.
    fn write(&self, writer: &mut Writer);

    /// Reads a body that must fill `octets` exactly.
    fn parse(octets: &'a [u8]) -> Result<Self> {
        read_exactly(&mut Reader::new(octets))
    }

    /// The octets of the body.
    fn to_octets(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish()
    }
}

fn read_exactly<'a, T: PayloadBody<'a>>(reader: &mut Reader<'a>) -> Result<T> {
    let body = T::read(reader)?;
    reader.finish("Payload Length")?;
    Ok(body)
}

/// One payload of a received message, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Its type, announced by what stands before it.
    pub kind: PayloadType,
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Payload<'a> {
    /// Reads one payload and the type of the next.
    pub(crate) fn read(kind: PayloadType, reader: &mut Reader<'a>) -> Result<(Self, PayloadType)> {
        let offset = reader.offset();
        let whole = reader.rest();
        let next = PayloadType(reader.u8("Next Payload")?);
        //= https://www.rfc-editor.org/rfc/rfc2408#section-5.3
        //# Verify the RESERVED field contains the value zero.  If the value
        //# in the RESERVED field is not zero, the message is discarded and
        if reader.u8("RESERVED")? != 0 {
            return Err(Error {
                violation: Violation::ReservedNotZero,
                field: "RESERVED",
                offset: offset + 1,
            });
        }
        let length = usize::from(reader.u16("Payload Length")?);
        let Some(body_length) = length.checked_sub(GENERIC_HEADER_LENGTH) else {
            return Err(Error {
                violation: Violation::BadLength,
                field: "Payload Length",
                offset: offset + 2,
            });
        };
        reader.take(body_length, "payload body")?;
        Ok((Self { kind, octets: &whole[..length], offset }, next))
    }

    /// The body, without generic header.
    pub fn body(&self) -> &'a [u8] {
        &self.octets[GENERIC_HEADER_LENGTH..]
    }

    /// The whole payload with its generic header.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Offset of the generic header in the message.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// A reader of the body.
    pub fn reader(&self) -> Reader<'a> {
        Reader::at(self.body(), self.offset + GENERIC_HEADER_LENGTH)
    }

    /// The body as a value. It is up to the caller that `T` fits: the SA payload of phase 1 and that of GDOI have the
    /// same number.
    pub fn parse<T: PayloadBody<'a>>(&self) -> Result<T> {
        read_exactly(&mut self.reader())
    }
}

/// The payloads of one message, in order, and the octets they were cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payloads<'a> {
    list: Vec<Payload<'a>>,
    chain: &'a [u8],
    padding: &'a [u8],
}

impl<'a> Payloads<'a> {
    /// Cuts a body in clear, the first payload of which has the type `first`. Nothing may follow the last payload.
    pub fn parse(first: PayloadType, body: &'a [u8]) -> Result<Self> {
        Self::parse_at(first, body, 0)
    }

    /// Cuts a body that was encrypted: up to [`MAXIMUM_PADDING`] octets may follow the last payload.
    ///
    /// RFC 2409 appendix B lets padding be absent, zero or, in older implementations, anything, so its octets are not
    /// judged. They are not covered by the hash either.
    pub fn parse_decrypted(first: PayloadType, body: &'a [u8]) -> Result<Self> {
        let (payloads, reader) = Self::cut(first, body, 0)?;
        if reader.len() > MAXIMUM_PADDING {
            return Err(reader.error(Violation::TrailingOctets, "padding"));
        }
        Ok(payloads)
    }

    pub(crate) fn parse_at(first: PayloadType, body: &'a [u8], offset: usize) -> Result<Self> {
        let (payloads, reader) = Self::cut(first, body, offset)?;
        reader.finish("payload chain")?;
        Ok(payloads)
    }

    fn cut(first: PayloadType, body: &'a [u8], offset: usize) -> Result<(Self, Reader<'a>)> {
        let mut reader = Reader::at(body, offset);
        let mut list = Vec::new();
        let mut kind = first;
        while kind != PayloadType::NONE {
            if list.len() == MAXIMUM_PAYLOADS {
                return Err(reader.error(Violation::TooMany, "payload"));
            }
            let (payload, next) = Payload::read(kind, &mut reader)?;
            list.push(payload);
            kind = next;
        }
        let (chain, padding) = body.split_at(body.len() - reader.len());
        Ok((Self { list, chain, padding }, reader))
    }

    /// All payloads in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Payload<'a>> {
        self.list.iter()
    }

    /// All payloads in order.
    pub fn as_slice(&self) -> &[Payload<'a>] {
        &self.list
    }

    /// The payloads of one type, in order.
    pub fn all(&self, kind: PayloadType) -> impl Iterator<Item = &Payload<'a>> {
        self.list.iter().filter(move |payload| payload.kind == kind)
    }

    /// The first payload of one type.
    pub fn find(&self, kind: PayloadType) -> Option<&Payload<'a>> {
        self.all(kind).next()
    }

    /// The payload of one type, of which there must not be two.
    pub fn at_most_one(&self, kind: PayloadType) -> Result<Option<&Payload<'a>>> {
        let mut all = self.all(kind);
        let first = all.next();
        match all.next() {
            None => Ok(first),
            Some(second) => {
                Err(Error { violation: Violation::TooMany, field: "payload", offset: second.offset })
            }
        }
    }

    /// The payload of the type of `T`, of which there must not be two, parsed.
    pub fn only<T: PayloadBody<'a>>(&self) -> Result<Option<T>> {
        self.at_most_one(T::KIND)?.map(Payload::parse).transpose()
    }

    /// The types of all payloads in order.
    pub fn kinds(&self) -> impl Iterator<Item = PayloadType> {
        self.list.iter().map(|payload| payload.kind)
    }

    /// The octets of all payloads, without padding.
    pub fn chain(&self) -> &'a [u8] {
        self.chain
    }

    /// The octets of all payloads after the first, without padding: what HASH(1) and its like cover.
    pub fn after_first(&self) -> &'a [u8] {
        let first = self.list.first().map_or(0, |payload| payload.octets.len());
        &self.chain[first..]
    }

    /// What follows the last payload.
    pub fn padding(&self) -> &'a [u8] {
        self.padding
    }
}

/// Payloads to be sent, chained as they are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadChain {
    first: PayloadType,
    octets: Vec<u8>,
    last_header: usize,
}

impl Default for PayloadChain {
    fn default() -> Self {
        Self::new()
    }
}

impl PayloadChain {
    /// A chain without payloads.
    pub fn new() -> Self {
        Self { first: PayloadType::NONE, octets: Vec::new(), last_header: 0 }
    }

    /// Adds a payload. Fails, without adding it, if it does not fit its length field.
    pub fn push<'b, T: PayloadBody<'b>>(&mut self, body: &T) -> Result<&mut Self> {
        self.push_with(T::KIND, |writer| body.write(writer))
    }

    /// Adds a payload with the given body. Fails, without adding it, if it does not fit its length field.
    pub fn push_raw(&mut self, kind: PayloadType, body: &[u8]) -> Result<&mut Self> {
        self.push_with(kind, |writer| writer.bytes(body))
    }

    /// Adds all payloads of another chain.
    pub fn append(&mut self, other: &PayloadChain) -> &mut Self {
        if other.first != PayloadType::NONE {
            self.announce(other.first);
            self.last_header = self.octets.len() + other.last_header;
            self.octets.extend_from_slice(&other.octets);
        }
        self
    }

    /// Type of the first payload.
    pub fn first(&self) -> PayloadType {
        self.first
    }

    /// The octets of all payloads.
    pub fn bytes(&self) -> &[u8] {
        &self.octets
    }

    /// The octets of all payloads, followed by as many zeros as a cipher with this block length needs: none if they
    /// fill their last block.
    pub fn padded(&self, block_length: usize) -> Vec<u8> {
        let mut octets = self.octets.clone();
        octets.resize(octets.len().next_multiple_of(block_length.max(1)), 0);
        octets
    }

    fn push_with(&mut self, kind: PayloadType, write: impl FnOnce(&mut Writer)) -> Result<&mut Self> {
        let mut writer = Writer::new();
        write_payload(&mut writer, PayloadType::NONE, write);
        let payload = writer.finish()?;
        self.announce(kind);
        self.last_header = self.octets.len();
        self.octets.extend_from_slice(&payload);
        Ok(self)
    }

    fn announce(&mut self, kind: PayloadType) {
        if self.octets.is_empty() {
            self.first = kind;
        } else {
            self.octets[self.last_header] = kind.0;
        }
    }
}

/// Writes one payload with its generic header.
pub(crate) fn write_payload(writer: &mut Writer, next: PayloadType, write: impl FnOnce(&mut Writer)) {
    writer.u8(next.0);
    writer.u8(0);
    let mut body = writer.length(LengthWidth::Two, Some(2), "Payload Length");
    write(&mut body);
}
