//! TAP devices with virtio-net headers.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

/// `linux/if_tun.h`: a program chooses the queue of a frame.
const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0u32 as libc::Ioctl;

/// A TAP device.
#[derive(Debug)]
pub struct TapDevice {
    /// Its queues. Reads and writes are one frame each, behind the ten octets of `struct virtio_net_hdr`, and never block.
    pub queues: Vec<File>,
    /// The kernel knows UDP super-frames (since Linux 6.2). TCP's it always does.
    pub has_datagram_frames: bool,
}

/// Makes a non-persistent TAP device of this name and kernel index: it vanishes when the returned files are closed. Where
/// it has several queues, `steering`, a socket filter, chooses the one that a frame comes to.
///
/// The kernel may hand over super-frames with partial checksums, and takes them.
pub fn create_tap(name: &str, index: u32, queues: usize, steering: impl AsFd) -> io::Result<TapDevice> {
    if queues == 0 || name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    let tap = open()?;
    let index = c_uint::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // TUNSETIFINDEX reads one unsigned int.
    ioctl(&tap, libc::TUNSETIFINDEX, (&raw const index).cast())?;

    join(&tap, name, flags)?;

    let header_length = dataplane::VnetHeader::LENGTH as c_int;
    // TUNSETVNETHDRSZ reads one int.
    ioctl(&tap, libc::TUNSETVNETHDRSZ, (&raw const header_length).cast())?;

    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    // TUNSETOFFLOAD takes its flags in place of a pointer.
    let offload = |flags: c_uint| ioctl(&tap, libc::TUNSETOFFLOAD, flags as usize as *const c_void);
    let has_datagram_frames = offload(tcp | udp).is_ok();
    if !has_datagram_frames {
        offload(tcp)?;
    }
    let mut files = vec![tap];
    while files.len() < queues {
        let further = open()?;
        join(&further, name, flags)?;
        files.push(further);
    }
    if queues > 1 {
        let program: c_int = steering.as_fd().as_raw_fd();
        // TUNSETSTEERINGEBPF reads one int.
        ioctl(&files[0], TUNSETSTEERINGEBPF, (&raw const program).cast())?;
    }
    Ok(TapDevice { queues: files, has_datagram_frames })
}

fn open() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
}

/// Makes the file a queue of the device of this name, which is made if there is none. The name is short enough.
fn join(tap: &File, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | flags) as i16,
        },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // TUNSETIFF reads and writes one ifreq; only the copy's name may change, which we know.
    ioctl(tap, libc::TUNSETIFF, (&raw mut request).cast_const().cast())
}

/// `argument` must be what `request` expects: a pointer to a live object of its type, or a number.
fn ioctl(file: &File, request: libc::Ioctl, argument: *const c_void) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and the callers above, the only ones, pass for each
    // request a pointer to a local variable of the type that it reads (and for TUNSETIFF writes), or a plain number.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, argument) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
