//! The UDP sockets of the protocol roles: one for each address family and port, in each routing instance.
//!
//! Each socket takes datagrams for every address of the machine and tells which one it was; answers leave from there.
//! So an address that appears later, of VRRP for instance, needs nothing.
//!
//! Rekey messages go to many at once: [`Sockets::push`] queues them, and the event loop sends a batch of them whenever it
//! has nothing else to do first, so that acknowledgements are read in between.

mod routes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use proto::path::Path;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::datapath::CONTROL_MARK;
use crate::instances::InstanceId;
use crate::namespace::Namespace;
use crate::sys::udp::{self, Membership, SendStop, Source};

pub use routes::Routes;

/// The largest UDP payload over IPv4.
const LARGEST_DATAGRAM: usize = 65_507;

/// A rekey of 100,000 members brings as many acknowledgements within a second, and the kernel counts about a kibibyte for
/// each; the event loop reads them while it sends, so most never wait.
const RECEIVE_BUFFER: usize = 64 << 20;

/// Datagrams wait here for the network device; what does not fit waits in the queue.
const SEND_BUFFER: usize = 16 << 20;

/// Datagrams that are read with one system call.
const RECEIVE_BATCH: usize = 64;

/// Routers that a rekey message to a multicast group may pass: the usual reach of what stays within one organization.
const MULTICAST_REACH: u8 = 64;

/// How long the kernel is left alone when it is short of buffers.
const BUFFER_PAUSE: Duration = Duration::from_millis(1);

/// Rekey messages that may wait, over all groups: ten rounds to 100,000 members. Beyond it the oldest are given up, as a
/// network that is so far behind will not deliver them in time, and the next round carries the same.
const LARGEST_BACKLOG: usize = 1_000_000;

/// A datagram that arrived.
#[derive(Debug)]
pub struct Datagram {
    /// Where it came to and from.
    pub path: Path,
    /// The routing instance it came by.
    pub instance: InstanceId,
    /// The UDP payload.
    pub octets: Vec<u8>,
}

/// Batches of datagrams that wait for the event loop; more wait in the kernel.
const QUEUE: usize = 8;

/// What became of rekey messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushCounters {
    /// Handed to the kernel.
    pub sent: u64,
    /// Refused by the kernel: no route, for instance.
    pub refused: u64,
    /// Given up because too many waited.
    pub given_up: u64,
    /// Not handed to the kernel yet.
    pub waiting: u64,
}

/// One rekey message on its way to many.
struct Push {
    datagram: Arc<[u8]>,
    to: Vec<Path>,
    /// How many of `to` are done.
    done: usize,
}

/// Instance, whether IPv6, and port of a socket.
type Key = (InstanceId, bool, u16);

/// The open sockets.
pub struct Sockets {
    open: BTreeMap<Key, Open>,
    routes: Routes,
    sender: mpsc::Sender<Vec<Datagram>>,
    pushes: VecDeque<Push>,
    /// Datagrams of `pushes` that are not done.
    backlog: usize,
    counters: PushCounters,
    /// Since when the kernel has no buffers, and until when it is left alone.
    paused_until: Option<tokio::time::Instant>,
    memberships: BTreeSet<(InstanceId, Membership)>,
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
    pub fn new() -> (Sockets, mpsc::Receiver<Vec<Datagram>>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let sockets = Sockets {
            open: BTreeMap::new(),
            routes: Routes::default(),
            sender,
            pushes: VecDeque::new(),
            backlog: 0,
            counters: PushCounters::default(),
            paused_until: None,
            memberships: BTreeSet::new(),
        };
        (sockets, receiver)
    }

    /// Listens on exactly these ports in these instances; sockets that are open already stay. If one cannot be opened,
    /// nothing changes.
    pub fn listen(
        &mut self,
        instances: &[(InstanceId, Namespace)],
        ports: &[u16],
    ) -> Result<(), ListenError> {
        let mut wanted: BTreeMap<Key, Option<Open>> = BTreeMap::new();
        for (instance, namespace) in instances {
            for (port, ipv6) in ports.iter().flat_map(|port| [(*port, false), (*port, true)]) {
                let key = (*instance, ipv6, port);
                if self.open.contains_key(&key) {
                    wanted.insert(key, None);
                    continue;
                }
                match self.open_one(namespace, key) {
                    Ok(open) => drop(wanted.insert(key, Some(open))),
                    // A machine without IPv6 has no IPv6 peers.
                    Err(error) if ipv6 && no_ipv6(&error) => {}
                    Err(source) => return Err(ListenError { port, source }),
                }
            }
        }
        self.open.retain(|key, _| wanted.contains_key(key));
        // Memberships go with their socket.
        let has_socket = |instance: InstanceId, ipv6: bool| {
            self.open.keys().any(|(known, family, _)| (*known, *family) == (instance, ipv6))
        };
        self.memberships.retain(|(instance, membership)| has_socket(*instance, membership.group.is_ipv6()));
        self.open.extend(wanted.into_iter().filter_map(|(key, open)| Some((key, open?))));
        Ok(())
    }

    /// From now on paths belong to these instances.
    pub fn set_routes(&mut self, routes: Routes) {
        self.routes = routes;
    }

    /// The instance that a path belongs to.
    pub fn instance(&self, path: &Path) -> InstanceId {
        self.routes.instance(path)
    }

    /// Sends a datagram. A failure is like a loss on the way: the protocol sends again.
    pub fn send(&self, path: Path, datagram: &[u8]) -> io::Result<()> {
        let open = self.open.get(&key(&self.routes, &path)).ok_or(io::ErrorKind::AddrNotAvailable)?;
        udp::send(open.socket.as_fd(), source(&path), path.remote, datagram)
    }

    /// Sends a datagram to a group out of an interface. `looped`: the kernel's multicast routing sees it, too.
    pub fn send_to_group(
        &mut self,
        instance: InstanceId,
        group: SocketAddr,
        source: Source,
        looped: bool,
        datagram: &[u8],
    ) -> io::Result<()> {
        let ipv6 = group.is_ipv6();
        let open = self.open.get(&(instance, ipv6, group.port())).ok_or(io::ErrorKind::AddrNotAvailable)?;
        udp::set_multicast_loop(open.socket.as_fd(), ipv6, looped)?;
        let outcome = udp::send(open.socket.as_fd(), source, group, datagram);
        match outcome {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.refused += 1,
        }
        outcome
    }

    /// Queues one datagram for many. The event loop sends it by [`Sockets::send_pushes`].
    pub fn push(&mut self, datagram: Arc<[u8]>, to: Vec<Path>) {
        self.backlog += to.len();
        self.pushes.push_back(Push { datagram, to, done: 0 });
        while self.backlog > LARGEST_BACKLOG && self.pushes.len() > 1 {
            let oldest = self.pushes.pop_front().expect("there is more than one");
            let lost = oldest.to.len() - oldest.done;
            self.backlog -= lost;
            self.counters.given_up += lost as u64;
        }
    }

    /// Whether [`Sockets::send_pushes`] has something to do.
    pub fn has_pushes(&self) -> bool {
        !self.pushes.is_empty()
    }

    /// Waits until some of the queue can be sent. Only to be called while [`Sockets::has_pushes`].
    pub async fn ready_to_push(&self) {
        if let Some(moment) = self.paused_until {
            tokio::time::sleep_until(moment).await;
        }
        let next =
            self.pushes.front().and_then(|push| self.open.get(&key(&self.routes, push.to.get(push.done)?)));
        if let Some(open) = next {
            // An error is found by the next sending.
            let _ = open.socket.writable().await;
        }
    }

    /// Sends one batch of the queue, and tells what the kernel refused: how many, and the last reason.
    pub fn send_pushes(&mut self) -> Option<(u64, io::Error)> {
        self.paused_until = None;
        let push = self.pushes.front_mut()?;
        let mut refused: Option<(u64, io::Error)> = None;
        let mut budget = udp::SEND_BATCH;
        let before = push.done;
        while budget > 0
            && let Some(first) = push.to.get(push.done)
        {
            // As far as they leave by the same socket.
            let wanted = key(&self.routes, first);
            let leaves_alike = |path: &&Path| key(&self.routes, path) == wanted;
            let alike = push.to[push.done..].iter().take(budget).take_while(leaves_alike).count();
            let targets = push.to[push.done..push.done + alike].iter();
            let mut refuse = |error| {
                let count = refused.as_ref().map_or(0, |(count, _)| *count);
                refused = Some((count + 1, error));
            };
            let Some(open) = self.open.get(&wanted) else {
                push.done += 1;
                budget -= 1;
                refuse(io::ErrorKind::AddrNotAvailable.into());
                continue;
            };
            let mut sent = 0;
            let mut stop = None;
            // Going through the runtime makes `ready_to_push` wait after the buffer was full.
            let _ = open.socket.try_io(Interest::WRITABLE, || {
                let targets = targets.map(|path| (source(path), path.remote));
                (sent, stop) = udp::send_batch(open.socket.as_fd(), &push.datagram, targets);
                match stop.take() {
                    Some(SendStop::Full(error)) => Err(error),
                    other => {
                        stop = other;
                        Ok(())
                    }
                }
            });
            push.done += sent;
            budget -= sent;
            self.counters.sent += sent as u64;
            match stop {
                Some(SendStop::Refused(error)) => {
                    push.done += 1;
                    budget -= 1;
                    refuse(error);
                }
                Some(SendStop::NoBuffers) => {
                    self.paused_until = Some(tokio::time::Instant::now() + BUFFER_PAUSE);
                    break;
                }
                Some(SendStop::Full(_)) => break,
                None if sent < alike => break,
                None => {}
            }
        }
        self.backlog -= push.done - before;
        if push.done == push.to.len() {
            self.pushes.pop_front();
        }
        self.counters.refused += refused.as_ref().map_or(0, |(count, _)| *count);
        refused
    }

    /// What became of rekey messages so far.
    pub fn push_counters(&self) -> PushCounters {
        PushCounters { waiting: self.backlog as u64, ..self.counters }
    }

    /// Is a member of exactly these groups, on the port of GDOI. Memberships that could not be had are returned with
    /// the reason, and are tried again by the next call.
    pub fn join(
        &mut self,
        wanted: &BTreeSet<(InstanceId, Membership)>,
        port: u16,
    ) -> Vec<(InstanceId, Membership, io::Error)> {
        let socket = |instance: InstanceId, membership: &Membership| {
            self.open.get(&(instance, membership.group.is_ipv6(), port))
        };
        for (instance, gone) in self.memberships.difference(wanted) {
            // The interface may be gone, and the membership with it.
            if let Some(Err(error)) =
                socket(*instance, gone).map(|open| udp::leave(open.socket.as_fd(), *gone))
            {
                tracing::debug!(%error, group = %gone.group, interface = gone.interface, "leaving a group");
            }
        }
        let mut failed = Vec::new();
        let mut held: BTreeSet<_> = self.memberships.intersection(wanted).copied().collect();
        for (instance, new) in wanted.difference(&self.memberships) {
            let outcome = match socket(*instance, new) {
                Some(open) => udp::join(open.socket.as_fd(), *new),
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            };
            match outcome {
                Ok(()) => drop(held.insert((*instance, *new))),
                Err(error) => failed.push((*instance, *new, error)),
            }
        }
        self.memberships = held;
        failed
    }

    /// The ports with their families, for `gvpn status`; they are the same in every instance.
    pub fn listening(&self) -> Vec<String> {
        self.open
            .keys()
            .filter(|(instance, _, _)| *instance == InstanceId::DEFAULT)
            .map(|(_, ipv6, port)| if *ipv6 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") })
            .collect()
    }

    fn open_one(&self, namespace: &Namespace, (instance, ipv6, port): Key) -> io::Result<Open> {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = namespace.within(|| Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)))??;
        socket.set_nonblocking(true)?;
        if ipv6 {
            socket.set_only_v6(true)?;
        }
        udp::request_local_addresses(socket.as_fd(), ipv6)?;
        udp::allow_fragmentation(socket.as_fd(), ipv6)?;
        if udp::force_receive_buffer(socket.as_fd(), RECEIVE_BUFFER as i32).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        if udp::force_send_buffer(socket.as_fd(), SEND_BUFFER as i32).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER)?;
        }
        udp::set_multicast_reach(socket.as_fd(), ipv6, MULTICAST_REACH)?;
        if let Err(error) = socket.set_mark(CONTROL_MARK) {
            // Without the privilege there is no data path either that could stop these datagrams.
            tracing::debug!(%error, "cannot mark the control sockets");
        }
        let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        socket.bind(&SocketAddr::new(any, port).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let reader = tokio::spawn(read(Arc::clone(&socket), instance, port, self.sender.clone()));
        Ok(Open { socket, reader })
    }
}

/// Moves datagrams into the queue as long as the socket is open.
async fn read(socket: Arc<UdpSocket>, instance: InstanceId, port: u16, sender: mpsc::Sender<Vec<Datagram>>) {
    let mut receiver = udp::Receiver::new(RECEIVE_BATCH, LARGEST_DATAGRAM + 1);
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(%error, port, "a socket failed");
            return;
        }
        match socket.try_io(Interest::READABLE, || receiver.receive(socket.as_fd())) {
            Ok(_) => {
                let batch = receiver.received().map(|received| Datagram {
                    path: Path::new(SocketAddr::new(received.local, port), received.remote),
                    instance,
                    octets: received.octets.to_vec(),
                });
                if sender.send(batch.collect()).await.is_err() {
                    return;
                }
            }
            // Nothing there, or an ICMP error about a datagram we sent: the protocol's own timers decide.
            Err(error) => tracing::trace!(%error, port, "receiving"),
        }
    }
}

/// The socket that a datagram leaves by.
fn key(routes: &Routes, path: &Path) -> Key {
    (routes.instance(path), path.remote.is_ipv6(), path.local.port())
}

/// Where a datagram leaves: its local address, as far as it is of the remote one's family.
fn source(path: &Path) -> Source {
    Source::address(match (path.local.ip(), path.remote.is_ipv6()) {
        (local @ IpAddr::V4(_), false) | (local @ IpAddr::V6(_), true) => local,
        (_, false) => Ipv4Addr::UNSPECIFIED.into(),
        (_, true) => Ipv6Addr::UNSPECIFIED.into(),
    })
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
        sockets.listen(&here(), &[free]).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.5", free)).unwrap();
        let datagram = datagrams.recv().await.unwrap().remove(0);
        assert_eq!(datagram.octets, b"hello");
        assert_eq!(datagram.path.local, format!("127.0.0.5:{free}").parse().unwrap());
        sockets.send(datagram.path, b"answer").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], datagram.path.local));

        let error = Sockets::new().0.listen(&here(), &[free]).unwrap_err().to_string();
        assert!(error.contains("another key management daemon"), "{error}");
        sockets.listen(&here(), &[]).unwrap();
        assert!(sockets.listening().is_empty());
        tokio::task::yield_now().await;
    }

    fn here() -> [(InstanceId, Namespace); 1] {
        [(InstanceId::DEFAULT, Namespace::home())]
    }

    fn in_default(membership: Membership) -> (InstanceId, Membership) {
        (InstanceId::DEFAULT, membership)
    }

    #[tokio::test]
    async fn what_belongs_to_an_instance_that_is_not_there_goes_nowhere() {
        let (mut sockets, _datagrams) = Sockets::new();
        let port = free_port();
        sockets.listen(&here(), &[port]).unwrap();
        sockets.set_routes(Routes::of_peers(&[("127.0.0.1", None, InstanceId::ABSENT)]));
        let local: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let error = sockets.send(Path::new(local, local), b"for elsewhere").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        sockets.send(Path::new(local, format!("127.0.0.2:{port}").parse().unwrap()), b"for here").unwrap();
    }

    fn free_port() -> u16 {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_rekey_reaches_everybody_in_batches_past_those_that_cannot_be_reached() {
        let (mut sockets, mut datagrams) = Sockets::new();
        let port = free_port();
        sockets.listen(&here(), &[port]).unwrap();
        let local: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let members = 3 * udp::SEND_BATCH / 2;
        let mut paths: Vec<Path> = (0..members)
            .map(|number| {
                let [high, low] = (number as u16).to_be_bytes();
                Path::new(local, SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), port))
            })
            .collect();
        // Not an address of this machine, and no open socket.
        paths[7].local.set_ip("192.0.2.1".parse().unwrap());
        paths[9].local.set_port(port ^ 1);
        sockets.push(Arc::from(&b"rekey"[..]), paths.clone());
        let mut refused = 0;
        let mut rounds = 0;
        while sockets.has_pushes() {
            sockets.ready_to_push().await;
            refused += sockets.send_pushes().map_or(0, |(count, _)| count);
            rounds += 1;
        }
        assert_eq!((refused, rounds), (2, 2));
        let sent = members as u64 - 2;
        assert_eq!(sockets.push_counters(), PushCounters { sent, refused: 2, given_up: 0, waiting: 0 });
        assert_eq!(sockets.backlog, 0);
        let mut reached = Vec::new();
        while (reached.len() as u64) < sent {
            let batch = datagrams.recv().await.unwrap();
            assert!(batch.len() <= RECEIVE_BATCH);
            for datagram in batch {
                assert_eq!(datagram.octets, b"rekey");
                reached.push(datagram.path.local);
            }
        }
        for skipped in [9, 7] {
            paths.remove(skipped);
        }
        assert_eq!(reached, paths.iter().map(|path| path.remote).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_a_network_cannot_take_any_more_is_given_up_oldest_first() {
        let (mut sockets, _datagrams) = Sockets::new();
        let path = Path::new("127.0.0.1:848".parse().unwrap(), "127.0.0.1:848".parse().unwrap());
        for _ in 0..3 {
            sockets.push(Arc::from(&b"old"[..]), vec![path; LARGEST_BACKLOG / 2]);
        }
        assert_eq!(sockets.pushes.len(), 2);
        assert_eq!(sockets.push_counters().given_up, LARGEST_BACKLOG as u64 / 2);
        assert_eq!(sockets.backlog, LARGEST_BACKLOG);
    }

    #[tokio::test]
    async fn a_group_is_heard_where_it_was_joined() {
        let (mut sockets, mut datagrams) = Sockets::new();
        let port = free_port();
        sockets.listen(&here(), &[port]).unwrap();
        let loopback = crate::netlink::Links::read().unwrap().by_name("lo").unwrap().index;
        let group: IpAddr = "239.1.2.3".parse().unwrap();
        let membership = Membership { group, interface: loopback };
        let unknown = Membership { group, interface: u32::MAX >> 1 };
        let failed = sockets.join(&BTreeSet::from([membership, unknown].map(in_default)), port);
        assert_eq!(failed.iter().map(|(_, membership, _)| *membership).collect::<Vec<_>>(), [unknown]);
        let source = Source { address: "127.0.0.1".parse().unwrap(), interface: loopback };
        sockets
            .send_to_group(InstanceId::DEFAULT, SocketAddr::new(group, port), source, false, b"rekey")
            .unwrap();
        let datagram = datagrams.recv().await.unwrap().remove(0);
        assert_eq!(datagram.path.local, SocketAddr::new(group, port));
        assert_eq!(datagram.path.remote, SocketAddr::new("127.0.0.1".parse().unwrap(), port));
        assert!(sockets.join(&BTreeSet::new(), port).is_empty());
        assert!(sockets.memberships.is_empty());
    }
}
