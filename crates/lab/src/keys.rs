//! Which keys a capture shows: SPIs of ESP by direction, cookies of rekey messages, each with its first and last moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What a capture must show of rollovers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollovers {
    /// Name of the capture, made with `capture` on a neutral router.
    pub capture: String,
    /// How many directions (source and destination address) must have ESP.
    pub directions: usize,
    /// How often each direction must have changed its SPI at least.
    pub tek_at_least: usize,
    /// How often at most.
    pub tek_at_most: Option<usize>,
    /// How often the cookies of GROUPKEY-PUSH messages must have changed at least.
    #[serde(default)]
    pub kek_at_least: usize,
    /// How long a sender may use one SPI, in seconds.
    pub longest_use_secs: Option<f64>,
}

/// How long after its first packet under a new key a sender may still use the old one: a packet that another core had in work.
const OVERLAP_SECS: f64 = 0.5;

const ESP: u8 = 50;
const UDP: u8 = 17;
const GROUPKEY_PUSH: u8 = 33;

/// First and last use of a key, in seconds of the capture's clock, and packets.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Use {
    first: f64,
    last: f64,
    packets: u64,
}

/// All keys of a capture.
#[derive(Debug, Default)]
pub struct Keys {
    teks: BTreeMap<(Ipv4Addr, Ipv4Addr), BTreeMap<u32, Use>>,
    keks: BTreeMap<[u8; 16], Use>,
    start: Option<f64>,
}

impl Keys {
    /// Read a capture file of tcpdump's own format.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read(path).with_context(|| path.display().to_string())?)
    }

    fn parse(data: &[u8]) -> Result<Self> {
        let word = |at: usize| {
            data.get(at..at + 4).map(|octets| u32::from_le_bytes(octets.try_into().expect("four octets")))
        };
        if word(0) != Some(0xa1b2_c3d4) {
            bail!("not a capture with microseconds in this machine's byte order");
        }
        let before_ip = match word(20).context("no link type")? & 0xffff {
            1 => 14,
            113 => 16,
            276 => 20,
            other => bail!("link type {other}"),
        };
        let mut keys = Self::default();
        let mut at = 24;
        while let (Some(seconds), Some(micros), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
            let Some(frame) = data.get(at + 16..at + 16 + length as usize) else { break };
            at += 16 + length as usize;
            if let Some(packet) = frame.get(before_ip..) {
                keys.packet(f64::from(seconds) + f64::from(micros) / 1e6, packet);
            }
        }
        Ok(keys)
    }

    fn packet(&mut self, time: f64, packet: &[u8]) {
        self.start.get_or_insert(time);
        let Some(header) = packet.first_chunk::<20>().filter(|header| header[0] >> 4 == 4) else { return };
        // A later fragment has no ESP header.
        if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
            return;
        }
        let payload = packet.get(usize::from(header[0] & 15) * 4..).unwrap_or_default();
        let address =
            |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&header[at..at + 4]).expect("four octets"));
        match header[9] {
            ESP => {
                let Some(spi) = payload.first_chunk() else { return };
                let direction = self.teks.entry((address(12), address(16))).or_default();
                note(direction.entry(u32::from_be_bytes(*spi)), time);
            }
            UDP => {
                let message = payload.get(8..).unwrap_or_default();
                let ports = [payload.get(..2), payload.get(2..4)];
                if ports.contains(&Some(&848u16.to_be_bytes())) && message.get(18) == Some(&GROUPKEY_PUSH) {
                    let cookies = *message.first_chunk().expect("there is an exchange type behind them");
                    note(self.keks.entry(cookies), time);
                }
            }
            _ => {}
        }
    }

    /// Hold the capture to what is expected; returns the table of keys.
    pub fn judge(&self, expected: &Rollovers) -> Result<String> {
        let start = self.start.context("the capture is empty")?;
        let (mut text, mut errors) = (String::new(), Vec::new());
        for ((source, destination), keys) in &self.teks {
            let mut keys: Vec<(u32, Use)> = keys.iter().map(|(&spi, &used)| (spi, used)).collect();
            keys.sort_by(|one, other| one.1.first.total_cmp(&other.1.first));
            writeln!(text, "{source} > {destination}: {} rollovers", keys.len() - 1)?;
            for (spi, used) in &keys {
                writeln!(
                    text,
                    "    SPI {spi:08x}  {:7.2} to {:7.2} s  {} packets",
                    used.first - start,
                    used.last - start,
                    used.packets
                )?;
                if expected.longest_use_secs.is_some_and(|longest| used.last - used.first > longest) {
                    errors.push(format!("{source} > {destination}: SPI {spi:08x} was used too long"));
                }
            }
            for pair in keys.windows(2) {
                if pair[0].1.last > pair[1].1.first + OVERLAP_SECS {
                    errors.push(format!(
                        "{source} > {destination}: {:08x} was used after {:08x}",
                        pair[0].0, pair[1].0
                    ));
                }
            }
            let rollovers = keys.len() - 1;
            if rollovers < expected.tek_at_least || expected.tek_at_most.is_some_and(|most| rollovers > most)
            {
                errors.push(format!("{source} > {destination}: {rollovers} rollovers"));
            }
        }
        for (cookies, used) in &self.keks {
            let hexadecimal: String = cookies.iter().map(|octet| format!("{octet:02x}")).collect();
            writeln!(
                text,
                "KEK {hexadecimal}  {:7.2} to {:7.2} s  {} copies of rekey messages",
                used.first - start,
                used.last - start,
                used.packets
            )?;
        }
        if self.teks.len() != expected.directions {
            errors.push(format!("{} directions with ESP, not {}", self.teks.len(), expected.directions));
        }
        if self.keks.len() < expected.kek_at_least + usize::from(expected.kek_at_least > 0) {
            errors.push(format!("{} KEKs", self.keks.len()));
        }
        if errors.is_empty() { Ok(text) } else { bail!("{}\n{text}", errors.join("; ")) }
    }
}

fn note<K: Ord>(entry: std::collections::btree_map::Entry<'_, K, Use>, time: f64) {
    let used = entry.or_insert(Use { first: time, last: time, packets: 0 });
    used.last = used.last.max(time);
    used.packets += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(packets: &[(u32, &[u8])]) -> Vec<u8> {
        let mut data = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
        for (seconds, packet) in packets {
            let length = packet.len() as u32 + 14;
            data.extend([*seconds, 0, length, length].map(u32::to_le_bytes).concat());
            data.extend([0; 14]);
            data.extend_from_slice(packet);
        }
        data
    }

    fn esp(spi: u32) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, ESP, 0, 0, 31, 1, 1, 2, 41, 1, 1, 2];
        packet.extend(spi.to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    fn expected(rollovers: usize) -> Rollovers {
        Rollovers {
            capture: String::new(),
            directions: 1,
            tek_at_least: rollovers,
            tek_at_most: Some(rollovers),
            kek_at_least: 0,
            longest_use_secs: Some(5.0),
        }
    }

    #[test]
    fn counts_the_keys_of_a_direction() {
        let keys = Keys::parse(&capture(&[(1, &esp(7)), (4, &esp(7)), (4, &esp(8)), (6, &esp(8))])).unwrap();
        assert!(keys.judge(&expected(1)).unwrap().contains("1 rollovers"));
        assert!(keys.judge(&expected(2)).is_err());
    }

    #[test]
    fn an_old_key_after_a_new_one_is_found() {
        let keys = Keys::parse(&capture(&[(1, &esp(7)), (2, &esp(8)), (4, &esp(7))])).unwrap();
        assert!(keys.judge(&expected(1)).is_err());
    }

    #[test]
    fn a_key_that_is_used_too_long_is_found() {
        let keys = Keys::parse(&capture(&[(1, &esp(7)), (7, &esp(7)), (8, &esp(8))])).unwrap();
        assert!(keys.judge(&expected(1)).is_err());
    }
}
