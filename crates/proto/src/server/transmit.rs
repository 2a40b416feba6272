//! Messages to many: one datagram and where its copies go.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::path::Path;

/// Members that one batch is for, at most: what a system call takes at once.
pub const BATCH: usize = 1024;

/// One datagram and where its copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushBatch {
    /// The UDP payload, the same for everybody.
    pub datagram: Arc<[u8]>,
    /// Who gets it.
    pub to: Recipients,
}

/// Who gets a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// A copy each, at most [`BATCH`], from the local to the remote address of each path.
    Unicast(Vec<Path>),
    /// One datagram to a group address, out of an interface.
    Multicast {
        /// Group address and port.
        group: SocketAddr,
        /// Name in the configuration.
        interface: String,
    },
}
