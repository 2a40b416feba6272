//! Numbers of algorithms in records, which stand in files and never change; selectors.

use crypto::{CbcCipher, EspSuite, GcmKeyLen, Hash, Integrity};
use ipnet::IpNet;
use wire::codec::Result;
use wire::selector::Selector;

use super::octets::{Input, Output};
use crate::push::AcknowledgementPrf;

const CIPHERS: [(u8, CbcCipher); 5] = [
    (1, CbcCipher::Des),
    (2, CbcCipher::TripleDes),
    (3, CbcCipher::Aes128),
    (4, CbcCipher::Aes192),
    (5, CbcCipher::Aes256),
];

const INTEGRITIES: [(u8, Integrity); 5] = [
    (1, Integrity::HmacMd5_96),
    (2, Integrity::HmacSha1_96),
    (3, Integrity::HmacSha256_128),
    (4, Integrity::HmacSha384_192),
    (5, Integrity::HmacSha512_256),
];

const GCM: [(u8, GcmKeyLen); 3] =
    [(101, GcmKeyLen::Bits128), (102, GcmKeyLen::Bits192), (103, GcmKeyLen::Bits256)];

const HASHES: [(u8, Hash); 5] =
    [(1, Hash::Md5), (2, Hash::Sha1), (3, Hash::Sha256), (4, Hash::Sha384), (5, Hash::Sha512)];

const PRFS: [(u8, Option<AcknowledgementPrf>); 3] =
    [(0, None), (1, Some(AcknowledgementPrf::Sha256)), (2, Some(AcknowledgementPrf::Sha512))];

fn number<T: PartialEq>(table: &[(u8, T)], value: &T) -> u8 {
    let found = table.iter().find(|(_, named)| named == value);
    found.map(|(number, _)| *number).expect("the tables above name every algorithm")
}

fn value<T: Clone>(table: &[(u8, T)], number: u8) -> Option<T> {
    table.iter().find(|(named, _)| *named == number).map(|(_, value)| value.clone())
}

pub(crate) fn write_cipher(output: &mut Output, cipher: CbcCipher) {
    output.u8(number(&CIPHERS, &cipher));
}

pub(crate) fn read_cipher(input: &mut Input<'_>) -> Result<CbcCipher> {
    value(&CIPHERS, input.u8("cipher")?).ok_or_else(|| input.error("cipher"))
}

pub(crate) fn write_hash(output: &mut Output, hash: Hash) {
    output.u8(number(&HASHES, &hash));
}

pub(crate) fn read_hash(input: &mut Input<'_>) -> Result<Hash> {
    value(&HASHES, input.u8("hash")?).ok_or_else(|| input.error("hash"))
}

pub(crate) fn write_prf(output: &mut Output, prf: Option<AcknowledgementPrf>) {
    output.u8(number(&PRFS, &prf));
}

pub(crate) fn read_prf(input: &mut Input<'_>) -> Result<Option<AcknowledgementPrf>> {
    value(&PRFS, input.u8("acknowledgement")?).ok_or_else(|| input.error("acknowledgement"))
}

/// A cipher and an integrity algorithm, or a counter mode and zero.
pub(crate) fn write_suite(output: &mut Output, suite: EspSuite) {
    match suite {
        EspSuite::Cbc { cipher, integrity } => {
            write_cipher(output, cipher);
            output.u8(number(&INTEGRITIES, &integrity));
        }
        EspSuite::Gcm { key } => {
            output.u8(number(&GCM, &key));
            output.u8(0);
        }
    }
}

pub(crate) fn read_suite(input: &mut Input<'_>) -> Result<EspSuite> {
    let (cipher, integrity) = (input.u8("suite")?, input.u8("suite")?);
    let suite = match (value(&CIPHERS, cipher), value(&INTEGRITIES, integrity), value(&GCM, cipher)) {
        (Some(cipher), Some(integrity), _) => Some(EspSuite::Cbc { cipher, integrity }),
        (_, _, Some(key)) if integrity == 0 => Some(EspSuite::Gcm { key }),
        _ => None,
    };
    suite.ok_or_else(|| input.error("suite"))
}

pub(crate) fn write_selector(output: &mut Output, selector: &Selector) {
    for prefix in [selector.source, selector.destination] {
        output.address(prefix.addr());
        output.u8(prefix.prefix_len());
    }
    output.u16(selector.source_port);
    output.u16(selector.destination_port);
    output.u8(selector.protocol);
}

pub(crate) fn read_selector(input: &mut Input<'_>) -> Result<Selector> {
    let prefix = |input: &mut Input<'_>| {
        let (address, length) = (input.address("prefix")?, input.u8("prefix")?);
        IpNet::new(address, length).map_err(|_| input.error("prefix"))
    };
    Ok(Selector {
        source: prefix(input)?,
        destination: prefix(input)?,
        source_port: input.u16("port")?,
        destination_port: input.u16("port")?,
        protocol: input.u8("protocol")?,
    })
}
