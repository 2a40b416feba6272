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

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::SenderIdDownload;
use crate::time::Instant;

/// A member that got its keys late counts their lives from then: no longer than a registration takes.
const LATE: Duration = Duration::from_secs(120);

/// Changes of what frees ids that are told apart; beyond it the older waits for the later.
const MOST_SPANS: usize = 64;

/// Runs that are recorded ahead of use, in parts of all ids.
const RUNS: u64 = 1024;

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
    changed: bool,
}

/// What is kept of the sender ids of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct RememberedSenderIds {
    pub(in crate::server) bits: u8,
    pub(in crate::server) reserved: u64,
    pub(in crate::server) spans: Vec<Span>,
}

impl SenderIds {
    /// All ids of so many bits are free.
    pub(in crate::server) fn new(bits: u8) -> Self {
        Self { bits, next: 0, reserved: 0, spans: VecDeque::new(), changed: true }
    }

    /// Goes on after what was recorded: nobody knows how many of a run were given.
    pub(in crate::server) fn restored(kept: RememberedSenderIds) -> Self {
        let RememberedSenderIds { bits, reserved, spans } = kept;
        Self { bits, next: reserved, reserved, spans: spans.into(), changed: false }
    }

    pub(in crate::server) fn remember(&self) -> RememberedSenderIds {
        let spans = self.spans.iter().copied().collect();
        RememberedSenderIds { bits: self.bits, reserved: self.reserved, spans }
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
        let count = asked.clamp(1, self.most_at_a_time());
        while self.spans.front().is_some_and(|span| span.free_at.is_some_and(|free_at| free_at <= now)) {
            self.spans.pop_front();
            self.changed = true;
        }
        if self.free(now) < count {
            return None;
        }
        let free_at = last_expiry.map(|expiry| expiry + LATE);
        self.note(free_at);
        let ids = (self.next..self.next + count).map(|id| (id % self.capacity()) as u32).collect();
        self.next += count;
        if self.next > self.reserved {
            self.reserved = self.next + (self.capacity() / RUNS);
            self.changed = true;
        }
        Some(SenderIdDownload { bits: self.bits, ids })
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

    /// A member with many cores gets what it needs, and none can exhaust the ids by asking a few times.
    fn most_at_a_time(&self) -> u64 {
        (self.capacity() / 256).clamp(16, 256)
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
