//! Octets as text.

use std::fmt;

/// Octets shown before the rest is summarized: two digests of the longest hash.
const MAXIMUM_SHOWN: usize = 128;

/// Octets in hexadecimal; long ones are cut, so that text made of a message stays in proportion.
#[derive(Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(empty)");
        }
        for octet in &self.0[..self.0.len().min(MAXIMUM_SHOWN)] {
            write!(f, "{octet:02x}")?;
        }
        match self.0.len().saturating_sub(MAXIMUM_SHOWN) {
            0 => Ok(()),
            hidden => write!(f, "... ({hidden} octets more)"),
        }
    }
}

impl fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
