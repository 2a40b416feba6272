//! ICMP errors of the engine to hosts, by raw sockets: entering like a received packet they would be martians.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends whole IP packets; the kernel routes them.
pub(super) struct HostSender {
    ip4: Socket,
    /// None where the kernel has no IPv6.
    ip6: Option<Socket>,
}

impl HostSender {
    /// Opens the sockets.
    pub(super) fn open() -> io::Result<Self> {
        let raw = |domain| {
            // IPPROTO_RAW implies that packets are given with their headers.
            let socket =
                Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)))?;
            // Nothing is ever received by such a socket, but the buffer need not be reserved either.
            socket.set_recv_buffer_size(0)?;
            io::Result::Ok(socket)
        };
        Ok(Self { ip4: raw(Domain::IPV4)?, ip6: raw(Domain::IPV6).ok() })
    }

    /// Sends a packet to its destination. Errors are as good as a lost packet.
    pub(super) fn send(&self, packet: &[u8]) {
        let (socket, destination) = match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= 20 => {
                let octets: [u8; 4] = packet[16..20].try_into().expect("four octets");
                (Some(&self.ip4), SocketAddr::from((Ipv4Addr::from(octets), 0)))
            }
            Some(6) if packet.len() >= 40 => {
                let octets: [u8; 16] = packet[24..40].try_into().expect("sixteen octets");
                (self.ip6.as_ref(), SocketAddr::from((Ipv6Addr::from(octets), 0)))
            }
            _ => return,
        };
        if let Some(socket) = socket
            && let Err(error) = socket.send_to(packet, &SockAddr::from(destination))
        {
            tracing::debug!(%error, %destination, "cannot send an ICMP error");
        }
    }
}
