//! What the key server tells the shell besides datagrams.

use std::net::SocketAddr;

use crate::log;

/// An event of the key server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member proved to be live and got the keys of a group.
    Registered {
        /// Name of the group.
        group: String,
        /// Name of the gateway.
        gateway: String,
        /// Where it registered from.
        remote: SocketAddr,
    },
    /// Something worth a line in the log; its rate limit is already applied.
    Log(log::Entry),
}
