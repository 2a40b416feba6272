//! Runtime security associations of a group: one key, used by every member in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crypto::esp::{EspKey, EspKeyError, EspSuite};

use crate::{Instant, Traffic};

/// What the control side knows about a TEK.
#[derive(Clone, Copy, Debug)]
pub struct SaSettings<'a> {
    /// The SPI, as in the ESP header; at least 256 (RFC 4303 section 2.1).
    pub spi: u32,
    /// Cipher and integrity algorithm.
    pub suite: EspSuite,
    /// Key of the cipher.
    pub cipher_key: &'a [u8],
    /// Key of the integrity algorithm.
    pub integrity_key: &'a [u8],
    /// From when on it may encrypt. Received packets are decrypted at once: others may be ahead.
    pub activate_at: Instant,
    /// From when on it is used for nothing.
    pub hard_expiry: Instant,
}

/// Why a TEK cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// The SPI is one of the reserved values 0 to 255.
    #[error("reserved SPI {0}")]
    ReservedSpi(u32),
    /// Counter modes need sender identifiers, which are not active yet.
    #[error("counter-mode suites are not active yet")]
    CounterMode,
    /// The keys do not fit the suite.
    #[error(transparent)]
    Key(#[from] EspKeyError),
}

/// One TEK with its runtime state, shared by all tables that name it and by all lanes.
///
/// Keep it as long as the TEK lives and put the same object, or a [retimed](Self::retimed) one, into every new table:
/// sequence numbers and counters go on.
#[derive(Debug)]
pub struct GroupSa {
    id: u64,
    spi: u32,
    key: Arc<EspKey>,
    activate_at: Instant,
    hard_expiry: Instant,
    /// State of sending.
    pub(crate) outbound: Arc<OutboundSa>,
    /// State of receiving.
    pub(crate) inbound: Arc<InboundSa>,
}

/// What sending under a key changes.
#[derive(Debug, Default)]
pub(crate) struct OutboundSa {
    sequence: AtomicU32,
    pub(crate) traffic: Traffic,
}

impl OutboundSa {
    /// Takes `count` sequence numbers and returns the first; the count starts with 1.
    ///
    /// It wraps: nothing counts CBC packets of a key shared by many senders, so there is nothing a repetition could
    /// break, and a sender must not fall silent at 2^32 packets.
    pub(crate) fn reserve_sequence(&self, count: u32) -> u32 {
        self.sequence.fetch_add(count, Ordering::Relaxed).wrapping_add(1)
    }
}

/// What receiving under a key changes.
#[derive(Debug, Default)]
pub(crate) struct InboundSa {
    pub(crate) traffic: Traffic,
}

impl GroupSa {
    /// Prepares the key.
    pub fn new(settings: &SaSettings<'_>) -> Result<Arc<Self>, SaError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        //= https://www.rfc-editor.org/rfc/rfc4303#section-2.1
        //# The set of SPI values in the
        //# range 1 through 255 are reserved by the Internet Assigned Numbers
        //# Authority (IANA) for future use
        if settings.spi < 256 {
            return Err(SaError::ReservedSpi(settings.spi));
        }
        if !settings.suite.wants_random_iv() {
            return Err(SaError::CounterMode);
        }
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            spi: settings.spi,
            key: EspKey::new(settings.suite, settings.cipher_key, settings.integrity_key)?,
            activate_at: settings.activate_at,
            hard_expiry: settings.hard_expiry,
            outbound: Arc::default(),
            inbound: Arc::default(),
        }))
    }

    /// The same TEK with other times: key, sequence numbers and counters are shared with this object, which tables in
    /// use may still name. Only one of the two belongs into new tables.
    #[must_use]
    pub fn retimed(&self, activate_at: Instant, hard_expiry: Instant) -> Arc<Self> {
        Arc::new(Self {
            id: self.id,
            spi: self.spi,
            key: Arc::clone(&self.key),
            activate_at,
            hard_expiry,
            outbound: Arc::clone(&self.outbound),
            inbound: Arc::clone(&self.inbound),
        })
    }

    /// The SPI, as in the ESP header.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Cipher and integrity algorithm.
    pub fn suite(&self) -> EspSuite {
        self.key.suite()
    }

    /// From when on it may encrypt.
    pub fn activate_at(&self) -> Instant {
        self.activate_at
    }

    /// From when on it is used for nothing.
    pub fn hard_expiry(&self) -> Instant {
        self.hard_expiry
    }

    /// Packets encrypted, as they were before.
    pub fn encrypted(&self) -> &Traffic {
        &self.outbound.traffic
    }

    /// Packets decrypted, as they are after.
    pub fn decrypted(&self) -> &Traffic {
        &self.inbound.traffic
    }

    /// May encrypt now.
    pub fn is_active(&self, now: Instant) -> bool {
        self.activate_at <= now && now < self.hard_expiry
    }

    /// Names the key, not the SPI: unique in the process, and the same for retimed objects.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn key(&self) -> &Arc<EspKey> {
        &self.key
    }
}
