//! System calls that have no safe wrapper elsewhere. The only module of this crate where `unsafe` is allowed.
#![allow(unsafe_code)]

pub mod arrivals;
pub mod packet;
pub mod readable;
pub mod tun;
pub mod udp;
pub mod xsk;
