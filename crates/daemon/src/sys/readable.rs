//! Waiting in the event loop for descriptors that `tokio` has no type for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the event loop wait until a descriptor can be read. Needs a running `tokio` runtime.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same, as long as it lives, and `AsyncFd` owns it from here on.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    registered.map_err(|error| io::Error::other(error.to_string()))
}
