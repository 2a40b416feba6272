//! Counters that survive the exchange of tables. Relaxed atomics: totals, not a consistent cut.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DropReason, PassReason};

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

macro_rules! reason_counters {
    ($counters:ident, $reason:ident, $what:literal) => {
        #[doc = concat!("Packets ", $what, ", one counter per reason.")]
        #[derive(Debug)]
        pub struct $counters([AtomicU64; $reason::COUNT]);

        impl Default for $counters {
            fn default() -> Self {
                Self(std::array::from_fn(|_| AtomicU64::new(0)))
            }
        }

        impl $counters {
            pub(crate) fn add(&self, reason: $reason, packets: u64) {
                self.0[reason as usize].fetch_add(packets, Ordering::Relaxed);
            }

            #[doc = concat!("Packets ", $what, " for one reason.")]
            pub fn count(&self, reason: $reason) -> u64 {
                self.0[reason as usize].load(Ordering::Relaxed)
            }

            #[doc = concat!("Packets ", $what, " for any reason.")]
            pub fn total(&self) -> u64 {
                self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
            }

            /// Every reason with its count.
            pub fn all(&self) -> impl Iterator<Item = ($reason, u64)> {
                $reason::ALL.iter().map(|&reason| (reason, self.count(reason)))
            }

            /// The reasons that have occurred, with their counts.
            pub fn occurred(&self) -> impl Iterator<Item = ($reason, u64)> {
                self.all().filter(|(_, count)| *count != 0)
            }

            /// Starts again from zero.
            pub fn reset(&self) {
                self.0.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
            }
        }
    };
}

reason_counters!(Drops, DropReason, "dropped");
reason_counters!(Passes, PassReason, "passed as they are");

/// What happened to the packets of one VPN, or to those that belong to none.
#[derive(Debug, Default)]
pub struct Counters {
    /// Encrypted packets, as they were before encryption.
    pub encrypted: Traffic,
    /// Decrypted packets, as they are after decryption.
    pub decrypted: Traffic,
    /// Packets that passed as they are, by reason.
    pub passed: Passes,
    /// Packets dropped, by reason.
    pub drops: Drops,
}

impl Counters {
    /// Starts again from zero.
    pub fn reset(&self) {
        self.encrypted.reset();
        self.decrypted.reset();
        self.passed.reset();
        self.drops.reset();
    }
}
