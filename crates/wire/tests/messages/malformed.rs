//! Octets that must be refused, each for its own reason.

use hex_literal::hex;
use wire::codec::LengthWidth;
use wire::gdoi::*;
use wire::isakmp::*;
use wire::registry::*;
use wire::{Violation, non_esp};

use crate::support::packets;

fn violation<'a, T: PayloadBody<'a> + std::fmt::Debug>(octets: &'a [u8]) -> Violation {
    T::parse(octets).unwrap_err().violation
}

/// Every captured datagram is refused where it is wrong; none panics. Most captures are cut off, so that what lies
/// where a UDP payload does is taken whatever the lengths before it say.
#[test]
fn malformed_captures_are_refused() {
    for name in [
        "ikev1_id_ipv6_addr_subnet-oobr.pcap",
        "isakmp-3948-oobr-2.pcap",
        "isakmp-delete-segfault.pcap",
        "isakmp-ikev1_n_print-oobr.pcap",
        "isakmp-pointer-loop.pcap",
        "isakmp-rfc3948-oobr.pcap",
        "isakmp-various-oobr.pcap",
        "isakmpv1-attr-oobr.pcap",
    ] {
        for packet in packets(&format!("malformed-ike/{name}")) {
            let datagram = packet.get(28..).unwrap_or_default();
            let refused = match Message::parse(non_esp::strip(datagram).1) {
                Err(_) => true,
                Ok(message) => message.payloads().is_err() || is_any_payload_malformed(&message),
            };
            assert!(refused, "{name}");
        }
    }
}

fn is_any_payload_malformed(message: &Message<'_>) -> bool {
    let payloads = message.payloads().unwrap();
    payloads.iter().any(|payload| crate::fuzz_bodies::rewrite(message.header.exchange, payload).is_err())
}

#[test]
fn other_versions_and_wrong_lengths_are_refused() {
    let chain = PayloadChain::new();
    let header = Header {
        initiator_cookie: Cookie([1; 8]),
        responder_cookie: Cookie::ZERO,
        next_payload: chain.first(),
        version: Version(0x20),
        exchange: ExchangeType::AGGRESSIVE,
        flags: Flags::NONE,
        message_id: MessageId::PHASE_ONE,
    };
    let octets = header.message(&[]).unwrap();
    assert_eq!(Message::parse(&octets).unwrap_err().violation, Violation::UnsupportedVersion);
    let mut octets = Header { version: Version::V1_0, ..header }.message(&[]).unwrap();
    assert!(Message::parse(&octets).unwrap().payloads().unwrap().as_slice().is_empty());
    octets[24] = 0x80;
    assert_eq!(Message::parse(&octets).unwrap_err().violation, Violation::BadLength);
}

#[test]
fn a_chain_with_impossible_generic_headers_is_refused() {
    let parse =
        |octets| Payloads::parse(PayloadType::NONCE, octets).map(|_| ()).map_err(|error| error.violation);
    assert_eq!(parse(&hex!("00000004")), Ok(()));
    assert_eq!(parse(&hex!("00010004")), Err(Violation::ReservedNotZero));
    assert_eq!(parse(&hex!("00000003")), Err(Violation::BadLength));
    assert_eq!(parse(&hex!("00000000")), Err(Violation::BadLength));
    assert_eq!(parse(&hex!("00000005")), Err(Violation::Truncated));
    assert_eq!(parse(&hex!("0000000400")), Err(Violation::TrailingOctets));
    assert_eq!(parse(&hex!("0a000004")), Err(Violation::Truncated));
}

#[test]
fn payloads_beyond_the_maximum_are_refused() {
    let octets = [&hex!("0a000004").repeat(MAXIMUM_PAYLOADS - 1)[..], &hex!("00000004")].concat();
    assert_eq!(Payloads::parse(PayloadType::NONCE, &octets).unwrap().as_slice().len(), MAXIMUM_PAYLOADS);
    let octets = [&hex!("0a000004").repeat(MAXIMUM_PAYLOADS)[..], &hex!("00000004")].concat();
    let error = Payloads::parse(PayloadType::NONCE, &octets).unwrap_err();
    assert_eq!(error.violation, Violation::TooMany);
}

#[test]
fn padding_is_accepted_after_encrypted_payloads_only() {
    let octets = |padding| [&hex!("00000005ff")[..], &vec![7; padding]].concat();
    for padding in [0, 1, 8, 256] {
        let octets = octets(padding);
        let payloads = Payloads::parse_decrypted(PayloadType::HASH, &octets).unwrap();
        assert_eq!(payloads.padding().len(), padding);
        assert_eq!(Payloads::parse(PayloadType::HASH, &octets).is_ok(), padding == 0);
    }
    assert!(Payloads::parse_decrypted(PayloadType::HASH, &octets(257)).is_err());
}

#[test]
fn a_payload_of_which_there_must_be_one_is_refused_twice() {
    let octets = hex!("0a00000501 0000000502");
    let payloads = Payloads::parse(PayloadType::NONCE, &octets).unwrap();
    let error = payloads.only::<Nonce<'_>>().unwrap_err();
    assert_eq!((error.violation, error.offset), (Violation::TooMany, 5));
    assert_eq!(payloads.only::<Hash<'_>>(), Ok(None));
}

#[test]
fn a_phase_one_sa_with_labels_or_foreign_payloads_is_refused() {
    assert_eq!(
        violation::<SecurityAssociation<'_>>(&hex!("00000001 00000003 00000008")),
        Violation::BadValue
    );
    // The proposal is followed by a nonce.
    let octets = hex!("00000002 00000000 0a000008 01010000 00000004");
    assert_eq!(violation::<SecurityAssociation<'_>>(&octets), Violation::BadOrder);
    // The proposal says it has two transforms and has one.
    let octets = hex!("00000002 00000000 00000010 01010002 00000008 01010000");
    assert_eq!(violation::<SecurityAssociation<'_>>(&octets), Violation::BadLength);
    // The transform runs out of its proposal.
    let octets = hex!("00000002 00000000 00000010 01010001 0000000c 01010000 80010001");
    assert_eq!(violation::<SecurityAssociation<'_>>(&octets), Violation::Truncated);
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.2.1
//= type=test
//# When present, the order of the SA Attribute payloads MUST be: SAK,
//# GAP, and SATs.
#[test]
fn sa_attribute_payloads_out_of_order_are_refused() {
    let gap = hex!("80010001");
    let tek = hex!("ff");
    let sa = |kinds: &[(PayloadType, &[u8])]| {
        let mut chain = PayloadChain::new();
        for (kind, body) in kinds {
            chain.push_raw(*kind, body).unwrap();
        }
        [&hex!("00000002 00000000")[..], &[0, chain.first().0, 0, 0], chain.bytes()].concat()
    };
    let gap = (PayloadType::GROUP_ASSOCIATED_POLICY, &gap[..]);
    let tek = (PayloadType::SA_TEK, &tek[..]);
    assert!(GroupSecurityAssociation::parse(&sa(&[gap, tek, tek])).is_ok());
    for wrong in [&[tek, gap][..], &[gap, gap], &[(PayloadType::NONCE, &[])]] {
        assert_eq!(violation::<GroupSecurityAssociation<'_>>(&sa(wrong)), Violation::BadOrder);
    }
    let many = vec![tek; 2049];
    assert_eq!(violation::<GroupSecurityAssociation<'_>>(&sa(&many)), Violation::TooMany);
}

#[test]
fn a_group_sa_of_another_doi_or_situation_is_refused() {
    assert!(GroupSecurityAssociation::parse(&hex!("00000002 00000000 0000 0000")).is_ok());
    assert_eq!(
        violation::<GroupSecurityAssociation<'_>>(&hex!("00000001 00000000 0000 0000")),
        Violation::BadValue
    );
    assert_eq!(
        violation::<GroupSecurityAssociation<'_>>(&hex!("00000002 00000001 0000 0000")),
        Violation::BadValue
    );
    assert_eq!(
        violation::<GroupSecurityAssociation<'_>>(&hex!("00000002 00000000 0100 0000")),
        Violation::BadValue
    );
    assert_eq!(
        violation::<GroupSecurityAssociation<'_>>(&hex!("00000002 00000000 0000 0001")),
        Violation::ReservedNotZero
    );
}

#[test]
fn key_packets_that_contradict_their_number_are_refused() {
    let packet = hex!("01000009 0411223344");
    let kd = |count: u8, packets: usize| [&[0, count, 0, 0][..], &packet.repeat(packets)].concat();
    assert!(KeyDownload::parse(&kd(2, 2)).is_ok());
    assert_eq!(violation::<KeyDownload<'_>>(&kd(2, 1)), Violation::BadLength);
    assert_eq!(violation::<KeyDownload<'_>>(&kd(2, 3)), Violation::BadLength);
    assert_eq!(violation::<KeyDownload<'_>>(&hex!("00010000 01000003 04")), Violation::BadLength);
    assert_eq!(violation::<KeyDownload<'_>>(&hex!("00010000 01000008 04112233")), Violation::Truncated);
}

#[test]
fn a_delete_whose_spis_do_not_fill_it_is_refused() {
    assert!(Delete::parse(&hex!("00000002 01040001 11223344")).is_ok());
    assert_eq!(violation::<Delete<'_>>(&hex!("00000002 01040002 11223344")), Violation::BadLength);
    assert_eq!(violation::<Delete<'_>>(&hex!("00000002 01040001 1122334455")), Violation::BadLength);
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
//= type=test
//# the GCKS can signal deletion of all policy of
//# a particular TEK protocol by sending a TEK with an SPI value equal to
//# zero in the delete payload.
#[test]
fn a_delete_without_spi_or_with_spi_zero_means_everything() {
    let delete = Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4);
    assert!(delete.is_everything());
    assert!(delete.clone().with_spi(&[0; 4]).is_everything());
    assert!(!delete.with_spi(&[0, 0, 0, 1]).is_everything());
}

#[test]
fn identity_lengths_decide_between_one_and_two_octets() {
    let one = hex!("01 00 01 0000 04 0a000001 01 0000 04 e0000001 0c 00000100 80010001");
    let two = hex!("01 00 01 0000 0004 0a000001 01 0000 0004 e0000001 0c 00000100 80010001");
    for (octets, width) in [(&one[..], LengthWidth::One), (&two[..], LengthWidth::Two)] {
        let SaTek::Esp(tek) = SaTek::parse(octets).unwrap() else { panic!("not ESP") };
        assert_eq!(tek.id_length, width);
        assert_eq!(tek.selector().unwrap().to_string(), "10.0.0.1/32 -> 224.0.0.1/32");
        assert_eq!(tek.spi, 0x100);
    }
    // An IPv4 address of five octets, in either reading.
    let wrong = hex!("01 00 01 0000 05 0a00000100 01 0000 04 e0000001 0c 00000100 80010001");
    assert_eq!(violation::<SaTek<'_>>(&wrong), Violation::BadLength);
}

#[test]
fn identities_that_are_no_prefix_are_told_apart() {
    let identity = |kind, data: &[u8]| Identity::new(kind, data.to_vec()).prefix();
    let range = |data: &[u8]| identity(IdType::IPV4_ADDR_RANGE, data);
    let subnet = |data: &[u8]| identity(IdType::IPV4_ADDR_SUBNET, data);
    assert_eq!(subnet(&hex!("0a010203 ffff0000")).unwrap(), "10.1.0.0/16".parse().unwrap());
    assert_eq!(subnet(&hex!("0a010203 ff00ff00")), Err(IdentityError::NotAPrefix(IdType::IPV4_ADDR_SUBNET)));
    assert_eq!(subnet(&hex!("0a010203 ff")), Err(IdentityError::Length(IdType::IPV4_ADDR_SUBNET)));
    assert_eq!(range(&hex!("0a010000 0a01ffff")).unwrap(), "10.1.0.0/16".parse().unwrap());
    assert_eq!(range(&hex!("00000000 ffffffff")).unwrap(), "0.0.0.0/0".parse().unwrap());
    assert_eq!(range(&hex!("0a010001 0a01ffff")), Err(IdentityError::NotAPrefix(IdType::IPV4_ADDR_RANGE)));
    assert_eq!(range(&hex!("0a01ffff 0a010000")), Err(IdentityError::NotAPrefix(IdType::IPV4_ADDR_RANGE)));
    assert_eq!(identity(IdType::FQDN, b"a.example"), Err(IdentityError::NotAddresses(IdType::FQDN)));
    assert_eq!(identity(IdType::IPV4_ADDR, b""), Ok("0.0.0.0/0".parse().unwrap()));
}
