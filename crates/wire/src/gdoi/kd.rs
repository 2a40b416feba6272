//! Key Download payload (RFC 6407 section 5.6).
//!
//! ```text
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ! Number of Key Packets         !            RESERVED2          !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ~                    Key Packets                                ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !   KD Type     !   RESERVED    !            KD Length          !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !    SPI Size   !                   SPI (variable)              ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ~                    Key Packet Attributes                      ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//! ```

use std::borrow::Cow;
use std::fmt;

use crate::attribute::Attributes;
use crate::codec::{LengthWidth, Reader, Result, Violation, Writer};
use crate::isakmp::PayloadBody;
use crate::registry::{KeyDownloadType, PayloadType};
use crate::text::Hex;

/// Key Download payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDownload<'a> {
    /// Key packets in the order of the wire.
    pub packets: Vec<KeyPacket<'a>>,
}

/// Keys of one SA. They show neither in `Debug` output nor anywhere else in this crate unless asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPacket<'a> {
    /// What kind of keys.
    pub kind: KeyDownloadType,
    /// SPI of the SA: four octets for ESP and AH, 16 for a KEK, none for SIDs.
    pub spi: Cow<'a, [u8]>,
    /// Attributes, of the classes that belong to `kind`.
    pub attributes: Attributes<'a>,
}

impl fmt::Debug for KeyPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPacket")
            .field("kind", &self.kind)
            .field("spi", &Hex(&self.spi))
            .finish_non_exhaustive()
    }
}

impl<'a> PayloadBody<'a> for KeyDownload<'a> {
    const KIND: PayloadType = PayloadType::KEY_DOWNLOAD;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let start = reader.clone();
        let count = usize::from(reader.u16("Number of Key Packets")?);
        reader.reserved_u16("RESERVED2")?;
        let mut packets = Vec::new();
        while !reader.is_empty() {
            packets.push(KeyPacket::read(reader)?);
            if packets.len() > count {
                return Err(start.error(Violation::BadLength, "Number of Key Packets"));
            }
        }
        if packets.len() != count {
            return Err(start.error(Violation::BadLength, "Number of Key Packets"));
        }
        Ok(Self { packets })
    }

    fn write(&self, writer: &mut Writer) {
        match u16::try_from(self.packets.len()) {
            Ok(count) => writer.u16(count),
            Err(_) => writer.fail("Number of Key Packets"),
        }
        writer.u16(0);
        for packet in &self.packets {
            packet.write(writer);
        }
    }
}

impl<'a> KeyPacket<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        /// KD Type, RESERVED and KD Length, which counts them.
        const HEADER_LENGTH: usize = 4;
        let kind = KeyDownloadType(reader.u8("KD Type")?);
        reader.reserved_u8("RESERVED")?;
        let start = reader.clone();
        let length = usize::from(reader.u16("KD Length")?);
        let Some(rest) = length.checked_sub(HEADER_LENGTH) else {
            return Err(start.error(Violation::BadLength, "KD Length"));
        };
        let mut packet = reader.sub(rest, "KD Length")?;
        let spi_size = packet.u8("SPI Size")?;
        let spi = packet.take(spi_size.into(), "SPI")?.into();
        Ok(Self { kind, spi, attributes: Attributes::read(&mut packet)? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.kind.0);
        writer.u8(0);
        let mut writer = writer.length(LengthWidth::Two, Some(2), "KD Length");
        writer.prefixed(LengthWidth::One, &self.spi, "SPI Size");
        self.attributes.write(&mut writer);
    }
}
