//! `AF_PACKET` sockets that send, and batches of messages in one system call.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `linux/if_packet.h`: each frame is preceded by a `struct virtio_net_hdr`.
const PACKET_VNET_HDR: c_int = 15;
/// `linux/if_packet.h`: frames go to the driver without passing the interface's queueing discipline.
const PACKET_QDISC_BYPASS: c_int = 20;

/// Octets that may be on their way to the device.
const SEND_BUFFER: c_int = 8 << 20;

/// Opens a socket that sends frames by one interface and receives nothing. Frames are written as to a TAP: behind the
/// ten octets of `struct virtio_net_hdr`.
///
/// `mark`: `None` bypasses the queueing discipline and the tc egress programs; otherwise frames pass both, marked.
pub fn open_sender(interface: u32, mark: Option<u32>) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed; the result is checked before it is owned, and nobody else owns it.
    let socket = unsafe {
        let descriptor =
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    // A super-frame becomes some fifty frames at once; the default holds fewer than a hundred on their way.
    super::xsk::set_send_buffer(socket.as_raw_fd(), SEND_BUFFER);
    match mark {
        None => set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?,
        Some(mark) => set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark as c_int)?,
    }

    // SAFETY: an all-zero sockaddr_ll is a valid value. Protocol zero: receives nothing.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = c_int::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer is to a live sockaddr_ll and the length is its size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the pointer is to a live int and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames the kernel took.
    pub frames: u64,
    /// Frames it refused: full queue, interface down, too long.
    pub refused: u64,
}

/// Memory for `sendmmsg` calls, so that sending allocates nothing.
pub struct SendBatch {
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers inside are only meaningful during a call of `send`, which borrows the batch and what they point
// to; between calls they are never followed.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Messages in one system call at most.
    pub const LIMIT: usize = 128;

    /// Reserves the memory.
    pub fn new() -> Self {
        Self { vectors: Vec::with_capacity(Self::LIMIT), messages: Vec::with_capacity(Self::LIMIT) }
    }

    /// Sends all frames in order on a connected or bound socket. A frame that the kernel refuses is skipped and counted.
    pub fn send<'a>(&mut self, socket: BorrowedFd<'_>, frames: impl IntoIterator<Item = &'a [u8]>) -> Sent {
        let mut frames = frames.into_iter();
        let mut sent = Sent::default();
        loop {
            self.vectors.clear();
            for frame in frames.by_ref().take(Self::LIMIT) {
                self.vectors
                    .push(libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() });
            }
            if self.vectors.is_empty() {
                return sent;
            }
            let batch = self.send_batch(socket);
            sent.frames += batch.frames;
            sent.refused += batch.refused;
        }
    }

    /// Sends the frames that `vectors` points to; the caller holds them borrowed.
    fn send_batch(&mut self, socket: BorrowedFd<'_>) -> Sent {
        self.messages.clear();
        for vector in &mut self.vectors {
            // SAFETY: an all-zero mmsghdr is a valid value: no address, no control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            self.messages.push(message);
        }
        let mut sent = Sent::default();
        let mut rest = &mut self.messages[..];
        while !rest.is_empty() {
            // SAFETY: `rest` is a live slice of headers, each with one vector of `self.vectors`, which is not touched
            // during the call; each vector describes a frame that the caller of `send` keeps borrowed. The kernel
            // reads the frames and writes only `msg_len` of the headers.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            let taken = match usize::try_from(result) {
                Ok(taken) => {
                    sent.frames += taken as u64;
                    taken
                }
                // The first of the rest was refused; the others may yet pass.
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => 0,
                Err(_) => {
                    sent.refused += 1;
                    1
                }
            };
            rest = &mut rest[taken..];
        }
        sent
    }
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn sends_more_frames_than_fit_one_call_in_order() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let frames: Vec<Vec<u8>> = (0..SendBatch::LIMIT as u8 + 2).map(|n| vec![n; 3]).collect();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8];
            (0..SendBatch::LIMIT + 2)
                .map(|_| {
                    let length = receiver.recv(&mut buffer).unwrap();
                    buffer[..length].to_vec()
                })
                .collect::<Vec<_>>()
        });
        // The pair's queue is shorter than the batch: send in parts, so that nothing is refused.
        let mut batch = SendBatch::new();
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let sent = batch.send(sender.as_fd(), rest.iter().map(Vec::as_slice).take(1));
            rest = &rest[sent.frames as usize..];
        }
        assert_eq!(reader.join().unwrap(), frames);
    }

    #[test]
    fn a_refused_frame_does_not_stop_the_others() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let huge = vec![0; 16 << 20];
        let sent = SendBatch::new().send(sender.as_fd(), [&b"one"[..], &huge, b"two"]);
        assert_eq!(sent, Sent { frames: 2, refused: 1 });
        let mut buffer = [0; 8];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 3);
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"two");
    }
}
