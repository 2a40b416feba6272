//! What a run comes to, or what it fails of.

use std::fmt;
use std::time::Duration;

use crate::scenario::Scenario;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A hash of every datagram and every event in order: the same for the same scenario.
    pub hash: u64,
    /// Datagrams sent by servers and members.
    pub datagrams: u64,
    /// Registrations completed.
    pub registrations: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Copies of pushes.
    pub pushes: u64,
    /// Replacements of keys that an operator asked for and that are complete.
    pub replacements: u64,
    /// TEKs that were made.
    pub keys: u64,
    /// Changes of who holds or sends with what, each checked against everybody.
    pub changes: u64,
}

impl Report {
    /// Adds what another run came to. The hash stays.
    pub fn add(&mut self, other: &Report) {
        self.datagrams += other.datagrams;
        self.registrations += other.registrations;
        self.failures += other.failures;
        self.pushes += other.pushes;
        self.replacements += other.replacements;
        self.keys += other.keys;
        self.changes += other.changes;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { datagrams, registrations, failures, pushes, replacements, keys, changes, .. } = self;
        write!(
            f,
            "{keys} keys, {registrations} registrations, {failures} failed tries, {pushes} copies of pushes, \
             {replacements} replacements, {datagrams} datagrams, {changes} checked changes"
        )
    }
}

/// An invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The circumstances, with the seed that brings it back.
    pub scenario: Scenario,
    /// When, since the beginning.
    pub at: Duration,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, members, .. } = self.scenario;
        write!(
            f,
            "seed {seed} with {members} members, after {:?}: {}\n{:?}",
            self.at, self.what, self.scenario
        )
    }
}

impl std::error::Error for Failure {}
