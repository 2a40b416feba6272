//! What must hold for any octets. The fuzz targets call these functions with octets of the fuzzer, `corpus.rs` with
//! those that were found interesting.

use wire::gdoi::*;
use wire::ip::{self, IpPacket, Ipv4Packet, Ipv6Packet, TcpHeader, UdpHeader};
use wire::isakmp::*;
use wire::registry::{ExchangeType, PayloadType};
use wire::{Result, describe, esp, non_esp};

macro_rules! rewrite_as {
    ($type:ident, $payload:expr) => {{
        let value: $type = $payload.parse()?;
        let written = value.to_octets().expect("what was read fits its length fields");
        assert_eq!($type::parse(&written).expect("what was written can be read"), value);
        Ok(written)
    }};
}

/// An ISAKMP message in clear or encrypted, with or without non-ESP marker.
pub fn message(octets: &[u8]) {
    let (marker, stripped) = non_esp::strip(octets);
    assert_eq!(non_esp::mirror(marker, stripped), octets);
    let Ok(message) = Message::parse(stripped) else { return };
    assert_eq!(message.header.message(message.body()).unwrap(), stripped);
    if !message.is_encrypted()
        && let Ok(payloads) = message.payloads()
    {
        chain_survives(message.header.exchange, &payloads);
    }
    if let Ok(payloads) = Payloads::parse_decrypted(message.header.next_payload, message.body()) {
        chain_survives(message.header.exchange, &payloads);
    }
}

/// A decrypted body of a GDOI exchange; the first octet is the type of the first payload.
pub fn payloads_gdoi(octets: &[u8]) {
    let Some((&first, body)) = octets.split_first() else { return };
    if let Ok(array) = LkhDownloadArray::parse(body) {
        assert_eq!(array.to_octets().unwrap(), body);
    }
    if let Ok(array) = LkhUpdateArray::parse(body) {
        assert_eq!(array.to_octets().unwrap(), body);
    }
    if let Ok(payloads) = Payloads::parse_decrypted(PayloadType(first), body) {
        assert_eq!([payloads.chain(), payloads.padding()].concat(), body);
        assert!(payloads.padding().len() <= MAXIMUM_PADDING && payloads.as_slice().len() <= MAXIMUM_PAYLOADS);
        chain_survives(ExchangeType::GROUPKEY_PUSH, &payloads);
    }
}

/// An IP packet.
pub fn ip_packet(octets: &[u8]) {
    if let Ok(packet) = Ipv4Packet::parse(octets) {
        let header_length = packet.header.header_length();
        assert_eq!(header_length + packet.payload.len(), usize::from(packet.header.total_length.get()));
        assert_eq!(packet.has_valid_checksum(), ip::checksum(&octets[..header_length]) == 0);
    }
    if let Ok(packet) = Ipv6Packet::parse(octets)
        && let Ok(payload) = packet.payload()
    {
        assert_eq!(&packet.body[payload.extensions_length..], payload.octets);
        assert!(payload.unfragmentable_length <= payload.extensions_length);
    }
    let Ok(packet) = IpPacket::parse(octets) else { return };
    assert_eq!(&octets[packet.header_length..][..packet.payload.len()], packet.payload);
    if packet.ports().is_some() {
        assert!(packet.payload.len() >= 4 && !packet.is_later_fragment());
    }
    if let Ok((header, payload)) = UdpHeader::split(packet.payload) {
        assert_eq!(usize::from(header.length.get()), UdpHeader::LENGTH + payload.len());
    }
    if let Ok((header, options, payload)) = TcpHeader::split(packet.payload) {
        assert_eq!(header.header_length(), TcpHeader::LENGTH + options.len());
        assert_eq!(packet.payload.len(), header.header_length() + payload.len());
    }
    if let Ok((_, rest)) = esp::EspHeader::split(packet.payload) {
        assert_eq!(packet.payload.len(), esp::EspHeader::LENGTH + rest.len());
    }
}

/// Everything that renders octets as text.
pub fn describe(octets: &[u8]) {
    let first = PayloadType(octets.first().copied().unwrap_or_default());
    let body = octets.get(1..).unwrap_or_default();
    for text in [
        describe::message(octets),
        describe::packet(octets),
        describe::frame(ip::LinkType::ETHERNET, octets),
        describe::datagram(848, 848, octets),
        describe::datagram(4500, 4500, octets),
        describe::payloads(ExchangeType::GROUPKEY_PUSH, first, body),
        describe::payloads(ExchangeType::AGGRESSIVE, first, body),
    ] {
        // In proportion: what an operator pastes must not fill a disk.
        assert!(
            text.len() <= 1000 + 100 * octets.len(),
            "{} octets gave {} of text",
            octets.len(),
            text.len()
        );
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}

/// Every payload that can be read as its type gives the same octets when written, and so does the chain.
pub fn chain_survives(exchange: ExchangeType, payloads: &Payloads<'_>) {
    let mut chain = PayloadChain::new();
    for payload in payloads.iter() {
        if let Ok(written) = rewrite(exchange, payload) {
            assert_eq!(written, payload.body());
        }
        chain.push_raw(payload.kind, payload.body()).unwrap();
    }
    assert_eq!(chain.bytes(), payloads.chain());
}

/// The body of a payload, read as the type that it has in an exchange, and written.
pub fn rewrite(exchange: ExchangeType, payload: &Payload<'_>) -> Result<Vec<u8>> {
    let gdoi = matches!(exchange, ExchangeType::GROUPKEY_PULL | ExchangeType::GROUPKEY_PUSH);
    match payload.kind {
        PayloadType::SECURITY_ASSOCIATION if gdoi => rewrite_as!(GroupSecurityAssociation, payload),
        PayloadType::SECURITY_ASSOCIATION => rewrite_as!(SecurityAssociation, payload),
        PayloadType::KEY_EXCHANGE => rewrite_as!(KeyExchange, payload),
        PayloadType::IDENTIFICATION => {
            let id = payload.parse::<Identification<'_>>()?;
            // A prefix that an identity names, names the same addresses when written as a subnet.
            if let Ok(prefix) = id.identity.prefix() {
                assert_eq!(Identity::subnet(prefix).prefix(), Ok(prefix));
            }
            rewrite_as!(Identification, payload)
        }
        PayloadType::CERTIFICATE => rewrite_as!(Certificate, payload),
        PayloadType::CERTIFICATE_REQUEST => rewrite_as!(CertificateRequest, payload),
        PayloadType::HASH => rewrite_as!(Hash, payload),
        PayloadType::SIGNATURE => rewrite_as!(Signature, payload),
        PayloadType::NONCE => rewrite_as!(Nonce, payload),
        PayloadType::NOTIFICATION => rewrite_as!(Notification, payload),
        PayloadType::DELETE => rewrite_as!(Delete, payload),
        PayloadType::VENDOR_ID => rewrite_as!(VendorId, payload),
        PayloadType::SA_KEK => rewrite_as!(SaKek, payload),
        PayloadType::SA_TEK => rewrite_as!(SaTek, payload),
        PayloadType::KEY_DOWNLOAD => rewrite_as!(KeyDownload, payload),
        PayloadType::SEQUENCE_NUMBER => rewrite_as!(SequenceNumber, payload),
        PayloadType::GROUP_ASSOCIATED_POLICY => rewrite_as!(GroupAssociatedPolicy, payload),
        _ => Ok(payload.body().to_vec()),
    }
}
