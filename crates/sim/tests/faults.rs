//! A server that dies at every boundary between keeping and sending, and worlds made for what it must remember. Many more of
//! the former: `cargo run --release -p sim -- --faults`.

use std::time::Duration;

use sim::{Communication, Deed, Pushing, Report, Scenario, run};

const fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

fn survive(scenario: &Scenario) -> Report {
    run(scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_server_that_dies_at_boundaries_of_keeping_and_sending_uses_nothing_twice() {
    for seed in (0..9).chain(18..27) {
        let world = Scenario { duration: seconds(200), ..Scenario::faulty(seed) };
        let report = survive(&world);
        assert!(report.registrations > 0, "{world:?} {report:?}");
    }
}

#[test]
fn sequence_numbers_go_on_after_a_death_also_when_those_reserved_first_are_used_up() {
    let small = Scenario::small(0);
    let push = Pushing { heartbeat: Some(seconds(2)), kek_lifetime: seconds(20_000), ..small.push };
    let world = Scenario {
        communication: Communication::Multicast,
        push,
        // Nothing changes in all that time that would be kept but numbers.
        ipsec_sas: 1,
        tek_lifetime: seconds(7200),
        script: vec![(seconds(2500), Deed::ServerDies(seconds(5)))],
        duration: seconds(2600),
        ..small
    };
    let report = survive(&world);
    assert!(report.pushes > 4 * 1100, "more than a reservation: {report:?}");
}

#[test]
fn who_was_lost_and_forgotten_before_a_restart_reads_nothing_after_its_eviction() {
    for seed in 0..2 {
        let script = vec![
            (seconds(100), Deed::Mute(0)),
            (seconds(800), Deed::ServerDies(seconds(5))),
            (seconds(830), Deed::Evict(0)),
        ];
        let communication = Communication::Unicast;
        survive(&Scenario { communication, script, duration: seconds(1300), ..Scenario::small(seed) });
    }
}
