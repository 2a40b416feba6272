//! What is known of the keys that servers have made: when each was made, may be used and ends; who holds it, and who
//! sends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use proto::member::Event;
use proto::server::Server;
use proto::time::Instant;

use crate::bits::Bits;
use crate::parties::Host;
use crypto::Hash;

/// Two readings of the same moment differ by less than this: `show` has whole seconds.
pub(crate) const READING: Duration = Duration::from_secs(1);

/// Keys are remembered for this long after their end, to see whether anybody still uses them.
const MEMORY: Duration = Duration::from_secs(600);

/// For how long what somebody asked for may make a difference to the number of keys: a life and what it is cut to.
const OUT_OF_TURN: Duration = Duration::from_secs(600);

/// One TEK.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its `ipsec-sa`.
    pub(crate) sa: Rc<str>,
    pub(crate) server: usize,
    /// Which life of that server made it.
    pub(crate) generation: u32,
    pub(crate) made: Instant,
    /// When senders that hold another key of the same policy switch to it.
    pub(crate) activates: Instant,
    /// When it is gone at its server: as announced, or earlier if the server took it back.
    pub(crate) ends: Instant,
    /// It is there at least until then, as far as whole seconds tell.
    pub(crate) lasts: Instant,
    /// The end that was announced first: members may have heard of no other.
    pub(crate) announced_end: Instant,
    pub(crate) lifetime: Duration,
    /// It replaces keys that somebody shall not have any more: it does not travel by push.
    pub(crate) replaces: bool,
    /// What it protects.
    pub(crate) policies: Vec<control::Selector>,
    /// The server still has it.
    pub(crate) listed: bool,
    /// Its `ipsec-sa` was taken out of the configuration, perhaps to come back: members need not expect a successor.
    pub(crate) retired: bool,
    pub(crate) holders: Bits,
    pub(crate) senders: Bits,
}

/// Cookies of a KEK: its SPI.
pub(crate) type Cookies = [[u8; 8]; 2];

/// One KEK.
#[derive(Debug)]
struct Kek {
    ends: Instant,
    /// As its server showed it last, and when that was. It does not show one that is revoked.
    sequence_number: u32,
    shown: Option<Instant>,
    /// Pushes that have left under it, in all lives of its server.
    pushes: u32,
    /// A digest of the last one: it may go out in several batches.
    last: u64,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_spi: BTreeMap<u32, Key>,
    keks: BTreeMap<Cookies, Kek>,
    /// SPIs by the keys that members have got with them, and the other way round.
    key_material: BTreeMap<u64, u32>,
    spis: BTreeMap<u32, u64>,
    /// Sender ids that have been given, with the keys that they are for.
    sender_ids: BTreeSet<(u32, u32)>,
    /// An eviction is going on: keys made now are made for it.
    pub(crate) replacing: bool,
    /// When somebody asked for new keys, and whether he evicted somebody.
    out_of_turn: Vec<(Instant, bool)>,
}

impl Keys {
    pub(crate) fn find(&self, spi: u32) -> Option<&Key> {
        self.by_spi.get(&spi)
    }

    pub(crate) fn find_mut(&mut self, spi: u32) -> Option<&mut Key> {
        self.by_spi.get_mut(&spi)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Key)> {
        self.by_spi.iter().map(|(spi, key)| (*spi, key))
    }

    /// Somebody asks for new keys out of their turn.
    pub(crate) fn out_of_turn(&mut self, now: Instant, evicts: bool) {
        self.out_of_turn.push((now, evicts));
    }

    /// TEKs of one `ipsec-sa` that may live at a time: two; a third one while a change of policy waits for a successor
    /// that is out there; more when evictions follow each other before members can have come for new keys.
    fn alive(&mut self, now: Instant) -> usize {
        self.out_of_turn.retain(|(at, _)| *at + OUT_OF_TURN > now);
        let evictions = self.out_of_turn.iter().filter(|(_, evicts)| *evicts).count();
        let changes = self.out_of_turn.len() - evictions;
        2 + (changes.min(1) + evictions).min(4)
    }

    /// Looks at a server. Everything it has made since the last look is made now.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        server: usize,
        generation: u32,
        host: &Host<Server>,
    ) -> Result<u64, String> {
        let mut made = 0;
        let allowed = self.alive(now);
        let local = host.local(now);
        let after = |seconds| host.clock.world(local + Duration::from_secs(seconds));
        let mut names: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        let mut seen = Vec::new();
        for tek in host
            .role
            .ipsec_security_associations(local)
            .into_iter()
            .flat_map(|group| group.security_associations)
        {
            let name: Rc<str> = tek.name.into();
            let count = names.entry(Rc::clone(&name)).or_default();
            *count += 1;
            if *count > allowed {
                return Err(format!("{name} has more than {allowed} TEKs"));
            }
            if seen.contains(&tek.spi.0) {
                return Err(format!("SPI {} is used twice", tek.spi));
            }
            seen.push(tek.spi.0);
            let detail = tek.detail.ok_or("a TEK without detail")?;
            // The life of a new key is known exactly, later readings are rounded down.
            let new = tek.lifetime_secs == detail.configured_lifetime_secs;
            let ends = if new { after(tek.lifetime_secs) } else { after(tek.lifetime_secs) + READING };
            match self.by_spi.get_mut(&tek.spi.0) {
                None => {
                    let key = Key {
                        sa: name,
                        server,
                        generation,
                        made: now,
                        activates: after(detail.activation_in_secs),
                        ends,
                        announced_end: ends,
                        lasts: after(tek.lifetime_secs),
                        lifetime: Duration::from_secs(detail.configured_lifetime_secs),
                        replaces: self.replacing,
                        policies: detail.policies.into_iter().map(|policy| policy.selector).collect(),
                        listed: true,
                        retired: false,
                        holders: Bits::default(),
                        senders: Bits::default(),
                    };
                    self.by_spi.insert(tek.spi.0, key);
                    made += 1;
                }
                Some(key) => {
                    if (key.server, key.generation) != (server, generation) {
                        return Err(format!("SPI {} was used before", tek.spi));
                    }
                    if now > key.ends + READING {
                        return Err(format!("the server keeps {} beyond its end {:?}", tek.spi, key.ends));
                    }
                    let told = after(tek.lifetime_secs);
                    key.lasts = if ends < key.ends { told } else { key.lasts.max(told) };
                    key.ends = key.ends.min(ends);
                    let activates = after(detail.activation_in_secs);
                    if detail.activation_in_secs > 0 && activates + READING < key.activates {
                        key.activates = activates;
                    }
                }
            }
        }
        for (spi, key) in &mut self.by_spi {
            if key.listed && key.server == server && !(key.generation == generation && seen.contains(spi)) {
                key.listed = false;
                (key.ends, key.lasts) = (key.ends.min(now), key.lasts.min(now));
            }
        }
        self.by_spi
            .retain(|_, key| key.listed || !key.holders.is_empty() || key.announced_end + MEMORY > now);
        Ok(made)
    }

    /// An `ipsec-sa` is taken out of the configuration.
    pub(crate) fn retire(&mut self, sa: &str) {
        self.by_spi.values_mut().filter(|key| &*key.sa == sa).for_each(|key| key.retired = true);
    }

    /// A server's life is over, and that of its keys with it.
    pub(crate) fn server_gone(&mut self, now: Instant, server: usize) {
        for key in self.by_spi.values_mut().filter(|key| key.listed && key.server == server) {
            key.listed = false;
            (key.ends, key.lasts) = (key.ends.min(now), key.lasts.min(now));
        }
    }

    /// Looks at the KEKs of a server.
    pub(crate) fn learn_keks(&mut self, now: Instant, host: &Host<Server>) -> Result<(), String> {
        let local = host.local(now);
        // One that is revoked is not shown any more, and what it deletes goes out under it all the same.
        self.keks.values_mut().filter(|known| known.shown == Some(now)).for_each(|known| known.shown = None);
        for kek in host.role.kek_security_associations(local) {
            let detail = kek.detail.ok_or("a KEK without detail")?;
            let end = host.clock.world(local + Duration::from_secs(detail.lifetime_remaining_secs)) + READING;
            let cookies = [kek.initiator_cookie.0, kek.responder_cookie.0];
            let number = detail.sequence_number;
            let known = self.keks.entry(cookies).or_insert(Kek {
                ends: end,
                sequence_number: number,
                shown: None,
                pushes: 0,
                last: 0,
            });
            if number < known.sequence_number {
                return Err(format!("the sequence number of a KEK went back to {number}"));
            }
            (known.ends, known.sequence_number, known.shown) = (known.ends.min(end), number, Some(now));
        }
        Ok(())
    }

    /// A push leaves a server: under a KEK that it has shown, and with a number of its own.
    pub(crate) fn note_push(&mut self, now: Instant, datagram: &[u8]) -> Result<(), String> {
        let (cookies, _) = datagram.as_chunks::<8>();
        let known = cookies.first_chunk::<2>().and_then(|cookies| self.keks.get_mut(cookies));
        let known = known.ok_or("a push under a KEK that no server has shown")?;
        let last = digest(&[datagram]);
        known.pushes += u32::from(known.last != last);
        known.last = last;
        if known.shown == Some(now) && known.pushes > known.sequence_number {
            return Err(format!(
                "{} pushes under a KEK whose number is {}",
                known.pushes, known.sequence_number
            ));
        }
        Ok(())
    }

    /// A member is given keys or sender ids: no key under two SPIs, no SPI for two keys, no sender id twice with a key.
    pub(crate) fn note_event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::InstallSas { sas, .. } => {
                for sa in sas {
                    let digest = digest(&[sa.keys.cipher.expose(), sa.keys.integrity.expose()]);
                    let other = *self.key_material.entry(digest).or_insert(sa.spi);
                    if other != sa.spi || *self.spis.entry(sa.spi).or_insert(digest) != digest {
                        return Err(format!("SPI {:08x} or its key has been used before", sa.spi));
                    }
                }
            }
            Event::SenderIds { sender_ids, spis, .. } => {
                for (spi, id) in spis.iter().flat_map(|spi| sender_ids.ids.iter().map(|id| (*spi, *id))) {
                    if !self.sender_ids.insert((spi, id)) {
                        return Err(format!("sender id {id} is given twice with {spi:08x}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// When a KEK ends, if a server ever had it. A member may not keep it longer.
    pub(crate) fn end_of_kek(&self, cookies: Cookies) -> Option<Instant> {
        self.keks.get(&cookies).map(|kek| kek.ends)
    }

    /// The key of each `ipsec-sa` of a server that every sender uses by now.
    pub(crate) fn current(&self, now: Instant, server: usize) -> impl Iterator<Item = (u32, &Key)> {
        let mut newest: BTreeMap<&str, (u32, &Key)> = BTreeMap::new();
        for (spi, key) in self.iter() {
            if key.server == server && key.listed && key.activates + READING <= now && key.ends > now {
                let best = newest.entry(&key.sa).or_insert((spi, key));
                if best.1.activates < key.activates {
                    *best = (spi, key);
                }
            }
        }
        newest.into_values()
    }

    /// `ipsec-sa`s that a server has keys of.
    pub(crate) fn has(&self, server: usize, sa: &str) -> bool {
        self.by_spi.values().any(|key| key.listed && key.server == server && &*key.sa == sa)
    }
}

fn digest(parts: &[&[u8]]) -> u64 {
    let digest = Hash::Sha256.digest(parts);
    u64::from_be_bytes(*digest.first_chunk().expect("the digest has 32 octets"))
}
