//! A member as the invariants see it.

use std::time::Duration;

use proto::time::Instant;

use crate::data_path::DataPath;
use crate::touch::{Touch, Way};

/// One member.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) data_path: DataPath,
    /// What it sends with now.
    pub(crate) sending: Vec<u32>,
    /// What it holds now.
    pub(crate) holding: Vec<u32>,
    /// Since when its interface is up; `None` while it is down.
    pub(crate) up_since: Option<Instant>,
    /// When it last had to begin without keys: the interface came up, or an operator cleared them.
    pub(crate) began: Instant,
    /// Until when it may wait before it asks, because its server has deleted all its keys.
    pub(crate) spread_until: Instant,
    /// It has had keys in this life, so its retry period is theirs.
    pub(crate) registered: bool,
    /// Multicast groups that it has joined: times joined less times left.
    pub(crate) joined: u32,
    /// When its gateway was taken out of the group; `None` while it is in.
    pub(crate) evicted_at: Option<Instant>,
    /// How old the oldest push was that an attacker brought it: it may have counted lives from then.
    pub(crate) held_back: Duration,
    /// For each server, by its own retry period.
    pub(crate) touch: Vec<Touch>,
    /// For each server, by the period of its rounds.
    pub(crate) push_touch: Vec<Touch>,
}

impl Watched {
    /// A datagram was sent between it and a server.
    pub(crate) fn record(&mut self, now: Instant, server: usize, way: Way, passed: bool) {
        self.touch[server].record(now, way, passed);
        self.push_touch[server].record(now, way, passed);
    }
}
