//! Blocking requests to the kernel's routing netlink.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Type of the message that describes a link.
const RTM_NEWLINK: u16 = 16;

/// How often a list is asked for while it keeps changing under the kernel's pen.
const DUMP_ATTEMPTS: usize = 8;

/// One netlink socket. Requests are answered within microseconds, so they may block a thread that has other work.
pub(crate) struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

impl RouteSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Changes something; returns when the kernel has acknowledged it.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        self.receive().map(|_| ())
    }

    /// Asks for one object.
    pub(crate) fn ask(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        // The acknowledgement ends the answer.
        self.send(message, NLM_F_ACK)?;
        self.receive()
    }

    /// Lists objects as they were at one moment. Objects that the decoder does not understand are left out.
    pub(crate) fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 1..DUMP_ATTEMPTS {
            self.send(message.clone(), NLM_F_DUMP)?;
            match self.receive() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        self.send(message, NLM_F_DUMP)?;
        self.receive()
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Reads the answer to the last request. `Interrupted`: the list changed while the kernel wrote it.
    fn receive(&mut self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answer = Vec::new();
        let mut interrupted = false;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while let Some(length) = message_length(rest) {
                let (bytes, following) = rest.split_at(length);
                rest = following.get(length.next_multiple_of(4) - length..).unwrap_or_default();
                let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                    Ok(message) => message,
                    Err(error) => {
                        // A link that is not seen is not closed.
                        if bytes[4..6] == RTM_NEWLINK.to_ne_bytes() {
                            tracing::warn!(%error, "a network interface cannot be read; it is ignored");
                        }
                        continue;
                    }
                };
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer.push(inner),
                    NetlinkPayload::Done(_) if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Done(_) => return Ok(answer),
                    NetlinkPayload::Error(error) => {
                        return if error.code.is_none() { Ok(answer) } else { Err(error.to_io()) };
                    }
                    NetlinkPayload::Overrun(_) => return Err(io::Error::other("netlink overrun")),
                    _ => {}
                }
            }
        }
    }
}

/// Octets of the first message of a datagram, if it is whole.
fn message_length(datagram: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
    (16..=datagram.len()).contains(&length).then_some(length)
}
