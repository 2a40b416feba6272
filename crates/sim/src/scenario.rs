//! The circumstances of one run, drawn from its seed.

use std::time::Duration;

use crate::chance::Chance;

/// The circumstances of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// Members.
    pub members: usize,
    /// Servers that each member lists, in the same order. They share nothing.
    pub servers: usize,
    /// TEKs of the group.
    pub ipsec_sas: usize,
    /// Lifetime of the TEKs.
    pub tek_lifetime: Duration,
    /// Lifetime of phase 1 SAs.
    pub ike_lifetime: Duration,
    /// How long the world lasts.
    pub duration: Duration,
    /// Percent of datagrams that are lost.
    pub loss: u64,
    /// Percent of datagrams that come twice.
    pub duplication: u64,
    /// One-way delay: at least this, and at most `jitter` more, each datagram for itself.
    pub delay: Duration,
    /// See `delay`.
    pub jitter: Duration,
    /// Whether single members are cut off from everything for a while, now and then.
    pub partitions: bool,
    /// Whether members' interfaces go down and up, now and then.
    pub restarts: bool,
    /// Whether somebody sends garbage, replays and first messages from invented addresses.
    pub attacker: bool,
}

impl Scenario {
    /// Circumstances for so many members. Most worlds have one server; half an hour to two hours pass.
    pub fn from_seed(seed: u64, members: usize) -> Self {
        let mut chance = Chance::new(seed);
        let tek_lifetime = Duration::from_secs(match chance.within(0..4) {
            0 => chance.within(60..120),
            1 => 180,
            2 => chance.within(181..600),
            _ => 3600,
        });
        Self {
            seed,
            members,
            servers: if chance.percent(80) { 1 } else { 2 },
            ipsec_sas: chance.within(1..4) as usize,
            tek_lifetime,
            ike_lifetime: Duration::from_secs(chance.within(180..4000)),
            duration: (tek_lifetime * 6).clamp(Duration::from_secs(1800), Duration::from_secs(7200)),
            loss: if chance.percent(30) { 0 } else { chance.within(0..20) },
            duplication: chance.within(0..10),
            delay: Duration::from_millis(chance.within(1..40)),
            jitter: Duration::from_millis(chance.within(1..60)),
            partitions: chance.percent(40),
            restarts: chance.percent(40),
            attacker: chance.percent(50),
        }
    }
}
