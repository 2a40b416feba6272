//! What a strict peer may check, octet by octet, and what it may try: rules of RFC 2408, 2409 and 3706 that no ordinary
//! dialogue touches.

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../phase1/peers.rs"]
mod peers;

mod messages;
mod pull;
mod tricks;
