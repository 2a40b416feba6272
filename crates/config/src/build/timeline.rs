//! The few numbers of the rekey timeline that decide whether a configuration can work.
//!
//! `proto` computes the timeline; this crate depends on nothing of ours and repeats only what its warnings need.

use crate::model::{Group, GroupSa, ServerMemberCommunication};

/// Milliseconds before a key's end at which a push group needs its successor, and what is possible (half the lifetime).
pub(super) struct Push {
    pub(super) needed: u64,
    pub(super) possible: u64,
}

fn span_millis(communication: &ServerMemberCommunication) -> u64 {
    1000 * u64::from(communication.retransmission_period_secs)
        * u64::from(communication.number_of_retransmission)
}

fn needed(lifetime: u64, span: u64, delay: u64) -> u64 {
    let switch = (lifetime / 40).clamp(2_000, 30_000);
    let fail_over = (lifetime / 10).min(120_000);
    let lower = (lifetime / 20).max(switch + fail_over);
    let upper = (lifetime * 7 / 100).max(lower + lifetime / 50);
    let made = (lifetime / 10).max(upper + lifetime * 3 / 100);
    made.max(upper + span).max(span + 2 * delay + switch)
}

/// When the successor of an SA of a push group must be made.
pub(super) fn push(group: &Group, sa: &GroupSa, communication: &ServerMemberCommunication) -> Push {
    let lifetime = 1000 * u64::from(sa.proposal.lifetime_secs);
    let delay = 1000 * u64::from(group.activation_time_delay_secs);
    Push { needed: needed(lifetime, span_millis(communication), delay), possible: lifetime / 2 }
}

/// The least lifetime in seconds whose half is enough; `None` if no allowed one is.
pub(super) fn fitting_lifetime_secs(group: &Group, communication: &ServerMemberCommunication) -> Option<u64> {
    let (span, delay) = (span_millis(communication), 1000 * u64::from(group.activation_time_delay_secs));
    // Steps of ten seconds are as fine as anybody writes lifetimes.
    (180..=86_400u64).step_by(10).find(|secs| needed(1000 * secs, span, delay) <= 500 * secs)
}

/// Milliseconds before a KEK's end at which its successor is pushed.
pub(super) fn kek_push_millis(group: &Group, communication: &ServerMemberCommunication) -> u64 {
    let lifetime = 1000 * u64::from(communication.lifetime_secs);
    let (span, delay) = (span_millis(communication), 1000 * u64::from(group.activation_time_delay_secs));
    (lifetime / 10).max(lifetime * 7 / 100 + span).max(span + 2 * delay)
}

/// The least lifetime in seconds of a KEK that is twice the time its replacement takes. That time grows with the lifetime.
pub(super) fn fitting_kek_secs(group: &Group, communication: &ServerMemberCommunication) -> u64 {
    let (span, delay) = (span_millis(communication), 1000 * u64::from(group.activation_time_delay_secs));
    (200 * span).div_ceil(86).max(2 * (span + 2 * delay)).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn the_examples_of_the_timeline_come_out() {
        assert_eq!(needed(3_600_000, 20_000, 15_000), 360_000);
        assert_eq!(needed(240_000, 90_000, 15_000), 126_000);
    }
}
