//! The TAP device between the tc programs of one external interface and the engine.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsFd;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};

use rustix::net::{AddressFamily, SocketType};

use super::programs::Programs;
use super::tc::{self, Hook};
use crate::netlink::{Link, RouteSocket};
use crate::sys::tun::{TapDevice, create_tap};

/// Packets of any size come here; routing never does.
const MTU: u32 = 65521;
/// Frames that wait for the lane, in the device's ring. Enough for a burst of ESP while the lane works on super-frames.
const QUEUE_LENGTH: u32 = 4096;
/// Attempts at a free kernel index.
const INDEX_ATTEMPTS: usize = 8;

/// A TAP that is up, with its program attached. It vanishes with this value, or with the process.
#[derive(Debug)]
pub(super) struct Tap {
    /// One for each lane. Reads and writes are one frame behind a virtio-net header each, and never block.
    pub(super) queues: Vec<File>,
    /// Kernel index.
    pub(super) index: u32,
    /// It takes UDP super-frames.
    pub(super) has_datagram_frames: bool,
}

impl Tap {
    /// Makes the TAP of an external interface, with a queue for each lane.
    pub(super) fn create(interface: &Link, programs: &Programs, lanes: usize) -> io::Result<Self> {
        let name = name(&interface.name, interface.index);
        let (TapDevice { queues, has_datagram_frames }, index) = create(&name, lanes, &programs.lane)?;
        tc::attach(index, Hook::Ingress, &programs.inject, "gvpn_inject")?;
        // The device drops what its ring has no room for; a queueing discipline before it only costs time.
        tc::set_noqueue(index)?;
        let mut socket = RouteSocket::open()?;
        // Without IPv6 in the kernel there is nothing to be kept from announcing itself.
        let no_addresses = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let _ = set(
            &mut socket,
            index,
            vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![no_addresses])])],
            false,
        );
        set(
            &mut socket,
            index,
            vec![LinkAttribute::Mtu(MTU), LinkAttribute::TxQueueLen(QUEUE_LENGTH)],
            true,
        )?;
        Ok(Self { queues, index, has_datagram_frames })
    }
}

/// Name of the TAP of an interface: `gvpn-eth1`, or by index where that would be longer than a name may be.
pub(super) fn name(interface: &str, index: u32) -> String {
    let name = format!("{NAME_PREFIX}{interface}");
    if name.len() < libc::IFNAMSIZ { name } else { format!("{NAME_PREFIX}{index}") }
}

/// Is there a device with this kernel index?
pub(super) fn exists(index: u32) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    socket.is_ok_and(|socket| rustix::net::netdevice::index_to_name(socket, index).is_ok())
}

/// Is this the name of a TAP, of this daemon or of another?
pub(super) fn is_name(interface: &str) -> bool {
    interface.starts_with(NAME_PREFIX)
}

const NAME_PREFIX: &str = "gvpn-";

/// The attached programs redirect to the TAP's index even when it is gone. An index that the kernel might give to another
/// device later would lead clear packets there: so it is drawn from a range that the kernel does not count up to.
fn create(name: &str, queues: usize, steering: impl AsFd) -> io::Result<(TapDevice, u32)> {
    let mut last_error = io::ErrorKind::AlreadyExists.into();
    for _ in 0..INDEX_ATTEMPTS {
        let random = RandomState::new().build_hasher().finish() as u32;
        let index = 0x4000_0000 | random >> 2;
        match create_tap(name, index, queues, &steering) {
            Ok(device) => return Ok((device, index)),
            // The index is taken; a taken name is EBUSY.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => last_error = error,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("the device {name} is in use: does another gvpnd run here?"),
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Err(last_error)
}

fn set(socket: &mut RouteSocket, index: u32, attributes: Vec<LinkAttribute>, up: bool) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if up {
        message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
        message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp | LinkFlags::Multicast;
    }
    message.attributes = attributes;
    socket.change(RouteNetlinkMessage::SetLink(message), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_interface_name_gives_way_to_its_index() {
        assert_eq!(name("eth1", 3), "gvpn-eth1");
        assert_eq!(name("enp175s0f1", 3), "gvpn-enp175s0f1");
        assert_eq!(name("enp175s0f1n", 3), "gvpn-3");
    }
}
