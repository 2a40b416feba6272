//! The clock of one party: monotonic, with an origin of its own that a restart changes, and a quartz that is not quite
//! right.
//!
//! There is no wall clock here, because nothing in `proto` takes one: time comes in as an argument, and a step of the wall
//! clock has no way in. What could go wrong is that a time of one party is taken for a time of another, or
//! of an earlier life of the same one; different origins bring that to light.

use proto::time::Instant;

use crate::chance::Chance;

/// The worst quartz, in parts per million: ten seconds a day.
const DRIFT: u64 = 120;

/// How far apart the origins are, in seconds: three years.
const ORIGINS: u64 = 100_000_000;

/// The clock of one party. Times of the world go in, times of the party come out, and the other way round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: u64,
    drift: i64,
}

impl Clock {
    /// Any clock.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let origin = chance.within(0..ORIGINS) * 1_000_000;
        Self { origin, drift: chance.within(0..2 * DRIFT + 1) as i64 - DRIFT as i64 }
    }

    /// What it shows.
    pub(crate) fn local(self, world: Instant) -> Instant {
        Instant::from_micros(self.origin + self.shown(world.as_micros()))
    }

    /// The first moment of the world at which it shows `local` or more.
    pub(crate) fn world(self, local: Instant) -> Instant {
        let shown = local.as_micros().saturating_sub(self.origin);
        let estimate = i128::from(shown) * 1_000_000 / i128::from(1_000_000 + self.drift);
        let mut world = u64::try_from(estimate).unwrap_or(u64::MAX);
        if world > u64::MAX / 2 {
            return Instant::from_micros(u64::MAX);
        }
        while self.shown(world) < shown {
            world += 1;
        }
        while world > 0 && self.shown(world - 1) >= shown {
            world -= 1;
        }
        Instant::from_micros(world)
    }

    fn shown(self, world: u64) -> u64 {
        let drift = i128::from(world) * i128::from(self.drift) / 1_000_000;
        world.saturating_add_signed(drift as i64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn there_and_back_is_where_one_was() {
        let mut chance = Chance::new(1);
        for _ in 0..1000 {
            let clock = Clock::draw(&mut chance);
            let world = Instant::from_micros(chance.within(1_000_000_000..100_000_000_000));
            let back = clock.world(clock.local(world));
            assert!(
                back <= world && world - back <= Duration::from_micros(1),
                "{clock:?} {world:?} {back:?}"
            );
            assert_eq!(clock.local(back), clock.local(world));
        }
    }

    #[test]
    fn the_end_of_time_stays_there() {
        let clock = Clock { origin: 5, drift: -100 };
        assert_eq!(clock.world(Instant::from_micros(u64::MAX)), Instant::from_micros(u64::MAX));
    }
}
