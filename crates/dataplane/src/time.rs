//! The engine's notion of time: microseconds of a monotonic clock of arbitrary origin.

use std::time::Duration;

/// A point of the monotonic clock that the caller reads once per batch.
///
/// The origin is the caller's; the engine only compares and subtracts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock; everything happens at or after it.
    pub const ZERO: Self = Self(0);
    /// Later than any moment a running machine reaches.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The moment `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is in the future.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved forward by `duration`, at most to [`Instant::FAR_FUTURE`].
    pub const fn saturating_add(self, duration: Duration) -> Self {
        let micros = duration.as_micros();
        if micros > u64::MAX as u128 { Self::FAR_FUTURE } else { Self(self.0.saturating_add(micros as u64)) }
    }
}
