//! Where the IP packet begins in a captured frame.

/// Link type of a capture. <https://www.tcpdump.org/linktypes.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(pub i32);

impl LinkType {
    /// BSD loopback: four octets of address family in the order of the host that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// An IP packet; the number in files of some systems.
    pub const RAW_BSD: Self = Self(12);
    /// An IP packet.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: four octets of address family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "any" device.
    pub const LINUX_SLL: Self = Self(113);
    /// An IPv4 packet.
    pub const IPV4: Self = Self(228);
    /// An IPv6 packet.
    pub const IPV6: Self = Self(229);
    /// Linux "any" device, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// The IP packet in a frame of this type; `None` if there is none.
    pub fn ip_packet(self, frame: &[u8]) -> Option<&[u8]> {
        match self {
            Self::ETHERNET => {
                let mut rest = frame.get(12..)?;
                loop {
                    let (kind, body) = rest.split_at_checked(2)?;
                    match kind {
                        [0x08, 0x00] | [0x86, 0xdd] => return Some(body),
                        // VLAN tags.
                        [0x81, 0x00] | [0x88, 0xa8] => rest = body.get(2..)?,
                        _ => return None,
                    }
                }
            }
            Self::NULL | Self::LOOP => frame.get(4..),
            Self::LINUX_SLL => frame.get(16..),
            Self::LINUX_SLL2 => frame.get(20..),
            Self::RAW | Self::RAW_BSD | Self::IPV4 | Self::IPV6 => Some(frame),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_tags_are_passed_over() {
        let addresses = [0; 12];
        let tagged = [&addresses[..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0, 0x45]].concat();
        assert_eq!(LinkType::ETHERNET.ip_packet(&tagged), Some(&[0x45][..]));
        for length in 0..tagged.len() - 1 {
            assert_eq!(LinkType::ETHERNET.ip_packet(&tagged[..length]), None, "{length}");
        }
        assert_eq!(LinkType::ETHERNET.ip_packet(&[&addresses[..], &[0x08, 0x06]].concat()), None);
    }
}
