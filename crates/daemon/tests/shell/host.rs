//! A network namespace with one `gvpnd`, its folder, and a client of its control socket.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Without root there are no namespaces: says so, and is true.
pub fn skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root for network namespaces");
    }
    !root
}

/// Waits until something is so.
pub fn within(limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Connects two hosts; each has its address on the device `wan0`.
pub fn wire(one: &Host, other: &Host) {
    let ends = (format!("{}0", one.namespace), format!("{}0", other.namespace));
    run(Command::new("ip").args(["link", "add", &ends.0, "type", "veth", "peer", "name", &ends.1]));
    for (host, end) in [(one, &ends.0), (other, &ends.1)] {
        run(Command::new("ip").args(["link", "set", end, "netns", &host.namespace, "name", "wan0"]));
        host.ip(&["address", "add", &host.address, "dev", "wan0"]);
        host.ip(&["link", "set", "wan0", "up"]);
    }
}

/// Connects a host, at its device `wan0`, to a bridge on another.
pub fn plug(switch: &Host, bridge: &str, port: &str, host: &Host) {
    let end = format!("{}0", host.namespace);
    let peer = ["type", "veth", "peer", "name", "wan0", "netns", &host.namespace];
    run(Command::new("ip").args(["link", "add", &end]).args(peer));
    run(Command::new("ip").args(["link", "set", &end, "netns", &switch.namespace, "name", port]));
    switch.ip(&["link", "set", port, "master", bridge]);
    switch.ip(&["link", "set", port, "up"]);
    host.ip(&["address", "add", &host.address, "dev", "wan0"]);
    host.ip(&["link", "set", "wan0", "up"]);
}

/// A host.
pub struct Host {
    namespace: String,
    address: String,
    folder: PathBuf,
    daemon: Option<Child>,
}

impl Host {
    /// A namespace without links.
    pub fn new(name: &str, address: &str) -> Host {
        let namespace = format!("{name}{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("gvpnd-test-{namespace}"));
        std::fs::create_dir_all(&folder).unwrap();
        run(Command::new("ip").args(["netns", "add", &namespace]));
        let host = Host { namespace, address: address.to_owned(), folder, daemon: None };
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    /// Runtime directory, configuration, state and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, arguments: &[&str]) {
        run(Command::new("ip").args(["-n", &self.namespace]).args(arguments));
    }

    /// What `ip` prints in the namespace.
    pub fn ip_output(&self, arguments: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", &self.namespace]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command in the namespace.
    pub fn execute(&self, command: &[&str]) {
        run(Command::new("ip").args(["netns", "exec", &self.namespace]).args(command));
    }

    /// Starts a command in the namespace, which runs beside.
    pub fn spawn(&self, command: &[&str]) -> Child {
        let mut command_line = Command::new("ip");
        command_line.args(["netns", "exec", &self.namespace]).args(command);
        command_line.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Whether a command succeeds in the namespace.
    pub fn succeeds(&self, command: &[&str]) -> bool {
        let mut run = Command::new("ip");
        run.args(["netns", "exec", &self.namespace]).args(command).stdout(Stdio::null());
        run.status().unwrap().success()
    }

    /// Our programs are on the device `wan0`.
    pub fn is_attached(&self) -> bool {
        self.succeeds(&["sh", "-c", "tc filter show dev wan0 egress | grep -q gvpn_egress"])
    }

    /// Runs a function in the namespace.
    pub fn inside<T: Send + 'static>(&self, function: impl FnOnce() -> T + Send + 'static) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            function()
        });
        thread.join().unwrap()
    }

    /// Replaces the configuration file.
    pub fn rewrite(&self, configuration: &str) {
        std::fs::write(self.folder.join("gvpnd.conf"), configuration).unwrap();
    }

    /// Starts the daemon and waits for its control socket.
    pub fn start(&mut self, configuration: &str, options: &[&str]) {
        self.launch(configuration, options);
        within(Duration::from_secs(20), || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "gvpnd ended: {}", self.log());
            self.is_listening()
        });
    }

    /// Somebody answers at the control socket.
    pub fn is_listening(&self) -> bool {
        UnixStream::connect(self.folder.join("gvpnd.sock")).is_ok()
    }

    /// Starts the daemon.
    pub fn launch(&mut self, configuration: &str, options: &[&str]) {
        self.launch_as(configuration, &[], options, |_| {});
    }

    /// Starts the daemon by a command that ends with running what follows it, in an environment that is prepared.
    pub fn launch_as(
        &mut self,
        configuration: &str,
        by: &[&str],
        options: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) {
        self.rewrite(configuration);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = self.command(by, options);
        command.stderr(log).stdout(Stdio::null()).stdin(Stdio::null());
        prepare(&mut command);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Runs a daemon that is expected to end by itself.
    pub fn run(&self, options: &[&str]) -> Output {
        self.command(&[], options).output().unwrap()
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.daemon.as_ref().unwrap().id().to_string();
        run(Command::new("kill").args([&format!("-{signal}"), &pid]));
    }

    /// Limits the daemon to files with numbers below this one.
    pub fn limit_files(&self, limit: u64) {
        let pid = self.daemon.as_ref().unwrap().id().to_string();
        run(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]));
    }

    /// Lets the daemon open so many files more.
    pub fn leave_files(&self, more: usize) {
        let folder = format!("/proc/{}/fd", self.daemon.as_ref().unwrap().id());
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let open: Vec<u64> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        let last = (0..).filter(|number| !open.contains(number)).take(more).last().unwrap();
        self.limit_files(last + 1);
    }

    /// Waits for the end of the daemon; whether it ended well.
    pub fn wait(&mut self) -> bool {
        self.daemon.take().unwrap().wait().unwrap().success()
    }

    /// Ends the daemon in an orderly way; whether it ended well.
    pub fn stop(&mut self) -> bool {
        self.signal("TERM");
        self.wait()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The body of a `GET` over the control socket, an error's too.
    pub fn get(&self, path: &str) -> String {
        self.request("GET", path, "")
    }

    /// The body of the reply to a `DELETE`.
    pub fn delete(&self, path: &str) -> String {
        self.request("DELETE", path, "")
    }

    /// The body of a `POST`.
    pub fn post(&self, path: &str, body: &str) -> String {
        self.request("POST", path, body)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.join("gvpnd.sock")).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nhost: gvpnd\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    fn command(&self, by: &[&str], options: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(by).arg(env!("CARGO_BIN_EXE_gvpnd"));
        command.arg("--config").arg(self.folder.join("gvpnd.conf"));
        command.arg("--runtime-dir").arg(&self.folder).arg("--state-dir").arg(self.folder.join("state"));
        command.arg("--log-dir").arg(self.folder.join("traces")).args(options);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.namespace, self.log());
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
