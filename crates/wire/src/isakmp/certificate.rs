//! Certificate and certificate request payloads (RFC 2408 sections 3.9 and 3.10).

use std::borrow::Cow;

use crate::codec::{Reader, Result, Writer};
use crate::registry::{CertificateEncoding, PayloadType};

use super::PayloadBody;

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// How it is encoded.
    pub encoding: CertificateEncoding,
    /// The certificate itself.
    pub data: Cow<'a, [u8]>,
}

/// A request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest<'a> {
    /// The encoding asked for.
    pub encoding: CertificateEncoding,
    /// Distinguished name of an acceptable authority; empty for any.
    pub authority: Cow<'a, [u8]>,
}

impl<'a> PayloadBody<'a> for Certificate<'a> {
    const KIND: PayloadType = PayloadType::CERTIFICATE;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let encoding = CertificateEncoding(reader.u8("Cert Encoding")?);
        Ok(Self { encoding, data: reader.take_rest().into() })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.encoding.0);
        writer.bytes(&self.data);
    }
}

impl<'a> PayloadBody<'a> for CertificateRequest<'a> {
    const KIND: PayloadType = PayloadType::CERTIFICATE_REQUEST;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let encoding = CertificateEncoding(reader.u8("Cert. Type")?);
        Ok(Self { encoding, authority: reader.take_rest().into() })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.encoding.0);
        writer.bytes(&self.authority);
    }
}
