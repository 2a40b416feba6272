//! The clock of everything: microseconds since the daemon started, on the kernel's monotonic clock.

use std::time::{Duration, Instant};

/// One origin for the protocol roles, the packet engine and the event loop.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now. It starts an hour after the origin, so that moments in the past can be told.
    pub fn start() -> Clock {
        let now = Instant::now();
        Clock { origin: now.checked_sub(Duration::from_secs(3600)).unwrap_or(now) }
    }

    /// Moment zero.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Now, for the protocol roles.
    pub fn now(&self) -> proto::time::Instant {
        proto::time::Instant::from_micros(
            u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX),
        )
    }

    /// A moment of the protocol roles, for the event loop.
    pub fn at(&self, instant: proto::time::Instant) -> tokio::time::Instant {
        // The end of the roles' time line is further away than the event loop can tell; a day is enough, as an early
        // timeout does nothing.
        const LONGEST: Duration = Duration::from_secs(86_400);
        let since_origin = Duration::from_micros(instant.as_micros());
        let latest = self.origin.elapsed() + LONGEST;
        tokio::time::Instant::from_std(self.origin + since_origin.min(latest))
    }
}
