//! The impure half of the product: what `gvpnd` is made of besides the pure protocol and packet engines.
//!
//! [`daemon`] is the event loop. [`datapath`] moves packets between the kernel and the packet engine, [`netlink`]
//! watches the kernel's links and addresses, and [`sys`] is the only module with system-call `unsafe`.

#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod agreement;
pub mod clock;
pub mod close;
pub mod command_line;
pub mod configuration;
pub mod control_socket;
pub mod daemon;
pub mod datapath;
pub mod dispatch;
pub mod durable;
pub mod files;
pub mod flows;
pub mod instances;
pub mod interfaces;
pub mod lock;
pub mod log;
pub mod multicast;
pub mod namespace;
pub mod netlink;
pub mod notify;
pub mod protection;
pub mod scope;
pub mod settings;
pub mod signing_keys;
pub mod sockets;
pub mod state;
pub mod sys;
pub mod terminal;
