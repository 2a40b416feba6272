//! How frames leave an external interface, and, where AF_XDP receives, how ESP arrives.
//!
//! docs/decisions/0004-which-wire.md has the rule and the figures behind it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use dataplane::FrameOut;

use super::marks::{CLEAR_MARK, TX_MARK};
use super::programs::QUEUES_PER_INTERFACE;
use crate::netlink::{Link, RouteSocket};
use crate::sys::packet::{SendBatch, Sent, open_sender};
use crate::sys::xsk::{CopyMode, LARGEST_FRAME, XskSocket, receive_queues};

/// Queueing disciplines that Linux gives to devices by itself. Any other was configured by somebody and is honoured.
const DEFAULT_QDISCS: [&str; 5] = ["", "noqueue", "mq", "pfifo_fast", "fq_codel"];
/// Octets of Ethernet header and two VLAN tags.
const LINK_HEADERS: usize = 22;

/// Which sockets carry ESP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireIo {
    /// AF_XDP both ways where the driver needs no copies; where it does, AF_XDP to send, and the ring buffer to receive.
    #[default]
    Auto,
    /// AF_XDP both ways, with copies where the driver needs them.
    Xdp,
    /// AF_PACKET to send, the ring buffer to receive.
    Packet,
}

impl std::str::FromStr for WireIo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "xdp" => Ok(Self::Xdp),
            "packet" => Ok(Self::Packet),
            _ => Err(format!("`{text}` is none of auto, xdp, packet")),
        }
    }
}

/// A lane's sockets of one interface.
#[derive(Debug)]
pub(super) struct Wire {
    packet: OwnedFd,
    /// A second socket only where the egress program has to tell clear frames from ESP.
    clear: Option<OwnedFd>,
    /// AF_XDP: for each of the lane's receive queues one, or one that only sends, or none. The first sends.
    pub(super) rings: Vec<XskSocket>,
    /// The rings receive, once the XDP program is attached.
    pub(super) receives: bool,
}

impl Wire {
    /// Opens the sockets that suit the interface, for each lane, and says in the log which these are and why.
    pub(super) fn open(interface: &Link, io: WireIo, lanes: usize) -> io::Result<Vec<Self>> {
        if !bypasses(interface) {
            let why = format!("the queueing discipline {} is honoured", interface.qdisc);
            return Self::packet(interface, true, &why, lanes);
        }
        if io == WireIo::Packet {
            return Self::packet(interface, false, "so it was asked for", lanes);
        }
        if interface.mtu as usize + LINK_HEADERS > LARGEST_FRAME {
            return Self::packet(interface, false, "its frames are too long for AF_XDP", lanes);
        }
        // Without copies first: nothing is faster. A frame whose VLAN tag the device has taken off looks to XDP as if it
        // were the interface's own, so interfaces with VLAN devices above do not receive by it.
        let why = if has_devices_above(interface.index) {
            "there are VLAN devices or the like above".into()
        } else {
            match open_rings(interface, CopyMode::ZeroCopy, true, lanes) {
                Ok(rings) => return Self::rings(interface, rings, true, "zero-copy", lanes),
                Err(error) if io == WireIo::Auto => format!("zero-copy: {error}"),
                Err(_) => match open_rings(interface, CopyMode::Copy, true, lanes) {
                    Ok(rings) => return Self::rings(interface, rings, true, "native copy mode", lanes),
                    Err(error) => format!("copy mode: {error}"),
                },
            }
        };
        match open_rings(interface, CopyMode::Copy, false, lanes) {
            Ok(rings) => Self::rings(interface, rings, false, &why, lanes),
            Err(error) => Self::packet(interface, false, &format!("AF_XDP: {error}"), lanes),
        }
    }

    /// The same without AF_XDP to receive: the XDP program could not be attached.
    pub(super) fn without_receiving(
        interface: &Link,
        why: &io::Error,
        lanes: usize,
    ) -> io::Result<Vec<Self>> {
        match open_rings(interface, CopyMode::Copy, false, lanes) {
            Ok(rings) => Self::rings(interface, rings, false, &why.to_string(), lanes),
            Err(error) => Self::packet(interface, false, &format!("{why}; AF_XDP: {error}"), lanes),
        }
    }

    /// Spreads the queues over the lanes. A lane that gets none sends by AF_PACKET.
    fn rings(
        interface: &Link,
        rings: Vec<XskSocket>,
        receives: bool,
        why: &str,
        lanes: usize,
    ) -> io::Result<Vec<Self>> {
        let receive = if receives { "AF_XDP" } else { "ring buffer" };
        let queues = rings.len();
        tracing::info!(interface = interface.name, send = "AF_XDP", receive, queues, lanes, why, "wire");
        let bare = |_| {
            let packet = open_sender(interface.index, None)?;
            Ok(Self { packet, clear: None, rings: Vec::new(), receives })
        };
        let mut wires = (0..lanes).map(bare).collect::<io::Result<Vec<Self>>>()?;
        for (queue, ring) in rings.into_iter().enumerate() {
            wires[queue % lanes].rings.push(ring);
        }
        Ok(wires)
    }

    fn packet(interface: &Link, through_qdisc: bool, why: &str, lanes: usize) -> io::Result<Vec<Self>> {
        let receive = "ring buffer";
        tracing::info!(interface = interface.name, send = "AF_PACKET", receive, lanes, why, "wire");
        let open = |_| {
            let (packet, clear) = if through_qdisc {
                let clear = open_sender(interface.index, Some(CLEAR_MARK))?;
                (open_sender(interface.index, Some(TX_MARK))?, Some(clear))
            } else {
                (open_sender(interface.index, None)?, None)
            };
            Ok(Self { packet, clear, rings: Vec::new(), receives: false })
        };
        (0..lanes).map(open).collect()
    }

    /// Sends ESP of the engine. `batch` is memory for the call.
    pub(super) fn send_esp<'a>(
        &mut self,
        batch: &mut SendBatch,
        frames: impl Iterator<Item = FrameOut<'a>>,
    ) -> Sent {
        match self.rings.first_mut() {
            Some(ring) => ring.send(frames.map(|frame| frame.bytes())),
            None => batch.send(self.packet.as_fd(), frames.map(|frame| frame.bytes_with_vnet_header())),
        }
    }

    /// Sends packets that the engine found to be clear; only AF_PACKET carries super-frames and partial checksums.
    pub(super) fn send_clear<'a>(
        &mut self,
        batch: &mut SendBatch,
        frames: impl Iterator<Item = FrameOut<'a>>,
    ) -> Sent {
        let socket = self.clear.as_ref().unwrap_or(&self.packet).as_fd();
        batch.send(socket, frames.map(|frame| frame.bytes_with_vnet_header()))
    }

    /// Frames wait for [`Wire::kick`]: the device's queue was full.
    pub(super) fn is_waiting(&self) -> bool {
        self.rings.first().is_some_and(XskSocket::is_waiting)
    }

    /// Tries to send what waits.
    pub(super) fn kick(&mut self) {
        if let Some(ring) = self.rings.first_mut().filter(|ring| ring.is_waiting()) {
            ring.kick();
        }
    }

    /// Descriptors that become readable when ESP arrives.
    pub(super) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().filter(|_| self.receives).map(AsFd::as_fd)
    }
}

/// The sockets that receive, of all lanes, in the order of the queues.
pub(super) fn receiving(wires: &[Wire]) -> impl Iterator<Item = RawFd> {
    let most = wires.iter().map(|wire| wire.rings.len()).max().unwrap_or(0);
    let sockets = (0..most).flat_map(|round| wires.iter().filter_map(move |wire| wire.rings.get(round)));
    sockets.map(AsRawFd::as_raw_fd)
}

/// No queueing discipline was configured, so frames may go straight to the driver.
pub(super) fn bypasses(interface: &Link) -> bool {
    DEFAULT_QDISCS.contains(&interface.qdisc.as_str())
}

/// A socket for each queue that receives; to send only, one for each lane, as far as there are queues.
fn open_rings(interface: &Link, mode: CopyMode, receives: bool, lanes: usize) -> io::Result<Vec<XskSocket>> {
    let most = if receives { QUEUES_PER_INTERFACE } else { lanes as u32 };
    let queues = receive_queues(interface.index).min(most);
    (0..queues).map(|queue| XskSocket::open(interface.index, queue, mode, receives)).collect()
}

/// Other devices send and receive by this one, such as VLAN devices. The other end of a veth pair is named in the same
/// way, and is none.
fn has_devices_above(interface: u32) -> bool {
    let listed = RouteSocket::open()
        .and_then(|mut socket| socket.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())));
    let Ok(listed) = listed else { return true };
    listed.iter().any(|message| match message {
        RouteNetlinkMessage::NewLink(link) => {
            let is_above = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Link(index) if *index == interface);
            link.attributes.iter().any(is_above) && !is_veth(link)
        }
        _ => false,
    })
}

fn is_veth(link: &LinkMessage) -> bool {
    let is_veth = |info: &LinkInfo| matches!(info, LinkInfo::Kind(InfoKind::Veth));
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(is_veth)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_written_as_in_the_manual() {
        assert_eq!("auto".parse(), Ok(WireIo::Auto));
        assert_eq!("xdp".parse(), Ok(WireIo::Xdp));
        assert_eq!("packet".parse(), Ok(WireIo::Packet));
        assert!("dpdk".parse::<WireIo>().is_err());
    }

    #[test]
    fn a_device_that_is_not_there_has_none_above() {
        assert!(!has_devices_above(0x3fff_ffff));
    }
}
