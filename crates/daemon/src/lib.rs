//! The impure half of the product: what `gvpnd` is made of besides the pure protocol and packet engines.
//!
//! [`datapath`] moves packets between the kernel and the packet engine, [`netlink`] watches the kernel's links and
//! addresses, and [`sys`] is the only module with system-call `unsafe`.

pub mod datapath;
pub mod netlink;
pub mod sys;
