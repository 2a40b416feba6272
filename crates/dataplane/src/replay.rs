//! Which sequence numbers each sender of a counter-mode key has used: an exact window per sender identifier.
//!
//! A ring of blocks, each the numbers of 32 packets in one atomic word: the block's number above, a bit for each packet
//! below. A packet is marked by one compare-and-swap, so that lanes share a window without a lock, and no number is
//! accepted twice whatever their order. A block gives way only to a later one of the same place in the ring.
//!
//! Windows are made by authenticated packets only and live as long as the key: one that was forgotten would accept
//! everything again. Where the memory's bound is reached, the packets of further senders are refused instead.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Blocks of a window. Receivers spread a sender's flows over cores, which may be some batches apart.
const BLOCKS: u32 = 64;
const BLOCK: u32 = 32;
/// Sequence numbers behind the highest that are still accepted, whatever block the highest is in.
pub(crate) const WINDOW: u32 = (BLOCKS - 1) * BLOCK;

/// Windows of one group's keys together: 256 MiB. Both TEKs of a group with 262,144 senders, or four TEKs with every
/// sender identifier of 16 bits in use.
const MOST_WINDOWS: usize = 1 << 19;

/// Why a packet of an authentic sender is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The number was used before.
    Repeated,
    /// The number is too far behind the highest one.
    TooOld,
    /// The sender's identifier is one of our own.
    Own,
    /// No memory is left for one more sender.
    TooManySenders,
}

/// How many windows the keys of a group have made.
#[derive(Debug, Default)]
pub(crate) struct Budget(AtomicUsize);

#[derive(Debug)]
struct Window {
    /// This process sends with the identifier.
    own: AtomicBool,
    /// This number and all before it are refused.
    floor: AtomicU32,
    /// The highest number marked, or of one that came shortly before it.
    highest: AtomicU32,
    blocks: [AtomicU64; BLOCKS as usize],
}

impl Window {
    fn new() -> Self {
        Self {
            own: AtomicBool::new(false),
            // Numbers begin with 1 (RFC 4303 section 3.3.3).
            floor: AtomicU32::new(0),
            highest: AtomicU32::new(0),
            blocks: [const { AtomicU64::new(0) }; BLOCKS as usize],
        }
    }

    /// Refuses this number and all before it, as if they had been marked.
    fn resume(&self, last: u32) {
        self.floor.fetch_max(last, Ordering::Relaxed);
    }

    /// The last number that was marked, or resumed after. None: no packet was accepted. All of our own, which nobody must send
    /// back to us after a restart either.
    fn last(&self) -> Option<u32> {
        let marked = |slot: &AtomicU64| {
            let word = slot.load(Ordering::Relaxed);
            let bits = word as u32;
            (bits != 0).then(|| (word >> 32) as u32 * BLOCK + (BLOCK - 1 - bits.leading_zeros()))
        };
        if self.own.load(Ordering::Relaxed) {
            return Some(u32::MAX);
        }
        let floor = self.floor.load(Ordering::Relaxed);
        let last = self.blocks.iter().filter_map(marked).max().unwrap_or(0).max(floor);
        (last > 0).then_some(last)
    }

    #[inline(always)]
    fn look(&self, sequence: u32) -> Result<(), Refused> {
        let word = self.blocks[(sequence / BLOCK % BLOCKS) as usize].load(Ordering::Relaxed);
        self.judge(word, sequence).map(|_| ())
    }

    /// Refuses the number for good, if it was not refused before.
    fn mark(&self, sequence: u32) -> Result<(), Refused> {
        let slot = &self.blocks[(sequence / BLOCK % BLOCKS) as usize];
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let marked = self.judge(word, sequence)?;
            match slot.compare_exchange_weak(word, marked, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(changed) => word = changed,
            }
        }
        // Of two lanes the one with the lower number may come last; then packets are accepted that are a little older than the
        // window, until the next one. Each of them once all the same: that is the blocks' doing, and the floor's. An exchange
        // would cost as much as the one above.
        if sequence > self.highest.load(Ordering::Relaxed) {
            self.highest.store(sequence, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The word of the number's block with the number marked, or why it must not be.
    #[inline(always)]
    fn judge(&self, word: u64, sequence: u32) -> Result<u64, Refused> {
        if self.own.load(Ordering::Relaxed) {
            return Err(Refused::Own);
        }
        let (floor, highest) = (self.floor.load(Ordering::Relaxed), self.highest.load(Ordering::Relaxed));
        if sequence <= floor || highest.saturating_sub(sequence) >= WINDOW {
            return Err(Refused::TooOld);
        }
        let (block, bit) = (u64::from(sequence / BLOCK), 1 << (sequence % BLOCK));
        match word >> 32 {
            held if held > block => Err(Refused::TooOld),
            held if held == block && word & bit != 0 => Err(Refused::Repeated),
            held if held == block => Ok(word | bit),
            _ => Ok(block << 32 | bit),
        }
    }
}

type Leaf = [OnceLock<Box<Window>>; 256];
type Middle = [OnceLock<Box<Leaf>>; 256];

/// The windows of one key, found by sender identifiers of up to 24 bits.
#[derive(Debug)]
pub(crate) struct Windows {
    root: Box<[OnceLock<Box<Middle>>; 256]>,
    made: AtomicUsize,
    budget: Arc<Budget>,
    most: usize,
}

impl Windows {
    /// No windows yet; `budget` is shared by the keys of a group.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self::with_limit(budget, MOST_WINDOWS)
    }

    fn with_limit(budget: Arc<Budget>, most: usize) -> Self {
        Self { root: Box::new([const { OnceLock::new() }; 256]), made: AtomicUsize::new(0), budget, most }
    }

    /// Whether a packet that is not verified yet could be accepted. Changes nothing.
    #[inline]
    pub(crate) fn look(&self, sender: u32, sequence: u32) -> Result<(), Refused> {
        match self.find(sender) {
            Some(window) => window.look(sequence),
            None if sequence == 0 => Err(Refused::TooOld),
            None if self.budget.0.load(Ordering::Relaxed) >= self.most => Err(Refused::TooManySenders),
            None => Ok(()),
        }
    }

    /// Accepts the sequence number of a verified packet, this once.
    pub(crate) fn mark(&self, sender: u32, sequence: u32) -> Result<(), Refused> {
        match self.find(sender) {
            Some(window) => window.mark(sequence),
            None if sequence == 0 => Err(Refused::TooOld),
            None => self.make(sender).ok_or(Refused::TooManySenders)?.mark(sequence),
        }
    }

    /// From now on packets of this sender are our own, come back. False if there is no memory to note it.
    pub(crate) fn mark_own(&self, sender: u32) -> bool {
        let window = self.find(sender).or_else(|| self.make(sender));
        window.map(|window| window.own.store(true, Ordering::Relaxed)).is_some()
    }

    /// Refuses this number of a sender and all before it.
    pub(crate) fn resume(&self, sender: u32, last: u32) {
        if let Some(window) = self.find(sender).or_else(|| self.make(sender)) {
            window.resume(last);
        }
    }

    /// The last number of each sender. `None` if those are more than `most`.
    pub(crate) fn last_numbers(&self, most: usize) -> Option<Vec<(u32, u32)>> {
        let mut all = Vec::new();
        for (high, middles) in self.root.iter().enumerate() {
            let Some(middles) = middles.get() else { continue };
            for (middle, leaf) in middles.iter().enumerate() {
                let Some(leaf) = leaf.get() else { continue };
                for (low, window) in leaf.iter().enumerate() {
                    let Some(last) = window.get().and_then(|window| window.last()) else { continue };
                    if all.len() == most {
                        return None;
                    }
                    all.push(((high << 16 | middle << 8 | low) as u32, last));
                }
            }
        }
        Some(all)
    }

    #[inline(always)]
    fn find(&self, sender: u32) -> Option<&Window> {
        let [top, high, middle, low] = sender.to_be_bytes().map(usize::from);
        if top != 0 {
            return None;
        }
        Some(self.root[high].get()?[middle].get()?[low].get()?)
    }

    fn make(&self, sender: u32) -> Option<&Window> {
        let [top, high, middle, low] = sender.to_be_bytes().map(usize::from);
        if top != 0 {
            return None;
        }
        let middle_level = self.root[high].get_or_init(|| Box::new([const { OnceLock::new() }; 256]));
        let leaf = middle_level[middle].get_or_init(|| Box::new([const { OnceLock::new() }; 256]));
        let room = |made| (made < self.most).then_some(made + 1);
        self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        let mut is_new = false;
        let window = leaf[low].get_or_init(|| {
            is_new = true;
            Box::new(Window::new())
        });
        if is_new {
            self.made.fetch_add(1, Ordering::Relaxed);
        } else {
            // Another lane was first.
            self.budget.0.fetch_sub(1, Ordering::Relaxed);
        }
        Some(window)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(*self.made.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn windows() -> Windows {
        Windows::new(Arc::default())
    }

    proptest! {
        #[test]
        fn a_number_is_accepted_once_and_within_the_window_always(
            start in prop::sample::select(vec![1u32, 5000, u32::MAX - 9000]),
            steps in prop::collection::vec((0u32..4000, any::<bool>()), 1..300),
        ) {
            let windows = windows();
            let (mut seen, mut highest) = (BTreeSet::new(), 0);
            for (step, forward) in steps {
                let sequence = match forward {
                    true => highest.max(start).saturating_add(step % 40),
                    false => highest.max(start).saturating_sub(step),
                };
                let expected = if sequence == 0 || highest >= WINDOW && sequence <= highest - WINDOW {
                    Err(Refused::TooOld)
                } else if seen.contains(&sequence) {
                    Err(Refused::Repeated)
                } else {
                    Ok(())
                };
                prop_assert_eq!(windows.look(7, sequence), expected);
                prop_assert_eq!(windows.mark(7, sequence), expected);
                if expected.is_ok() {
                    seen.insert(sequence);
                    highest = highest.max(sequence);
                }
            }
        }
    }

    #[test]
    fn lanes_that_share_a_window_accept_each_number_once_between_them() {
        let windows = windows();
        let accepted = std::thread::scope(|scope| {
            let lane = |_| {
                scope.spawn(|| (1..200_000u32).filter(|sequence| windows.mark(3, *sequence).is_ok()).count())
            };
            let lanes: Vec<_> = (0..4).map(lane).collect();
            lanes.into_iter().map(|lane| lane.join().unwrap()).sum::<usize>()
        });
        // One may run ahead of the others by more than a window, so some may be lost, but none is accepted twice.
        assert!(accepted <= 199_999, "{accepted}");
        assert_eq!(windows.mark(3, 199_999), Err(Refused::Repeated));
    }

    #[test]
    fn windows_of_before_a_restart_accept_only_what_is_later() {
        for last in [1, 5000, u32::MAX - 5000, u32::MAX - 20, u32::MAX] {
            let before = windows();
            before.mark(7, last).unwrap();
            let mut kept = before.last_numbers(1).expect("one sender");
            // However often.
            for _ in 0..3 {
                assert_eq!(kept, [(7, last)]);
                let after = windows();
                kept.iter().for_each(|(sender, last)| after.resume(*sender, *last));
                for old in [
                    1,
                    last / 2,
                    last.saturating_sub(WINDOW),
                    last.saturating_sub(WINDOW / 2),
                    last - 1,
                    last,
                ] {
                    assert!(after.mark(7, old).is_err(), "{old} of {last}");
                }
                kept = after.last_numbers(1).expect("one sender");
                if let Some(next) = last.checked_add(1) {
                    assert_eq!(after.mark(7, next), Ok(()));
                    let later = last.saturating_add(9);
                    assert_eq!(
                        after.mark(7, later),
                        if later > next { Ok(()) } else { Err(Refused::Repeated) }
                    );
                    assert_eq!(after.last_numbers(9), Some(vec![(7, later)]));
                }
            }
        }
    }

    #[test]
    fn a_lane_that_lags_reopens_nothing() {
        let windows = windows();
        windows.resume(7, 5000);
        assert_eq!(windows.mark(7, 5001), Ok(()));
        // What a lane leaves that has read the highest number before both.
        windows.find(7).unwrap().highest.store(40, Ordering::Relaxed);
        assert_eq!(windows.mark(7, 5001), Err(Refused::Repeated));
        assert!((1..=5000).all(|number| windows.mark(7, number) == Err(Refused::TooOld)));
        assert_eq!(windows.last_numbers(1), Some(vec![(7, 5001)]));
    }

    #[test]
    fn our_own_numbers_are_all_used_for_whoever_comes_after_us() {
        let before = windows();
        assert!(before.mark_own(7));
        before.mark(8, 3).unwrap();
        before.look(9, 3).unwrap();
        assert_eq!(before.last_numbers(1), None);
        assert_eq!(before.last_numbers(2), Some(vec![(7, u32::MAX), (8, 3)]));
        let after = windows();
        after.resume(7, u32::MAX);
        assert!([1, 70_000, u32::MAX].iter().all(|number| after.mark(7, *number).is_err()));
    }

    #[test]
    fn senders_do_not_share_a_window_and_looking_makes_none() {
        let windows = windows();
        for sender in [0, 1, 255, 256, 65_535, 65_536, 0xff_ffff] {
            assert_eq!(windows.look(sender, 9), Ok(()));
            assert!(windows.find(sender).is_none());
            assert_eq!(windows.mark(sender, 9), Ok(()));
            assert_eq!(windows.look(sender, 9), Err(Refused::Repeated));
        }
        assert_eq!(windows.made.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn beyond_the_bound_new_senders_are_refused_and_none_is_forgotten() {
        let budget = Arc::new(Budget::default());
        let windows = Windows::with_limit(budget.clone(), 10);
        for sender in 0..20 {
            let expected = if sender < 10 { Ok(()) } else { Err(Refused::TooManySenders) };
            assert_eq!(windows.look(sender, 1), expected);
            assert_eq!(windows.mark(sender, 1), expected);
        }
        assert_eq!(windows.mark(0, 1), Err(Refused::Repeated));
        // The bound is the group's, and what a key has made ends with it.
        let other = Windows::with_limit(budget.clone(), 10);
        assert_eq!(other.mark(0, 1), Err(Refused::TooManySenders));
        drop(windows);
        assert_eq!(other.mark(0, 1), Ok(()));
        assert_eq!(budget.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn packets_of_an_own_identifier_are_refused() {
        let windows = windows();
        assert!(windows.mark_own(5));
        assert_eq!(windows.look(5, 1), Err(Refused::Own));
        assert_eq!(windows.mark(5, 1), Err(Refused::Own));
    }
}
