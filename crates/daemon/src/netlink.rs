//! A view of the kernel's links and addresses, kept current by netlink notifications.
//!
//! Notifications only say "something changed": every view is read whole, so a lost notification costs time, not truth.

mod links;
mod monitor;
mod route;
mod socket;

pub use links::{Link, Links};
pub use monitor::Monitor;
pub use route::interface_towards;
pub(crate) use socket::RouteSocket;
