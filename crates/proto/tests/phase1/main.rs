//! Phase 1 as two peers see it, on virtual time.

mod aggressive_mode;
mod established;
mod fuzz_body;
mod hostile;
mod main_mode;
mod peers;
