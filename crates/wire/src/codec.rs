//! Reading and writing of octets: a borrowing [`Reader`], a [`Writer`] with self-patching lengths, and [`Error`].

use std::fmt;

/// What is wrong with some octets. The sender is at fault, never we.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A field ends after the octets do.
    Truncated,
    /// Octets are left over after the last field.
    TrailingOctets,
    /// A length field contradicts what it counts.
    BadLength,
    /// A field that must be zero is not.
    ReservedNotZero,
    /// A field has a value that its definition rules out.
    BadValue,
    /// A payload stands where the protocol does not allow it.
    BadOrder,
    /// More elements than we are ready to store.
    TooMany,
    /// While writing: a value does not fit its length field.
    TooLong,
    /// Not a version of the protocol that we speak.
    UnsupportedVersion,
}

/// A violation, the field it was found in, and where.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// What is wrong.
    pub violation: Violation,
    /// Name of the field, in the words of the RFC.
    pub field: &'static str,
    /// Octets from the beginning of what was given to the outermost parser.
    pub offset: usize,
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.violation {
            Violation::Truncated => "is cut off",
            Violation::TrailingOctets => "is followed by surplus octets",
            Violation::BadLength => "has an impossible length",
            Violation::ReservedNotZero => "is reserved and not zero",
            Violation::BadValue => "has an invalid value",
            Violation::BadOrder => "is out of place",
            Violation::TooMany => "occurs too often",
            Violation::TooLong => "is too long to be written",
            Violation::UnsupportedVersion => "is not supported",
        };
        write!(f, "{} {what} (offset {})", self.field, self.offset)
    }
}

/// Result of reading or writing octets.
pub type Result<T> = std::result::Result<T, Error>;

/// Reads fields from a borrowed slice and knows how far into the whole message it is.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, which begin at offset 0.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// A reader of `bytes`, which begin `offset` octets into the whole message.
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    /// The next octet.
    pub fn u8(&mut self, field: &'static str) -> Result<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    /// The next two octets, big endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    /// The next four octets, big endian.
    pub fn u32(&mut self, field: &'static str) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// The next octet, which is reserved.
    //= https://www.rfc-editor.org/rfc/rfc2408#section-2.5.2
    //# receiver SHOULD check the RESERVED fields for a zero (0) value and
    //# discard the packet if other values are found.
    pub fn reserved_u8(&mut self, field: &'static str) -> Result<()> {
        let error = self.error(Violation::ReservedNotZero, field);
        if self.u8(field)? == 0 { Ok(()) } else { Err(error) }
    }

    /// The next two octets, which are reserved.
    pub fn reserved_u16(&mut self, field: &'static str) -> Result<()> {
        let error = self.error(Violation::ReservedNotZero, field);
        if self.u16(field)? == 0 { Ok(()) } else { Err(error) }
    }

    /// The next four octets, which are reserved.
    pub fn reserved_u32(&mut self, field: &'static str) -> Result<()> {
        let error = self.error(Violation::ReservedNotZero, field);
        if self.u32(field)? == 0 { Ok(()) } else { Err(error) }
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take returned N octets"))
    }

    /// The next `length` octets.
    pub fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                self.offset += length;
                Ok(taken)
            }
            None => Err(self.error(Violation::Truncated, field)),
        }
    }

    /// A reader of the next `length` octets.
    pub fn sub(&mut self, length: usize, field: &'static str) -> Result<Reader<'a>> {
        let offset = self.offset;
        Ok(Reader::at(self.take(length, field)?, offset))
    }

    /// Everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        let taken = std::mem::take(&mut self.rest);
        self.offset += taken.len();
        taken
    }

    /// Fails unless every octet has been read.
    pub fn finish(&self, field: &'static str) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(Violation::TrailingOctets, field)) }
    }

    /// The octets not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many octets have not been read yet.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether every octet has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Offset of the next octet in the whole message.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// An error about `field` at the present offset.
    pub fn error(&self, violation: Violation, field: &'static str) -> Error {
        Error { violation, field, offset: self.offset }
    }
}

/// Width of a length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthWidth {
    /// One octet.
    One,
    /// Two octets.
    Two,
}

impl LengthWidth {
    /// Number of octets.
    pub fn octets(self) -> usize {
        match self {
            LengthWidth::One => 1,
            LengthWidth::Two => 2,
        }
    }

    fn maximum(self) -> usize {
        match self {
            LengthWidth::One => u8::MAX.into(),
            LengthWidth::Two => u16::MAX.into(),
        }
    }
}

/// Appends fields to a vector. A value that does not fit its length field poisons the writer: `finish` then fails.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: Option<Error>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one octet.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Appends two octets, big endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends four octets, big endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends octets as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a length field for what is written through the returned guard, which patches the field when dropped.
    ///
    /// `including` is how many octets already written the length counts in addition, the field itself excepted:
    /// it is counted when `including` is not `None`.
    pub fn length(
        &mut self,
        width: LengthWidth,
        including: Option<usize>,
        field: &'static str,
    ) -> LengthGuard<'_> {
        let position = self.bytes.len();
        self.bytes.extend(std::iter::repeat_n(0, width.octets()));
        let start = match including {
            Some(before) => position - before,
            None => self.bytes.len(),
        };
        LengthGuard { writer: self, width, position, start, field }
    }

    /// Appends a length field and `bytes`, which it counts.
    pub fn prefixed(&mut self, width: LengthWidth, bytes: &[u8], field: &'static str) {
        self.length(width, None, field).bytes(bytes);
    }

    /// Remembers that `field` cannot be written.
    pub fn fail(&mut self, field: &'static str) {
        let offset = self.bytes.len();
        self.too_long.get_or_insert(Error { violation: Violation::TooLong, field, offset });
    }

    /// How many octets have been written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The octets, or [`Violation::TooLong`] if a value did not fit its length field.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self.too_long {
            None => Ok(self.bytes),
            Some(error) => Err(error),
        }
    }
}

/// A writer whose octets are counted by a length field that has been written already.
#[derive(Debug)]
pub struct LengthGuard<'a> {
    writer: &'a mut Writer,
    width: LengthWidth,
    position: usize,
    start: usize,
    field: &'static str,
}

impl std::ops::Deref for LengthGuard<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.writer
    }
}

impl std::ops::DerefMut for LengthGuard<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        self.writer
    }
}

impl Drop for LengthGuard<'_> {
    fn drop(&mut self) {
        let length = self.writer.bytes.len() - self.start;
        if length > self.width.maximum() {
            self.writer.fail(self.field);
        }
        let field = &mut self.writer.bytes[self.position..][..self.width.octets()];
        match self.width {
            LengthWidth::One => field[0] = length as u8,
            LengthWidth::Two => field.copy_from_slice(&(length as u16).to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_in_order_and_reports_the_offset_of_a_cut() {
        let mut reader = Reader::at(&[1, 2, 3, 4, 5, 6, 7, 8], 100);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(0x0203));
        assert_eq!(reader.u32("c"), Ok(0x0405_0607));
        assert_eq!(reader.u16("d"), Err(Error { violation: Violation::Truncated, field: "d", offset: 107 }));
        assert_eq!(reader.finish("e").unwrap_err().violation, Violation::TrailingOctets);
        assert_eq!(reader.take_rest(), [8]);
        assert_eq!(reader.finish("e"), Ok(()));
    }

    #[test]
    fn length_guards_patch_their_field_when_dropped() {
        let mut writer = Writer::new();
        writer.u8(9);
        {
            let mut outer = writer.length(LengthWidth::Two, Some(1), "outer");
            outer.prefixed(LengthWidth::One, b"abc", "inner");
        }
        assert_eq!(writer.finish().unwrap(), [9, 0, 7, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn a_value_longer_than_its_length_field_poisons_the_writer() {
        let mut writer = Writer::new();
        writer.prefixed(LengthWidth::One, &[0; 256], "name");
        assert_eq!(writer.finish().unwrap_err().violation, Violation::TooLong);
    }
}
