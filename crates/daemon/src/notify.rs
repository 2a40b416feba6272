//! What systemd is told: a datagram to the socket it names, if it names one; and how it watches us.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The daemon serves.
pub fn ready() {
    send("READY=1");
}

/// The daemon applies a new configuration; [`ready`] follows.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// The daemon ends.
pub fn stopping() {
    send("STOPPING=1");
}

/// One line for whoever looks at the service.
pub fn status(line: &str) {
    send(&format!("STATUS={}", line.replace('\n', " ")));
}

/// The daemon makes progress.
pub fn alive() {
    send("WATCHDOG=1");
}

/// After how long without [`alive`] the service manager takes us for stuck, if it watches us.
pub fn watchdog() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    watchdog_of(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

/// The variables may be another process's, which has passed them on.
fn watchdog_of(micros: Option<&str>, watched: Option<&str>, pid: u32) -> Option<Duration> {
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    let is_ours = watched.is_none_or(|watched| watched.parse() == Ok(pid));
    is_ours.then(|| Duration::from_micros(micros))
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    // Nobody who listens there is a reason to fail, and one whose queue is full none to wait.
    let outcome = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = outcome {
        tracing::debug!(%error, "service manager not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_ours_if_it_names_us_or_nobody() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(watchdog_of(Some("10000000"), None, 7), ten);
        assert_eq!(watchdog_of(Some("10000000"), Some("7"), 7), ten);
        assert_eq!(watchdog_of(Some("10000000"), Some("8"), 7), None);
        assert_eq!(watchdog_of(Some("0"), None, 7), None);
        assert_eq!(watchdog_of(Some("soon"), None, 7), None);
        assert_eq!(watchdog_of(None, Some("7"), 7), None);
    }
}
