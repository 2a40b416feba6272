//! Whether a member and a server are in touch: the measure of "connected".

use std::time::Duration;

use proto::time::Instant;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToMember,
}

/// One member and one server, period for period of so many retry seconds.
///
/// A period is *good* if both were reachable and running all through it, and if each way not everything was lost: of
/// the datagrams sent that way in it, if there were any, at least one passed.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    period: Duration,
    /// Whether a period is good only if nothing was lost in it.
    strict: bool,
    /// Beginning of the running period.
    begun: Instant,
    /// Beginning of the good periods before the running one; the beginning of the running one if there are none.
    good_since: Instant,
    sent: [bool; 2],
    passed: [bool; 2],
}

impl Touch {
    pub(crate) fn new(now: Instant, period: Duration) -> Self {
        Self { period, strict: false, begun: now, good_since: now, sent: [false; 2], passed: [false; 2] }
    }

    /// One for messages of which each counts: a period is good if nothing was lost in it.
    pub(crate) fn strict(now: Instant, period: Duration) -> Self {
        Self { strict: true, ..Self::new(now, period) }
    }

    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// The retry period is another from now on. What was good stays so, and was no more periods than it was: who could try
    /// every ten seconds has not had twenty tries in them because he may try twice a second now.
    pub(crate) fn change_period(&mut self, now: Instant, period: Duration) {
        if self.period == period {
            return;
        }
        self.close_periods(now);
        if period < self.period {
            let good = (self.begun - self.good_since).as_micros() / self.period.as_micros();
            self.begun = now;
            self.good_since = now - Duration::from_micros((good * period.as_micros()) as u64);
            (self.sent, self.passed) = ([false; 2], [false; 2]);
        }
        self.period = period;
    }

    /// A datagram was sent.
    pub(crate) fn record(&mut self, now: Instant, way: Way, passed: bool) {
        self.close_periods(now);
        let (sent, so_far) = (self.sent[way as usize], self.passed[way as usize]);
        self.passed[way as usize] = if self.strict { passed && (so_far || !sent) } else { passed || so_far };
        self.sent[way as usize] = true;
    }

    /// One of both is not reachable, or not running, before `until`.
    pub(crate) fn interrupt(&mut self, until: Instant) {
        if self.good_since < until {
            (self.begun, self.good_since) = (until.max(self.begun), until);
            (self.sent, self.passed) = ([false; 2], [false; 2]);
        }
    }

    /// Since when the periods up to the last finished one have all been good, and when that one ended.
    pub(crate) fn good(&self, now: Instant) -> (Instant, Instant) {
        let mut copy = self.clone();
        copy.close_periods(now);
        (copy.good_since, copy.begun)
    }

    /// Whole good periods in a row, up to the last finished one, that began at or after `since`.
    pub(crate) fn periods_since(&self, now: Instant, since: Instant) -> u32 {
        self.periods_between(now, since, now)
    }

    /// Those of them that had ended by `until`.
    pub(crate) fn periods_between(&self, now: Instant, since: Instant, until: Instant) -> u32 {
        let (from, to) = self.good(now);
        let whole = (to.min(until) - from.max(since)).as_micros() / self.period.as_micros();
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    fn close_periods(&mut self, now: Instant) {
        if self.begun + self.period > now {
            return;
        }
        let bad = (0..2).any(|way| self.sent[way] && !self.passed[way]);
        let finished = (now - self.begun).as_micros() / self.period.as_micros();
        // All but the first of these saw no datagram: nothing speaks against them.
        let first_end = self.begun + self.period;
        self.begun += Duration::from_micros((finished * self.period.as_micros()) as u64);
        if bad {
            self.good_since = first_end;
        }
        (self.sent, self.passed) = ([false; 2], [false; 2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn touch() -> Touch {
        Touch::new(at(0), Duration::from_secs(10))
    }

    #[test]
    fn periods_without_any_datagram_are_good() {
        assert_eq!(touch().periods_since(at(39), at(0)), 3);
        assert_eq!(touch().periods_since(at(40), at(0)), 4);
        assert_eq!(touch().periods_since(at(40), at(11)), 2);
    }

    #[test]
    fn good_periods_are_as_many_as_they_were_when_the_next_ones_are_shorter() {
        let mut touch = touch();
        touch.change_period(at(35), Duration::from_secs(1));
        assert_eq!(touch.periods_since(at(37), at(0)), 3 + 2, "the one that was running is none");
        touch.change_period(at(37), Duration::from_secs(2));
        assert_eq!(touch.periods_since(at(37), at(0)), 2);
    }

    #[test]
    fn a_period_in_which_everything_one_way_was_lost_is_not() {
        let mut touch = touch();
        touch.record(at(11), Way::ToServer, true);
        touch.record(at(12), Way::ToMember, false);
        touch.record(at(21), Way::ToMember, false);
        touch.record(at(22), Way::ToMember, true);
        assert_eq!(touch.good(at(45)), (at(20), at(40)));
    }

    #[test]
    fn an_interruption_begins_the_count_anew() {
        let mut touch = touch();
        touch.interrupt(at(25));
        assert_eq!(touch.periods_since(at(24), at(0)), 0);
        assert_eq!(touch.periods_since(at(34), at(0)), 0);
        assert_eq!(touch.periods_since(at(55), at(0)), 3);
    }
}
