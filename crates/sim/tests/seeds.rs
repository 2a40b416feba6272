//! A few short worlds for whoever changes something; hundreds of hours are for `scripts/test`, more for `cargo run --release -p sim`.

use std::time::Duration;

use sim::{Scenario, run};

fn survive(scenario: &Scenario) -> sim::Report {
    run(scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn worlds_of_ten_to_fifty_members_hold_every_invariant() {
    for seed in 0..12 {
        let mut scenario = Scenario::ordinary(seed);
        // The ordinary run has seconds, not minutes.
        scenario.duration = Duration::from_secs(400);
        let report = survive(&scenario);
        assert!(report.registrations >= 10, "{seed}: {report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let mut scenario = Scenario { servers: 1, ..Scenario::from_seed(9, 5) };
    scenario.duration = Duration::from_secs(900);
    assert_eq!(survive(&scenario), survive(&scenario));
    let other = Scenario { seed: 10, ..scenario.clone() };
    assert_ne!(survive(&scenario).hash, survive(&other).hash);
}

#[test]
fn short_lives_under_heavy_loss_leave_nobody_behind() {
    for seed in 100..103 {
        let scenario = Scenario {
            tek_lifetime: Duration::from_secs(180),
            ike_lifetime: Duration::from_secs(86_400),
            duration: Duration::from_secs(800),
            servers: 1,
            loss: 20,
            partitions: false,
            restarts: false,
            ..Scenario::from_seed(seed, 8).pulling()
        };
        survive(&scenario);
    }
}
