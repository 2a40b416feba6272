//! Where a datagram came from and where the answer goes.

use std::fmt;
use std::net::SocketAddr;

/// The two ends of a UDP conversation, seen from here.
///
/// The local address may be unspecified (`0.0.0.0` or `::`) only where a role starts to send before it knows which
/// address the host will use; its port is always the one to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

impl Path {
    /// A path between two socket addresses.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local, remote }
    }

    /// The same path seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.remote)
    }
}
