//! The payloads of a message.

use crate::codec::{Reader, Result, Violation};
use crate::gdoi::*;
use crate::isakmp::*;
use crate::registry::*;
use crate::text::Hex;

use super::Text;
use super::attributes::{Registry, write_attributes};

/// Writes payloads to the end of `body`, which begins `offset` octets into the message.
pub(super) fn write_payloads(
    text: &mut Text,
    exchange: ExchangeType,
    first: PayloadType,
    body: &[u8],
    offset: usize,
    decrypted: bool,
) {
    let mut reader = Reader::at(body, offset);
    let mut kind = first;
    let mut count = 0;
    while kind != PayloadType::NONE {
        if count == MAXIMUM_PAYLOADS {
            return text.malformed(reader.error(Violation::TooMany, "payload"));
        }
        count += 1;
        match Payload::read(kind, &mut reader) {
            Ok((payload, next)) => {
                if let Err(error) = write_payload(text, exchange, &payload) {
                    text.line(format_args!("{kind}: {} octets", payload.body().len()));
                    text.indented(|text| {
                        text.malformed(error);
                        text.line(format_args!("{}", Hex(payload.body())));
                    });
                }
                kind = next;
            }
            Err(error) => {
                text.line(format_args!("{kind}"));
                return text.indented(|text| text.malformed(error));
            }
        }
    }
    if reader.is_empty() {
        return;
    }
    if decrypted && reader.len() <= MAXIMUM_PADDING {
        text.line(format_args!("padding: {} octets", reader.len()));
    } else {
        text.malformed(reader.error(Violation::TrailingOctets, "payload chain"));
    }
}

/// Writes one payload, or nothing at all if it is malformed.
fn write_payload(text: &mut Text, exchange: ExchangeType, payload: &Payload<'_>) -> Result<()> {
    let kind = payload.kind;
    let gdoi = matches!(exchange, ExchangeType::GROUPKEY_PULL | ExchangeType::GROUPKEY_PUSH);
    match kind {
        PayloadType::SECURITY_ASSOCIATION if gdoi => write_group_sa(text, &payload.parse()?),
        PayloadType::SECURITY_ASSOCIATION => write_sa(text, &payload.parse()?),
        // Drafts of RFC 3947, which old peers still speak, had these numbers before GDOI.
        PayloadType::SA_KEK | PayloadType::SA_TEK if !gdoi => {
            let name = if kind == PayloadType::SA_KEK { "NAT-D" } else { "NAT-OA" };
            text.line(format_args!("{name} of a draft ({}): {}", kind.0, Hex(payload.body())));
        }
        PayloadType::IDENTIFICATION => {
            let id: Identification<'_> = payload.parse()?;
            text.line(format_args!("{kind}: {} {:#}", id.identity.kind, id.identity));
            if (id.protocol, id.port) != (0, 0) {
                text.indented(|text| text.line(format_args!("protocol {}, port {}", id.protocol, id.port)));
            }
        }
        PayloadType::CERTIFICATE => {
            let certificate: Certificate<'_> = payload.parse()?;
            text.line(format_args!("{kind}: {}", certificate.encoding));
            text.indented(|text| text.line(format_args!("{}", Hex(&certificate.data))));
        }
        PayloadType::CERTIFICATE_REQUEST => {
            let request: CertificateRequest<'_> = payload.parse()?;
            text.line(format_args!("{kind}: {}", request.encoding));
            text.indented(|text| text.line(format_args!("authority {}", Hex(&request.authority))));
        }
        PayloadType::NOTIFICATION => write_notification(text, &payload.parse()?),
        PayloadType::DELETE => write_delete(text, &payload.parse()?),
        PayloadType::SA_KEK => write_kek(text, &payload.parse()?),
        PayloadType::SA_TEK => write_tek(text, &payload.parse()?),
        PayloadType::GROUP_ASSOCIATED_POLICY => write_gap(text, &payload.parse()?),
        PayloadType::KEY_DOWNLOAD => write_key_download(text, &payload.parse()?),
        PayloadType::SEQUENCE_NUMBER => {
            let sequence: SequenceNumber = payload.parse()?;
            text.line(format_args!("{kind}: {}", sequence.0));
        }
        _ => text.line(format_args!("{kind}: {}", Hex(payload.body()))),
    }
    Ok(())
}

fn write_sa(text: &mut Text, sa: &SecurityAssociation<'_>) {
    let kind = PayloadType::SECURITY_ASSOCIATION;
    text.line(format_args!("{kind}: DOI {}, situation {}", sa.doi, sa.situation));
    text.indented(|text| {
        for proposal in &sa.proposals {
            text.line(format_args!("proposal {}: {}", proposal.number, proposal.protocol));
            text.indented(|text| {
                if !proposal.spi.is_empty() {
                    text.line(format_args!("SPI: {}", Hex(&proposal.spi)));
                }
                for transform in &proposal.transforms {
                    text.line(format_args!("transform {}: {}", transform.number, transform.id));
                    text.indented(|text| write_attributes(text, Registry::PhaseOne, &transform.attributes));
                }
            });
        }
    });
}

fn write_group_sa(text: &mut Text, sa: &GroupSecurityAssociation<'_>) {
    text.line(format_args!("{}: DOI {}, situation 0", PayloadType::SECURITY_ASSOCIATION, Doi::GDOI));
    text.indented(|text| {
        if let Some(kek) = &sa.kek {
            write_kek(text, kek);
        }
        if let Some(policy) = &sa.policy {
            write_gap(text, policy);
        }
        for tek in &sa.teks {
            write_tek(text, tek);
        }
    });
}

fn write_endpoints(text: &mut Text, protocol: u8, source: &Endpoint<'_>, destination: &Endpoint<'_>) {
    text.line(format_args!("protocol: {protocol}"));
    for (name, endpoint) in [("source", source), ("destination", destination)] {
        let Endpoint { identity, port } = endpoint;
        text.line(format_args!("{name}: {} {identity:#}, port {port}", identity.kind));
    }
}

fn write_kek(text: &mut Text, kek: &SaKek<'_>) {
    text.line(format_args!("{}: SPI {}{}", PayloadType::SA_KEK, kek.spi.0, kek.spi.1));
    text.indented(|text| {
        write_endpoints(text, kek.protocol, &kek.source, &kek.destination);
        write_id_length(text, kek.id_length);
        write_attributes(text, Registry::Kek, &kek.attributes);
    });
}

fn write_id_length(text: &mut Text, width: crate::codec::LengthWidth) {
    if width == crate::codec::LengthWidth::Two {
        text.line(format_args!("identification lengths: two octets (RFC 6407 has one)"));
    }
}

fn write_tek(text: &mut Text, tek: &SaTek<'_>) {
    let (kind, protocol) = (PayloadType::SA_TEK, tek.protocol());
    match tek {
        SaTek::Esp(tek) => {
            text.line(format_args!(
                "{kind}: {protocol}, SPI 0x{:08x}, {}",
                tek.spi,
                EspTransform(tek.transform)
            ));
            write_ipsec_tek(text, tek);
        }
        SaTek::Ah(tek) => {
            text.line(format_args!(
                "{kind}: {protocol}, SPI 0x{:08x}, {}",
                tek.spi,
                AhTransform(tek.transform)
            ));
            write_ipsec_tek(text, tek);
        }
        SaTek::Iec61850(tek) => {
            text.line(format_args!("{kind}: {protocol}, SPI 0x{:08x}", tek.spi));
            text.indented(|text| {
                text.line(format_args!("OID: {}", Hex(&tek.oid)));
                text.line(format_args!("OID-specific payload: {}", Hex(&tek.oid_payload)));
                text.line(format_args!("authentication: {}", tek.authentication));
                text.line(format_args!("confidentiality: {}", tek.confidentiality));
                text.line(format_args!("remaining lifetime: {} s", tek.remaining_lifetime_secs));
                write_attributes(text, Registry::Iec61850, &tek.attributes);
            });
        }
        SaTek::Other { body, .. } => {
            text.line(format_args!("{kind}: {protocol}"));
            text.indented(|text| text.line(format_args!("{}", Hex(body))));
        }
    }
}

fn write_ipsec_tek(text: &mut Text, tek: &IpsecTek<'_>) {
    text.indented(|text| {
        write_endpoints(text, tek.protocol, &tek.source, &tek.destination);
        write_id_length(text, tek.id_length);
        write_attributes(text, Registry::Ipsec, &tek.attributes);
    });
}

fn write_gap(text: &mut Text, policy: &GroupAssociatedPolicy<'_>) {
    text.line(format_args!("{}", PayloadType::GROUP_ASSOCIATED_POLICY));
    text.indented(|text| write_attributes(text, Registry::Gap, &policy.attributes));
}

fn write_key_download(text: &mut Text, keys: &KeyDownload<'_>) {
    text.line(format_args!("{}: {} key packets", PayloadType::KEY_DOWNLOAD, keys.packets.len()));
    text.indented(|text| {
        for packet in &keys.packets {
            let registry = match packet.kind {
                KeyDownloadType::TEK => Registry::TekKey,
                KeyDownloadType::KEK => Registry::KekKey,
                KeyDownloadType::LKH => Registry::LkhKey,
                KeyDownloadType::SID => Registry::SidKey,
                _ => Registry::Unknown,
            };
            text.line(format_args!("{}: SPI {}", packet.kind, Hex(&packet.spi)));
            text.indented(|text| write_attributes(text, registry, &packet.attributes));
        }
    });
}

fn write_notification(text: &mut Text, notification: &Notification<'_>) {
    text.line(format_args!("{}: {}", PayloadType::NOTIFICATION, notification.kind));
    text.indented(|text| {
        text.line(format_args!("DOI {}, protocol {}", notification.doi, notification.protocol));
        if !notification.spi.is_empty() {
            text.line(format_args!("SPI: {}", Hex(&notification.spi)));
        }
        if !notification.data.is_empty() {
            text.line(format_args!("data: {}", Hex(&notification.data)));
        }
    });
}

fn write_delete(text: &mut Text, delete: &Delete<'_>) {
    let protocol = match delete.doi {
        Doi::GDOI => TekProtocol(delete.protocol).to_string(),
        _ => ProtocolId(delete.protocol).to_string(),
    };
    let (kind, count) = (PayloadType::DELETE, delete.count());
    text.line(format_args!("{kind}: DOI {}, protocol {protocol}, {count} SPIs", delete.doi));
    text.indented(|text| {
        for spi in delete.spis() {
            text.line(format_args!("{}", Hex(spi)));
        }
    });
}
