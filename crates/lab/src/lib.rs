//! Scenarios in network namespaces with the shipped binaries and real peers.
//!
//! A scenario is a folder under `lab/scenarios`: see [`scenario`]. [`runner::Runner`] does its steps; the benchmarks of
//! `xtask` use the same networks without steps.

pub mod frr;
pub mod keys;
pub mod mesh;
pub mod multicast;
pub mod network;
pub mod output;
pub mod runner;
pub mod scenario;
pub mod strongswan;
pub mod traffic;
