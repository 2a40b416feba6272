//! Who wants to be woken when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proto::time::Instant;

/// One wish for each of a fixed number of sleepers.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Also what has been replaced: that is passed over.
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    wishes: Vec<Option<Instant>>,
}

impl Schedule {
    pub(crate) fn new(sleepers: usize) -> Self {
        Self { heap: BinaryHeap::new(), wishes: vec![None; sleepers] }
    }

    pub(crate) fn set(&mut self, sleeper: usize, at: Option<Instant>) {
        if self.wishes[sleeper] != at {
            self.wishes[sleeper] = at;
            self.heap.extend(at.map(|at| Reverse((at, sleeper))));
        }
    }

    /// The next moment at which somebody wants to be woken.
    pub(crate) fn due(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, sleeper))) = self.heap.peek() {
            if self.wishes[sleeper] == Some(at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Somebody who is to be woken by now; has no wish any more.
    pub(crate) fn take(&mut self, now: Instant) -> Option<usize> {
        self.due().filter(|at| *at <= now)?;
        let Reverse((_, sleeper)) = self.heap.pop()?;
        self.wishes[sleeper] = None;
        Some(sleeper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_wish_counts() {
        let mut schedule = Schedule::new(2);
        schedule.set(0, Some(Instant::from_micros(5)));
        schedule.set(1, Some(Instant::from_micros(6)));
        schedule.set(0, Some(Instant::from_micros(9)));
        assert_eq!(schedule.take(Instant::from_micros(5)), None);
        assert_eq!(schedule.take(Instant::from_micros(9)), Some(1));
        assert_eq!(schedule.take(Instant::from_micros(9)), Some(0));
        assert_eq!(schedule.due(), None);
    }
}
