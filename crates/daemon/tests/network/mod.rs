//! Networks of namespaces for the tests that need root.

use std::cell::RefCell;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// True where namespaces and tc programs may be made. Otherwise says so, loudly, and the test is skipped.
pub fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let possible = root && std::path::Path::new("/dev/net/tun").exists() && run_quietly(&["ip", "netns"]);
    if !possible {
        eprintln!("SKIPPED: {test} needs root, iproute2 and /dev/net/tun; nothing was tested");
    }
    possible
}

fn run_quietly(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|output| output.status.success())
}

/// Host a – gateway a – core – gateway b – host b; all routers know all routes. Removed when dropped.
///
/// Networks: 10.1.0.0/24 and 20.1.0.0/24 behind a, 10.2.0.0/24 and 20.2.0.0/24 behind b; 12.1.1.0/30 and 12.1.2.0/30
/// between the gateways' interface `wan` and the core.
pub struct Network {
    prefix: String,
    nodes: RefCell<Vec<&'static str>>,
}

impl Network {
    /// Makes it, with names that no other test or run uses.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("gvt{}x{number}", std::process::id());
        let network = Self { prefix, nodes: RefCell::default() };
        for node in ["ha", "ga", "core", "gb", "hb"] {
            network.node(node);
        }
        network.link("ha", "lan", "10.1.0.2/24", "ga", "lan", "10.1.0.1/24");
        network.link("ga", "wan", "12.1.1.1/30", "core", "to-a", "12.1.1.2/30");
        network.link("gb", "wan", "12.1.2.1/30", "core", "to-b", "12.1.2.2/30");
        network.link("hb", "lan", "10.2.0.2/24", "gb", "lan", "10.2.0.1/24");
        for (node, address) in
            [("ha", "20.1.0.2/24"), ("ga", "20.1.0.1/24"), ("hb", "20.2.0.2/24"), ("gb", "20.2.0.1/24")]
        {
            network.ip(node, &format!("addr add {address} dev lan"));
        }
        for (node, gateway) in
            [("ha", "10.1.0.1"), ("ga", "12.1.1.2"), ("gb", "12.1.2.2"), ("hb", "10.2.0.1")]
        {
            network.ip(node, &format!("route add default via {gateway}"));
        }
        for (prefix, gateway) in [
            ("10.1.0.0/24", "12.1.1.1"),
            ("20.1.0.0/24", "12.1.1.1"),
            ("10.2.0.0/24", "12.1.2.1"),
            ("20.2.0.0/24", "12.1.2.1"),
        ] {
            network.ip("core", &format!("route add {prefix} via {gateway}"));
        }
        network
    }

    /// Adds a router.
    pub fn node(&self, node: &'static str) {
        run(&["ip", "netns", "add", &self.namespace(node)]);
        self.nodes.borrow_mut().push(node);
        self.ip(node, "link set lo up");
        for setting in ["ip_forward=1", "conf.all.rp_filter=1", "conf.default.rp_filter=1"] {
            self.run(node, &["sysctl", "-qw", &format!("net.ipv4.{setting}")]);
        }
    }

    /// Joins two nodes by a veth pair.
    pub fn link(&self, a: &str, a_name: &str, a_address: &str, b: &str, b_name: &str, b_address: &str) {
        let (a_space, b_space) = (self.namespace(a), self.namespace(b));
        run(&[
            "ip", "link", "add", a_name, "netns", &a_space, "type", "veth", "peer", "name", b_name, "netns",
            &b_space,
        ]);
        for (node, name, address) in [(a, a_name, a_address), (b, b_name, b_address)] {
            self.ip(node, &format!("addr add {address} dev {name}"));
            self.ip(node, &format!("link set {name} up"));
        }
    }

    /// Name of a node's namespace.
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// Runs `ip` with these arguments in a node.
    pub fn ip(&self, node: &str, arguments: &str) -> String {
        let namespace = self.namespace(node);
        let mut command = vec!["ip", "-n", &namespace];
        command.extend(arguments.split_whitespace());
        run(&command)
    }

    /// A command to be run in a node.
    pub fn command(&self, node: &str, command: &[&str]) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace(node)]).args(command);
        inside
    }

    /// Runs a command in a node; it must succeed.
    pub fn run(&self, node: &str, command: &[&str]) -> String {
        let output = self.command(node, command).output().expect("ip can be run");
        checked(command, output)
    }

    /// One ping gets its answer within two seconds.
    pub fn pings(&self, node: &str, arguments: &str) -> bool {
        self.ping(node, "2", arguments)
    }

    /// One ping gets no answer, at a distance of microseconds, within half a second.
    pub fn is_closed(&self, node: &str, arguments: &str) -> bool {
        !self.ping(node, "0.5", arguments)
    }

    fn ping(&self, node: &str, seconds: &str, arguments: &str) -> bool {
        let mut command = vec!["ping", "-n", "-c", "1", "-W", seconds];
        command.extend(arguments.split_whitespace());
        self.command(node, &command).output().expect("ping can be run").status.success()
    }

    /// Runs a function on a thread inside a node.
    pub fn inside<T: Send + 'static>(
        &self,
        node: &str,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.namespace(node);
        std::thread::spawn(move || {
            enter(&namespace);
            function()
        })
    }

    /// Starts a thread inside a node that keeps what `make` returns and works on it on request; returns when it is made.
    pub fn resident<T: 'static>(&self, node: &str, make: impl FnOnce() -> T + Send + 'static) -> Resident<T> {
        let (sender, receiver) = channel::<Work<T>>();
        let thread = self.inside(node, move || {
            let mut state = Some(make());
            while let Ok(work) = receiver.recv() {
                work(&mut state);
            }
        });
        let resident = Resident { sender: Some(sender), thread: Some(thread) };
        resident.slot(|_| ());
        resident
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in self.nodes.borrow().iter() {
            run_quietly(&["ip", "netns", "del", &self.namespace(node)]);
        }
    }
}

type Work<T> = Box<dyn FnOnce(&mut Option<T>) + Send>;

/// A value that lives on a thread inside a namespace.
pub struct Resident<T> {
    sender: Option<Sender<Work<T>>>,
    thread: Option<JoinHandle<()>>,
}

#[allow(dead_code, reason = "each test program uses a part")]
impl<T: 'static> Resident<T> {
    /// Works on the value, and waits for the result.
    pub fn with<R: Send + 'static>(&self, work: impl FnOnce(&mut T) -> R + Send + 'static) -> R {
        self.slot(move |slot| work(slot.as_mut().expect("the value was not taken")))
    }

    /// Takes the value, and waits for the result.
    pub fn take<R: Send + 'static>(self, work: impl FnOnce(T) -> R + Send + 'static) -> R {
        self.slot(move |slot| work(slot.take().expect("the value was not taken")))
    }

    fn slot<R: Send + 'static>(&self, work: impl FnOnce(&mut Option<T>) -> R + Send + 'static) -> R {
        let (sender, receiver) = channel();
        let work: Work<T> = Box::new(move |slot| {
            let _ = sender.send(work(slot));
        });
        self.sender.as_ref().expect("present until dropped").send(work).expect("the thread lives");
        receiver.recv().expect("the work did not panic")
    }
}

impl<T> Drop for Resident<T> {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into a named network namespace.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
}

/// Sends one IPv4 packet of a protocol from inside a node; the kernel makes the header.
#[allow(dead_code, reason = "each test program uses a part")]
pub fn send_raw(
    network: &Network,
    node: &str,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: &[u8],
) {
    let payload = payload.to_vec();
    let sent = network.inside(node, move || {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))
            .expect("root may");
        socket.bind(&std::net::SocketAddr::from((source, 0)).into()).expect("an address of the node");
        socket.send_to(&payload, &std::net::SocketAddr::from((destination, 0)).into()).expect("sent");
    });
    sent.join().expect("no panic");
}

/// What the interfaces of a node see, in both directions.
#[allow(dead_code, reason = "each test program uses a part")]
pub struct Capture {
    socket: socket2::Socket,
}

#[allow(dead_code, reason = "each test program uses a part")]
impl Capture {
    /// Starts to capture.
    pub fn start(network: &Network, node: &str) -> Self {
        let socket = network.inside(node, || {
            use socket2::{Domain, Protocol, Socket, Type};
            let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let socket =
                Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol)).expect("root may");
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20).expect("a size");
            socket
        });
        Self { socket: socket.join().expect("no panic") }
    }

    /// The IPv4 packets since the last call: source, destination, protocol.
    pub fn packets(&mut self) -> Vec<(Ipv4Addr, Ipv4Addr, u8)> {
        let address = |octets: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(octets).expect("four octets"));
        let packets = self.octets();
        packets.iter().map(|it| (address(&it[12..16]), address(&it[16..20]), it[9])).collect()
    }

    /// The same, with all that a packet holds.
    pub fn octets(&mut self) -> Vec<Vec<u8>> {
        use std::io::Read;
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.read(&mut buffer) {
            if length >= 34 && buffer[12..14] == [0x08, 0x00] {
                packets.push(buffer[14..length].to_vec());
            }
        }
        packets
    }
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    checked(command, output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
}

fn checked(command: &[&str], output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
