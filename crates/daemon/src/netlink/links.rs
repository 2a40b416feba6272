//! All links of the network namespace with their addresses, at one moment.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};

use super::RouteSocket;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel index; a re-created interface has another one.
    pub index: u32,
    /// Name, such as `eth1`.
    pub name: String,
    /// Ethernet address; zero where there is none.
    pub mac: [u8; 6],
    /// Has an Ethernet header (loopback does not count).
    pub ethernet: bool,
    /// Is a loopback interface.
    pub loopback: bool,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Administratively up and with carrier: packets can leave.
    pub up: bool,
    /// Kind of the root queueing discipline, such as `noqueue` or `htb`.
    pub qdisc: String,
    /// Addresses with their prefix lengths, in the order of the kernel.
    pub addresses: Vec<IpNet>,
}

impl Link {
    /// The prefixes that are reached on this link without a router, for which it has an address.
    pub fn on_link_prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses
            .iter()
            .map(IpNet::trunc)
            .filter(|prefix| prefix.prefix_len() != prefix.max_prefix_len())
    }
}

/// All links, by kernel index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    by_index: BTreeMap<u32, Link>,
    /// Counts changes of queueing disciplines and filters, so that such a change makes another view.
    pub(super) filter_changes: u64,
}

impl Links {
    /// Reads links and addresses of the network namespace of the calling thread.
    pub fn read() -> io::Result<Self> {
        let mut socket = RouteSocket::open()?;
        let mut by_index = BTreeMap::new();
        for message in socket.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
            if let RouteNetlinkMessage::NewLink(message) = message {
                by_index.insert(message.header.index, link(message));
            }
        }
        for message in socket.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(link) = by_index.get_mut(&message.header.index)
                && let Some(address) = address(&message)
            {
                link.addresses.push(address);
            }
        }
        Ok(Self { by_index, filter_changes: 0 })
    }

    /// The link of a kernel index.
    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The link of a name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// All links, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// Whether an address is one of this machine's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.local_addresses().any(|own| own == address)
    }

    /// The addresses of this machine, on any link.
    pub fn local_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.iter().flat_map(|link| link.addresses.iter().map(IpNet::addr))
    }
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        loopback: flags.contains(LinkFlags::Loopback),
        mtu: 0,
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        qdisc: String::new(),
        addresses: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(address) => link.mac = address.try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Qdisc(kind) => link.qdisc = kind,
            _ => {}
        }
    }
    link
}

/// The machine's own address: `Local` where the kernel gives it, since `Address` is then the other end's.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = find(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(other)?, message.header.prefix_len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_loopback_interface() {
        let links = Links::read().expect("netlink needs no privilege to read");
        let loopback = links.by_name("lo").expect("every namespace has one");
        assert!(loopback.loopback && !loopback.ethernet);
        assert_eq!(links.by_index(loopback.index), Some(loopback));
    }

    #[test]
    fn on_link_prefixes_leave_host_addresses_out() {
        let link = Link {
            index: 7,
            name: "eth1".into(),
            mac: [0; 6],
            ethernet: true,
            loopback: false,
            mtu: 1500,
            up: true,
            qdisc: "noqueue".into(),
            addresses: vec!["12.1.1.1/30".parse().unwrap(), "10.0.0.9/32".parse().unwrap()],
        };
        let prefixes: Vec<IpNet> = link.on_link_prefixes().collect();
        assert_eq!(prefixes, ["12.1.1.0/30".parse().unwrap()]);
    }
}
