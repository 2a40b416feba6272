//! Group addresses: membership, how far datagrams reach, and whether this machine hears its own.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::set_option;

/// A group on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// Kernel index of the interface.
    pub interface: u32,
}

/// Receives datagrams of a group that arrive by an interface; the kernel sends the IGMP or MLD reports.
pub fn join(socket: BorrowedFd<'_>, membership: Membership) -> io::Result<()> {
    change(socket, membership, libc::IP_ADD_MEMBERSHIP, libc::IPV6_ADD_MEMBERSHIP)
}

/// Ends a membership.
pub fn leave(socket: BorrowedFd<'_>, membership: Membership) -> io::Result<()> {
    change(socket, membership, libc::IP_DROP_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP)
}

fn change(socket: BorrowedFd<'_>, membership: Membership, v4: i32, v6: i32) -> io::Result<()> {
    match membership.group {
        IpAddr::V4(group) => set_structure(
            socket,
            libc::IPPROTO_IP,
            v4,
            &libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
                imr_address: libc::in_addr { s_addr: u32::from(Ipv4Addr::UNSPECIFIED) },
                imr_ifindex: membership.interface.cast_signed(),
            },
        ),
        IpAddr::V6(group) => set_structure(
            socket,
            libc::IPPROTO_IPV6,
            v6,
            &libc::ipv6_mreq {
                ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
                ipv6mr_interface: membership.interface,
            },
        ),
    }
}

/// Routers that a datagram to a group may pass.
pub fn set_multicast_reach(socket: BorrowedFd<'_>, ipv6: bool, routers: u8) -> io::Result<()> {
    let (level, option) = match ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
        true => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    };
    set_option(socket, level, option, routers.into())
}

/// Whether the kernel loops our datagrams to groups back, to its multicast routing and to members on this machine.
pub fn set_multicast_loop(socket: BorrowedFd<'_>, ipv6: bool, looped: bool) -> io::Result<()> {
    let (level, option) = match ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
        true => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    };
    set_option(socket, level, option, looped.into())
}

fn set_structure<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, a plain C structure that outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
