//! When keys are made, announced, activated and retired: the only place that computes these numbers.
//!
//! `L` is a TEK's configured lifetime; "at x" means when x of a TEK's life remain; `A` is the
//! activation-time-delay; `span` is retransmission-period times number-of-retransmission, zero in a
//! group that has no server-member communication.
//!
//! ```text
//!  life of one TEK, L = 3600 s, pull group (not to scale)
//!
//!  made                                                         360      252  180        30     0
//!   |-------------------------------------------------------------|--------|====|---------|-----|
//!   first of its ipsec-sa: active at once            successor made (N)    Rhi  Rlo       S     gone
//!   successor: active when its predecessor has S left          members re-register   all switch
//! ```
//!
//! At L = 3600 these are the familiar 10 %, 7 % to 5 % and 30 s; below, they scale so that a member which can
//! reach a server in time never lacks a key that another member sends with. Everything is a duration on a
//! monotonic clock; what goes on the wire is whole seconds, rounded down.

use std::time::Duration;

/// Shortest TEK lifetime for which the figures hold; a commit below it is refused.
pub const MINIMUM_LIFETIME: Duration = Duration::from_secs(60);

/// Servers a member may list, and therefore what the allowance for fail-over is divided by.
pub const SERVERS_MAX: u32 = 4;

/// Tries at one server before the next one is asked.
pub const TRIES_PER_SERVER: u32 = 3;

/// Random spread of the registrations that follow an eviction, `J`.
pub const EVICTION_SPREAD: Duration = Duration::from_secs(10);

/// How a group's server announces new keys, as far as it matters to timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// Time between two rounds, `P`.
    pub retransmission_period: Duration,
    /// Rounds after which a rekey counts as unacknowledged, `C`.
    pub number_of_retransmission: u32,
    /// Configured activation-time-delay, `A`.
    pub activation_time_delay: Duration,
}

impl Push {
    /// `span` = P x C.
    pub fn span(&self) -> Duration {
        self.retransmission_period * self.number_of_retransmission
    }
}

/// The points in the life of a TEK, each as the life that remains then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// Configured lifetime, `L`.
    pub lifetime: Duration,
    /// All senders switch to the successor, `S`.
    pub switch: Duration,
    /// Allowance for fail-over of a member, `F`.
    pub failover: Duration,
    /// Early end of the window in which a member without a successor registers again, `Rhi`.
    pub reregister_from: Duration,
    /// Late end of that window, `Rlo`.
    pub reregister_until: Duration,
    /// The server makes the successor: `N` in a pull group, `T` in a push group.
    pub make_successor: Duration,
    /// Whether half the lifetime was less than the push would have needed.
    pub capped: bool,
}

impl Timeline {
    /// The timeline of a group whose members pull.
    pub fn pull(lifetime: Duration) -> Self {
        Self::of(lifetime, None)
    }

    /// The timeline of a group whose server pushes.
    pub fn push(lifetime: Duration, push: Push) -> Self {
        Self::of(lifetime, Some(push))
    }

    fn of(lifetime: Duration, push: Option<Push>) -> Self {
        let switch = (lifetime / 40).min(Duration::from_secs(30)).max(Duration::from_secs(2));
        let failover = (lifetime / 10).min(Duration::from_secs(120));
        let reregister_until = percent(lifetime, 5).max(switch + failover);
        let reregister_from = percent(lifetime, 7).max(reregister_until + percent(lifetime, 2));
        let pull = percent(lifetime, 10).max(reregister_from + percent(lifetime, 3));
        let wanted = match push {
            None => pull,
            Some(push) => pull
                .max(reregister_from + push.span())
                .max(push.span() + 2 * push.activation_time_delay + switch),
        };
        let make_successor = wanted.min(lifetime / 2);
        Self {
            lifetime,
            switch,
            failover,
            reregister_from,
            reregister_until,
            make_successor,
            capped: wanted > make_successor,
        }
    }

    /// Time between two tries of a member at one server.
    pub fn try_interval(&self) -> Duration {
        (self.failover / (TRIES_PER_SERVER * SERVERS_MAX)).min(Duration::from_secs(10))
    }

    /// How old a question may be from which a member counts the ends that the answer tells: two tries, and no more than what
    /// the switch leaves after lives have been rounded down to a second. A member that counts from there holds a key for as long
    /// as others send with it.
    pub fn oldest_question(&self) -> Duration {
        (self.try_interval() * 2).min(self.switch.saturating_sub(Duration::from_secs(1)))
    }

    /// How long after now a successor starts to encrypt, when its predecessor has `remaining` left.
    pub fn activation_delay(&self, remaining: Duration) -> Duration {
        remaining.saturating_sub(self.switch)
    }

    /// The remaining life at which a member registers again; `fraction` is a random 32-bit number that places
    /// it in the window.
    pub fn reregister_at(&self, fraction: u32) -> Duration {
        let window = self.reregister_from.saturating_sub(self.reregister_until);
        self.reregister_until + scale(window, fraction)
    }
}

/// The lifetime from which on half of it no longer caps the push, where a shorter one is capped. Whole seconds.
pub fn fitting_lifetime(push: Push) -> Duration {
    // Everything the push needs grows slower than half the lifetime, so the answer is where they cross.
    let (mut low, mut high) = (MINIMUM_LIFETIME.as_secs(), u64::from(u32::MAX));
    while low < high {
        let middle = low + (high - low) / 2;
        if Timeline::push(Duration::from_secs(middle), push).capped {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Duration::from_secs(low)
}

/// Remaining life of a KEK at which its successor is pushed.
///
/// The rounds must be over before the first member falls back to a PULL, see [`kek_reregister_at`].
pub fn kek_push_point(kek_lifetime: Duration, push: Push) -> Duration {
    percent(kek_lifetime, 10)
        .max(percent(kek_lifetime, 7) + push.span())
        .max(push.span() + 2 * push.activation_time_delay)
}

/// Remaining life of a KEK at which a member that has no successor registers again; `fraction` is a random 32-bit number
/// that places it in the window, 7 % to 5 % of the lifetime.
///
/// That is later than the successor is pushed whatever the lifetime, and as late as with a TEK of an hour. A KEK that ends
/// meanwhile stops no traffic, so there is no allowance for fail-over.
pub fn kek_reregister_at(kek_lifetime: Duration, fraction: u32) -> Duration {
    percent(kek_lifetime, 5) + scale(percent(kek_lifetime, 2), fraction)
}

/// What a policy change leaves of the newest distributed TEK's `remaining` life in a push group.
pub fn life_after_policy_change(remaining: Duration, timeline: &Timeline, push: Push) -> Duration {
    let five_percent = percent(timeline.lifetime, 5).min(Duration::from_secs(3600));
    let needed = push.span() + 2 * push.activation_time_delay + timeline.switch;
    remaining.min(Duration::from_secs(90).max(five_percent).max(needed))
}

/// Time from a graceful eviction to the switch to keys that the evicted member does not hold, `D`, when the old
/// TEK has `remaining` left.
pub fn eviction_delay(remaining: Duration, timeline: &Timeline, push: Push) -> Duration {
    remaining.min(push.span() + EVICTION_SPREAD + timeline.failover)
}

/// Whole seconds of `duration`, rounded down, as lives and delays travel; saturates at the field's end.
pub fn wire_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Whole seconds of `duration` for a two-octet field, rounded down; saturates at the field's end.
pub fn wire_seconds_short(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX)
}

fn percent(duration: Duration, percent: u32) -> Duration {
    duration * percent / 100
}

/// The part of `duration` that `fraction` is of 2^32.
pub(crate) fn scale(duration: Duration, fraction: u32) -> Duration {
    let micros = duration.as_micros() * u128::from(fraction) / (1u128 << 32);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_micros((value * 1e6).round() as u64)
    }

    fn push(period: u64, count: u32, delay: u64) -> Push {
        Push {
            retransmission_period: Duration::from_secs(period),
            number_of_retransmission: count,
            activation_time_delay: Duration::from_secs(delay),
        }
    }

    fn pull(lifetime: u64) -> Timeline {
        Timeline::pull(Duration::from_secs(lifetime))
    }

    #[test]
    fn senders_switch_at_a_fortieth_between_two_and_thirty_seconds() {
        assert_eq!(pull(60).switch, seconds(2.0));
        assert_eq!(pull(240).switch, seconds(6.0));
        assert_eq!(pull(1200).switch, seconds(30.0));
        assert_eq!(pull(86_400).switch, seconds(30.0));
    }

    #[test]
    fn failover_is_allowed_a_tenth_up_to_two_minutes() {
        assert_eq!(pull(60).failover, seconds(6.0));
        assert_eq!(pull(1200).failover, seconds(120.0));
        assert_eq!(pull(3600).failover, seconds(120.0));
    }

    #[test]
    fn three_tries_at_four_servers_fit_into_the_failover_allowance() {
        assert_eq!(pull(3600).try_interval(), seconds(10.0));
        assert_eq!(pull(60).try_interval(), seconds(0.5));
        for lifetime in [60, 61, 180, 240, 1200, 3600, 86_400] {
            let timeline = pull(lifetime);
            assert!(timeline.try_interval() * TRIES_PER_SERVER * SERVERS_MAX <= timeline.failover);
        }
    }

    #[test]
    fn a_key_counted_from_the_oldest_question_lasts_until_all_have_switched() {
        assert_eq!(pull(3600).oldest_question(), seconds(20.0));
        assert_eq!(pull(60).oldest_question(), seconds(1.0));
        for lifetime in 60..7200 {
            let timeline = pull(lifetime);
            assert!(timeline.oldest_question() + seconds(1.0) <= timeline.switch, "{lifetime}");
        }
    }

    #[test]
    fn reregistration_ends_where_switch_and_failover_still_fit() {
        assert_eq!(pull(60).reregister_until, seconds(8.0));
        assert_eq!(pull(240).reregister_until, seconds(30.0));
        assert_eq!(pull(3600).reregister_until, seconds(180.0));
    }

    #[test]
    fn reregistration_begins_at_least_two_percent_earlier() {
        assert_eq!(pull(60).reregister_from, seconds(9.2));
        assert_eq!(pull(240).reregister_from, seconds(34.8));
        assert_eq!(pull(3600).reregister_from, seconds(252.0));
    }

    #[test]
    fn a_pull_group_has_its_successor_before_any_member_asks() {
        assert_eq!(pull(60).make_successor, seconds(11.0));
        assert_eq!(pull(3600).make_successor, seconds(360.0));
        for lifetime in 60..4000 {
            let timeline = pull(lifetime);
            assert!(timeline.make_successor > timeline.reregister_from, "{lifetime}");
            assert!(timeline.reregister_from > timeline.reregister_until, "{lifetime}");
            assert!(timeline.reregister_until >= timeline.switch + timeline.failover, "{lifetime}");
            assert!(!timeline.capped, "{lifetime}");
        }
    }

    #[test]
    fn a_push_group_makes_its_successor_early_enough_for_all_rounds() {
        let timeline = Timeline::push(Duration::from_secs(3600), push(10, 2, 15));
        assert_eq!(timeline.make_successor, seconds(360.0));
        assert!(!timeline.capped);
        let timeline = Timeline::push(Duration::from_secs(3600), push(60, 60, 900));
        assert_eq!(timeline.make_successor, seconds(1800.0));
        assert!(timeline.capped);
    }

    #[test]
    fn the_seed_example_pushes_at_half_its_life() {
        let timeline = Timeline::push(Duration::from_secs(240), push(30, 3, 15));
        assert_eq!(timeline.make_successor, seconds(120.0));
        assert_eq!(timeline.reregister_from, seconds(34.8));
        assert_eq!(timeline.reregister_until, seconds(30.0));
        assert_eq!(timeline.switch, seconds(6.0));
        assert!(timeline.capped);
    }

    #[test]
    fn the_fitting_lifetime_is_the_first_that_is_not_capped() {
        let plan = push(30, 3, 15);
        let fitting = fitting_lifetime(plan);
        assert!(!Timeline::push(fitting, plan).capped);
        assert!(Timeline::push(fitting - Duration::from_secs(1), plan).capped);
    }

    #[test]
    fn the_activation_delay_ends_when_the_predecessor_has_the_switch_left() {
        let timeline = pull(3600);
        assert_eq!(timeline.activation_delay(seconds(360.0)), seconds(330.0));
        assert_eq!(timeline.activation_delay(seconds(20.0)), Duration::ZERO);
    }

    #[test]
    fn a_random_point_lies_inside_the_window() {
        let timeline = pull(3600);
        assert_eq!(timeline.reregister_at(0), timeline.reregister_until);
        assert!(timeline.reregister_at(u32::MAX) <= timeline.reregister_from);
        assert!(timeline.reregister_at(u32::MAX) > seconds(251.9));
        assert_eq!(timeline.reregister_at(1 << 31), seconds(216.0));
    }

    #[test]
    fn a_kek_is_replaced_at_a_tenth_or_when_all_rounds_still_fit() {
        assert_eq!(kek_push_point(Duration::from_secs(3600), push(10, 2, 15)), seconds(360.0));
        assert_eq!(kek_push_point(Duration::from_secs(300), push(10, 2, 60)), seconds(140.0));
    }

    #[test]
    fn a_kek_is_replaced_before_any_member_falls_back_to_a_pull() {
        assert_eq!(kek_push_point(Duration::from_secs(1800), push(30, 3, 15)), seconds(216.0));
        for lifetime in [120, 300, 600, 1200, 3600, 86_400] {
            let (lifetime, plan) = (Duration::from_secs(lifetime), push(2, 2, 10));
            let fallback = kek_reregister_at(lifetime, u32::MAX);
            assert!(kek_push_point(lifetime, plan) >= fallback + plan.span(), "{lifetime:?}");
        }
    }

    #[test]
    fn a_member_waits_for_the_new_kek_until_after_it_was_pushed() {
        assert_eq!(kek_reregister_at(Duration::from_secs(3600), 0), seconds(180.0));
        assert!(kek_reregister_at(Duration::from_secs(3600), u32::MAX) > seconds(251.9));
        for lifetime in [120, 300, 700, 3600, 86_400].map(Duration::from_secs) {
            let latest = kek_push_point(lifetime, push(0, 0, 0));
            assert!(kek_reregister_at(lifetime, u32::MAX) < latest, "{lifetime:?}");
        }
    }

    #[test]
    fn a_policy_change_cuts_the_life_to_what_all_rounds_need() {
        let plan = push(10, 2, 15);
        let timeline = Timeline::push(Duration::from_secs(3600), plan);
        assert_eq!(life_after_policy_change(seconds(3000.0), &timeline, plan), seconds(180.0));
        assert_eq!(life_after_policy_change(seconds(40.0), &timeline, plan), seconds(40.0));
        let day = Timeline::push(Duration::from_secs(86_400), plan);
        assert_eq!(life_after_policy_change(seconds(80_000.0), &day, plan), seconds(3600.0));
        let short = Timeline::push(Duration::from_secs(240), push(30, 3, 15));
        assert_eq!(life_after_policy_change(seconds(200.0), &short, push(30, 3, 15)), seconds(126.0));
    }

    #[test]
    fn a_graceful_eviction_takes_a_span_the_spread_and_the_failover() {
        let plan = push(10, 2, 15);
        let timeline = Timeline::push(Duration::from_secs(3600), plan);
        assert_eq!(eviction_delay(seconds(3000.0), &timeline, plan), seconds(150.0));
        assert_eq!(eviction_delay(seconds(50.0), &timeline, plan), seconds(50.0));
    }

    #[test]
    fn wire_values_are_rounded_down_and_saturate() {
        assert_eq!(wire_seconds(seconds(9.99)), 9);
        assert_eq!(wire_seconds(Duration::MAX), u32::MAX);
        assert_eq!(wire_seconds_short(Duration::from_secs(70_000)), u16::MAX);
    }
}
