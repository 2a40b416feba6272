//! A moment of a group's pseudo-time, as the GAP and the IP-D3P header carry it (draft-weis-delay-detection-03).

const SECOND_MICROS: u64 = 1_000_000;

/// A moment of a group's pseudo-time: microseconds since the POSIX epoch, as the server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PseudoTime(u64);

impl PseudoTime {
    /// So many microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Seconds, modulo 2^32, and microseconds.
    pub const fn to_octets(self) -> [u8; 8] {
        let seconds = (self.0 / SECOND_MICROS) & 0xffff_ffff;
        ((seconds << 32) | (self.0 % SECOND_MICROS)).to_be_bytes()
    }

    /// `None` if a second has too many microseconds.
    pub fn from_octets(octets: [u8; 8]) -> Option<Self> {
        let value = u64::from_be_bytes(octets);
        let (seconds, micros) = (value >> 32, value & 0xffff_ffff);
        (micros < SECOND_MICROS).then_some(Self(seconds * SECOND_MICROS + micros))
    }
}
