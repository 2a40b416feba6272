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
    /// TEKs of the group at the beginning.
    pub ipsec_sas: usize,
    /// Lifetime of the TEKs at the beginning.
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
    /// Whether members, some or many at once, are cut off from everything for a while, now and then.
    pub partitions: bool,
    /// Whether members' interfaces go down and up, and their processes end and start, now and then.
    pub restarts: bool,
    /// Whether servers are started anew, now and then. They remember nothing.
    pub server_restarts: bool,
    /// Whether somebody changes the configuration and types commands, now and then.
    pub operator: bool,
    /// Whether somebody sends garbage, replays and first messages from invented addresses.
    pub attacker: bool,
}

impl Scenario {
    /// Circumstances for so many members: an hour of TEKs that live one to five minutes. Most worlds have one server.
    pub fn from_seed(seed: u64, members: usize) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            seed,
            members,
            servers: if chance.percent(90) { 1 } else { chance.within(2..5) as usize },
            ipsec_sas: chance.within(1..4) as usize,
            tek_lifetime: tek_lifetime(&mut chance),
            ike_lifetime: Duration::from_secs(chance.within(180..4000)),
            duration: Duration::from_secs(3600),
            loss: if chance.percent(20) { 0 } else { chance.within(1..31) },
            duplication: if chance.percent(30) { 0 } else { chance.within(1..20) },
            delay: Duration::from_millis(chance.within(1..60)),
            jitter: Duration::from_millis(chance.within(1..120)),
            partitions: chance.percent(50),
            restarts: chance.percent(50),
            server_restarts: chance.percent(20),
            operator: chance.percent(50),
            attacker: chance.percent(30),
        }
    }

    /// The ordinary tier: ten to fifty members.
    pub fn ordinary(seed: u64) -> Self {
        let members = Chance::new(seed ^ 0x6d65_6d62_6572).within(10..51);
        Self::from_seed(seed, members as usize)
    }

    /// The large tier: an hour's TEKs of a whole company for a day.
    pub fn large(seed: u64, members: usize, duration: Duration) -> Self {
        let scenario = Self::from_seed(seed, members);
        Self {
            servers: 1,
            tek_lifetime: Duration::from_secs(3600),
            ike_lifetime: Duration::from_secs(28_800),
            duration,
            partitions: true,
            restarts: true,
            operator: true,
            ..scenario
        }
    }
}

/// Lifetimes as an operator of these worlds chooses them.
pub(crate) fn tek_lifetime(chance: &mut Chance) -> Duration {
    Duration::from_secs(if chance.percent(20) { 60 } else { chance.within(60..301) })
}
