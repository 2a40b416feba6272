//! The UDP sockets of the protocol roles: one for each address family and port.
//!
//! Each socket takes datagrams for every address of the machine and tells which one it was; answers leave from there.
//! So an address that appears later, of VRRP for instance, needs nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use proto::path::Path;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::datapath::CONTROL_MARK;
use crate::sys::udp;

/// The largest UDP payload over IPv4.
const LARGEST_DATAGRAM: usize = 65_507;

/// 1500 members that start at once send a few datagrams each, of some hundred octets; the kernel counts more than a
/// kibibyte for each. Twice that.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A datagram that arrived.
#[derive(Debug)]
pub struct Datagram {
    /// Where it came to and from.
    pub path: Path,
    /// The UDP payload.
    pub octets: Vec<u8>,
}

/// Datagrams that wait for the event loop; more wait in the kernel.
const QUEUE: usize = 256;

/// The open sockets.
pub struct Sockets {
    open: BTreeMap<(bool, u16), Open>,
    sender: mpsc::Sender<Datagram>,
}

struct Open {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Sockets {
    /// No socket yet, and the queue that datagrams come from.
    pub fn new() -> (Sockets, mpsc::Receiver<Datagram>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Sockets { open: BTreeMap::new(), sender }, receiver)
    }

    /// Listens on exactly these ports; sockets that are open already stay. If one cannot be opened, nothing changes.
    pub fn listen(&mut self, ports: &[u16]) -> Result<(), ListenError> {
        let mut wanted: BTreeMap<(bool, u16), Option<Open>> = BTreeMap::new();
        for port in ports {
            for ipv6 in [false, true] {
                let key = (ipv6, *port);
                if self.open.contains_key(&key) {
                    wanted.insert(key, None);
                    continue;
                }
                match self.open_one(ipv6, *port) {
                    Ok(open) => drop(wanted.insert(key, Some(open))),
                    // A machine without IPv6 has no IPv6 peers.
                    Err(error) if ipv6 && no_ipv6(&error) => {}
                    Err(source) => return Err(ListenError { port: *port, source }),
                }
            }
        }
        self.open.retain(|key, _| wanted.contains_key(key));
        self.open.extend(wanted.into_iter().filter_map(|(key, open)| Some((key, open?))));
        Ok(())
    }

    /// Sends a datagram. A failure is like a loss on the way: the protocol sends again.
    pub fn send(&self, path: Path, datagram: &[u8]) -> io::Result<()> {
        let ipv6 = path.remote.is_ipv6();
        let open = self.open.get(&(ipv6, path.local.port())).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = match (path.local.ip(), ipv6) {
            (local @ IpAddr::V4(_), false) | (local @ IpAddr::V6(_), true) => local,
            (_, false) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (_, true) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        udp::send(open.socket.as_fd(), local, path.remote, datagram)
    }

    /// The ports with their families, for `gvpn status`.
    pub fn listening(&self) -> Vec<String> {
        self.open
            .keys()
            .map(|(ipv6, port)| if *ipv6 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") })
            .collect()
    }

    fn open_one(&self, ipv6: bool, port: u16) -> io::Result<Open> {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if ipv6 {
            socket.set_only_v6(true)?;
        }
        udp::request_local_addresses(socket.as_fd(), ipv6)?;
        udp::allow_fragmentation(socket.as_fd(), ipv6)?;
        if udp::force_receive_buffer(socket.as_fd(), RECEIVE_BUFFER as i32).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.set_send_buffer_size(RECEIVE_BUFFER)?;
        if let Err(error) = socket.set_mark(CONTROL_MARK) {
            // Without the privilege there is no data path either that could stop these datagrams.
            tracing::debug!(%error, "cannot mark the control sockets");
        }
        let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        socket.bind(&SocketAddr::new(any, port).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let reader = tokio::spawn(read(Arc::clone(&socket), port, self.sender.clone()));
        Ok(Open { socket, reader })
    }
}

/// Moves datagrams into the queue as long as the socket is open.
async fn read(socket: Arc<UdpSocket>, port: u16, sender: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; LARGEST_DATAGRAM + 1];
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(%error, port, "a socket failed");
            return;
        }
        match socket.try_io(Interest::READABLE, || udp::receive(socket.as_fd(), &mut buffer)) {
            Ok(received) => {
                let path = Path::new(SocketAddr::new(received.local, port), received.remote);
                let octets = buffer[..received.length].to_vec();
                if sender.send(Datagram { path, octets }).await.is_err() {
                    return;
                }
            }
            // Nothing there, or an ICMP error about a datagram we sent: the protocol's own timers decide.
            Err(error) => tracing::trace!(%error, port, "receiving"),
        }
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on UDP port {port}: {source}{}", hint(source))]
pub struct ListenError {
    /// The port.
    pub port: u16,
    /// Why.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another key management daemon (or gvpnd) uses it in this network namespace"
        }
        io::ErrorKind::PermissionDenied => "; run gvpnd as root or with CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_come_with_their_path_and_sockets_follow_the_configuration() {
        let (mut sockets, mut datagrams) = Sockets::new();
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        sockets.listen(&[free]).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.5", free)).unwrap();
        let datagram = datagrams.recv().await.unwrap();
        assert_eq!(datagram.octets, b"hello");
        assert_eq!(datagram.path.local, format!("127.0.0.5:{free}").parse().unwrap());
        sockets.send(datagram.path, b"answer").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], datagram.path.local));

        let error = Sockets::new().0.listen(&[free]).unwrap_err().to_string();
        assert!(error.contains("another key management daemon"), "{error}");
        sockets.listen(&[]).unwrap();
        assert!(sockets.listening().is_empty());
        tokio::task::yield_now().await;
    }
}
