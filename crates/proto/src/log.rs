//! Log entries as data. The state machines say what happened; the daemon prints it.
//!
//! Whoever can send us a datagram can make us log, so every kind of entry has its own budget: [`BURST`] entries at
//! once and one more every [`REFILL`]. What was held back is counted and told with the next entry that passes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::time::Instant;

/// How many entries of one kind pass in a row. Enough to see every member of a small group fail once.
pub const BURST: u32 = 20;

/// How long until another entry of that kind may pass: a flood leaves one line a second, enough to notice it.
pub const REFILL: Duration = Duration::from_secs(1);

/// The most entries that wait to be polled; beyond it new ones only count as suppressed.
pub const QUEUE: usize = 1024;

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// We stop.
    Error,
    /// Would page someone.
    Warn,
    /// A change an operator cares about.
    Info,
    /// A decision.
    Debug,
    /// A packet.
    Trace,
}

/// What an entry is about; the names are those of the `traceoptions` flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Facility {
    /// Phase 1 and the exchanges it protects.
    Ike,
    /// Groups, policies, keys.
    PolicyManager,
    /// Expiry and retransmission.
    Timer,
    /// Configuration as applied to a role.
    Config,
    /// Certificates.
    Certificates,
    /// Several servers, and who leads them.
    HighAvailability,
    /// Everything else.
    General,
}

/// One log entry: a constant message and the values that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub facility: Facility,
    /// What happened; constant per place in the code, so that entries can be counted and filtered.
    pub message: &'static str,
    /// The values: name and text. Text made from a peer's bytes is printable and short.
    pub fields: Vec<(&'static str, String)>,
    /// How many entries with the same message were held back since the last one that passed.
    pub suppressed: u64,
}

impl Entry {
    /// An entry without fields.
    pub fn new(level: Level, facility: Facility, message: &'static str) -> Self {
        Self { level, facility, message, fields: Vec::new(), suppressed: 0 }
    }

    /// The entry with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        if self.suppressed > 0 {
            write!(f, " suppressed={}", self.suppressed)?;
        }
        Ok(())
    }
}

/// Entries waiting to be printed, with the budget of each kind.
#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    budgets: BTreeMap<&'static str, Budget>,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    refilled_at: Instant,
    suppressed: u64,
}

impl Journal {
    /// Queues `entry`, or counts it if its kind is over budget. Entries at [`Level::Info`] and above about what an
    /// authenticated peer or the operator did share the same rule.
    pub fn record(&mut self, now: Instant, mut entry: Entry) {
        let budget = self.budgets.entry(entry.message).or_insert(Budget {
            left: BURST,
            refilled_at: now,
            suppressed: 0,
        });
        let refills = (now - budget.refilled_at).as_micros() / REFILL.as_micros();
        if refills > 0 {
            budget.left = u32::try_from(refills).unwrap_or(u32::MAX).saturating_add(budget.left).min(BURST);
            budget.refilled_at = now;
        }
        if budget.left == 0 || self.entries.len() >= QUEUE {
            budget.suppressed += 1;
            return;
        }
        budget.left -= 1;
        entry.suppressed = std::mem::take(&mut budget.suppressed);
        self.entries.push_back(entry);
    }

    /// Takes the oldest entry.
    #[must_use]
    pub fn poll(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new(Level::Warn, Facility::Ike, "a datagram was refused").with("peer", "192.0.2.1")
    }

    #[test]
    fn a_flood_leaves_a_burst_and_then_one_entry_per_refill() {
        let mut journal = Journal::default();
        let start = Instant::ORIGIN;
        for _ in 0..1000 {
            journal.record(start, entry());
        }
        let passed: Vec<_> = std::iter::from_fn(|| journal.poll()).collect();
        assert_eq!(passed.len(), BURST as usize);

        journal.record(start + REFILL, entry());
        let next = journal.poll().expect("one more after the refill time");
        assert_eq!(next.suppressed, 1000 - u64::from(BURST));
        assert_eq!(next.to_string(), "a datagram was refused peer=192.0.2.1 suppressed=980");
    }

    #[test]
    fn one_kind_does_not_use_up_the_budget_of_another() {
        let mut journal = Journal::default();
        for _ in 0..1000 {
            journal.record(Instant::ORIGIN, entry());
        }
        while journal.poll().is_some() {}
        journal.record(Instant::ORIGIN, Entry::new(Level::Info, Facility::Ike, "phase 1 established"));
        assert!(journal.poll().is_some());
    }
}
