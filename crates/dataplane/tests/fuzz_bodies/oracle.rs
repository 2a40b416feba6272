//! What the fuzz targets' policies protect, said a second time and without the engine's code: by the addresses alone.

use std::net::{Ipv4Addr, Ipv6Addr};

const ESP: u8 = 50;
const PIM: u8 = 103;
const REGISTER: u8 = 0x21;
const REGISTER_LENGTH: usize = 8;

/// A packet as far as it is looked at here.
struct Seen<'a> {
    addresses: Addresses,
    protocol: u8,
    behind: &'a [u8],
}

enum Addresses {
    Four(Ipv4Addr, Ipv4Addr),
    Six(Ipv6Addr, Ipv6Addr),
}

fn see(packet: &[u8]) -> Option<Seen<'_>> {
    match packet.first()? >> 4 {
        4 => {
            let four = |from| Some(Ipv4Addr::from(*packet.get(from..)?.first_chunk::<4>()?));
            let length = usize::from(packet[0] & 15) * 4;
            Some(Seen {
                addresses: Addresses::Four(four(12)?, four(16)?),
                protocol: packet[9],
                behind: packet.get(length..)?,
            })
        }
        6 => {
            let six = |from| Some(Ipv6Addr::from(*packet.get(from..)?.first_chunk::<16>()?));
            Some(Seen {
                addresses: Addresses::Six(six(8)?, six(24)?),
                protocol: packet[6],
                behind: packet.get(40..)?,
            })
        }
        _ => None,
    }
}

impl Addresses {
    /// A policy is about them, or about their mirror image.
    fn match_a_policy(&self) -> bool {
        match self {
            Self::Four(source, destination) => [source, destination].iter().any(|it| it.octets()[0] < 128),
            Self::Six(source, destination) => {
                [source, destination].iter().any(|it| it.octets()[0] >> 5 == 0b001)
            }
        }
    }

    fn are_excluded(&self) -> bool {
        match self {
            Self::Four(source, destination) => [source, destination].iter().all(|it| it.octets()[0] == 10),
            Self::Six(..) => false,
        }
    }

    fn is_to_this_machine(&self) -> bool {
        matches!(self, Self::Six(_, to) if *to == Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
    }
}

/// A frame that may leave in clear, or come in so: it holds no packet that is to be protected, nor a Register with one.
/// What this machine sends to a rendezvous point is judged by what is inside.
pub fn may_be_clear(frame: &[u8], own: bool) -> bool {
    // Address resolution and the like are no packets.
    let Some(seen) = frame.get(14..).and_then(see) else { return frame.get(12..14) == Some(&[8, 6]) };
    let is_register = seen.protocol == PIM && seen.behind.first() == Some(&REGISTER);
    let inside = seen.behind.get(REGISTER_LENGTH..).filter(|_| is_register).and_then(see);
    let is_open = |addresses: &Addresses| !addresses.match_a_policy() || addresses.are_excluded();
    match inside {
        Some(inside) => is_open(&inside.addresses) && (own || is_open(&seen.addresses)),
        None => is_open(&seen.addresses),
    }
}

/// The same of a frame that arrives: ESP of others for this machine is its own business.
pub fn may_come_in(frame: &[u8]) -> bool {
    let for_us = |seen: Seen<'_>| seen.addresses.is_to_this_machine();
    may_be_clear(frame, false) || frame.get(14..).and_then(see).is_some_and(for_us)
}

/// A decrypted frame is one of a policy.
pub fn is_of_a_policy(frame: &[u8]) -> bool {
    frame.get(14..).and_then(see).is_some_and(|seen| seen.addresses.match_a_policy())
}

/// A frame that leaves as ESP is that, or a fragment of it, or a Register around it; and nothing of what was put in can be
/// read behind its headers.
pub fn is_sealed(frame: &[u8], put_in: &[(super::VnetHeader, Vec<u8>)]) -> bool {
    const FRAGMENT: u8 = 44;
    let Some(seen) = frame.get(14..).and_then(see) else { return false };
    let seen = match seen.protocol {
        PIM => match seen.behind.get(REGISTER_LENGTH..).and_then(see) {
            Some(inside) => inside,
            None => return false,
        },
        FRAGMENT if seen.behind.first() == Some(&ESP) => Seen { protocol: ESP, ..seen },
        _ => seen,
    };
    let legible = |window: &[u8]| seen.behind.windows(window.len()).any(|octets| octets == window);
    let cleartext = put_in.iter().filter_map(|(_, bytes)| {
        let window: &[u8; 16] = bytes.get(34..)?.last_chunk()?;
        // What is all the same may be anywhere.
        let different: std::collections::BTreeSet<_> = window.iter().collect();
        (different.len() >= 8).then_some(window)
    });
    seen.protocol == ESP && !cleartext.into_iter().any(|window| legible(window))
}
