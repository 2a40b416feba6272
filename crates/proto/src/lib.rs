//! Every protocol state machine of both roles, sans-IO: phase 1, GROUPKEY-PULL, policy, server, member.
//!
//! Nothing here opens a socket, reads a clock or draws randomness of its own: time comes in as [`time::Instant`],
//! datagrams as bytes with their [`path::Path`], randomness as a [`crypto::Random`]. What goes out is polled.

pub mod log;
pub mod member;
mod meter;
pub mod path;
pub mod phase1;
pub mod policy;
pub mod pseudo_time;
pub mod pull;
pub mod push;
mod record;
pub mod server;
mod show;
pub mod time;
pub mod timeline;

pub use show::selector as control_selector;

use path::Path;
use time::Instant;

/// A protocol role (key server or group member) as the shell drives it.
///
/// After every `handle_*` call the shell drains `poll_transmit` and `poll_event` until they return `None`, then
/// sleeps until `poll_timeout` or the next input. Calling `handle_timeout` early or twice does nothing.
pub trait Role {
    /// What the role tells the shell besides datagrams: SAs to install or remove, registrations, log entries.
    type Event;

    /// Takes one UDP payload as it arrived, non-ESP marker included.
    fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]);

    /// Does what has become due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// Writes the next datagram to send into `buffer` (cleared first) and returns where it goes.
    #[must_use]
    fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Path>;

    /// Takes the next event.
    #[must_use]
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// The earliest moment at which `handle_timeout` has something to do.
    #[must_use]
    fn poll_timeout(&self) -> Option<Instant>;
}
