//! SID key packets (RFC 6407 section 5.6.4): the sender ids of one member.

use wire::attribute::{Attribute, Attributes};
use wire::gdoi::{KeyDownload, KeyPacket};
use wire::registry::{KeyDownloadType, SidKeyAttribute};

use super::PolicyError;

/// Octets of the header of a SID key packet, which has no SPI, and of NUMBER_OF_SID_BITS.
pub(super) const PACKET: usize = 5 + 4;

/// Octets of the largest SID_VALUE.
pub(super) const VALUE: usize = 4 + 3;

/// Ids that a server of ours gives at a time, at most.
pub(super) const MOST_AT_A_TIME: usize = 256;

/// The sender ids that a PULL gives a member for its TEKs of counter modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderIdDownload {
    /// Bits of an id: 8, 12, 16 or 24.
    pub bits: u8,
    /// The ids, each below 2 to the power of `bits`, all different.
    pub ids: Vec<u32>,
}

impl SenderIdDownload {
    /// The packet, as it stands in a KD payload.
    pub(super) fn packet(&self) -> KeyPacket<'static> {
        let mut attributes =
            vec![Attribute::basic(SidKeyAttribute::NUMBER_OF_SID_BITS, u16::from(self.bits))];
        let octets = usize::from(self.bits.div_ceil(8));
        attributes.extend(self.ids.iter().map(|id| {
            Attribute::variable(SidKeyAttribute::SID_VALUE, id.to_be_bytes()[4 - octets..].to_vec())
        }));
        KeyPacket { kind: KeyDownloadType::SID, spi: Vec::new().into(), attributes: Attributes(attributes) }
    }

    /// The ids of a KD payload, `None` where there are none.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.4
    //# When the KD Type is
    //# SID, the SPI Size field MUST be zero, and the SPI field is omitted.
    pub(super) fn of(download: &KeyDownload<'_>) -> Result<Option<Self>, PolicyError> {
        let mut found: Option<Self> = None;
        for packet in download.packets.iter().filter(|packet| packet.kind == KeyDownloadType::SID) {
            let (mut bits, mut ids) = (None, Vec::new());
            for attribute in packet.attributes.iter() {
                let number = attribute.number().ok_or(PolicyError::SenderIds)?;
                match SidKeyAttribute(attribute.class) {
                    SidKeyAttribute::NUMBER_OF_SID_BITS if bits.is_none() => bits = Some(number),
                    SidKeyAttribute::SID_VALUE => ids.push(number),
                    _ => return Err(PolicyError::SenderIds),
                }
            }
            let bits =
                bits.and_then(|bits| u8::try_from(bits).ok()).filter(|bits| [8, 12, 16, 24].contains(bits));
            let bits = bits.filter(|_| packet.spi.is_empty()).ok_or(PolicyError::SenderIds)?;
            let found = found.get_or_insert(Self { bits, ids: Vec::new() });
            if found.bits != bits {
                return Err(PolicyError::SenderIds);
            }
            for id in ids {
                let id = u32::try_from(id).ok().filter(|id| id >> bits == 0).ok_or(PolicyError::SenderIds)?;
                if found.ids.contains(&id) {
                    return Err(PolicyError::SenderIds);
                }
                found.ids.push(id);
            }
        }
        Ok(found.filter(|found| !found.ids.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packets: Vec<KeyPacket<'_>>) -> Result<Option<SenderIdDownload>, PolicyError> {
        SenderIdDownload::of(&KeyDownload { packets })
    }

    #[test]
    fn ids_of_every_width_survive_a_round_trip() {
        for bits in [8, 12, 16, 24] {
            let given = SenderIdDownload { bits, ids: vec![0, 7, (1 << bits) - 1] };
            assert_eq!(read(vec![given.packet()]), Ok(Some(given)));
        }
        assert_eq!(read(Vec::new()), Ok(None));
    }

    #[test]
    fn an_id_takes_as_many_octets_as_its_bits_need() {
        let packet = SenderIdDownload { bits: 12, ids: vec![0xabc] }.packet();
        assert_eq!(packet.attributes.bytes(SidKeyAttribute::SID_VALUE), Some(&[0x0a, 0xbc][..]));
    }

    #[test]
    fn ids_that_do_not_fit_or_come_twice_are_refused() {
        let packet = |bits, ids: &[u32]| SenderIdDownload { bits, ids: ids.to_vec() }.packet();
        for packets in [
            vec![packet(9, &[1])],
            vec![packet(12, &[0x1000])],
            vec![packet(16, &[5, 5])],
            vec![packet(16, &[5]), packet(16, &[5])],
            vec![packet(16, &[5]), packet(8, &[6])],
            vec![KeyPacket { spi: vec![0; 4].into(), ..packet(16, &[5]) }],
            vec![KeyPacket { attributes: Attributes::default(), ..packet(16, &[5]) }],
        ] {
            assert_eq!(read(packets.clone()), Err(PolicyError::SenderIds), "{packets:?}");
        }
        assert_eq!(read(vec![packet(16, &[5]), packet(16, &[6])]).unwrap().unwrap().ids, [5, 6]);
    }
}
