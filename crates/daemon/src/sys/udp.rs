//! UDP datagrams with the local address they came to, which the standard library does not tell.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Room for one `IP_PKTINFO` or `IPV6_PKTINFO` message, aligned as the kernel's macros want it.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Room for an address of either family.
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Octets of it in the buffer.
    pub length: usize,
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

/// Receives one datagram without waiting. What does not fit into the buffer is an error of kind `InvalidData`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: all-zero octets are valid values of these plain C structures.
    let (mut address, mut message): (Address, libc::msghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut control = ControlBuffer([0; 64]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = mem::size_of::<Address>() as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer of `message` points to a live buffer of the length that is given beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "datagram longer than any can be"));
    }
    let remote = read_address(&address)?;
    let local = local_address(&message).unwrap_or(match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    Ok(Received { length: length as usize, remote, local })
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

/// Sends one datagram without waiting, from a local address of this machine; an unspecified one leaves the choice to
/// the kernel.
pub fn send(socket: BorrowedFd<'_>, local: IpAddr, remote: SocketAddr, datagram: &[u8]) -> io::Result<()> {
    let (mut address, address_length) = write_address(remote);
    let mut control = ControlBuffer([0; 64]);
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: all-zero octets are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = address_length;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if !local.is_unspecified() {
        // SAFETY: the control buffer has room for the larger of the two messages (64 octets), is aligned for a header,
        // and is zeroed, so that the fields that are not set are valid.
        unsafe {
            let (level, kind, size) = match local {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, mem::size_of::<libc::in_pktinfo>()),
                IpAddr::V6(_) => {
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, mem::size_of::<libc::in6_pktinfo>())
                }
            };
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            let data = libc::CMSG_DATA(header);
            match local {
                IpAddr::V4(ip) => {
                    let mut info: libc::in_pktinfo = mem::zeroed();
                    info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                    data.cast::<libc::in_pktinfo>().write_unaligned(info);
                }
                IpAddr::V6(ip) => {
                    let mut info: libc::in6_pktinfo = mem::zeroed();
                    info.ipi6_addr.s6_addr = ip.octets();
                    data.cast::<libc::in6_pktinfo>().write_unaligned(info);
                }
            }
        }
    }
    // SAFETY: every pointer of `message` points to a live buffer of the length that is given beside it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
        let mut buffer = vec![0; 65536];
        let received = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!((received.length, received.remote), (9000, client.local_addr().unwrap()));
        assert_eq!(received.local, "127.0.0.9".parse::<IpAddr>().unwrap());
        send(server.as_fd(), received.local, received.remote, b"answer").unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((length, from.ip()), (6, received.local));
        assert_eq!(receive(server.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
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
        let mut buffer = [0; 64];
        let received = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!(received.local, "::1".parse::<IpAddr>().unwrap());
        send(server.as_fd(), received.local, received.remote, b"answer").unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap().0, 6);
    }
}
