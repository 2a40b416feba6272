//! Sender ids of a group whose TEKs are of a counter mode: which may be given out.
//!
//! ```text
//!   0 ......... low ............. next ........ reserved ......
//!     free again    perhaps in use    recorded as
//!                                     perhaps given
//! ```
//!
//! Ids are given in sequence, each registration getting new ones. An id is given again only when no TEK is left that its
//! holder could use it with: where members pull, that is when the last TEK is over that came with it. A member that holds
//! a KEK gets further TEKs by push and goes on with its ids, so those stay taken until the group starts over.
//!
//! Where several servers cooperate, the one that makes the keys allots runs of ids to the others ([`Allotment`]), which
//! give them out of their [`Stock`]. A server that starts anew has a new name there, so nothing of an old run is given again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::SenderIdDownload;
use crate::time::Instant;

/// A member that got its keys late counts their lives from then: no longer than a registration takes.
const LATE: Duration = Duration::from_secs(120);

/// Changes of what frees ids that are told apart; beyond it the older waits for the later.
const MOST_SPANS: usize = 64;

/// Allotments that are recorded: more servers than anybody has, and their earlier lives.
const MOST_ALLOTMENTS: usize = 64;

/// Runs that are recorded ahead of use, in parts of all ids.
const RUNS: u64 = 1024;

/// Of all ids, the part that another server is allotted at a time.
const ALLOTTED: u64 = 64;

/// Ids that another server may give, from `first` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Allotment {
    /// One life of one server.
    pub(in crate::server) incarnation: Arc<str>,
    pub(in crate::server) first: u64,
    pub(in crate::server) end: u64,
    /// They go with TEKs that end by then; `None`: with any.
    pub(in crate::server) covers: Option<Instant>,
}

/// Ids from `first` on that become free at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Span {
    /// Count of ids given before.
    pub(in crate::server) first: u64,
    /// When they are free; `None`: not before the group starts over.
    pub(in crate::server) free_at: Option<Instant>,
}

/// The sender ids of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct SenderIds {
    bits: u8,
    /// Ids given since the group started over.
    next: u64,
    /// So many count as given in the record.
    reserved: u64,
    /// Oldest first, until the first of the next one.
    spans: VecDeque<Span>,
    /// The last one of each server.
    allotments: Vec<Allotment>,
    changed: bool,
}

/// What is kept of the sender ids of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct RememberedSenderIds {
    pub(in crate::server) bits: u8,
    pub(in crate::server) reserved: u64,
    pub(in crate::server) spans: Vec<Span>,
    pub(in crate::server) allotments: Vec<Allotment>,
}

impl SenderIds {
    /// All ids of so many bits are free.
    pub(in crate::server) fn new(bits: u8) -> Self {
        Self { bits, next: 0, reserved: 0, spans: VecDeque::new(), allotments: Vec::new(), changed: true }
    }

    /// Goes on after what was recorded: nobody knows how many of a run were given.
    pub(in crate::server) fn restored(kept: RememberedSenderIds) -> Self {
        let RememberedSenderIds { bits, reserved, spans, allotments } = kept;
        Self { bits, next: reserved, reserved, spans: spans.into(), allotments, changed: false }
    }

    pub(in crate::server) fn remember(&self) -> RememberedSenderIds {
        let spans = self.spans.iter().copied().collect();
        let allotments = self.allotments.clone();
        RememberedSenderIds { bits: self.bits, reserved: self.reserved, spans, allotments }
    }

    /// Whether the record is behind.
    pub(in crate::server) fn changed(&self) -> bool {
        self.changed
    }

    pub(in crate::server) fn is_stored(&mut self) {
        self.changed = false;
    }

    pub(in crate::server) fn bits(&self) -> u8 {
        self.bits
    }

    /// Ids that could be given now.
    pub(in crate::server) fn free(&self, now: Instant) -> u64 {
        let low = self.spans.iter().find(|span| span.free_at.is_none_or(|free_at| free_at > now));
        let low = low.map_or(self.next, |span| span.first.min(self.next));
        self.capacity().saturating_sub(self.next - low)
    }

    /// Gives a member its ids: as many as it asks for within reason, one at least. They are given with TEKs the last of which
    /// ends at `last_expiry`, or, with `None`, to a member that gets further TEKs. `None`: there are not enough.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.5
    //# A GCKS allocates new SID values for each GROUPKEY-PULL exchange
    //# originated by a sender, regardless of whether a group member had
    //# previously contacted the GCKS.
    pub(in crate::server) fn give(
        &mut self,
        now: Instant,
        asked: u64,
        last_expiry: Option<Instant>,
    ) -> Option<SenderIdDownload> {
        let count = asked.clamp(1, most_at_a_time(self.bits));
        let first = self.take(now, count, last_expiry)?;
        let ids = (first..first + count).map(|id| self.wire(id)).collect();
        Some(SenderIdDownload { bits: self.bits, ids })
    }

    /// Allots ids to another server, as many as there are up to what one gets at a time; not while it has a fresh
    /// allotment that covers as much. `false`: none is left.
    pub(in crate::server) fn allot(
        &mut self,
        now: Instant,
        incarnation: &Arc<str>,
        last_expiry: Option<Instant>,
    ) -> bool {
        let count = (self.capacity() / ALLOTTED).clamp(16, 4096).min(self.free(now));
        if count == 0 {
            return false;
        }
        let Some(first) = self.take(now, count, last_expiry) else { return false };
        self.allotments.retain(|allotment| {
            allotment.incarnation != *incarnation && allotment.covers.is_none_or(|covers| covers > now)
        });
        if self.allotments.len() >= MOST_ALLOTMENTS {
            self.allotments.remove(0);
        }
        let incarnation = Arc::clone(incarnation);
        self.allotments.push(Allotment { incarnation, first, end: first + count, covers: last_expiry });
        self.changed = true;
        true
    }

    /// What the servers of this name's life were allotted last.
    pub(in crate::server) fn allotted<'a>(
        &'a self,
        incarnation: &'a str,
    ) -> impl Iterator<Item = &'a Allotment> {
        self.allotments.iter().filter(move |allotment| *allotment.incarnation == *incarnation)
    }

    /// Takes so many ids in sequence.
    fn take(&mut self, now: Instant, count: u64, last_expiry: Option<Instant>) -> Option<u64> {
        while self.spans.front().is_some_and(|span| span.free_at.is_some_and(|free_at| free_at <= now)) {
            self.spans.pop_front();
            self.changed = true;
        }
        if self.free(now) < count {
            return None;
        }
        let free_at = last_expiry.map(|expiry| expiry + LATE);
        self.note(free_at);
        let first = self.next;
        self.next += count;
        if self.next > self.reserved {
            self.reserved = self.next + (self.capacity() / RUNS);
            self.changed = true;
        }
        Some(first)
    }

    /// What is given from now on is free at `free_at`, and not before what was given earlier.
    fn note(&mut self, free_at: Option<Instant>) {
        let full = self.spans.len() == MOST_SPANS;
        match self.spans.back_mut() {
            Some(last) if last.free_at.is_none() => return,
            Some(last) if free_at.is_some_and(|free_at| last.free_at.is_some_and(|at| free_at <= at)) => {
                return;
            }
            Some(last) if full => last.free_at = free_at,
            _ => self.spans.push_back(Span { first: self.next, free_at }),
        }
        self.changed = true;
    }

    fn capacity(&self) -> u64 {
        1 << self.bits
    }

    fn wire(&self, id: u64) -> u32 {
        wire(self.bits, id)
    }
}

/// A member with many cores gets what it needs, and none can exhaust the ids by asking a few times.
fn most_at_a_time(bits: u8) -> u64 {
    ((1 << bits) / 256).clamp(16, 256)
}

/// The id of a count.
fn wire(bits: u8, count: u64) -> u32 {
    (count % (1 << bits)) as u32
}

/// What a server that does not make the keys may give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Stock {
    runs: VecDeque<Allotment>,
    /// Everything below was taken in.
    seen: u64,
    /// The fresh start that it belongs to.
    fresh_starts: u64,
}

impl Stock {
    /// Takes in what was allotted. Ids of an earlier start of the group are void.
    pub(in crate::server) fn take_in(&mut self, ids: &SenderIds, fresh_starts: u64, incarnation: &str) {
        if self.fresh_starts != fresh_starts {
            *self = Self { fresh_starts, ..Self::default() };
        }
        for allotment in ids.allotted(incarnation) {
            if allotment.first >= self.seen {
                self.seen = allotment.end;
                self.runs.push_back(allotment.clone());
            }
        }
    }

    /// Gives a member its ids, with TEKs the last of which ends at `last_expiry`, or to one that gets further TEKs. `None`:
    /// there are not enough that may go with those.
    pub(in crate::server) fn give(
        &mut self,
        bits: u8,
        asked: u64,
        last_expiry: Option<Instant>,
    ) -> Option<SenderIdDownload> {
        let count = asked.clamp(1, most_at_a_time(bits)) as usize;
        if self.left(last_expiry) < count as u64 {
            return None;
        }
        let mut ids = Vec::with_capacity(count);
        for run in self.runs.iter_mut().filter(|run| goes_with(run, last_expiry)) {
            while ids.len() < count && run.first < run.end {
                ids.push(wire(bits, run.first));
                run.first += 1;
            }
        }
        self.runs.retain(|run| run.first < run.end);
        Some(SenderIdDownload { bits, ids })
    }

    /// Ids that may go with TEKs the last of which ends at `last_expiry`.
    pub(in crate::server) fn left(&self, last_expiry: Option<Instant>) -> u64 {
        let usable = self.runs.iter().filter(|run| goes_with(run, last_expiry));
        usable.map(|run| run.end - run.first).sum()
    }

    /// Whether it is time to ask for more: less than half of what is allotted at a time is left.
    pub(in crate::server) fn is_low(&self, bits: u8, last_expiry: Option<Instant>) -> bool {
        self.left(last_expiry) < ((1 << bits) / ALLOTTED).clamp(16, 4096) / 2
    }
}

/// A run that is not freed goes with everything.
fn goes_with(run: &Allotment, last_expiry: Option<Instant>) -> bool {
    match (run.covers, last_expiry) {
        (None, _) => true,
        (Some(covers), Some(last_expiry)) => last_expiry <= covers,
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn ids_are_given_in_sequence_beginning_with_zero() {
        let mut ids = SenderIds::new(16);
        assert_eq!(ids.give(at(0), 4, None).unwrap().ids, [0, 1, 2, 3]);
        assert_eq!(ids.give(at(0), 0, None).unwrap().ids, [4], "one without being asked");
        assert_eq!(ids.give(at(0), 60_000, None).unwrap().ids.len(), 256);
    }

    #[test]
    fn ids_of_members_that_get_further_teks_are_never_free() {
        let mut ids = SenderIds::new(8);
        let mut seen = BTreeSet::new();
        while let Some(given) = ids.give(at(0), 5, None) {
            given.ids.iter().for_each(|id| assert!(seen.insert(*id)));
        }
        assert_eq!(seen.len(), 255);
        assert_eq!(ids.give(at(1_000_000_000), 5, None), None);
        assert_eq!(ids.give(at(1_000_000_000), 1, None).unwrap().ids, [255]);
        assert_eq!(ids.give(at(1_000_000_000), 1, None), None);
    }

    #[test]
    fn ids_are_free_again_when_the_teks_are_over_that_came_with_them() {
        let mut ids = SenderIds::new(8);
        // Four TEKs' lives, each asked for often, and a member that pulls all the time.
        let mut given: Vec<(Instant, u32)> = Vec::new();
        for second in 0..4000 {
            let expiry = at(1000 * (1 + second / 1000));
            if second % 20 != 0 {
                continue;
            }
            for id in ids.give(at(second), 4, Some(expiry)).expect("enough").ids {
                assert!(given.iter().all(|(until, other)| *other != id || *until <= at(second)));
                given.push((expiry, id));
            }
        }
        assert_eq!(given.len(), 800);
    }

    #[test]
    fn a_shorter_life_frees_nothing_early_and_spans_are_bounded() {
        let mut ids = SenderIds::new(8);
        ids.give(at(0), 16, Some(at(1000))).unwrap();
        ids.give(at(0), 16, Some(at(500))).unwrap();
        assert_eq!(ids.free(at(1119)), 224);
        assert_eq!(ids.free(at(1120)), 256);
        let mut ids = SenderIds::new(16);
        for second in 0..1000 {
            ids.give(at(0), 1, Some(at(second))).unwrap();
        }
        assert!(ids.spans.len() <= MOST_SPANS);
        assert_eq!(ids.free(at(0)), 65_536 - 1000);
        assert_eq!(ids.free(at(2000)), 65_536);
    }

    #[test]
    fn what_is_allotted_is_given_once_whoever_gives_it_and_not_with_keys_that_last_longer() {
        for bits in [8, 16] {
            let mut ids = SenderIds::new(bits);
            let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
            let mut stocks = [(&one, Stock::default()), (&other, Stock::default())];
            let mut seen = BTreeSet::new();
            for round in 0..400 {
                let (name, stock) = &mut stocks[round % 2];
                if stock.is_low(bits, None) && !ids.allot(at(0), name, None) {
                    break;
                }
                stock.take_in(&ids, 0, name);
                for given in [stock.give(bits, 4, None), ids.give(at(0), 1, None)] {
                    given.iter().flat_map(|given| &given.ids).for_each(|id| assert!(seen.insert(*id)));
                }
            }
            assert!(seen.len() > 100, "{}", seen.len());
        }
        let mut ids = SenderIds::new(16);
        let (name, mut stock) = (Arc::from("one"), Stock::default());
        assert!(ids.allot(at(0), &name, Some(at(100))));
        stock.take_in(&ids, 0, &name);
        assert!(stock.give(16, 4, Some(at(100))).is_some() && stock.give(16, 4, Some(at(101))).is_none());
        assert!(stock.give(16, 4, None).is_none(), "not to whom further keys are pushed");
        // All keys were dropped for new ones.
        let before = stock.left(Some(at(100)));
        stock.take_in(&ids, 0, &name);
        assert_eq!(stock.left(Some(at(100))), before, "taken in once");
        stock.take_in(&SenderIds::new(16), 1, &name);
        assert_eq!(stock.left(Some(at(100))), 0);
    }

    #[test]
    fn a_restored_server_gives_none_that_may_have_been_given() {
        for bits in [8, 12, 16, 24] {
            let mut ids = SenderIds::new(bits);
            let mut seen = BTreeSet::new();
            let mut kept = ids.remember();
            for round in 0..40 {
                for _ in 0..3 {
                    let Some(given) = ids.give(at(round), 1, None) else { break };
                    given.ids.iter().for_each(|id| assert!(seen.insert(*id), "{bits} {id}"));
                    if ids.changed() {
                        kept = ids.remember();
                        ids.is_stored();
                    }
                }
                if round % 7 == 0 {
                    ids = SenderIds::restored(kept.clone());
                }
            }
        }
    }
}
