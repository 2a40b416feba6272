//! Runtime security associations of a group: one key, used by every member in both directions.

use crate::Instant;

/// One TEK with its runtime state. Shared by all tables that name it.
#[derive(Debug)]
pub struct GroupSa {
    spi: u32,
    activate_at: Instant,
    hard_expiry: Instant,
}

impl GroupSa {
    /// The SPI, as in the ESP header.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// From when on it may encrypt.
    pub fn activate_at(&self) -> Instant {
        self.activate_at
    }

    /// From when on it is used for nothing.
    pub fn hard_expiry(&self) -> Instant {
        self.hard_expiry
    }
}
