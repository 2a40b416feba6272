//! Sender identifiers of counter-mode keys: which this process owns, and which it has used with which key.
//!
//! One [`SenderIds`] lives as long as its group is configured. A PULL brings identifiers and begins a *period*; a key
//! that came, or came again, with it takes its identifiers from that period. (A server that has run out of identifiers
//! deletes all keys and starts to count anew: then the old ones belong to others.) Each lane takes one for each key and
//! counts under it; near the end of the count it takes another. None is ever taken twice for the same key, even if the
//! key is installed anew: that is remembered here and not with the key.
//!
//! What may be taken, the control side has *granted*: recorded on disk as used, so that after a restart nobody grants it
//! again. [`SenderIds::wanted`] says when more are needed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crypto::{Hash, PrfKey};

use crate::Instant;
use crate::replay::{Budget, Windows};

/// Keys whose used identifiers are remembered: 400 TEKs of a group, 160 generations of each. The oldest that nobody
/// holds any more are forgotten first.
const MOST_KEYS: usize = 65_536;

/// Identifiers granted in a process's life. Keys share them, so that only restarts and full counters take more.
const MOST_GRANTED: usize = 65_536;

/// So many numbers before the last one a lane looks for its next identifier: eight seconds at 2 million packets a second.
const NEAR_THE_END: u32 = u32::MAX - (1 << 24);

/// How many bits of an IV name the sender (RFC 6054 section 3).
//= https://www.rfc-editor.org/rfc/rfc6054#section-3
//# To facilitate
//# interoperability, a conforming implementation MUST support SID
//# lengths of 8, 12, and 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SenderIdLength {
    /// 256 senders.
    Bits8,
    /// 4096 senders.
    Bits12,
    /// 65,536 senders.
    Bits16,
    /// 16,777,216 senders.
    Bits24,
}

impl SenderIdLength {
    /// Every length, shortest first.
    pub const ALL: [Self; 4] = [Self::Bits8, Self::Bits12, Self::Bits16, Self::Bits24];

    /// The length of so many bits.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            8 => Some(Self::Bits8),
            12 => Some(Self::Bits12),
            16 => Some(Self::Bits16),
            24 => Some(Self::Bits24),
            _ => None,
        }
    }

    /// Number of bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits8 => 8,
            Self::Bits12 => 12,
            Self::Bits16 => 16,
            Self::Bits24 => 24,
        }
    }

    /// The identifier that an IV begins with.
    pub(crate) fn sender_of(self, iv: [u8; 8]) -> u32 {
        (u64::from_be_bytes(iv) >> (64 - self.bits())) as u32
    }

    /// The IV of a packet.
    //= https://www.rfc-editor.org/rfc/rfc6054#section-3
    //# The leftmost bits of the IV contain
    //# the SID, and the remaining bits contain the SSIV.
    pub(crate) fn iv(self, sender: u32, counter: u32) -> [u8; 8] {
        (u64::from(sender) << (64 - self.bits()) | u64::from(counter)).to_be_bytes()
    }
}

/// Why an identifier cannot be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderIdError {
    /// It has more bits than the group's identifiers.
    #[error("sender identifier {id} does not fit into {bits} bits")]
    TooLong {
        /// The identifier.
        id: u32,
        /// Bits of the group's identifiers.
        bits: u32,
    },
    /// More than a process can ever use.
    #[error("too many sender identifiers")]
    TooMany,
}

/// What a member has to remember of the senders of its group as long as its process lives.
#[derive(Debug)]
pub struct SenderIds {
    length: SenderIdLength,
    granted: Mutex<Granted>,
    /// Counts grants, so that lanes look again only when there is something new.
    version: AtomicU64,
    keys: Mutex<Keys>,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct Granted {
    period: u64,
    /// With the period each belongs to.
    ids: Vec<(u64, u32)>,
    /// Most identifiers of the present period that a key has taken or would take.
    demand: usize,
}

#[derive(Debug, Default)]
struct Keys {
    by_fingerprint: HashMap<[u8; 16], Remembered>,
    /// In the order they came.
    order: VecDeque<[u8; 16]>,
}

#[derive(Debug)]
struct Remembered {
    used: Arc<Mutex<BTreeSet<u32>>>,
    memory: Option<Arc<KeyMemory>>,
}

impl Remembered {
    /// A table or the control side still has the key.
    fn is_held(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| Arc::strong_count(memory) > 1)
    }
}

/// What has to be remembered of a key.
#[derive(Debug)]
pub(crate) struct KeyMemory {
    /// Our own identifiers used with it.
    used: Arc<Mutex<BTreeSet<u32>>>,
    /// Sequence numbers of the others.
    pub(crate) windows: Windows,
    /// Until when the windows are needed, in microseconds.
    needed_until: AtomicU64,
}

impl KeyMemory {
    /// The key lives at least until then.
    pub(crate) fn keep_until(&self, end: Instant) {
        self.needed_until.fetch_max(end.as_micros(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SenderIds {
    /// A group's identifiers, none of them granted.
    ///
    /// Keep the object as long as the process may see the group's keys: a second one does not know what the first has
    /// used.
    pub fn new(length: SenderIdLength) -> Arc<Self> {
        Arc::new(Self {
            length,
            granted: Mutex::default(),
            version: AtomicU64::new(0),
            keys: Mutex::default(),
            budget: Arc::default(),
        })
    }

    /// Begins a new period: a PULL has brought identifiers. Keys made from here on take only what is granted from here on.
    pub fn begin_period(&self) {
        let mut granted = lock(&self.granted);
        granted.period += 1;
        granted.demand = 0;
    }

    /// Lets lanes send with an identifier. The caller has recorded durably that it is used.
    pub fn grant(&self, id: u32) -> Result<(), SenderIdError> {
        let bits = self.length.bits();
        if id >> bits != 0 {
            return Err(SenderIdError::TooLong { id, bits });
        }
        let mut granted = lock(&self.granted);
        if granted.ids.len() == MOST_GRANTED {
            return Err(SenderIdError::TooMany);
        }
        let period = granted.period;
        if !granted.ids.contains(&(period, id)) {
            granted.ids.push((period, id));
        }
        drop(granted);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// How many more identifiers lanes ask for: to be granted if there are spares, else reason for a new PULL.
    pub fn wanted(&self) -> usize {
        let granted = lock(&self.granted);
        granted.demand.saturating_sub(granted.of_period(granted.period).count())
    }

    /// Frees the receive windows of keys whose hard lifetime is over and that no table holds any more.
    ///
    /// Which identifiers they were used with is still remembered.
    pub fn forget_expired(&self, now: Instant) {
        for known in lock(&self.keys).by_fingerprint.values_mut().filter(|known| !known.is_held()) {
            known.memory.take_if(|memory| memory.needed_until.load(Ordering::Relaxed) <= now.as_micros());
        }
    }

    /// Bits of the identifiers.
    pub fn length(&self) -> SenderIdLength {
        self.length
    }

    pub(crate) fn period(&self) -> u64 {
        lock(&self.granted).period
    }

    /// What is remembered of a key, from before or from now on.
    pub(crate) fn memory_of(&self, key: &[u8], needed_until: Instant) -> Arc<KeyMemory> {
        let digest = PrfKey::new(Hash::Sha256, b"sender identifiers used with").tag(&[key]);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        let mut keys = lock(&self.keys);
        let Keys { by_fingerprint, order } = &mut *keys;
        if !by_fingerprint.contains_key(&fingerprint) {
            if order.len() >= MOST_KEYS {
                let unheld = |key: &[u8; 16]| by_fingerprint.get(key).is_none_or(|known| !known.is_held());
                if let Some(oldest) = order.iter().position(unheld).and_then(|at| order.remove(at)) {
                    by_fingerprint.remove(&oldest);
                }
            }
            order.push_back(fingerprint);
        }
        let known = by_fingerprint
            .entry(fingerprint)
            .or_insert_with(|| Remembered { used: Arc::default(), memory: None });
        let memory = known.memory.get_or_insert_with(|| {
            let windows = Windows::new(Arc::clone(&self.budget));
            lock(&known.used).iter().for_each(|id| _ = windows.mark_own(*id));
            Arc::new(KeyMemory { used: Arc::clone(&known.used), windows, needed_until: AtomicU64::new(0) })
        });
        memory.keep_until(needed_until);
        Arc::clone(memory)
    }

    /// An identifier of the period that was not used with the key before.
    fn take(&self, period: u64, key: &KeyMemory) -> Option<u32> {
        let mut granted = lock(&self.granted);
        let mut used = lock(&key.used);
        let free = granted.of_period(period).find(|id| !used.contains(id));
        match free {
            Some(id) if key.windows.mark_own(id) => {
                used.insert(id);
                Some(id)
            }
            Some(_) => None,
            None => {
                if period == granted.period {
                    let count = granted.of_period(period).count();
                    granted.demand = granted.demand.max(count + 1);
                }
                None
            }
        }
    }
}

impl Granted {
    fn of_period(&self, period: u64) -> impl Iterator<Item = u32> {
        self.ids.iter().filter(move |(of, _)| *of == period).map(|(_, id)| *id)
    }
}

/// One lane's place in the numbers of one key.
#[derive(Debug, Default)]
pub(crate) struct LaneSender {
    present: Option<Counter>,
    spare: Option<u32>,
    /// The grants seen when the last look for an identifier failed.
    failed_at: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Counter {
    sender: u32,
    last: u32,
}

impl LaneSender {
    /// Sender identifier and sequence number of the next packet, never the same again. `None`: there is none.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        ids: &SenderIds,
        period: &AtomicU64,
        key: &KeyMemory,
    ) -> Option<(u32, u32)> {
        if let Some(counter) = &mut self.present
            && counter.last < NEAR_THE_END
        {
            counter.last += 1;
            return Some((counter.sender, counter.last));
        }
        self.next_near_the_end(ids, period, key)
    }

    /// The same at the beginning, too.
    #[cold]
    fn next_near_the_end(
        &mut self,
        ids: &SenderIds,
        period: &AtomicU64,
        key: &KeyMemory,
    ) -> Option<(u32, u32)> {
        let last = match &self.present {
            Some(counter) => {
                let last = counter.last;
                if self.spare.is_none() {
                    self.spare = self.look(ids, period, key);
                }
                last
            }
            None => u32::MAX,
        };
        if last == u32::MAX {
            let sender = self.spare.take().or_else(|| self.look(ids, period, key))?;
            self.present = Some(Counter { sender, last: 0 });
        }
        let counter = self.present.as_mut()?;
        counter.last += 1;
        Some((counter.sender, counter.last))
    }

    fn look(&mut self, ids: &SenderIds, period: &AtomicU64, key: &KeyMemory) -> Option<u32> {
        let period = period.load(Ordering::Relaxed);
        let version = ids.version.load(Ordering::Acquire);
        if self.failed_at == Some((version, period)) {
            return None;
        }
        let found = ids.take(period, key);
        self.failed_at = found.is_none().then_some((version, period));
        found
    }
}

/// Shared by the lanes: how far CBC packets have been counted.
#[derive(Debug, Default)]
pub(crate) struct SharedCounter(AtomicU32);

impl SharedCounter {
    /// Takes `count` sequence numbers and returns the first; the count starts with 1.
    ///
    /// It wraps: nothing counts CBC packets of a key shared by many senders, so there is nothing a repetition could
    /// break, and a sender must not fall silent at 2^32 packets.
    pub(crate) fn reserve(&self, count: u32) -> u32 {
        self.0.fetch_add(count, Ordering::Relaxed).wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Instant = Instant::FAR_FUTURE;

    fn ids(granted: &[u32]) -> Arc<SenderIds> {
        let ids = SenderIds::new(SenderIdLength::Bits16);
        granted.iter().for_each(|id| ids.grant(*id).unwrap());
        ids
    }

    #[test]
    fn identifiers_are_the_leftmost_bits_as_in_figure_1() {
        assert_eq!(SenderIdLength::Bits8.iv(1, 1), [1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(SenderIdLength::Bits12.iv(0xabc, 0x01020304), [0xab, 0xc0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(SenderIdLength::Bits16.iv(0xabcd, u32::MAX), [0xab, 0xcd, 0, 0, 255, 255, 255, 255]);
        for length in SenderIdLength::ALL {
            let largest = (1 << length.bits()) - 1;
            for sender in [0, 1, largest] {
                assert_eq!(length.sender_of(length.iv(sender, u32::MAX)), sender);
            }
            assert_eq!(SenderIdLength::from_bits(length.bits()), Some(length));
            let bits = length.bits();
            let error = SenderIdError::TooLong { id: largest + 1, bits };
            assert_eq!(SenderIds::new(length).grant(largest + 1), Err(error));
        }
    }

    #[test]
    fn each_lane_takes_its_own_and_further_lanes_want_more() {
        let ids = ids(&[0, 7]);
        let (key, period) = (ids.memory_of(b"key", END), AtomicU64::new(0));
        let mut lanes: [LaneSender; 3] = std::array::from_fn(|_| LaneSender::default());
        let next: Vec<_> = lanes.iter_mut().map(|lane| lane.next(&ids, &period, &key)).collect();
        assert_eq!(next, [Some((0, 1)), Some((7, 1)), None]);
        assert_eq!(lanes[0].next(&ids, &period, &key), Some((0, 2)));
        assert_eq!(ids.wanted(), 1);
        ids.grant(9).unwrap();
        assert_eq!(ids.wanted(), 0);
        assert_eq!(lanes[2].next(&ids, &period, &key), Some((9, 1)));
    }

    #[test]
    fn a_full_counter_is_followed_by_the_next_identifier_and_then_by_silence() {
        let ids = ids(&[1]);
        let (key, period) = (ids.memory_of(b"key", END), AtomicU64::new(0));
        let mut lane = LaneSender::default();
        assert_eq!(lane.next(&ids, &period, &key), Some((1, 1)));
        lane.present.as_mut().unwrap().last = NEAR_THE_END - 1;
        lane.next(&ids, &period, &key);
        assert_eq!(ids.wanted(), 0);
        // Near the end it asks for the next one, long before it needs it.
        assert_eq!(lane.next(&ids, &period, &key), Some((1, NEAR_THE_END + 1)));
        assert_eq!(ids.wanted(), 1);
        ids.grant(2).unwrap();
        lane.present.as_mut().unwrap().last = u32::MAX - 1;
        assert_eq!(lane.next(&ids, &period, &key), Some((1, u32::MAX)));
        assert_eq!(lane.next(&ids, &period, &key), Some((2, 1)));
        lane.present.as_mut().unwrap().last = u32::MAX;
        assert_eq!(lane.next(&ids, &period, &key), None);
        assert_eq!(ids.wanted(), 1);
    }

    #[test]
    fn a_key_installed_anew_does_not_use_an_identifier_again() {
        let ids = ids(&[1, 2]);
        let period = AtomicU64::new(0);
        let next = |key: &[u8]| {
            let memory = ids.memory_of(key, END);
            LaneSender::default().next(&ids, &period, &memory)
        };
        assert_eq!([next(b"one"), next(b"two")], [Some((1, 1)); 2]);
        assert_eq!([next(b"one"), next(b"one"), next(b"two")], [Some((2, 1)), None, Some((2, 1))]);
        // Even a server that hands out the same number again with the next registration does not make us repeat it.
        ids.begin_period();
        ids.grant(1).unwrap();
        ids.grant(5).unwrap();
        period.store(1, Ordering::Relaxed);
        assert_eq!(next(b"one"), Some((5, 1)));
    }

    #[test]
    fn a_key_of_an_earlier_registration_does_not_use_identifiers_of_a_later_one() {
        let ids = ids(&[1]);
        let (old, old_period) = (ids.memory_of(b"old", END), AtomicU64::new(ids.period()));
        ids.begin_period();
        ids.grant(2).unwrap();
        let (new, new_period) = (ids.memory_of(b"new", END), AtomicU64::new(ids.period()));
        assert_eq!(LaneSender::default().next(&ids, &new_period, &new), Some((2, 1)));
        assert_eq!(LaneSender::default().next(&ids, &old_period, &old), Some((1, 1)));
        assert_eq!(LaneSender::default().next(&ids, &old_period, &old), None);
        assert_eq!(ids.wanted(), 0);
    }

    #[test]
    fn windows_end_with_their_key_and_used_identifiers_are_remembered() {
        let ids = ids(&[1, 2]);
        let period = AtomicU64::new(0);
        let held = ids.memory_of(b"held", Instant::from_micros(5));
        let ended = ids.memory_of(b"ended", Instant::from_micros(5));
        assert_eq!(LaneSender::default().next(&ids, &period, &ended), Some((1, 1)));
        ended.windows.mark(9, 9).unwrap();
        drop(ended);
        ids.memory_of(b"living", Instant::from_micros(50)).windows.mark(9, 9).unwrap();
        ids.forget_expired(Instant::from_micros(5));
        assert!(Arc::ptr_eq(&held, &ids.memory_of(b"held", END)));
        assert!(ids.memory_of(b"living", END).windows.mark(9, 9).is_err());
        let again = ids.memory_of(b"ended", END);
        assert!(again.windows.mark(1, 1).is_err(), "our own");
        assert!(again.windows.mark(9, 9).is_ok());
        assert_eq!(LaneSender::default().next(&ids, &period, &again), Some((2, 1)));
    }
}
