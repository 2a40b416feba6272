//! The sockets by which frames leave an external interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::marks::{CLEAR_MARK, TX_MARK};
use crate::netlink::Link;
use crate::sys::packet::open_sender;

/// Queueing disciplines that Linux gives to devices by itself. Any other was configured by somebody and is honoured.
const DEFAULT_QDISCS: [&str; 5] = ["", "noqueue", "mq", "pfifo_fast", "fq_codel"];

/// Senders for one interface.
#[derive(Debug)]
pub(super) struct Wire {
    esp: OwnedFd,
    /// A second socket only where the egress program has to tell clear frames from ESP.
    clear: Option<OwnedFd>,
}

impl Wire {
    /// Opens the sockets, past the queueing discipline or through it.
    pub(super) fn open(interface: &Link) -> io::Result<Self> {
        if bypasses(interface) {
            return Ok(Self { esp: open_sender(interface.index, None)?, clear: None });
        }
        Ok(Self {
            esp: open_sender(interface.index, Some(TX_MARK))?,
            clear: Some(open_sender(interface.index, Some(CLEAR_MARK))?),
        })
    }

    /// Sends ESP of the engine.
    pub(super) fn esp(&self) -> BorrowedFd<'_> {
        self.esp.as_fd()
    }

    /// Sends packets that the engine found to be clear.
    pub(super) fn clear(&self) -> BorrowedFd<'_> {
        self.clear.as_ref().unwrap_or(&self.esp).as_fd()
    }
}

/// No queueing discipline was configured, so frames may go straight to the driver.
pub(super) fn bypasses(interface: &Link) -> bool {
    DEFAULT_QDISCS.contains(&interface.qdisc.as_str())
}
