//! One question to the kernel's routing table.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::RouteSocket;

/// Kernel index of the interface by which a packet of ours to `destination` leaves, if there is a route.
pub fn interface_towards(destination: IpAddr) -> io::Result<u32> {
    let (address_family, destination_prefix_length) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut question = RouteMessage::default();
    question.header = RouteHeader { address_family, destination_prefix_length, ..RouteHeader::default() };
    question.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    let answer = RouteSocket::open()?.ask(RouteNetlinkMessage::GetRoute(question))?;
    let interface = answer.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) => {
            route.attributes.into_iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(index),
                _ => None,
            })
        }
        _ => None,
    });
    interface.ok_or_else(|| io::Error::from(io::ErrorKind::NetworkUnreachable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Links;

    #[test]
    fn this_machine_is_reached_by_its_loopback() {
        let loopback = Links::read().unwrap().by_name("lo").unwrap().index;
        assert_eq!(interface_towards("127.0.0.1".parse().unwrap()).unwrap(), loopback);
    }
}
