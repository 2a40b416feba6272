//! The KEKs that a VPN of the member holds: which pushes may come under them, how old they may be, when they end.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crypto::signature::VerifyingKey;

use super::sa_set::{ROUNDING, timeline};
use crate::policy::{KekKeys, ReceivedKek};
use crate::push::{Kek, KekSpi, Recent};
use crate::time::Instant;
use crate::timeline::{Timeline, kek_reregister_at};

/// KEKs held at a time: the present one, its successor, one that a restarted server made, and room.
const KEKS: usize = 6;

/// Numbers of pushes remembered of KEKs that are gone, should a PULL bring one of them again.
const RETIRED: usize = 32;

/// A KEK that is held.
#[derive(Debug, Clone)]
pub(super) struct HeldKek {
    pub(super) kek: Kek,
    pub(super) verifying: VerifyingKey,
    /// A number that is unique on this member and never reused.
    pub(super) index: u32,
    /// When it is gone.
    pub(super) ends: Instant,
    pub(super) timeline: Timeline,
    /// Time between signs of life of the server.
    pub(super) heartbeat: Option<Duration>,
    /// Where its pushes are sent, if that is a multicast group.
    pub(super) multicast: Option<IpAddr>,
    /// The server that gave it.
    pub(super) server: IpAddr,
    /// The greatest sequence number accepted, or what the PULL said of it.
    pub(super) sequence: u32,
    /// Pushes accepted.
    pub(super) pushes: u64,
    /// Pushes accepted of late.
    pub(super) recent: Recent,
    /// When it came.
    pub(super) since: Instant,
    /// When the first PULL came that brought a newer one, which may be gone by now.
    pub(super) renewed: Option<Instant>,
    /// Where in the window of re-registration this member stands.
    pub(super) fraction: u32,
}

/// The KEKs of one VPN.
#[derive(Debug, Default)]
pub(super) struct KekSet {
    /// Oldest first: the last one is what the server told last.
    pub(super) held: Vec<HeldKek>,
    pub(super) retired: VecDeque<(KekSpi, u32)>,
}

/// How a KEK came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// By GROUPKEY-PULL, whose message 4 told this number of the last push.
    Pull {
        sequence: Option<u32>,
        /// When message 4 came.
        came: Instant,
    },
    /// By a push under another KEK.
    Push { under: KekSpi },
}

impl KekSet {
    /// Takes a KEK. `told` is the moment from which its remaining life counts. `number` and `fraction` are for a new one.
    /// Returns whether it is new.
    #[expect(clippy::too_many_arguments, reason = "each comes from another place")]
    pub(super) fn take(
        &mut self,
        origin: Origin,
        told: Instant,
        received: &ReceivedKek,
        keys: KekKeys,
        server: IpAddr,
        number: u32,
        fraction: u32,
    ) -> bool {
        let position = self.held.iter().position(|held| held.kek.spi == received.spi);
        let mut ends = told + received.remaining;
        let same = |held: &HeldKek| {
            held.kek.key == keys.kek.key
                && held.kek.iv == keys.kek.iv
                && held.kek.cipher == keys.kek.cipher
                && held.verifying == keys.verifying
        };
        if let Some(held) = position.map(|position| &mut self.held[position]).filter(|held| same(held)) {
            match origin {
                Origin::Pull { sequence, .. } => {
                    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.3
                    //# But if the KEK associated with this
                    //# sequence number had been previously installed, due to the
                    //# asynchronous processing of GROUPKEY-PULL and GROUPKEY-PUSH messages,
                    //# this sequence number may be lower than the sequence number contained
                    //# in the most recently received GROUPKEY-PUSH message.  In this case,
                    //# the sequence number value in the SEQ payload MUST be considered stale
                    //# and ignored.
                    held.sequence = held.sequence.max(sequence.unwrap_or(0));
                    if held.ends > ends && held.ends - ends <= ROUNDING {
                        ends = held.ends;
                    }
                    held.ends = ends;
                    held.server = server;
                }
                // A push that was held up on the way extends nothing.
                Origin::Push { .. } => held.ends = held.ends.min(ends),
            }
            held.kek.acknowledgement = received.acknowledgement;
            held.kek.hash = received.hash;
            held.heartbeat = match origin {
                Origin::Pull { .. } => received.heartbeat,
                Origin::Push { .. } => received.heartbeat.or(held.heartbeat),
            };
            held.multicast = received.multicast;
            return false;
        }
        if let Some(position) = position {
            // The same name for another key: nothing sent under the old one can be mistaken for it.
            self.held.remove(position);
        }
        let under = match origin {
            Origin::Push { under } => self.get(under),
            Origin::Pull { .. } => None,
        };
        let lifetime = received.lifetime.or_else(|| under.map(|under| under.timeline.lifetime));
        let known = if position.is_some() { 0 } else { self.retired_sequence(received.spi) };
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
        //# At
        //# the conclusion of a GROUPKEY-PULL exchange, the initiating group
        //# member MUST NOT accept any rekey message with both the KEK attribute
        //# SPI value and a sequence number less than or equal to the one
        //# received during the GROUPKEY-PULL exchange.
        let sequence = match origin {
            Origin::Pull { sequence, .. } => sequence.unwrap_or(0),
            //= https://www.rfc-editor.org/rfc/rfc6407#section-4
            //# Note the first packet for
            //# the given Rekey SA encrypted with the new KEK attribute will have a
            //# Sequence number of 1.
            Origin::Push { .. } => 0,
        };
        let since = match origin {
            Origin::Pull { came, .. } => came,
            Origin::Push { .. } => told,
        };
        let held = HeldKek {
            heartbeat: received.heartbeat.or_else(|| under.and_then(|under| under.heartbeat)),
            server: under.map_or(server, |under| under.server),
            kek: keys.kek,
            verifying: keys.verifying,
            index: number,
            ends,
            timeline: timeline(lifetime.unwrap_or(received.remaining)),
            multicast: received.multicast,
            sequence: sequence.max(known),
            pushes: 0,
            recent: Recent::default(),
            since,
            renewed: None,
            fraction,
        };
        if self.held.len() == KEKS {
            let first = self.held.remove(0);
            self.retire(&first);
        }
        if matches!(origin, Origin::Pull { .. }) {
            self.held.iter_mut().for_each(|older| older.renewed = older.renewed.or(Some(since)));
        }
        self.held.push(held);
        true
    }

    pub(super) fn get(&self, spi: KekSpi) -> Option<&HeldKek> {
        self.held.iter().find(|held| held.kek.spi == spi)
    }

    pub(super) fn get_mut(&mut self, spi: KekSpi) -> Option<&mut HeldKek> {
        self.held.iter_mut().find(|held| held.kek.spi == spi)
    }

    /// What the server told last.
    pub(super) fn newest(&self) -> Option<&HeldKek> {
        self.held.last()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HeldKek> {
        self.held.iter()
    }

    /// Forgets a KEK. Returns whether it was held.
    pub(super) fn remove(&mut self, spi: KekSpi) -> bool {
        let before = self.held.len();
        self.forget(|held| held.kek.spi == spi);
        self.held.len() < before
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.forget(|_| true);
    }

    /// Forgets those that came before.
    pub(super) fn clear_before(&mut self, moment: Instant) {
        self.forget(|held| held.since < moment);
    }

    /// When the first PULL came that brought a newer KEK than this one.
    pub(super) fn renewed_since(&self, spi: KekSpi) -> Option<Instant> {
        self.get(spi)?.renewed
    }

    /// Forgets those whose life is over. Returns how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.held.len();
        self.forget(|held| held.ends <= now);
        before - self.held.len()
    }

    /// When the next one ends.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.ends).min()
    }

    /// When the member must ask for a successor: the one that the server told last has none.
    pub(super) fn next_registration(&self) -> Option<Instant> {
        self.newest().map(HeldKek::soft_expiry)
    }

    /// The multicast groups that pushes may come to, each with the server that sends there.
    pub(super) fn multicast_groups(&self) -> BTreeMap<IpAddr, IpAddr> {
        self.held.iter().filter_map(|held| Some((held.multicast?, held.server))).collect()
    }

    fn forget(&mut self, condition: impl Fn(&HeldKek) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.held).into_iter().partition(|held| condition(held));
        self.held = kept;
        let gone: Vec<HeldKek> = gone;
        gone.iter().for_each(|held| self.retire(held));
    }

    fn retire(&mut self, held: &HeldKek) {
        self.retired.retain(|(spi, _)| *spi != held.kek.spi);
        if self.retired.len() == RETIRED {
            self.retired.pop_front();
        }
        self.retired.push_back((held.kek.spi, held.sequence));
    }

    fn retired_sequence(&self, spi: KekSpi) -> u32 {
        self.retired.iter().find(|(known, _)| *known == spi).map_or(0, |(_, sequence)| *sequence)
    }
}

impl HeldKek {
    /// The part of `duration` at which this member stands in it.
    pub(super) fn spread(&self, duration: Duration) -> Duration {
        crate::timeline::scale(duration, self.fraction)
    }

    /// When the member registers again if no successor has come.
    pub(super) fn soft_expiry(&self) -> Instant {
        self.ends - kek_reregister_at(self.timeline.lifetime, self.fraction)
    }
}
