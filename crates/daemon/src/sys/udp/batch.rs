//! Many datagrams with one system call: whatever waits, and one datagram to many.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{
    Address, ControlBuffer, Received, Source, local_address, read_address, write_address, write_source,
};

/// Datagrams that one call of [`send_batch`] takes at most: the kernel takes 1024, and the event loop has others to
/// serve in between.
pub const SEND_BATCH: usize = 512;

/// Room for a batch of datagrams that arrive, reused.
///
/// The memory of a slot is touched only as far as datagrams reach, so large slots cost little.
pub struct Receiver {
    /// The slots, one after the other.
    buffer: Vec<u8>,
    slot: usize,
    addresses: Vec<Address>,
    controls: Vec<ControlBuffer>,
    /// Length and flags of each datagram of the last batch, and the address it was sent to.
    arrived: Vec<(usize, Option<IpAddr>)>,
}

impl Receiver {
    /// Room for `datagrams` at a time, of up to `slot` octets each.
    pub fn new(datagrams: usize, slot: usize) -> Receiver {
        // SAFETY: all-zero octets are a valid address of either family.
        let address: Address = unsafe { mem::zeroed() };
        Receiver {
            buffer: vec![0; datagrams * slot],
            slot,
            addresses: vec![address; datagrams],
            controls: vec![ControlBuffer([0; 64]); datagrams],
            arrived: Vec::with_capacity(datagrams),
        }
    }

    /// Receives what waits, as far as there is room, without waiting. Returns how many datagrams that were.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.arrived.clear();
        let mut vectors: Vec<libc::iovec> = self
            .buffer
            .chunks_exact_mut(self.slot)
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .zip(self.addresses.iter_mut().zip(&mut self.controls))
            .map(|(vector, (address, control))| {
                // SAFETY: all-zero octets are a valid `mmsghdr`.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_name = (address as *mut Address).cast();
                message.msg_hdr.msg_namelen = mem::size_of::<Address>() as libc::socklen_t;
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = control.0.len() as _;
                message
            })
            .collect();
        // SAFETY: every pointer of every message points to a buffer of the length given beside it, which lives, and is
        // not looked at by anybody else, until the call has returned.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.arrived.extend(messages[..count].iter().map(|message| {
            // A datagram that is longer than any can be is none: it counts as empty.
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            (if whole { message.msg_len as usize } else { 0 }, local_address(&message.msg_hdr))
        }));
        Ok(count)
    }

    /// The datagrams of the last batch.
    pub fn received(&self) -> impl Iterator<Item = Received<'_>> {
        let slots = self.buffer.chunks_exact(self.slot).zip(&self.addresses);
        slots.zip(&self.arrived).filter_map(|((slot, address), (length, local))| {
            let remote = read_address(address).ok()?;
            let local = local.unwrap_or(match remote {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            });
            Some(Received { octets: slot.get(..*length)?, remote, local })
        })
    }
}

/// Why a batch ended early.
#[derive(Debug)]
pub enum SendStop {
    /// The socket's buffer is full: wait until it can be written to.
    Full(io::Error),
    /// The kernel is short of buffers: wait a moment.
    NoBuffers,
    /// The next datagram cannot be sent to its destination; those behind it can.
    Refused(io::Error),
}

/// Sends one datagram from each source to each destination, up to [`SEND_BATCH`] of them, in their order and without
/// waiting. Returns how many were sent, and why no more.
pub fn send_batch(
    socket: BorrowedFd<'_>,
    datagram: &[u8],
    targets: impl ExactSizeIterator<Item = (Source, SocketAddr)>,
) -> (usize, Option<SendStop>) {
    let count = targets.len().min(SEND_BATCH);
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    let targets: Vec<(Source, Address, libc::socklen_t)> = targets
        .take(count)
        .map(|(source, remote)| {
            let (address, length) = write_address(remote);
            (source, address, length)
        })
        .collect();
    let mut controls = vec![ControlBuffer([0; 64]); count];
    let mut messages: Vec<libc::mmsghdr> = targets
        .iter()
        .zip(&mut controls)
        .map(|((source, address, length), control)| {
            // SAFETY: all-zero octets are a valid `mmsghdr`.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = (address as *const Address).cast_mut().cast();
            message.msg_hdr.msg_namelen = *length;
            message.msg_hdr.msg_iov = &raw mut vector;
            message.msg_hdr.msg_iovlen = 1;
            write_source(&mut message.msg_hdr, control, *source);
            message
        })
        .collect();
    let mut sent = 0;
    while sent < count {
        let rest = &mut messages[sent..];
        // SAFETY: every pointer of every message points to a buffer of the length given beside it that outlives the
        // call; the kernel only reads them, so that all may share one vector.
        let outcome = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as _, libc::MSG_DONTWAIT as _)
        };
        match usize::try_from(outcome) {
            Ok(some) => sent += some,
            // An error is told only if it met the first of the messages: the one that is next.
            Err(_) => {
                let error = io::Error::last_os_error();
                return match (error.kind(), error.raw_os_error()) {
                    (io::ErrorKind::Interrupted, _) => continue,
                    (io::ErrorKind::WouldBlock, _) => (sent, Some(SendStop::Full(error))),
                    (_, Some(libc::ENOBUFS | libc::ENOMEM)) => (sent, Some(SendStop::NoBuffers)),
                    _ => (sent, Some(SendStop::Refused(error))),
                };
            }
        }
    }
    (sent, None)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    fn source(address: &str) -> Source {
        Source::address(address.parse().unwrap())
    }

    #[test]
    fn one_datagram_goes_to_many_and_a_batch_of_them_is_received_at_once() {
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        let receiver = UdpSocket::bind("0.0.0.0:0").unwrap();
        super::super::request_local_addresses(receiver.as_fd(), false).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let targets: Vec<_> = (1..=5u8)
            .map(|number| {
                (source("127.0.0.7"), SocketAddr::new(Ipv4Addr::new(127, 0, 1, number).into(), port))
            })
            .collect();
        let (sent, stop) = send_batch(sender.as_fd(), b"rekey", targets.iter().copied());
        assert!(sent == 5 && stop.is_none(), "{sent} {stop:?}");
        let mut batch = Receiver::new(3, 64);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 3);
        let mut locals: Vec<IpAddr> = batch.received().map(|received| received.local).collect();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 2);
        for received in batch.received() {
            assert_eq!(received.octets, b"rekey");
            assert_eq!(received.remote.ip(), "127.0.0.7".parse::<IpAddr>().unwrap());
            locals.push(received.local);
        }
        assert_eq!(locals, targets.iter().map(|(_, remote)| remote.ip()).collect::<Vec<_>>());
    }

    #[test]
    fn a_destination_that_cannot_be_reached_does_not_hold_up_the_others() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let good = (source("0.0.0.0"), receiver.local_addr().unwrap());
        // No address of this machine.
        let bad = (source("192.0.2.1"), receiver.local_addr().unwrap());
        let targets = [good, bad, good];
        let (sent, stop) = send_batch(sender.as_fd(), b"x", targets.iter().copied());
        assert_eq!(sent, 1);
        assert!(matches!(stop, Some(SendStop::Refused(_))), "{stop:?}");
        let (sent, stop) = send_batch(sender.as_fd(), b"x", targets[2..].iter().copied());
        assert!(sent == 1 && stop.is_none(), "{stop:?}");
        let mut batch = Receiver::new(8, 16);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 2);
    }

    #[test]
    fn an_over_long_datagram_is_received_as_nothing() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[1; 17], receiver.local_addr().unwrap()).unwrap();
        let mut batch = Receiver::new(1, 16);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        assert_eq!(batch.received().next().unwrap().octets, b"");
    }
}
