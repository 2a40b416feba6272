//! Values that are the same after they have been written and read.

use std::net::IpAddr;

use hex_literal::hex;
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::codec::LengthWidth;
use wire::gdoi::*;
use wire::isakmp::*;
use wire::registry::*;
use wire::{Attribute, Attributes};

fn survives<'a, T: PayloadBody<'a> + PartialEq + std::fmt::Debug>(value: &T, expected: &'a [u8]) {
    assert_eq!(value.to_octets().unwrap(), expected);
    assert_eq!(&T::parse(expected).unwrap(), value);
}

fn octets(maximum: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=maximum)
}

fn attributes() -> impl Strategy<Value = Attributes<'static>> {
    let basic = (0_u16..0x8000, any::<u16>()).prop_map(|(class, value)| Attribute::basic(class, value));
    let variable = (0_u16..0x8000, octets(40)).prop_map(|(class, value)| Attribute::variable(class, value));
    vec(prop_oneof![basic, variable], 0..8).prop_map(Attributes)
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0_u8..=32);
    let v6 = (any::<[u8; 16]>(), 0_u8..=128);
    prop_oneof![
        v4.prop_map(|(address, length)| IpNet::new(IpAddr::from(address), length).unwrap().trunc()),
        v6.prop_map(|(address, length)| IpNet::new(IpAddr::from(address), length).unwrap().trunc()),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint<'static>> {
    (prefix(), any::<bool>(), any::<u16>()).prop_map(|(prefix, single, port)| Endpoint {
        identity: if single { Identity::address(prefix.addr()) } else { Identity::subnet(prefix) },
        port,
    })
}

fn kek() -> impl Strategy<Value = SaKek<'static>> {
    (any::<u8>(), endpoint(), endpoint(), any::<[u8; 8]>(), any::<[u8; 8]>(), attributes()).prop_map(
        |(protocol, source, destination, initiator, responder, attributes)| SaKek {
            protocol,
            source,
            destination,
            spi: (Cookie(initiator), Cookie(responder)),
            attributes,
            id_length: LengthWidth::One,
        },
    )
}

fn ipsec_tek() -> impl Strategy<Value = IpsecTek<'static>> {
    (any::<u8>(), endpoint(), endpoint(), any::<u8>(), any::<u32>(), attributes()).prop_map(
        |(protocol, source, destination, transform, spi, attributes)| IpsecTek {
            protocol,
            source,
            destination,
            transform,
            spi,
            attributes,
            id_length: LengthWidth::One,
        },
    )
}

fn iec_tek() -> impl Strategy<Value = Iec61850Tek<'static>> {
    (vec(any::<u8>(), 1..20), octets(20), any::<[u32; 2]>(), any::<[u16; 2]>(), attributes()).prop_map(
        |(
            oid,
            oid_payload,
            [spi, remaining_lifetime_secs],
            [authentication, confidentiality],
            attributes,
        )| {
            Iec61850Tek {
                oid: oid.into(),
                oid_payload: oid_payload.into(),
                spi,
                authentication: IecAuthentication(authentication),
                confidentiality: IecConfidentiality(confidentiality),
                remaining_lifetime_secs,
                attributes,
            }
        },
    )
}

fn tek() -> impl Strategy<Value = SaTek<'static>> {
    prop_oneof![
        ipsec_tek().prop_map(SaTek::Esp),
        ipsec_tek().prop_map(SaTek::Ah),
        iec_tek().prop_map(SaTek::Iec61850),
        (4_u8.., octets(20))
            .prop_map(|(protocol, body)| SaTek::Other { protocol: TekProtocol(protocol), body: body.into() }),
    ]
}

fn group_sa() -> impl Strategy<Value = GroupSecurityAssociation<'static>> {
    let policy = attributes().prop_map(|attributes| GroupAssociatedPolicy { attributes });
    (proptest::option::of(kek()), proptest::option::of(policy), vec(tek(), 0..4))
        .prop_map(|(kek, policy, teks)| GroupSecurityAssociation { kek, policy, teks })
}

fn key_download() -> impl Strategy<Value = KeyDownload<'static>> {
    let packet = (any::<u8>(), octets(16), attributes()).prop_map(|(kind, spi, attributes)| KeyPacket {
        kind: KeyDownloadType(kind),
        spi: spi.into(),
        attributes,
    });
    vec(packet, 0..5).prop_map(|packets| KeyDownload { packets })
}

fn phase_one_sa() -> impl Strategy<Value = SecurityAssociation<'static>> {
    let transform = (any::<u8>(), any::<u8>(), attributes()).prop_map(|(number, id, attributes)| Transform {
        number,
        id: TransformId(id),
        attributes,
    });
    let proposal = (any::<u8>(), any::<u8>(), octets(16), vec(transform, 0..4)).prop_map(
        |(number, protocol, spi, transforms)| Proposal {
            number,
            protocol: ProtocolId(protocol),
            spi: spi.into(),
            transforms,
        },
    );
    // A chain announces its first proposal nowhere, so an SA has at least one.
    (any::<u32>(), 0_u32..2, vec(proposal, 1..4))
        .prop_map(|(doi, situation, proposals)| SecurityAssociation { doi: Doi(doi), situation, proposals })
}

fn lkh_keys() -> impl Strategy<Value = Vec<LkhKey<'static>>> {
    let key = |length| {
        (any::<[u16; 1]>(), any::<u8>(), any::<[u32; 3]>(), vec(any::<u8>(), length)).prop_map(
            |([id], algorithm, [created, expires, handle], data)| LkhKey {
                id,
                algorithm: KekAlgorithm(algorithm.into()),
                created,
                expires,
                handle,
                data: data.into(),
            },
        )
    };
    (0_usize..48).prop_flat_map(move |length| vec(key(length), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_phase_one_sa_survives(sa in phase_one_sa()) {
        survives(&sa, &sa.to_octets().unwrap());
    }

    #[test]
    fn a_group_sa_survives(sa in group_sa()) {
        survives(&sa, &sa.to_octets().unwrap());
        prop_assert_eq!(&sa.clone().into_owned(), &sa);
    }

    #[test]
    fn a_key_download_survives(keys in key_download()) {
        survives(&keys, &keys.to_octets().unwrap());
    }

    #[test]
    fn lkh_arrays_survive(keys in lkh_keys(), id: u16, handle: u32) {
        let download = LkhDownloadArray { keys: keys.clone() };
        let octets = download.to_octets().unwrap();
        prop_assert_eq!(&LkhDownloadArray::parse(&octets).unwrap(), &download);
        let update = LkhUpdateArray { id, handle, keys };
        let octets = update.to_octets().unwrap();
        prop_assert_eq!(&LkhUpdateArray::parse(&octets).unwrap(), &update);
    }

    #[test]
    fn an_identification_survives(prefix in prefix(), protocol: u8, port: u16) {
        let id = Identification { identity: Identity::subnet(prefix), protocol, port };
        survives(&id, &id.to_octets().unwrap());
        prop_assert_eq!(id.identity.prefix(), Ok(prefix));
        let address = Identity::address(prefix.addr());
        prop_assert_eq!(address.as_address(), Some(prefix.addr()));
    }

    #[test]
    fn a_notification_survives(doi: u32, protocol: u8, kind: u16, spi in octets(255), data in octets(40)) {
        let notification = Notification {
            doi: Doi(doi),
            protocol: ProtocolId(protocol),
            spi: spi.into(),
            kind: NotifyType(kind),
            data: data.into(),
        };
        survives(&notification, &notification.to_octets().unwrap());
    }

    #[test]
    fn a_delete_survives(spis in vec(any::<[u8; 4]>(), 0..5)) {
        let empty = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4);
        let delete = spis.iter().fold(empty, |delete, spi| delete.with_spi(spi));
        survives(&delete, &delete.to_octets().unwrap());
        prop_assert!(delete.spis().eq(spis.iter()));
    }

    #[test]
    fn a_message_survives(nonce in octets(128), sequence: u32, keys in key_download(), block in 1_usize..32) {
        let mut rest = PayloadChain::new();
        rest.push(&SequenceNumber(sequence)).unwrap().push(&keys).unwrap();
        let mut chain = PayloadChain::new();
        chain.push(&Nonce::from(nonce.clone())).unwrap().append(&rest);
        let body = chain.padded(block);
        prop_assert!(body.len().is_multiple_of(block) && body.len() - chain.bytes().len() < block);
        let payloads = Payloads::parse_decrypted(chain.first(), &body).unwrap();
        prop_assert_eq!(payloads.after_first(), rest.bytes());
        prop_assert_eq!(payloads.only::<SequenceNumber>(), Ok(Some(SequenceNumber(sequence))));
        prop_assert_eq!(payloads.only::<KeyDownload<'_>>(), Ok(Some(keys)));
        prop_assert_eq!(payloads.only::<Nonce<'_>>(), Ok(Some(Nonce::from(nonce))));
    }
}

#[test]
fn simple_payloads_survive() {
    survives(&SequenceNumber(0x0102_0304), &hex!("01020304"));
    survives(&KeyExchange::from(&[1, 2, 3]), &hex!("010203"));
    survives(&Signature::from(&[]), &[]);
    let certificate =
        Certificate { encoding: CertificateEncoding::X509_SIGNATURE, data: (&[0x30, 0][..]).into() };
    survives(&certificate, &hex!("043000"));
    let request =
        CertificateRequest { encoding: CertificateEncoding::X509_SIGNATURE, authority: (&[][..]).into() };
    survives(&request, &hex!("04"));
    survives(&Identification::new(Identity::key_id(1234)), &hex!("0b000000 000004d2"));
    survives(&Identification::new(Identity::fqdn("gm.example")), &hex!("02000000 676d2e6578616d706c65"));
}

#[test]
fn a_tek_with_two_octet_identification_lengths_survives() {
    let octets =
        hex!("01 11 04 0001 0008 0a000000ff000000 04 0002 0008 14000000ff000000 0c 00000100 80010001");
    let endpoint =
        |prefix: &str, port| Endpoint { identity: Identity::subnet(prefix.parse().unwrap()), port };
    let tek = SaTek::Esp(IpsecTek {
        protocol: 17,
        source: endpoint("10.0.0.0/8", 1),
        destination: endpoint("20.0.0.0/8", 2),
        transform: EspTransform::AES_CBC.0,
        spi: 0x100,
        attributes: [Attribute::basic(IpsecAttribute::LIFE_TYPE, LifeType::SECONDS)].into(),
        id_length: LengthWidth::Two,
    });
    survives(&tek, &octets);
}

/// RFC 8052 appendix A. The figures leave out the DER of the multicast address, which is an OCTET STRING here, and
/// repeat "SA Attr NP" before the second SA TEK, where section 2.2 has nothing. Their algorithm numbers are not those of
/// the registry, which are used here.
mod rfc8052_appendix_a {
    use super::*;

    const OID: [u8; 13] = hex!("060b2a8648ce5683e31a080102");
    const ADDRESS: [u8; 6] = hex!("0404e9fc0001");

    #[test]
    fn identification() {
        let data = hex!("0d 060b2a8648ce5683e31a080102 0006 0404e9fc0001");
        let id = Identification::new(Identity::new(IdType::OID, &data[..]));
        survives(&id, &[&hex!("0d000000")[..], &data].concat());
        assert_eq!(id.identity.as_oid(), Some((&OID[..], &ADDRESS[..])));
        for length in 0..data.len() {
            assert_eq!(Identity::new(IdType::OID, &data[..length]).as_oid(), None);
        }
    }

    #[test]
    fn security_association() {
        let selector = [&[13][..], &OID, &[0, 6], &ADDRESS].concat();
        let octets = [
            &hex!("00000002 00000000 0010 0000")[..],
            &hex!("10000027 03"),
            &selector,
            &hex!("00000001 0002 0002 00000e10"),
            &hex!("0000002f 03"),
            &selector,
            &hex!("00000002 0001 0004 0000a8c0 0001 0004 00000ce4"),
        ]
        .concat();
        let tek = |spi, authentication, confidentiality, remaining_lifetime_secs, attributes| {
            SaTek::Iec61850(Iec61850Tek {
                oid: (&OID[..]).into(),
                oid_payload: (&ADDRESS[..]).into(),
                spi,
                authentication,
                confidentiality,
                remaining_lifetime_secs,
                attributes,
            })
        };
        let sa = GroupSecurityAssociation {
            kek: None,
            policy: None,
            teks: vec![
                tek(1, IecAuthentication::HMAC_SHA256_128, IecConfidentiality::AES_CBC_128, 3600, [].into()),
                tek(
                    2,
                    IecAuthentication::NONE,
                    IecConfidentiality::AES_GCM_128,
                    12 * 3600,
                    [Attribute::variable_u32(IecAttribute::ACTIVATION_TIME_DELAY, 3300)].into(),
                ),
            ],
        };
        survives(&sa, &octets);
        for length in 0..octets.len() {
            // Cut before an attribute that is the last, the payload is whole but for its own length.
            assert!(GroupSecurityAssociation::parse(&octets[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn key_download() {
        let octets = [
            &hex!("0002 0000")[..],
            &hex!("01 00 0041 04 00000001 0002 0020"),
            &[0x22; 32],
            &hex!("0001 0010"),
            &[0x11; 16],
            &hex!("01 00 0021 04 00000002 0001 0014"),
            &[0x33; 20],
        ]
        .concat();
        let packet = |spi: u32, attributes| KeyPacket {
            kind: KeyDownloadType::TEK,
            spi: spi.to_be_bytes().to_vec().into(),
            attributes,
        };
        let keys = KeyDownload {
            packets: vec![
                packet(
                    1,
                    [
                        Attribute::variable(TekKeyAttribute::INTEGRITY_KEY, vec![0x22; 32]),
                        Attribute::variable(TekKeyAttribute::ALGORITHM_KEY, vec![0x11; 16]),
                    ]
                    .into(),
                ),
                packet(2, [Attribute::variable(TekKeyAttribute::ALGORITHM_KEY, vec![0x33; 20])].into()),
            ],
        };
        survives(&keys, &octets);
        for length in 0..octets.len() {
            assert!(KeyDownload::parse(&octets[..length]).is_err(), "{length}");
        }
    }
}

#[test]
fn attributes_beyond_the_maximum_are_refused() {
    let octets = hex!("80010001").repeat(wire::attribute::MAXIMUM_ATTRIBUTES + 1);
    assert!(GroupAssociatedPolicy::parse(&octets[4..]).is_ok());
    assert!(GroupAssociatedPolicy::parse(&octets).is_err());
}

#[test]
fn a_payload_too_long_for_its_length_is_not_written() {
    let mut chain = PayloadChain::new();
    assert!(chain.push(&Nonce::from(vec![0; 65531])).is_ok());
    let before = chain.clone();
    assert!(chain.push(&Nonce::from(vec![0; 65532])).is_err());
    assert_eq!(chain, before);
}
