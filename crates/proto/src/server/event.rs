//! What the key server tells the shell besides datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use super::eviction::EvictionError;
use super::progress::Cause;
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
    /// A member left three consecutive rekeys unacknowledged; it is not pushed to until it registers.
    MemberLost {
        /// Name of the group.
        group: String,
        /// Name of the gateway.
        gateway: String,
        /// Where it had registered from.
        remote: SocketAddr,
    },
    /// What a command asked for is done: every member that stays uses new keys, or had its chance.
    RekeyCompleted {
        /// Name of the group.
        group: String,
        /// The command.
        cause: Cause,
        /// Time from the command.
        took: Duration,
        /// Members that had to get the keys.
        members: usize,
        /// Members among them that did not show that they have them.
        missing: usize,
    },
    /// The server that makes the keys has answered [`Server::forward_eviction`](super::Server::forward_eviction), for one group.
    EvictionAnswered {
        /// Number of the question.
        number: u64,
        /// Name of the group.
        group: String,
        /// In how long it is done, as of when that server did it, or why it does not do it.
        outcome: Result<Duration, EvictionError>,
    },
    /// Something worth a line in the log; its rate limit is already applied.
    Log(log::Entry),
}
