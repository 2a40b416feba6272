//! Arrays of a logical key hierarchy, the values of two LKH key packet attributes (RFC 6407 section 5.6.3).

use std::borrow::Cow;
use std::fmt;

use crate::codec::{Reader, Result, Violation, Writer};
use crate::registry::KekAlgorithm;

const VERSION: u8 = 1;

/// LKH_DOWNLOAD_ARRAY: the keys from a member's leaf to the root.
///
/// ```text
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !  LKH Version  !          # of LKH Keys        !  RESERVED     !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      ~                             LKH Keys                          ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LkhDownloadArray<'a> {
    /// Keys, leaf first.
    pub keys: Vec<LkhKey<'a>>,
}

/// LKH_UPDATE_ARRAY: new keys from some node to the root, each encrypted under the one before it.
///
/// ```text
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !  LKH Version  !          # of LKH Keys        !  RESERVED     !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !            LKH ID             !           RESERVED2           !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !                           Key Handle                          !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      ~                            LKH Keys                           ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LkhUpdateArray<'a> {
    /// Node whose key encrypts the first key.
    pub id: u16,
    /// Which key of that node.
    pub handle: u32,
    /// Keys, root last.
    pub keys: Vec<LkhKey<'a>>,
}

/// One key of a hierarchy.
///
/// ```text
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !             LKH ID            !    Key Type   !    RESERVED   !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !                        Key Creation Date                      !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !                       Key Expiration Date                     !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      !                           Key Handle                          !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///      ~                            Key Data                           ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LkhKey<'a> {
    /// Node.
    pub id: u16,
    /// Algorithm of the key; on the wire it has one octet.
    pub algorithm: KekAlgorithm,
    /// Seconds since 1970; 0 if there is no time before which the key is not valid.
    pub created: u32,
    /// Seconds since 1970; 0 if the key does not expire.
    pub expires: u32,
    /// Which key of the node.
    pub handle: u32,
    /// IV and key.
    pub data: Cow<'a, [u8]>,
}

impl fmt::Debug for LkhKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LkhKey").field("id", &self.id).field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<'a> LkhDownloadArray<'a> {
    /// Reads an attribute value.
    pub fn parse(octets: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(octets);
        let count = read_header(&mut reader)?;
        Ok(Self { keys: read_keys(&mut reader, count)? })
    }

    /// The attribute value.
    pub fn to_octets(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        write_header(&mut writer, self.keys.len());
        write_keys(&mut writer, &self.keys);
        writer.finish()
    }
}

impl<'a> LkhUpdateArray<'a> {
    /// Reads an attribute value.
    pub fn parse(octets: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(octets);
        let count = read_header(&mut reader)?;
        let id = reader.u16("LKH ID")?;
        reader.reserved_u16("RESERVED2")?;
        let handle = reader.u32("Key Handle")?;
        Ok(Self { id, handle, keys: read_keys(&mut reader, count)? })
    }

    /// The attribute value.
    pub fn to_octets(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        write_header(&mut writer, self.keys.len());
        writer.u16(self.id);
        writer.u16(0);
        writer.u32(self.handle);
        write_keys(&mut writer, &self.keys);
        writer.finish()
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<usize> {
    let start = reader.clone();
    if reader.u8("LKH Version")? != VERSION {
        return Err(start.error(Violation::UnsupportedVersion, "LKH Version"));
    }
    let count = reader.u16("# of LKH Keys")?;
    reader.reserved_u8("RESERVED")?;
    Ok(count.into())
}

fn write_header(writer: &mut Writer, count: usize) {
    writer.u8(VERSION);
    match u16::try_from(count) {
        Ok(count) => writer.u16(count),
        Err(_) => writer.fail("# of LKH Keys"),
    }
    writer.u8(0);
}

/// The length of a key is not on the wire, and its type does not give it (AES has three). RFC 6407 section 5.3.2 makes
/// all keys of a group use one algorithm, so the array divides evenly.
fn read_keys<'a>(reader: &mut Reader<'a>, count: usize) -> Result<Vec<LkhKey<'a>>> {
    if count == 0 {
        reader.finish("LKH Keys")?;
        return Ok(Vec::new());
    }
    if !reader.len().is_multiple_of(count) {
        return Err(reader.error(Violation::BadLength, "# of LKH Keys"));
    }
    let length = reader.len() / count;
    let mut keys = Vec::new();
    while !reader.is_empty() {
        let mut key = reader.sub(length, "LKH Key")?;
        let id = key.u16("LKH ID")?;
        let algorithm = KekAlgorithm(key.u8("Key Type")?.into());
        key.reserved_u8("RESERVED")?;
        keys.push(LkhKey {
            id,
            algorithm,
            created: key.u32("Key Creation Date")?,
            expires: key.u32("Key Expiration Date")?,
            handle: key.u32("Key Handle")?,
            data: key.take_rest().into(),
        });
    }
    if keys.is_empty() {
        return Err(reader.error(Violation::Truncated, "LKH Keys"));
    }
    Ok(keys)
}

fn write_keys(writer: &mut Writer, keys: &[LkhKey<'_>]) {
    for key in keys {
        if keys[0].data.len() != key.data.len() {
            writer.fail("Key Data");
        }
        writer.u16(key.id);
        match u8::try_from(key.algorithm.0) {
            Ok(algorithm) => writer.u8(algorithm),
            Err(_) => writer.fail("Key Type"),
        }
        writer.u8(0);
        writer.u32(key.created);
        writer.u32(key.expires);
        writer.u32(key.handle);
        writer.bytes(&key.data);
    }
}
