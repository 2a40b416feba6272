//! `cargo xtask bench`: what is measured, and against whom.

pub mod data_path;
pub mod instructions;
pub mod push;
pub mod registration;
