//! Counters that survive the exchange of tables. Relaxed atomics: totals, not a consistent cut.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::DropReason;

/// Packets and octets of one direction of one SA or VPN.
#[derive(Debug, Default)]
pub struct Traffic {
    packets: AtomicU64,
    octets: AtomicU64,
}

impl Traffic {
    /// Adds one batch's sum.
    pub(crate) fn add(&self, packets: u64, octets: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Octets of inner IP packets so far.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Starts again from zero.
    pub fn reset(&self) {
        self.packets.store(0, Ordering::Relaxed);
        self.octets.store(0, Ordering::Relaxed);
    }
}

/// One counter per [`DropReason`].
#[derive(Debug)]
pub struct Drops([AtomicU64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Drops {
    pub(crate) fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].fetch_add(packets, Ordering::Relaxed);
    }

    /// Packets dropped for one reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// The reasons that have occurred, with their counts.
    pub fn occurred(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason, self.count(reason))).filter(|(_, count)| *count != 0)
    }

    /// Starts again from zero.
    pub fn reset(&self) {
        self.0.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// What happened to the packets of one VPN, or to those that belong to none.
#[derive(Debug, Default)]
pub struct Counters {
    /// Encrypted packets, as they were before encryption.
    pub encrypted: Traffic,
    /// Decrypted packets, as they are after decryption.
    pub decrypted: Traffic,
    /// Packets that left in clear, as the rules say.
    pub clear_out: Traffic,
    /// Clear packets from outside that were let in.
    pub clear_in: Traffic,
    /// Packets dropped, by reason.
    pub drops: Drops,
}

impl Counters {
    /// Starts again from zero.
    pub fn reset(&self) {
        for traffic in [&self.encrypted, &self.decrypted, &self.clear_out, &self.clear_in] {
            traffic.reset();
        }
        self.drops.reset();
    }
}
