//! Time-based anti-replay: the group's pseudo-time and the header that carries it, IP-D3P
//! (draft-weis-delay-detection-03).
//!
//! ```text
//!  0                   1                   2                   3
//! +---------------+---------------+-------------------------------+
//! |  Next Header  |    Type = 1   |          Length = 12          |
//! +---------------+---------------+-------------------------------+
//! |                            Seconds                            |
//! +---------------------------------------------------------------+
//! |                          Microseconds                         |
//! +---------------------------------------------------------------+
//! ```
//!
//! The key server keeps the pseudo-time; the control side sets the clock here, and the engine only reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wire::PseudoTime;

use crate::ip::{long, put_word, word};
use crate::{DropReason, Instant};

/// Octets of the header.
pub(crate) const HEADER_LENGTH: usize = 12;
/// ESP's next header when the header follows (section 4.1 of the draft: the number for experiments).
pub(crate) const PROTOCOL_D3P: u8 = 253;
const POSIX_TIME: u8 = 1;
const SECOND: u64 = 1_000_000;

/// The pseudo-time of one group and the window around it, shared by tables and lanes.
#[derive(Debug)]
pub struct PseudoClock {
    /// Microseconds from the engine's time to pseudo-time, modulo 2^64.
    offset: AtomicU64,
    window_micros: AtomicU64,
}

impl PseudoClock {
    /// A clock that shows `time` at the moment `now`; timestamps up to `window` away from it are accepted.
    pub fn new(now: Instant, time: PseudoTime, window: Duration) -> Arc<Self> {
        let clock = Self { offset: AtomicU64::new(0), window_micros: AtomicU64::new(0) };
        clock.set(now, time);
        clock.set_window(window);
        Arc::new(clock)
    }

    /// Shows `time` at `now`: what a PULL says.
    pub fn set(&self, now: Instant, time: PseudoTime) {
        self.offset.store(time.as_micros().wrapping_sub(now.as_micros()), Ordering::Relaxed);
    }

    /// Shows `time` at `now` if that is later than what it shows: what a PUSH says. True if it was.
    pub fn advance(&self, now: Instant, time: PseudoTime) -> bool {
        let later =
            |offset: u64| (time > read(now, offset)).then(|| time.as_micros().wrapping_sub(now.as_micros()));
        self.offset.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).is_ok()
    }

    /// Changes the window.
    pub fn set_window(&self, window: Duration) {
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        self.window_micros.store(micros, Ordering::Relaxed);
    }

    /// The pseudo-time at `now`.
    pub fn read(&self, now: Instant) -> PseudoTime {
        read(now, self.offset.load(Ordering::Relaxed))
    }

    /// How far a timestamp may be away from the pseudo-time, in either direction.
    pub fn window(&self) -> Duration {
        Duration::from_micros(self.window_micros.load(Ordering::Relaxed))
    }

    /// Checks a received header; returns the protocol of what follows it.
    pub(crate) fn check(&self, now: Instant, header: &[u8]) -> Result<u8, DropReason> {
        let well_formed = header.len() >= HEADER_LENGTH
            && header[1] == POSIX_TIME
            && usize::from(word(header, 2)) == HEADER_LENGTH
            && u64::from(long(header, 8)) < SECOND;
        if !well_formed {
            return Err(DropReason::TimestampMalformed);
        }
        // Seconds have 32 bits and wrap: the difference is taken around the receiver's time.
        let own = self.read(now).as_micros();
        let seconds = long(header, 4).wrapping_sub((own / SECOND) as u32) as i32;
        let micros = i64::from(seconds) * SECOND as i64 + i64::from(long(header, 8)) - (own % SECOND) as i64;
        match micros.unsigned_abs() <= self.window_micros.load(Ordering::Relaxed) {
            true => Ok(header[0]),
            false if micros < 0 => Err(DropReason::TimestampTooOld),
            false => Err(DropReason::TimestampTooNew),
        }
    }
}

fn read(now: Instant, offset: u64) -> PseudoTime {
    PseudoTime::from_micros(now.as_micros().wrapping_add(offset))
}

/// Writes the header before a packet of the given protocol (4 or 41).
pub(crate) fn write_header(header: &mut [u8], protocol: u8, time: PseudoTime) {
    header[0] = protocol;
    header[1] = POSIX_TIME;
    put_word(header, 2, HEADER_LENGTH as u16);
    header[4..HEADER_LENGTH].copy_from_slice(&time.to_octets());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, micros: u64) -> PseudoTime {
        PseudoTime::from_micros(seconds * SECOND + micros)
    }

    fn header(time: PseudoTime) -> [u8; HEADER_LENGTH] {
        let mut header = [0; HEADER_LENGTH];
        write_header(&mut header, 4, time);
        header
    }

    #[test]
    fn the_header_has_the_form_of_figures_1_and_2() {
        assert_eq!(header(at(0x1_0203_0405, 6)), [4, 1, 0, 12, 2, 3, 4, 5, 0, 0, 0, 6]);
    }

    #[test]
    fn a_timestamp_is_accepted_up_to_the_window_in_both_directions() {
        // The second time is where the seconds wrap.
        for base in [1_700_000_000, (1u64 << 32) - 1] {
            let now = Instant::from_micros(77);
            let clock = PseudoClock::new(now, at(base, 999_999), Duration::from_millis(1500));
            let check = |time: u64| clock.check(now, &header(PseudoTime::from_micros(time)));
            let own = at(base, 999_999).as_micros();
            assert_eq!(check(own), Ok(4));
            assert_eq!([check(own - 1_500_000), check(own + 1_500_000)], [Ok(4); 2]);
            assert_eq!(check(own - 1_500_001), Err(DropReason::TimestampTooOld));
            assert_eq!(check(own + 1_500_001), Err(DropReason::TimestampTooNew));
            let later = now.saturating_add(Duration::from_secs(3));
            assert_eq!(
                clock.check(later, &header(PseudoTime::from_micros(own))),
                Err(DropReason::TimestampTooOld)
            );
        }
    }

    #[test]
    fn other_types_lengths_and_fractions_are_refused() {
        let clock = PseudoClock::new(Instant::ZERO, at(9, 0), Duration::from_secs(60));
        let good = header(at(9, 0));
        assert_eq!(clock.check(Instant::ZERO, &good), Ok(4));
        for (place, octet) in [(1, 2), (2, 1), (3, 11), (9, 0x0f)] {
            let mut bad = good;
            bad[place] = octet;
            bad[10] = if place == 9 { 0x42 } else { 0 };
            bad[11] = if place == 9 { 0x40 } else { 0 };
            assert_eq!(clock.check(Instant::ZERO, &bad), Err(DropReason::TimestampMalformed), "{place}");
        }
        assert_eq!(clock.check(Instant::ZERO, &good[..11]), Err(DropReason::TimestampMalformed));
    }

    #[test]
    fn a_push_moves_the_clock_forward_only_and_a_pull_anywhere() {
        let now = Instant::from_micros(5 * SECOND);
        let clock = PseudoClock::new(now, at(100, 0), Duration::from_secs(60));
        assert!(!clock.advance(now, at(99, 0)));
        assert!(!clock.advance(now, at(100, 0)));
        assert_eq!(clock.read(now), at(100, 0));
        assert!(clock.advance(now, at(101, 0)));
        assert_eq!(clock.read(now.saturating_add(Duration::from_secs(2))), at(103, 0));
        clock.set(now, at(50, 0));
        assert_eq!(clock.read(now), at(50, 0));
    }
}
