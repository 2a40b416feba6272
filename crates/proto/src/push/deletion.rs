//! What a push deletes (RFC 6407 section 5.9).

use wire::isakmp::{Delete, PayloadChain};
use wire::registry::{Doi, TekProtocol};
use wire::{Error, Violation};

use super::KekSpi;

/// One SA, or all of a protocol, that members shall forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deletion {
    /// The TEK with this SPI.
    Tek(u32),
    /// Every TEK of the group.
    EveryTek,
    /// The KEK with this SPI.
    Kek(KekSpi),
    /// Every KEK of the group.
    EveryKek,
    /// Something of a protocol that no group of ours uses: [`TekProtocol::IPSEC_AH`] and beyond.
    Other(TekProtocol),
}

const TEK_SPI_OCTETS: u8 = 4;
const KEK_SPI_OCTETS: u8 = 16;

impl Deletion {
    /// Reads a Delete payload, which is `offset` octets into the message. Its DOI may be any of those in use.
    pub(super) fn read(payload: &Delete<'_>, offset: usize, into: &mut Vec<Self>) -> Result<(), Error> {
        let error = |violation, field| Error { violation, field, offset };
        if ![Doi::ISAKMP, Doi::IPSEC, Doi::GDOI].contains(&payload.doi) {
            return Err(error(Violation::BadValue, "Domain of Interpretation"));
        }
        let everything = payload.is_everything();
        match TekProtocol(payload.protocol) {
            TekProtocol::IPSEC_ESP if everything => into.push(Self::EveryTek),
            TekProtocol::KEK if everything => into.push(Self::EveryKek),
            TekProtocol::IPSEC_ESP => {
                for spi in payload.spis() {
                    let spi = spi.try_into().map_err(|_| error(Violation::BadLength, "SPI Size"))?;
                    into.push(Self::Tek(u32::from_be_bytes(spi)));
                }
            }
            TekProtocol::KEK => {
                for spi in payload.spis() {
                    let spi = spi.try_into().map_err(|_| error(Violation::BadLength, "SPI Size"))?;
                    into.push(Self::Kek(KekSpi(spi)));
                }
            }
            other => into.push(Self::Other(other)),
        }
        Ok(())
    }

    /// Appends Delete payloads for all of `deletions`, those of TEKs before those of KEKs.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
    //# Note that only one protocol
    //# ID value can be defined in a Delete payload.  Thus, if a TEK SA
    //# and a KEK SA are to be deleted, their SPI values MUST be sent in
    //# different Delete payloads.
    pub(super) fn write(deletions: &[Self], chain: &mut PayloadChain) -> wire::Result<()> {
        let mut teks = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, TEK_SPI_OCTETS);
        let mut keks = Delete::new(Doi::GDOI, TekProtocol::KEK, KEK_SPI_OCTETS);
        for deletion in deletions {
            match deletion {
                Self::Tek(spi) => teks = teks.with_spi(&spi.to_be_bytes()),
                Self::EveryTek => teks = teks.with_spi(&[0; TEK_SPI_OCTETS as usize]),
                Self::Kek(spi) => keks = keks.with_spi(&spi.0),
                Self::EveryKek => keks = keks.with_spi(&[0; KEK_SPI_OCTETS as usize]),
                Self::Other(_) => {}
            }
        }
        for payload in [teks, keks] {
            if payload.count() > 0 {
                chain.push(&payload)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &Delete<'_>) -> Result<Vec<Deletion>, Error> {
        let mut deletions = Vec::new();
        Deletion::read(payload, 0, &mut deletions).map(|()| deletions)
    }

    #[test]
    fn no_spi_and_an_spi_of_zero_mean_all_of_the_protocol() {
        for size in [0, 4, 16] {
            let nothing = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, size);
            assert_eq!(read(&nothing), Ok(vec![Deletion::EveryTek]));
            let nothing = Delete::new(Doi::GDOI, TekProtocol::KEK, size);
            assert_eq!(read(&nothing), Ok(vec![Deletion::EveryKek]));
        }
        let zero = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4).with_spi(&[0; 4]);
        assert_eq!(read(&zero), Ok(vec![Deletion::EveryTek]));
        let zero = Delete::new(Doi::GDOI, TekProtocol::KEK, 16).with_spi(&[0; 16]);
        assert_eq!(read(&zero), Ok(vec![Deletion::EveryKek]));
    }

    #[test]
    fn an_spi_has_the_size_of_its_protocol() {
        let wrong = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 16).with_spi(&[7; 16]);
        assert_eq!(read(&wrong).unwrap_err().violation, Violation::BadLength);
        let wrong = Delete::new(Doi::GDOI, TekProtocol::KEK, 4).with_spi(&[7; 4]);
        assert_eq!(read(&wrong).unwrap_err().violation, Violation::BadLength);
    }

    #[test]
    fn every_domain_in_use_is_read_and_no_other() {
        for doi in [Doi::ISAKMP, Doi::IPSEC, Doi::GDOI] {
            let delete = Delete::new(doi, TekProtocol::IPSEC_ESP, 4).with_spi(&[1, 2, 3, 4]);
            assert_eq!(read(&delete), Ok(vec![Deletion::Tek(0x01020304)]));
        }
        let foreign = Delete::new(Doi(3), TekProtocol::IPSEC_ESP, 4);
        assert_eq!(read(&foreign).unwrap_err().violation, Violation::BadValue);
        let other = Delete::new(Doi::GDOI, TekProtocol::IPSEC_AH, 4).with_spi(&[1; 4]);
        assert_eq!(read(&other), Ok(vec![Deletion::Other(TekProtocol::IPSEC_AH)]));
    }
}
