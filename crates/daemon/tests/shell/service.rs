//! `gvpnd` as a service: what it tells the service manager, and what its unit leaves it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::{Host, skip, within};
use super::{MEMBER, SERVER, pair};

const UNIT: &str = include_str!("../../../../packaging/systemd/gvpnd.service");

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn of(host: &Host) -> Manager {
        Manager(UnixDatagram::bind(host.folder().join("notify")).unwrap())
    }

    /// The next message, if one comes in time.
    fn next(&self, patience: Duration) -> Option<String> {
        let mut octets = [0; 4096];
        self.0.set_read_timeout(Some(patience)).unwrap();
        let length = self.0.recv(&mut octets).ok()?;
        Some(String::from_utf8_lossy(&octets[..length]).into_owned())
    }

    /// Waits for a message that begins so, past others.
    fn wait_for(&self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(message) =
                self.next(Duration::from_secs(1)).filter(|message| message.starts_with(wanted))
            {
                return message;
            }
        }
        panic!("the service manager was not told `{wanted}`");
    }
}

#[test]
fn a_daemon_is_ready_when_it_protects_and_says_that_it_lives_only_while_it_makes_progress() {
    if skip() {
        return;
    }
    let (server, mut member) = pair("shsv");
    let manager = Manager::of(&member);
    // What it writes goes into a pipe that can be stopped up.
    let pipe = member.folder().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let nonblocking = libc::O_NONBLOCK;
    let mut end = File::options().read(true).write(true).custom_flags(nonblocking).open(&pipe).unwrap();
    let stderr = File::options().write(true).open(&pipe).unwrap();
    member.launch_as(MEMBER, &[], &[], |command| {
        command.env("NOTIFY_SOCKET", manager.0.local_addr().unwrap().as_pathname().unwrap());
        command.env("WATCHDOG_USEC", "800000").stderr(stderr);
    });
    manager.wait_for("READY=1");
    assert!(member.is_attached());
    assert!(manager.wait_for("STATUS=").contains("0 of 1 VPNs have keys"));
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    // Stopped up, the event loop is stuck with the first line that it writes.
    for size in [4096, 1] {
        while end.write(&vec![b'.'; size]).is_ok() {}
    }
    member.signal("HUP");
    manager.wait_for("RELOADING=1");
    assert_eq!(manager.next(Duration::from_secs(2)), None, "stuck for longer than it is given");
    std::thread::spawn(move || {
        let mut octets = [0; 4096];
        while end.read(&mut octets).is_ok() || !pipe_is_gone(&pipe) {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    member.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert!(member.wait());
    drop(server);
}

fn pipe_is_gone(pipe: &std::path::Path) -> bool {
    !pipe.exists()
}

#[test]
fn a_daemon_that_cannot_attach_to_an_interface_is_not_ready() {
    if skip() {
        return;
    }
    let mut member = Host::new("shsa", "10.0.0.2/24");
    // Without Ethernet header there is nothing that the data path can serve.
    member.ip(&["tuntap", "add", "wan0", "mode", "tun"]);
    let manager = Manager::of(&member);
    member.launch_as(MEMBER, &[], &[], |command| {
        command.env("NOTIFY_SOCKET", manager.0.local_addr().unwrap().as_pathname().unwrap());
    });
    let status = manager.wait_for("");
    assert!(status.starts_with("STATUS=cannot attach to interface wan0"), "{status}");
    member.ip(&["link", "delete", "wan0"]);
    manager.wait_for("READY=1");
    assert!(member.stop());
}

#[test]
fn the_capabilities_that_the_unit_leaves_suffice() {
    if skip() {
        return;
    }
    let capabilities = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let kept: String =
        capabilities.split(' ').map(|name| format!(",+{}", &name["CAP_".len()..].to_lowercase())).collect();
    let bounding_set = format!("--bounding-set=-all{kept}");
    let by = ["setpriv", "--no-new-privs", "--inh-caps=-all", &bounding_set];
    let (mut server, mut member) = pair("shsc");
    server.launch_as(SERVER, &by, &[], |_| {});
    member.launch_as(MEMBER, &by, &[], |_| {});
    let socket = member.folder().join("gvpnd.sock");
    within(Duration::from_secs(20), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    within(Duration::from_secs(20), || {
        member.get("/v1/member/ipsec-security-associations").contains("ESP:aes-128/sha1")
    });
    assert!(member.get("/v1/status").contains("\"attached\":true"));
    assert!(!member.log().contains("ERROR") && !server.log().contains("ERROR"), "{}", member.log());
    // Its successor, who starts from the state that this one has left, can do the same.
    assert!(server.stop() && member.stop());
    server.launch_as(SERVER, &by, &[], |_| {});
    let socket = server.folder().join("gvpnd.sock");
    within(Duration::from_secs(20), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(server.stop());
}
