//! Servers that share a group, under random schedules: whatever is late, lost, cut off, asleep or killed, there is one key
//! set, no sequence number and no sender id is used twice, and nobody is given less than what everybody uses.
//!
//! The store is a model of what `store::Shared` is on etcd: requests and events take their time, an election has a number
//! and stands as long as its lease, a fenced commit is taken only by the election it names. The servers are those of
//! `proto`, driven as the daemon drives them (`daemon/src/durable/cluster`).

mod driver;
mod settings;
mod store;
mod world;

use world::World;

/// Runs the world of a seed.
fn run(seed: u64, push: bool) {
    let mut world = World::new(seed, push);
    for step in 0..1000 {
        world.step();
        world.check(&format!("seed {seed}, push {push}, step {step}"));
    }
    world.come_to_rest();
    world.check_rest(&format!("seed {seed}, push {push}, at rest"));
}

#[test]
fn under_any_schedule_a_group_that_pushes_has_one_key_set() {
    (0..6).for_each(|seed| run(seed, true));
}

#[test]
fn under_any_schedule_a_group_that_pulls_has_one_key_set() {
    (100..104).for_each(|seed| run(seed, false));
}

#[test]
fn a_follower_that_slept_past_its_lease_gives_no_key_of_before() {
    run(1027, false);
}

#[test]
#[ignore = "many schedules; takes minutes"]
fn under_a_thousand_schedules() {
    (1000..2000).for_each(|seed| run(seed, seed % 2 == 0));
}
