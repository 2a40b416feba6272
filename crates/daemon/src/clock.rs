//! The clock of everything: microseconds since shortly before the daemon started, on the kernel's `CLOCK_BOOTTIME`.
//!
//! That clock cannot be set, so a step of the wall clock changes no life of a key; and it counts through suspend, so a
//! machine that wakes does not go on with keys that have ended meanwhile.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::sys::readable::readable;

/// What the clock shows when it starts, so that moments in the past can be told.
const HEAD_START: Duration = Duration::from_secs(3600);

/// The furthest moment that a timer is set for; one that goes off early does nothing.
const FURTHEST: Duration = Duration::from_secs(86_400);

/// One clock for the protocol roles, the packet engine and the event loop.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When it started, on the kernel's clock.
    started: Duration,
    /// POSIX time at moment zero, as the wall clock told when it started.
    epoch: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        let started = boottime();
        let posix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started, epoch: posix.saturating_sub(HEAD_START) }
    }

    /// Time since moment zero.
    pub fn elapsed(&self) -> Duration {
        HEAD_START + boottime().saturating_sub(self.started)
    }

    /// POSIX time at moment zero, as the wall clock told when the daemon started.
    pub fn epoch(&self) -> Duration {
        self.epoch
    }

    /// Now, for the protocol roles.
    pub fn now(&self) -> proto::time::Instant {
        proto::time::Instant::from_micros(u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A moment on the kernel's clock; never zero, which would stop a timer.
    fn boottime_of(&self, moment: proto::time::Instant) -> Duration {
        let moment = Duration::from_micros(moment.as_micros()).min(self.elapsed() + FURTHEST);
        (self.started + moment).saturating_sub(HEAD_START).max(Duration::from_nanos(1))
    }
}

/// Wakes the event loop at a moment of the clock, also if the machine slept through it.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    clock: Clock,
    set_for: Option<proto::time::Instant>,
}

impl Alarm {
    /// An alarm that is not set. Needs a running `tokio` runtime.
    pub fn new(clock: Clock) -> io::Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { timer: readable(timer)?, clock, set_for: None })
    }

    /// Sets it for a moment, at once if that has passed; or for none.
    pub fn set(&mut self, moment: Option<proto::time::Instant>) -> io::Result<()> {
        if moment == self.set_for {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = moment.map_or(zero, |moment| {
            let moment = self.clock.boottime_of(moment);
            Timespec { tv_sec: moment.as_secs() as i64, tv_nsec: moment.subsec_nanos().into() }
        });
        let setting = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &setting)?;
        self.set_for = moment;
        Ok(())
    }

    /// Waits for the moment. After that it is not set any more.
    pub async fn rings(&mut self) {
        loop {
            let Ok(mut ready) = self.timer.readable().await else { return std::future::pending().await };
            // What it counts does not matter.
            let outcome = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(Ok(_)) = outcome {
                self.set_for = None;
                return;
            }
        }
    }
}

/// The kernel's clock.
fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or(0));
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_kernels_clock_that_counts_through_suspend() {
        let before = boottime();
        let clock = Clock::start();
        let (elapsed, after) = (clock.elapsed(), boottime());
        assert!(elapsed >= HEAD_START && elapsed - HEAD_START <= after - before);
        // What the kernel's clock has counted before we started, asleep or not, makes no difference.
        let earlier = Clock { started: before.saturating_sub(Duration::from_secs(100)), ..clock };
        let gone = earlier.now() - clock.now();
        assert!(gone >= Duration::from_secs(99).min(before) && gone < Duration::from_secs(160));
    }

    #[tokio::test]
    async fn an_alarm_rings_at_its_moment_or_at_once_and_never_for_none() {
        let clock = Clock::start();
        let mut alarm = Alarm::new(clock).unwrap();
        for moment in [clock.now() + Duration::from_millis(20), proto::time::Instant::ORIGIN] {
            alarm.set(Some(moment)).unwrap();
            tokio::time::timeout(Duration::from_secs(20), alarm.rings()).await.expect("it rings");
            assert!(clock.now() >= moment);
        }
        for moment in [None, Some(proto::time::Instant::from_micros(u64::MAX))] {
            alarm.set(Some(clock.now() + Duration::from_millis(20))).unwrap();
            alarm.set(moment).unwrap();
            let rang = tokio::time::timeout(Duration::from_millis(100), alarm.rings()).await;
            assert!(rang.is_err(), "{moment:?}");
        }
    }
}
