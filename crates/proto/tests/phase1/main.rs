//! Phase 1 as two peers see it.

mod main_mode;
mod peers;
