//! Batches of packets in, packets and verdicts out: SA database, policy, ESP, fragmentation, GSO.
//!
//! Pure: no socket, thread, clock or file. The I/O layer hands in [`FrameIn`]s, the control side publishes
//! [`Tables`], and [`Engine::process`] fills a [`FrameBuffer`].

mod classifier;
mod classify;
mod counters;
mod engine;
mod flow_cache;
mod fragment_tracker;
mod frame;
mod ip;
mod plain;
mod policy;
mod pseudo_time;
mod reason;
mod replay;
mod sa;
mod sender_ids;
mod service_filter;
mod sessions;
mod tables;
mod time;

pub use counters::{Counters, Drops, Passes, Traffic};
pub use engine::Engine;
pub use frame::{Destination, FrameBuffer, FrameIn, FrameOut, InterfaceId, Origin, VnetHeader};
pub use policy::{AddressPair, outside_scope, scope_contains};
pub use pseudo_time::PseudoClock;
pub use reason::{DropReason, PassReason};
pub use sa::{GroupSa, SaDirection, SaError, SaSettings};
pub use sender_ids::{SenderIdError, SenderIdLength, SenderIds};
pub use service_filter::{ServiceFilter, ServiceFilterTerm};
pub use sessions::{Session, SessionTable, SessionTraffic};
pub use tables::{
    Binding, Candidates, DefaultPolicy, DfBit, Policy, Registration, Tables, TablesBuilder, Vpn,
};
pub use time::Instant;
pub use wire::PseudoTime;
pub use wire::selector::Selector;
