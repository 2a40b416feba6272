//! Runtime security associations of a group: one key, used by every member in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crypto::esp::{EspKey, EspKeyError, EspSuite, Layout};

use crate::sender_ids::{KeyMemory, LaneSender, SharedCounter};
use crate::{Instant, PseudoClock, SenderIds, Traffic};

/// In which directions a TEK is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaDirection {
    /// To send and to receive.
    #[default]
    Symmetric,
    /// To send: we are the only sender.
    SenderOnly,
    /// To receive: somebody else is.
    ReceiverOnly,
}

/// What the control side knows about a TEK.
#[derive(Clone, Copy, Debug)]
pub struct SaSettings<'a> {
    /// The SPI, as in the ESP header; at least 256 (RFC 4303 section 2.1).
    pub spi: u32,
    /// Cipher and integrity algorithm.
    pub suite: EspSuite,
    /// Directions it is used in.
    pub direction: SaDirection,
    /// Key of the cipher.
    pub cipher_key: &'a [u8],
    /// Key of the integrity algorithm.
    pub integrity_key: &'a [u8],
    /// From when on it may encrypt. Received packets are decrypted at once: others may be ahead.
    pub activate_at: Instant,
    /// From when on it is used for nothing.
    pub hard_expiry: Instant,
    /// The group's sender identifiers: counter-mode suites need them, others leave them alone.
    pub sender_ids: Option<&'a Arc<SenderIds>>,
    /// Time-based anti-replay with this clock. `None`: off, and packets with a pseudo-time are refused.
    pub pseudo_clock: Option<&'a Arc<PseudoClock>>,
}

/// Why a TEK cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// The SPI is one of the reserved values 0 to 255.
    #[error("reserved SPI {0}")]
    ReservedSpi(u32),
    /// Counter-mode suites need the group's sender identifiers.
    #[error("a counter-mode suite without sender identifiers")]
    NoSenderIds,
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
    direction: SaDirection,
    key: Arc<EspKey>,
    layout: Layout,
    pseudo_clock: Option<Arc<PseudoClock>>,
    activate_at: Instant,
    hard_expiry: Instant,
    /// State of sending.
    pub(crate) outbound: Arc<OutboundSa>,
    /// State of receiving.
    pub(crate) inbound: Arc<InboundSa>,
}

/// What sending under a key changes.
#[derive(Debug)]
pub(crate) struct OutboundSa {
    pub(crate) numbers: Numbers,
    pub(crate) traffic: Traffic,
}

/// Where sequence numbers come from.
#[derive(Debug)]
pub(crate) enum Numbers {
    /// All lanes count together; IVs are random.
    Shared(SharedCounter),
    /// Each lane counts under a sender identifier of its own; IVs are made of both.
    Senders(Senders),
}

/// What counter modes need.
#[derive(Debug)]
pub(crate) struct Senders {
    ids: Arc<SenderIds>,
    /// The period of identifiers the key belongs to.
    period: AtomicU64,
    pub(crate) memory: Arc<KeyMemory>,
}

impl Senders {
    /// The next packet's sequence number and IV. `None`: no identifier is left.
    #[inline(always)]
    pub(crate) fn next(&self, lane: &mut LaneSender) -> Option<(u32, [u8; 8])> {
        let (sender, sequence) = lane.next(&self.ids, &self.period, &self.memory)?;
        Some((sequence, self.ids.length().iv(sender, sequence)))
    }

    /// Who has made an IV.
    pub(crate) fn sender_of(&self, iv: [u8; 8]) -> u32 {
        self.ids.length().sender_of(iv)
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
        let key = EspKey::new(settings.suite, settings.cipher_key, settings.integrity_key)?;
        let numbers = if settings.suite.wants_random_iv() {
            Numbers::Shared(SharedCounter::default())
        } else {
            let ids = settings.sender_ids.ok_or(SaError::NoSenderIds)?;
            Numbers::Senders(Senders {
                period: AtomicU64::new(ids.period()),
                memory: ids.memory_of(settings.cipher_key, settings.hard_expiry),
                ids: Arc::clone(ids),
            })
        };
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            spi: settings.spi,
            direction: settings.direction,
            key,
            layout: settings.suite.layout(),
            pseudo_clock: settings.pseudo_clock.cloned(),
            activate_at: settings.activate_at,
            hard_expiry: settings.hard_expiry,
            outbound: Arc::new(OutboundSa { numbers, traffic: Traffic::default() }),
            inbound: Arc::default(),
        }))
    }

    /// The same TEK with other times: key, sequence numbers and counters are shared with this object, which tables in
    /// use may still name. Only one of the two belongs into new tables.
    #[must_use]
    pub fn retimed(&self, activate_at: Instant, hard_expiry: Instant) -> Arc<Self> {
        if let Some(senders) = self.senders() {
            senders.memory.keep_until(hard_expiry);
        }
        Arc::new(Self {
            id: self.id,
            spi: self.spi,
            direction: self.direction,
            key: Arc::clone(&self.key),
            layout: self.layout,
            pseudo_clock: self.pseudo_clock.clone(),
            activate_at,
            hard_expiry,
            outbound: Arc::clone(&self.outbound),
            inbound: Arc::clone(&self.inbound),
        })
    }

    /// A PULL has brought the key again, and identifiers with it: from now on it takes those.
    pub fn renew_sender_ids(&self) {
        if let Some(senders) = self.senders() {
            senders.period.store(senders.ids.period(), Ordering::Relaxed);
        }
    }

    /// The SPI, as in the ESP header.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Directions it is used in.
    pub fn direction(&self) -> SaDirection {
        self.direction
    }

    /// May encrypt, as far as its direction is concerned.
    pub(crate) fn sends(&self) -> bool {
        self.direction != SaDirection::ReceiverOnly
    }

    /// May decrypt, as far as its direction is concerned.
    pub(crate) fn receives(&self) -> bool {
        self.direction != SaDirection::SenderOnly
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

    /// The clock of time-based anti-replay, if the key's packets carry pseudo-time.
    pub fn pseudo_clock(&self) -> Option<&Arc<PseudoClock>> {
        self.pseudo_clock.as_ref()
    }

    /// Senders and their windows, if the suite is a counter mode.
    pub(crate) fn senders(&self) -> Option<&Senders> {
        match &self.outbound.numbers {
            Numbers::Senders(senders) => Some(senders),
            Numbers::Shared(_) => None,
        }
    }

    /// How far each sender was heard, if the suite is a counter mode: sender identifiers with the last sequence numbers.
    /// `None` if those are more than `most`.
    pub fn received(&self, most: usize) -> Option<Vec<(u32, u32)>> {
        match self.senders() {
            Some(senders) => senders.memory.windows.last_numbers(most),
            None => Some(Vec::new()),
        }
    }

    /// Accepts only what is later than this of each sender: what an earlier process has [received](Self::received).
    pub fn resume_receiving(&self, last_numbers: &[(u32, u32)]) {
        if let Some(senders) = self.senders() {
            last_numbers.iter().for_each(|(sender, last)| senders.memory.windows.resume(*sender, *last));
        }
    }

    /// Names the key, not the SPI: unique in the process, and the same for retimed objects.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The lengths of the suite's packets.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn key(&self) -> &Arc<EspKey> {
        &self.key
    }
}
