//! Payloads of the Group Domain of Interpretation (RFC 6407 section 5, RFC 8052, RFC 8263).

mod gap;
mod kd;
mod lkh;
mod sa;
mod sak;
mod sat;
mod seq;

pub use gap::GroupAssociatedPolicy;
pub use kd::{KeyDownload, KeyPacket};
pub use lkh::{LkhDownloadArray, LkhKey, LkhUpdateArray};
pub use sa::GroupSecurityAssociation;
pub use sak::SaKek;
pub use sat::{Iec61850Tek, IpsecTek, SaTek};
pub use seq::SequenceNumber;

use crate::codec::{LengthWidth, Reader, Result, Violation, Writer};
use crate::isakmp::Identity;
use crate::registry::IdType;

/// An identity and a port, as SAK and SAT payloads hold them twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Whose addresses.
    pub identity: Identity<'a>,
    /// Port; 0 for any.
    pub port: u16,
}

impl<'a> Endpoint<'a> {
    /// The same endpoint, owning its data.
    pub fn into_owned(self) -> Endpoint<'static> {
        Endpoint { identity: self.identity.into_owned(), port: self.port }
    }

    fn read(reader: &mut Reader<'a>, width: LengthWidth) -> Result<Self> {
        let kind = IdType(reader.u8("ID Type")?);
        let port = reader.u16("ID Port")?;
        let length = match width {
            LengthWidth::One => reader.u8("ID Data Len")?.into(),
            LengthWidth::Two => reader.u16("ID Data Len")?.into(),
        };
        let identity = Identity::new(kind, reader.take(length, "Identification Data")?);
        // Not only for its own sake: it tells the two widths of the length apart. RFC 6407 section 5.5.1 allows a
        // source without data, or of three octets, for "multiple-source multicast groups".
        if !(identity.has_plausible_length() || matches!(length, 0 | 3)) {
            return Err(reader.error(Violation::BadLength, "ID Data Len"));
        }
        Ok(Self { identity, port })
    }

    fn write(&self, writer: &mut Writer, width: LengthWidth) {
        writer.u8(self.identity.kind.0);
        writer.u16(self.port);
        writer.prefixed(width, &self.identity.data, "ID Data Len");
    }
}

/// Reads with one-octet identification lengths, as RFC 6407 has them, or else with two-octet ones, as TrustCore and
/// Wireshark have them: whichever reading consumes the payload exactly.
///
/// If neither does, the error is that of the RFC's reading.
fn read_either_width<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>, LengthWidth) -> Result<T>,
) -> Result<T> {
    let mut two_octets = reader.clone();
    let one_octet = read(reader, LengthWidth::One);
    if one_octet.is_ok() {
        return one_octet;
    }
    match read(&mut two_octets, LengthWidth::Two) {
        Ok(value) => {
            *reader = two_octets;
            Ok(value)
        }
        Err(_) => one_octet,
    }
}
