//! The circumstances of one run, drawn from its seed.

use std::time::Duration;

use crate::chance::Chance;

/// How keys come to members at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Communication {
    /// Members ask.
    Pull,
    /// The server sends each member a copy.
    Unicast,
    /// The server sends to a group address.
    Multicast,
}

/// What is configured of pushes, used or not.
#[derive(Clone, Copy, Debug)]
pub struct Pushing {
    /// Time between two rounds.
    pub period: Duration,
    /// Rounds after the first until a rekey counts as unacknowledged.
    pub count: u32,
    /// Activation time delay.
    pub activation_delay: Duration,
    /// Lifetime of KEKs.
    pub kek_lifetime: Duration,
    /// Longest silence.
    pub heartbeat: Option<Duration>,
}

/// Something that happens at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// From now on nothing that this member sends arrives, while it hears everything, also what is for others.
    Mute(usize),
    /// The gateway of this member is taken out of the group.
    Evict(usize),
    /// All keys are replaced, gracefully.
    Replace,
    /// The first server dies, and starts again so much later.
    ServerDies(Duration),
}

/// When a server dies that has something to keep and something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is kept, nothing is sent.
    BeforeKeeping,
    /// It is kept, nothing is sent.
    BeforeSending,
    /// It is kept, and half of it is sent.
    WhileSending,
}

/// Deaths at boundaries between keeping and sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A server dies at every so-manieth moment at which it has something to keep.
    pub every: u64,
    /// How.
    pub fault: Fault,
}

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
    /// How keys come to members.
    pub communication: Communication,
    /// What is configured of pushes.
    pub push: Pushing,
    /// Lifetime of phase 1 SAs.
    pub ike_lifetime: Duration,
    /// How long the world lasts.
    pub duration: Duration,
    /// Circumstances change in one of so many seconds: in a world of a day as much happens as in one of an hour.
    pub pace: u64,
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
    /// Whether servers are started anew, now and then.
    pub server_restarts: bool,
    /// Whether they remember what they keep; they may die before or after keeping it. Else they remember nothing.
    pub durable: bool,
    /// Whether somebody changes the configuration and types commands, now and then.
    pub operator: bool,
    /// Whether that somebody also changes between pull and push, and replaces all keys.
    pub rekeys: bool,
    /// Whether somebody sends garbage, replays and first messages from invented addresses.
    pub attacker: bool,
    /// Whether TEKs are of a counter mode, so that members are given sender ids.
    pub counter_mode: bool,
    /// Deaths of servers besides those that chance brings.
    pub faults: Option<Faults>,
    /// What happens when, in order.
    pub script: Vec<(Duration, Deed)>,
}

impl Scenario {
    /// Circumstances for so many members: an hour of TEKs that live one to five minutes. Most worlds have one server.
    pub fn from_seed(seed: u64, members: usize) -> Self {
        let mut chance = Chance::new(seed);
        let drawn = Self {
            seed,
            members,
            servers: if chance.percent(90) { 1 } else { chance.within(2..5) as usize },
            ipsec_sas: chance.within(1..4) as usize,
            tek_lifetime: tek_lifetime(&mut chance),
            communication: match chance.within(0..10) {
                0..4 => Communication::Pull,
                4..7 => Communication::Unicast,
                _ => Communication::Multicast,
            },
            push: Pushing {
                period: Duration::from_secs(chance.within(2..11)),
                count: chance.within(0..4) as u32,
                activation_delay: Duration::from_secs(chance.within(10..16)),
                kek_lifetime: Duration::from_secs(chance.within(300..1200)),
                heartbeat: chance.percent(70).then(|| Duration::from_secs(chance.within(60..300))),
            },
            ike_lifetime: Duration::from_secs(chance.within(180..4000)),
            duration: Duration::from_secs(3600),
            pace: 1,
            loss: if chance.percent(20) { 0 } else { chance.within(1..31) },
            duplication: if chance.percent(30) { 0 } else { chance.within(1..20) },
            delay: Duration::from_millis(chance.within(1..60)),
            jitter: Duration::from_millis(chance.within(1..120)),
            partitions: chance.percent(50),
            restarts: chance.percent(50),
            server_restarts: chance.percent(20),
            operator: chance.percent(50),
            rekeys: chance.percent(60),
            attacker: chance.percent(30),
            durable: chance.percent(60),
            counter_mode: false,
            faults: None,
            script: Vec::new(),
        };
        // Servers that share nothing do not push to the same members.
        if drawn.servers > 1 { drawn.pulling() } else { drawn }
    }

    /// The ordinary tier: ten to fifty members.
    pub fn ordinary(seed: u64) -> Self {
        let members = Chance::new(seed ^ 0x6d65_6d62_6572).within(10..51);
        Self::from_seed(seed, members as usize)
    }

    /// The tier of faults: a few members, short lives and many rounds, and a server that dies at boundaries between keeping and
    /// sending: seed after seed with another fault, another way to bring keys, and more rarely, from every third boundary on.
    pub fn faulty(seed: u64) -> Self {
        let fault = [Fault::BeforeKeeping, Fault::BeforeSending, Fault::WhileSending][(seed % 3) as usize];
        let communications = [Communication::Pull, Communication::Unicast, Communication::Multicast];
        let every = 3 + seed / 9;
        Self {
            communication: communications[(seed / 3 % 3) as usize],
            counter_mode: every % 2 == 1,
            faults: Some(Faults { every, fault }),
            ..Self::small(seed)
        }
    }

    /// Four members of a server that keeps what it has to, short lives and many rounds.
    pub fn small(seed: u64) -> Self {
        Self {
            ipsec_sas: 2,
            tek_lifetime: Duration::from_secs(60),
            push: Pushing {
                period: Duration::from_secs(2),
                count: 1,
                activation_delay: Duration::from_secs(10),
                kek_lifetime: Duration::from_secs(300),
                heartbeat: Some(Duration::from_secs(60)),
            },
            ike_lifetime: Duration::from_secs(600),
            duration: Duration::from_secs(600),
            loss: 5,
            duplication: 5,
            durable: true,
            ..Self::from_seed(seed, 4).quiet()
        }
    }

    /// A world in which nothing happens by chance but what the network does to datagrams.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self {
            servers: 1,
            partitions: false,
            restarts: false,
            server_restarts: false,
            operator: false,
            rekeys: false,
            attacker: false,
            ..self
        }
    }

    /// The same circumstances where members pull, from the beginning to the end.
    #[must_use]
    pub fn pulling(self) -> Self {
        Self { communication: Communication::Pull, rekeys: false, ..self }
    }

    /// The large tier: an hour's TEKs of a whole company for a day, with pushes as they are by default.
    pub fn large(seed: u64, members: usize, duration: Duration) -> Self {
        let scenario = Self::from_seed(seed, members);
        Self {
            servers: 1,
            tek_lifetime: Duration::from_secs(3600),
            push: Pushing {
                period: Duration::from_secs(10),
                count: 2,
                activation_delay: Duration::from_secs(15),
                kek_lifetime: Duration::from_secs(7200),
                ..scenario.push
            },
            ike_lifetime: Duration::from_secs(28_800),
            duration,
            pace: 24,
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
