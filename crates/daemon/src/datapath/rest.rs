//! How a lane rests that has found nothing to do: until somebody wakes it, or for a fixed time.
//!
//! To be woken is what is quick. At high packet rates it costs more than the packets: a wake-up for each of them, and on the
//! processor of whoever sends them. So a lane that is woken very often, or less often but for many packets, naps instead, as
//! network cards moderate their interrupts, and finds more of them when it looks again. Where peers wait for each other's answers, naps make fewer
//! packets come: then the lane goes back to being woken, and tries naps again only after a while
//! (docs/decisions/0012-lanes-nap.md).

use std::time::{Duration, Instant};

/// How long a lane naps.
const NAP: Duration = Duration::from_micros(100);
/// The lane decides anew so often.
const WINDOW: Duration = Duration::from_millis(4);
/// Wake-ups in a millisecond from which on naps are tried. One flow that waits for each answer causes some twenty.
const MANY_WAKES: f64 = 32.0;
/// So many are enough where the lane finds many frames each time, as of a bulk transfer: there is one that it does not wait for.
const FEW_WAKES: f64 = 4.0;
/// How many, on average.
const MANY_AT_ONCE: f64 = 16.0;
/// Naps go on while there are at least as many frames in a millisecond; fewer are worth being woken for.
const FEW_FRAMES: f64 = MANY_WAKES;
/// Naps end where the frames of a window are fewer than this part of what they were before.
const LOSS: f64 = 0.9;
/// The first pause after such an end. Each that follows is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(16);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Naps end after so long, to see what comes without them.
const LONGEST_NAPS: Duration = Duration::from_secs(1);
/// Naps that went on for so long were right: the next pause is the first again.
const PROVEN: Duration = Duration::from_millis(100);

/// Decides how to rest, from how often that happened and what came meanwhile.
#[derive(Debug)]
pub(super) struct Rest {
    window: Window,
    naps: Option<Naps>,
    /// No naps before.
    not_before: Instant,
    pause: Duration,
}

/// What is compared.
#[derive(Debug)]
struct Window {
    start: Instant,
    /// Times that the lane had nothing to do since then.
    rests: u32,
    /// Frames before the window.
    frames: u64,
}

#[derive(Debug)]
struct Naps {
    start: Instant,
    /// Frames in a millisecond that came without them.
    rate_before: f64,
}

impl Rest {
    pub(super) fn new(now: Instant) -> Self {
        let window = Window { start: now, rests: 0, frames: 0 };
        Self { window, naps: None, not_before: now, pause: FIRST_PAUSE }
    }

    /// How to rest now: for a time, or until woken. `frames` is what the lane has been given so far, in all.
    pub(super) fn next(&mut self, now: Instant, frames: u64) -> Option<Duration> {
        self.window.rests += 1;
        let elapsed = now.saturating_duration_since(self.window.start);
        if elapsed >= WINDOW {
            let millis = elapsed.as_secs_f64() * 1e3;
            let rate = frames.wrapping_sub(self.window.frames) as f64 / millis;
            self.decide(now, rate, f64::from(self.window.rests) / millis);
            self.window = Window { start: now, rests: 0, frames };
        }
        self.naps.as_ref().map(|_| NAP)
    }

    fn decide(&mut self, now: Instant, rate: f64, rests: f64) {
        let Some(Naps { start, rate_before }) = self.naps else {
            let comes_in_bulk = rests >= FEW_WAKES && rate >= MANY_AT_ONCE * rests;
            if (rests >= MANY_WAKES || comes_in_bulk) && now >= self.not_before {
                self.naps = Some(Naps { start: now, rate_before: rate });
            }
            return;
        };
        let lasted = now.duration_since(start);
        if lasted >= PROVEN {
            self.pause = FIRST_PAUSE;
        }
        if rate < FEW_FRAMES || rate < LOSS * rate_before {
            self.not_before = now + self.pause;
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            self.naps = None;
        } else if lasted >= LONGEST_NAPS {
            self.naps = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane whose rests are told of, and how many frames come between them.
    struct Lane {
        rest: Rest,
        now: Instant,
        frames: u64,
        /// Frames that it finds when it is woken.
        at_once: u64,
    }

    impl Lane {
        fn new() -> Self {
            let now = Instant::now();
            Self { rest: Rest::new(now), now, frames: 0, at_once: 1 }
        }

        /// For `millis`, frames come every `gap` microseconds while the lane is woken for them, and one every `napping_gap`
        /// while it naps. Returns how many of the milliseconds it napped.
        fn run(&mut self, millis: u64, gap: u64, napping_gap: u64) -> f64 {
            let (end, mut napped) = (self.now + Duration::from_millis(millis), Duration::ZERO);
            while self.now < end {
                let rest = self.rest.next(self.now, self.frames);
                let lasts = rest.unwrap_or(Duration::from_micros(gap));
                napped += rest.unwrap_or_default();
                self.frames += rest.map_or(self.at_once, |nap| nap.as_micros() as u64 / napping_gap);
                self.now += lasts;
            }
            napped.as_secs_f64() * 1e3
        }
    }

    #[test]
    fn a_lane_that_is_woken_seldom_is_always_woken() {
        assert_eq!(Lane::new().run(1000, 50, 50), 0.0);
    }

    #[test]
    fn a_lane_that_is_woken_all_the_time_naps() {
        assert!(Lane::new().run(1000, 10, 10) > 980.0);
    }

    #[test]
    fn a_lane_that_finds_many_frames_whenever_it_is_woken_naps() {
        let mut bulk = Lane { at_once: 20, ..Lane::new() };
        assert!(bulk.run(1000, 100, 5) > 980.0);
        let mut less = Lane { at_once: 10, ..Lane::new() };
        assert_eq!(less.run(1000, 100, 10), 0.0);
        let mut seldom = Lane { at_once: 100, ..Lane::new() };
        assert_eq!(seldom.run(1000, 400, 4), 0.0);
    }

    #[test]
    fn naps_end_when_few_frames_come() {
        let mut lane = Lane::new();
        lane.run(500, 10, 10);
        assert!(lane.run(500, 1000, 1000) <= 5.0);
        assert!(lane.run(500, 10, 10) > 450.0, "and begin again");
    }

    #[test]
    fn naps_that_keep_frames_away_are_tried_ever_more_seldom() {
        let mut lane = Lane::new();
        let first = lane.run(1000, 12, 20);
        assert!(first > 0.0 && first < 60.0, "{first}");
        let later = lane.run(4000, 12, 20);
        assert!(later > 0.0 && later < 30.0, "{later}");
    }

    #[test]
    fn what_came_without_naps_is_looked_at_again() {
        let mut lane = Lane::new();
        assert!(lane.run(1000, 10, 10) > 980.0);
        // Since then fewer would come because of the naps, and as many as before they began.
        let napped = lane.run(3000, 5, 10);
        assert!(napped < 1200.0, "{napped}");
    }
}
