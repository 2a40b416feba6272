//! UDP datagrams with the local address they came to, which the standard library does not tell.

mod batch;
mod multicast;

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};

pub use batch::{Receiver, SEND_BATCH, SendStop, send_batch};
pub use multicast::{Membership, join, leave, set_multicast_loop, set_multicast_reach};

/// Room for one `IP_PKTINFO` or `IPV6_PKTINFO` message, aligned as the kernel's macros want it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Room for an address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The datagram.
    pub octets: &'a [u8],
    /// Who sent it.
    pub remote: SocketAddr,
    /// The address it was sent to.
    pub local: IpAddr,
}

/// Asks for the local address of each datagram to come.
pub fn request_local_addresses(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Lets the kernel fragment datagrams that are larger than the path's MTU, whatever it has learnt about the path.
pub fn allow_fragmentation(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

/// Enlarges the receive buffer beyond the system's limit; needs `CAP_NET_ADMIN`.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, octets: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, octets)
}

/// Enlarges the send buffer beyond the system's limit; needs `CAP_NET_ADMIN`.
pub fn force_send_buffer(socket: BorrowedFd<'_>, octets: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, octets)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_address(address: &Address) -> io::Result<SocketAddr> {
    // SAFETY: both variants start with the family, and any octets are valid in both.
    let (family, v4, v6) = unsafe { (i32::from(address.v4.sin_family), address.v4, address.v6) };
    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "datagram of an unknown address family")),
    }
}

fn local_address(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled the control buffer of `message`; the macros stay within its `msg_controllen`. The data
    // of a control message may be unaligned, so it is read as such; its length is checked by the kernel's own header.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            match (control.cmsg_level, control.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo =
                        libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo =
                        libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => header = libc::CMSG_NXTHDR(message, header),
            }
        }
    }
    None
}

/// Where a datagram of ours leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// A local address; unspecified: the kernel's choice.
    pub address: IpAddr,
    /// Kernel index of the interface; 0: the kernel's choice.
    pub interface: u32,
}

impl Source {
    /// A local address, on whatever interface the kernel routes by.
    pub fn address(address: IpAddr) -> Source {
        Source { address, interface: 0 }
    }
}

/// Sends one datagram without waiting.
pub fn send(socket: BorrowedFd<'_>, source: Source, remote: SocketAddr, datagram: &[u8]) -> io::Result<()> {
    let (mut address, address_length) = write_address(remote);
    let mut control = ControlBuffer([0; 64]);
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: all-zero octets are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = address_length;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    write_source(&mut message, &mut control, source);
    // SAFETY: every pointer of `message` points to a live buffer of the length that is given beside it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes `control`, which must be zeroed, the control message of `message`, where the source says anything.
fn write_source(message: &mut libc::msghdr, control: &mut ControlBuffer, source: Source) {
    if source.address.is_unspecified() && source.interface == 0 {
        return;
    }
    // SAFETY: the control buffer has room for the larger of the two messages (64 octets), is aligned for a header,
    // and is zeroed, so that the fields that are not set are valid.
    unsafe {
        let (level, kind, size) = match source.address {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, mem::size_of::<libc::in_pktinfo>()),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, mem::size_of::<libc::in6_pktinfo>()),
        };
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
        let data = libc::CMSG_DATA(header);
        match source.address {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                info.ipi_ifindex = source.interface.cast_signed();
                data.cast::<libc::in_pktinfo>().write_unaligned(info);
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = source.interface as _;
                data.cast::<libc::in6_pktinfo>().write_unaligned(info);
            }
        }
    }
}

fn write_address(address: SocketAddr) -> (Address, libc::socklen_t) {
    // SAFETY: all-zero octets are a valid value of either variant.
    let mut raw: Address = unsafe { mem::zeroed() };
    match address {
        SocketAddr::V4(address) => {
            raw.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            (raw, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(address) => {
            raw.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            (raw, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_datagram_tells_which_address_it_was_sent_to_and_an_answer_leaves_from_there() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        request_local_addresses(server.as_fd(), false).unwrap();
        allow_fragmentation(server.as_fd(), false).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[7; 9000], ("127.0.0.9", port)).unwrap();
        let mut receiver = Receiver::new(4, 65536);
        assert_eq!(receiver.receive(server.as_fd()).unwrap(), 1);
        let received = receiver.received().next().unwrap();
        assert_eq!((received.octets.len(), received.remote), (9000, client.local_addr().unwrap()));
        assert_eq!(received.local, "127.0.0.9".parse::<IpAddr>().unwrap());
        send(server.as_fd(), Source::address(received.local), received.remote, b"answer").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from.ip()), (6, received.local));
        assert_eq!(receiver.receive(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receiver.received().count(), 0);
    }

    #[test]
    fn the_same_over_ipv6() {
        let Ok(server) = UdpSocket::bind("[::]:0") else {
            eprintln!("skipped: no IPv6 here");
            return;
        };
        request_local_addresses(server.as_fd(), true).unwrap();
        let port = server.local_addr().unwrap().port();
        let Ok(client) = UdpSocket::bind("[::1]:0") else {
            eprintln!("skipped: no IPv6 here");
            return;
        };
        client.send_to(b"question", ("::1", port)).unwrap();
        let mut receiver = Receiver::new(4, 64);
        receiver.receive(server.as_fd()).unwrap();
        let received = receiver.received().next().unwrap();
        assert_eq!(received.local, "::1".parse::<IpAddr>().unwrap());
        send(server.as_fd(), Source::address(received.local), received.remote, b"answer").unwrap();
        assert_eq!(client.recv_from(&mut [0; 16]).unwrap().0, 6);
    }
}
