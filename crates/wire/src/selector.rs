//! Which packets a policy is about.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A traffic selector. Zero means any port or protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses.
    pub destination: IpNet,
    /// Source port, 0 for any.
    pub source_port: u16,
    /// Destination port, 0 for any.
    pub destination_port: u16,
    /// IP protocol, 0 for any.
    pub protocol: u8,
}

impl Selector {
    /// All packets between two prefixes.
    pub fn between(source: IpNet, destination: IpNet) -> Self {
        Self { source, destination, source_port: 0, destination_port: 0, protocol: 0 }
    }

    /// The selector of the answers: source and destination exchanged.
    #[must_use]
    pub fn mirror(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// Whether every packet of `other` is one of this selector.
    pub fn covers(&self, other: &Selector) -> bool {
        let any = |own: u16, theirs: u16| own == 0 || own == theirs;
        self.source.contains(&other.source)
            && self.destination.contains(&other.destination)
            && any(self.source_port, other.source_port)
            && any(self.destination_port, other.destination_port)
            && any(self.protocol.into(), other.protocol.into())
    }

    /// Whether a packet matches. `ports` (source, destination) is `None` where the packet shows none.
    pub fn matches(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: Option<(u16, u16)>,
    ) -> bool {
        self.source.contains(&source)
            && self.destination.contains(&destination)
            && (self.protocol == 0 || self.protocol == protocol)
            && match ports {
                Some((source_port, destination_port)) => {
                    (self.source_port == 0 || self.source_port == source_port)
                        && (self.destination_port == 0 || self.destination_port == destination_port)
                }
                None => self.source_port == 0 && self.destination_port == 0,
            }
    }
}

/// `10.0.0.0/8 -> 20.0.0.0/8 protocol 6 ports any -> 23`; what is "any" throughout is left out.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.destination)?;
        if self.protocol != 0 {
            write!(f, " protocol {}", self.protocol)?;
        }
        if (self.source_port, self.destination_port) != (0, 0) {
            write!(f, " ports ")?;
            port(f, self.source_port)?;
            write!(f, " -> ")?;
            port(f, self.destination_port)?;
        }
        Ok(())
    }
}

fn port(f: &mut fmt::Formatter<'_>, port: u16) -> fmt::Result {
    match port {
        0 => f.write_str("any"),
        port => write!(f, "{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telnet() -> Selector {
        Selector {
            source: "10.0.0.0/8".parse().unwrap(),
            destination: "20.0.0.0/8".parse().unwrap(),
            source_port: 0,
            destination_port: 23,
            protocol: 6,
        }
    }

    #[test]
    fn the_mirror_exchanges_source_and_destination() {
        let mirror = telnet().mirror();
        assert_eq!(mirror.to_string(), "20.0.0.0/8 -> 10.0.0.0/8 protocol 6 ports 23 -> any");
        assert_eq!(mirror.mirror(), telnet());
    }

    #[test]
    fn a_selector_covers_narrower_ones_only() {
        let wide = Selector::between("10.0.0.0/8".parse().unwrap(), "20.0.0.0/8".parse().unwrap());
        assert!(wide.covers(&telnet()));
        assert!(!telnet().covers(&wide));
        assert!(!wide.covers(&Selector { source: "0.0.0.0/0".parse().unwrap(), ..wide }));
    }

    #[test]
    fn a_packet_without_ports_matches_only_where_ports_are_any() {
        let (source, destination) = ("10.1.1.1".parse().unwrap(), "20.1.1.1".parse().unwrap());
        assert!(telnet().matches(source, destination, 6, Some((1024, 23))));
        assert!(!telnet().matches(source, destination, 6, Some((1024, 24))));
        assert!(!telnet().matches(source, destination, 17, Some((1024, 23))));
        assert!(!telnet().matches(source, destination, 6, None));
        assert!(Selector { destination_port: 0, ..telnet() }.matches(source, destination, 6, None));
    }
}
