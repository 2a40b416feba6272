//! Socket-buffer marks, as in `bpf/layout.h`. They are compared whole; no two are equal.

/// ESP made by the engine, on interfaces where it passes a queueing discipline.
pub const TX_MARK: u32 = 0x6776_0001;
/// Decrypted by the engine, entering the kernel.
pub const INJECT_MARK: u32 = 0x6776_0002;
/// Judged by the engine to leave in clear.
pub const CLEAR_MARK: u32 = 0x6776_0003;
/// To be set (`SO_MARK`) on the daemon's own UDP sockets: what they send passes the egress program.
pub const CONTROL_MARK: u32 = 0x6776_0004;
