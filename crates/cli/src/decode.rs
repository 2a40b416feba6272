//! `gvpn decode`.

use anyhow::{Context as _, Result, bail};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use wire::describe;
use wire::ip::LinkType;

use crate::command::{Arguments, Context, Output, command, positional};
use crate::input;

/// UDP port of GDOI: what is given as a bare message is read as if it came there, non-ESP marker included.
const GDOI_PORT: u16 = 848;

/// Room for one block of a capture; a captured frame is at most 256 KiB.
const BLOCK: usize = 1 << 20;

command! {
    /// Print a GDOI or IKE message, or every packet of a capture, as indented text. Keys are never printed.
    /// INPUT is a capture (pcap or pcapng), a file with a message in binary or hexadecimal, `-` for standard input, or
    /// the hexadecimal digits themselves.
    DECODE = "decode", &[positional("INPUT", "FILE, `-` or hexadecimal digits")], run;
}

fn run(_: &Context, arguments: &Arguments) -> Result<Output> {
    let Some(given) = arguments.value("INPUT") else {
        bail!("decode needs an INPUT: a file, `-` or hexadecimal digits")
    };
    let octets = match hexadecimal(given.as_bytes()) {
        Some(octets) if !std::path::Path::new(given).exists() => octets,
        _ => input::octets(given)?,
    };
    decode(&octets).map(Output::text)
}

fn decode(octets: &[u8]) -> Result<String> {
    if is_capture(octets) {
        return capture(octets);
    }
    let message = hexadecimal(octets).unwrap_or_else(|| octets.to_vec());
    Ok(describe::datagram(GDOI_PORT, GDOI_PORT, &message))
}

/// Hexadecimal digits, perhaps with blanks and colons between them and `0x` before; `None` if it is anything else.
fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let digits: String = text
        .trim_start_matches("0x")
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != ':')
        .collect();
    if digits.is_empty()
        || !digits.len().is_multiple_of(2)
        || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

fn is_capture(octets: &[u8]) -> bool {
    matches!(
        octets.first_chunk(),
        Some(
            [0xa1, 0xb2, 0xc3, 0xd4]
                | [0xd4, 0xc3, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0x3c, 0x4d]
                | [0x4d, 0x3c, 0xb2, 0xa1]
                | [0x0a, 0x0d, 0x0d, 0x0a]
        )
    )
}

fn capture(octets: &[u8]) -> Result<String> {
    let mut reader =
        create_reader(BLOCK, octets).map_err(|error| anyhow::anyhow!("not a capture: {error}"))?;
    let mut text = String::new();
    let mut number = 0;
    // The link type of a pcap file, and of each interface of a pcapng section.
    let mut link_types: Vec<LinkType> = Vec::new();
    let mut stalled = false;
    loop {
        match reader.next() {
            Ok((length, block)) => {
                stalled = false;
                let frame = match &block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        link_types = vec![LinkType(header.network.0)];
                        None
                    }
                    PcapBlockOwned::Legacy(packet) => {
                        Some((0, packet.data.get(..packet.caplen as usize).unwrap_or(packet.data)))
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                        link_types.clear();
                        None
                    }
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        link_types.push(LinkType(interface.linktype.0));
                        None
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        Some((packet.if_id as usize, packet.packet_data()))
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => Some((0, packet.packet_data())),
                    PcapBlockOwned::NG(_) => None,
                };
                if let Some((interface, frame)) = frame {
                    number += 1;
                    let link_type = link_types
                        .get(interface)
                        .context("a packet of an interface that is not described")?;
                    text.push_str(&format!("frame {number}, {} octets\n", frame.len()));
                    for line in describe::frame(*link_type, frame).lines() {
                        text.push_str(&format!("  {line}\n"));
                    }
                }
                reader.consume(length);
            }
            Err(PcapError::Eof) => return Ok(text),
            Err(PcapError::Incomplete(_)) if !stalled => {
                stalled = true;
                reader.refill().map_err(|error| anyhow::anyhow!("reading the capture: {error}"))?;
            }
            // What could be read is worth more than an error alone.
            Err(error) => {
                text.push_str(&format!("the capture ends here, cut off or damaged: {error}\n"));
                return Ok(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ISAKMP header of aggressive mode and nothing else.
    const HEADER: &str = "0102030405060708 0000000000000000 00100400 00000000 0000001c";

    fn datagram() -> Vec<u8> {
        let message = hexadecimal(HEADER.as_bytes()).unwrap();
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x03, 0x50, 0x03, 0x50, 0, 8 + message.len() as u8, 0, 0]);
        packet.extend(&message);
        packet[3] = packet.len() as u8;
        packet
    }

    fn pcap(link_type: u32, frame: &[u8]) -> Vec<u8> {
        let mut file = hexadecimal(b"d4c3b2a1 0200 0400 00000000 00000000 00000400").unwrap();
        file.extend(link_type.to_le_bytes());
        file.extend([0; 8]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
        file
    }

    fn pcapng(frame: &[u8]) -> Vec<u8> {
        let mut file = hexadecimal(b"0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000").unwrap();
        file.extend(hexadecimal(b"01000000 14000000 6500 0000 00000400 14000000").unwrap());
        let padded = frame.len().next_multiple_of(4);
        let total = (32 + padded) as u32;
        file.extend([6, 0, 0, 0]);
        file.extend(total.to_le_bytes());
        file.extend([0; 12]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
        file.resize(file.len() + padded - frame.len(), 0);
        file.extend(total.to_le_bytes());
        file
    }

    #[test]
    fn a_message_is_read_from_binary_and_from_hexadecimal() {
        let binary = decode(&hexadecimal(HEADER.as_bytes()).unwrap()).unwrap();
        assert!(binary.contains("0102030405060708"), "{binary}");
        assert_eq!(decode(HEADER.as_bytes()).unwrap(), binary);
        assert_eq!(decode(format!("0x{}\n", HEADER.replace(' ', ":")).as_bytes()).unwrap(), binary);
    }

    #[test]
    fn captures_of_every_kind_show_the_same_packet() {
        let packet = datagram();
        let raw = decode(&pcap(101, &packet)).unwrap();
        assert!(raw.starts_with("frame 1, 56 octets\n") && raw.contains("0102030405060708"), "{raw}");
        let ethernet = [&[0; 12][..], &[8, 0], &packet].concat();
        let cooked = [&[0; 14][..], &[8, 0], &packet].concat();
        let null = [&2_u32.to_ne_bytes()[..], &packet].concat();
        for capture in [pcap(1, &ethernet), pcap(113, &cooked), pcap(0, &null), pcapng(&packet)] {
            let text = decode(&capture).unwrap();
            assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), raw.lines().skip(1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn damaged_captures_end_with_a_word_and_never_panic() {
        for whole in [pcap(101, &datagram()), pcapng(&datagram())] {
            for length in 0..whole.len() {
                let _ = decode(&whole[..length]);
            }
        }
    }
}
