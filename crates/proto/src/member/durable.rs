//! What a member goes on with after a restart: its keys, policies and KEKs, and the sender ids that it has not used.
//!
//! ```text
//!   layout | per VPN: name, whom it registered with as what, TEKs, closed policies, KEKs, spare sender ids
//! ```
//!
//! [`Member::state`] gives all of it whenever [`Member::has_changed`]; [`Member::restore`] takes it, and the VPN goes on with
//! it as soon as its interface is up, without a registration. A VPN whose registration has changed in the configuration
//! meanwhile takes nothing over, nor does one all of whose TEKs have ended.
//!
//! Sending under a counter mode goes on only with a sender id that was never used: [`Member::use_sender_ids`] takes ids
//! out of the state before anybody may send with them.
//!
//! Whoever drives the member keeps the state before anything else happens: it also says which rekeys were obeyed, and
//! what is not kept can be replayed to the next process. What is not here is made anew or only counts: phase 1 SAs,
//! counters, numbers for display.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crypto::signature::VerifyingKey;
use crypto::{EspSuite, Hash, Secret};
use wire::codec::{Error, Result};

use super::event::{Direction, Event, GroupSa, Keys};
use super::kek_set::HeldKek;
use super::sa_set::{Held, timeline};
use super::state::{State, Trigger};
use super::vpn::{OwnSenderIds, Vpn};
use super::{GatewaySettings, GroupIdForm, Member, VpnSettings};
use crate::log::{Entry, Facility, Level};
use crate::policy::SenderIdDownload;
use crate::pseudo_time::{AntiReplay, PseudoTime};
use crate::push::{KekSpi, Recent};
use crate::record::{self, Input, Output, Written};
use crate::time::Instant;

/// Layout of the state. One of another layout is not read: a registration costs less than understanding it would.
const LAYOUT: u8 = 3;

/// What is kept of one VPN.
struct Kept {
    name: String,
    registration: [u8; 32],
    last_pull: Instant,
    last_heard: Instant,
    registered_with: IpAddr,
    pulled_from: IpAddr,
    server_is_ours: bool,
    sas: Vec<Held>,
    ended: Vec<(u32, [u8; 16])>,
    closed: Vec<wire::selector::Selector>,
    keks: Vec<HeldKek>,
    retired: Vec<(KekSpi, u32)>,
    sender_ids: Option<OwnSenderIds>,
    pseudo_time: Option<(Instant, AntiReplay)>,
}

impl Member {
    /// Whether something happened since the last [`Member::state`] that a restarted member has to know.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// What a restarted member goes on with. Holds keys.
    pub fn state(&mut self, now: Instant) -> Secret {
        self.changed = false;
        let mut output = Output::default();
        output.u8(LAYOUT);
        let kept: Vec<&Vpn> = self.vpns.iter().filter(|vpn| !vpn.sas.is_empty()).collect();
        output.count(kept.len());
        kept.iter().for_each(|vpn| write_vpn(&mut output, now, vpn));
        output.into_secret()
    }

    /// Takes what [`Member::state`] told another process `age` ago. VPNs that were never up go on with it as soon as
    /// they are. After an error nothing was taken.
    pub fn restore(&mut self, now: Instant, state: &Secret, age: Duration) -> std::result::Result<(), Error> {
        let mut input = Input::new(state.expose(), Written { now, age });
        if input.u8("layout")? != LAYOUT {
            return Err(input.error("layout"));
        }
        let kept = input.list("VPNs", read_vpn)?;
        input.finish()?;
        for kept in kept {
            let known = self.vpns.iter().position(|vpn| {
                *vpn.name == *kept.name
                    && matches!(vpn.state, State::Down)
                    && vpn.sas.is_empty()
                    && registration(&vpn.settings, &vpn.gateway) == kept.registration
            });
            match known {
                Some(index) => self.take_over(now, index, kept),
                None => self.journal.record(
                    now,
                    Entry::new(
                        Level::Info,
                        Facility::PolicyManager,
                        "keys of before the restart are not used: the configuration has changed",
                    )
                    .with("vpn", kept.name),
                ),
            }
        }
        Ok(())
    }

    /// Takes sender ids of the last PULL out of the spares, at most `count`. They are never given again, by no later
    /// process either once the state of after this call is kept: only then may anybody send with them.
    pub fn use_sender_ids(&mut self, vpn: &str, count: usize) -> Vec<u32> {
        let Some(index) = self.find(vpn) else { return Vec::new() };
        let Some(own) = &mut self.vpns[index].sender_ids else { return Vec::new() };
        let used: Vec<u32> = own.spares.drain(..count.min(own.spares.len())).collect();
        self.changed |= !used.is_empty();
        used
    }

    /// Goes on with the keys of before a restart, if a VPN has any that live. Returns whether it has.
    pub(super) fn resume(&mut self, now: Instant, index: usize) -> bool {
        self.expire(now, index);
        let vpn = &mut self.vpns[index];
        if vpn.sas.is_empty() {
            return false;
        }
        vpn.state.step(Trigger::Resumed, State::Registered);
        vpn.number_tunnels(&mut self.next_tunnel_id);
        vpn.learn_interval();
        let name = vpn.name.clone();
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::PolicyManager, "goes on with the keys of before the restart")
                .with("vpn", &name)
                .with("group", vpn.settings.group_id)
                .with("teks", vpn.sas.iter().count())
                .with("keks", vpn.keks.iter().count()),
        );
        let ids = vpn.sender_ids.clone();
        if let Some((at, anti_replay)) = vpn.pseudo_time {
            // Keys that carry it are installed with its clock.
            let vpn = name.clone();
            self.events.push_back(Event::PseudoTime { vpn, at, anti_replay, set: true });
        }
        if let Some(own) = &ids {
            // The keys must be there, and belong to no ids, before those are told that may use these.
            let sender_ids = SenderIdDownload { bits: own.bits, ids: Vec::new() };
            self.events.push_back(Event::SenderIds { vpn: name.clone(), sender_ids, spis: Vec::new() });
        }
        self.install(index);
        if let Some(own) = ids {
            let spis = own.spis.clone();
            // One is used now; the next restart wants one, too.
            match own.spares.len() {
                0 => _ = self.reregister(now, &name),
                1 => self.reregister_soon(now, index),
                _ => {}
            }
            let sender_ids = SenderIdDownload { bits: own.bits, ids: own.spares.into() };
            self.events.push_back(Event::SenderIds { vpn: name, sender_ids, spis });
        }
        self.sync_multicast(index);
        self.tune_phase1(now);
        true
    }

    fn take_over(&mut self, now: Instant, index: usize, kept: Kept) {
        let vpn = &mut self.vpns[index];
        vpn.last_pull = Some(kept.last_pull);
        vpn.last_heard = Some(kept.last_heard);
        vpn.registered_with = Some(kept.registered_with);
        vpn.pulled_from = Some(kept.pulled_from);
        vpn.server_is_ours = kept.server_is_ours;
        vpn.sender_ids = kept.sender_ids;
        vpn.pseudo_time = kept.pseudo_time;
        vpn.sas.held = kept.sas;
        vpn.sas.ended = kept.ended.into();
        vpn.sas.closed = kept.closed;
        vpn.keks.held = kept.keks;
        vpn.keks.retired = kept.retired.into();
        for kek in &mut vpn.keks.held {
            kek.index = self.next_kek_index;
            self.next_kek_index += 1;
        }
        vpn.sas.take_over();
        vpn.keks.expire(now);
        vpn.sas.expire(now);
        self.changed = true;
    }
}

/// Who registers with whom for which group. Another one must not go on with these keys.
fn registration(settings: &VpnSettings, gateway: &GatewaySettings) -> [u8; 32] {
    let mut output = Output::default();
    output.u32(settings.group_id);
    output.flag(settings.group_id_form == GroupIdForm::Ipv4Address);
    output.text(&settings.gateway);
    output.count(gateway.servers().len());
    gateway.servers().iter().for_each(|server| output.address(*server));
    output.u16(gateway.server_port);
    output.u16(gateway.local_port);
    let phase1 = &gateway.phase1;
    output.optional_address(phase1.local_address);
    for identity in [&phase1.local_identity, &phase1.remote_identity] {
        output.flag(identity.is_some());
        if let Some(identity) = identity {
            output.u8(identity.kind.0);
            output.counted(&identity.data);
        }
    }
    output.counted(phase1.pre_shared_key.expose());
    let digest = Hash::Sha256.digest(&[output.into_secret().expose()]);
    *digest.first_chunk().expect("the digest has 32 octets")
}

fn write_vpn(output: &mut Output, now: Instant, vpn: &Vpn) {
    output.text(&vpn.name);
    output.raw(&registration(&vpn.settings, &vpn.gateway));
    output.moment(now, vpn.last_pull.unwrap_or(Instant::ORIGIN));
    output.moment(now, vpn.last_heard.unwrap_or(Instant::ORIGIN));
    let nowhere = Ipv4Addr::UNSPECIFIED.into();
    output.address(vpn.registered_with.unwrap_or(nowhere));
    output.address(vpn.pulled_from.unwrap_or(nowhere));
    output.flag(vpn.server_is_ours);
    output.count(vpn.sas.held.len());
    vpn.sas.held.iter().for_each(|held| write_tek(output, now, held));
    output.count(vpn.sas.ended.len());
    for (spi, digest) in &vpn.sas.ended {
        output.u32(*spi);
        output.raw(digest);
    }
    output.count(vpn.sas.closed.len());
    vpn.sas.closed.iter().for_each(|selector| record::write_selector(output, selector));
    output.count(vpn.keks.held.len());
    vpn.keks.held.iter().for_each(|held| write_kek(output, now, held));
    output.count(vpn.keks.retired.len());
    for (spi, sequence) in &vpn.keks.retired {
        output.raw(&spi.0);
        output.u32(*sequence);
    }
    output.flag(vpn.sender_ids.is_some());
    if let Some(own) = &vpn.sender_ids {
        output.u8(own.bits);
        output.count(own.spares.len());
        own.spares.iter().for_each(|id| output.u32(*id));
        let entitled = entitled(vpn, own);
        output.count(entitled.len());
        entitled.iter().for_each(|spi| output.u32(*spi));
    }
    output.flag(vpn.pseudo_time.is_some());
    if let Some((at, told)) = vpn.pseudo_time {
        output.moment(now, at);
        output.duration(told.window);
        output.u64(told.time.as_micros());
    }
}

/// The TEKs that the ids of the last PULL may be used with: those it named, and those that came by push since.
fn entitled(vpn: &Vpn, own: &OwnSenderIds) -> Vec<u32> {
    let came_later = |held: &&Held| vpn.last_pull.is_some_and(|pull| held.since >= pull);
    let later = vpn.sas.held.iter().filter(came_later).map(|held| held.sa.spi);
    let mut spis: Vec<u32> = later.chain(own.spis.iter().copied()).collect();
    spis.retain(|spi| vpn.sas.held.iter().any(|held| held.sa.spi == *spi));
    spis.sort_unstable();
    spis.dedup();
    spis
}

fn read_vpn(input: &mut Input<'_>) -> Result<Kept> {
    Ok(Kept {
        name: input.text("VPN")?,
        registration: input.array("registration")?,
        last_pull: input.moment("PULL")?,
        last_heard: input.moment("sign of life")?,
        registered_with: input.address("server")?,
        pulled_from: input.address("own address")?,
        server_is_ours: input.flag("vendor")?,
        sas: input.list("TEKs", read_tek)?,
        ended: input.list("ended TEKs", |input| Ok((input.u32("SPI")?, input.array("digest")?)))?,
        closed: input.list("closed policies", record::read_selector)?,
        keks: input.list("KEKs", read_kek)?,
        retired: input.list("KEKs", |input| Ok((KekSpi(input.array("KEK SPI")?), input.u32("sequence")?)))?,
        sender_ids: match input.flag("sender ids")? {
            false => None,
            true => Some(read_sender_ids(input)?),
        },
        pseudo_time: match input.flag("pseudo-time")? {
            false => None,
            true => Some(read_pseudo_time(input)?),
        },
    })
}

fn read_sender_ids(input: &mut Input<'_>) -> Result<OwnSenderIds> {
    let bits = input.u8("sender id bits")?;
    if ![8, 12, 16, 24].contains(&bits) {
        return Err(input.error("sender id bits"));
    }
    let spares: VecDeque<u32> = input.list("sender ids", |input| input.u32("sender id"))?.into();
    if spares.iter().any(|id| id >> bits != 0) {
        return Err(input.error("sender id"));
    }
    Ok(OwnSenderIds { bits, spares, spis: input.list("SPIs", |input| input.u32("SPI"))? })
}

fn read_pseudo_time(input: &mut Input<'_>) -> Result<(Instant, AntiReplay)> {
    let at = input.moment("pseudo-time")?;
    let window = input.duration("anti-replay window")?;
    Ok((at, AntiReplay { window, time: PseudoTime::from_micros(input.u64("pseudo-time")?) }))
}

fn write_tek(output: &mut Output, now: Instant, held: &Held) {
    let sa = &held.sa;
    output.u32(sa.spi);
    record::write_suite(output, sa.suite);
    output.counted(sa.keys.cipher.expose());
    output.counted(sa.keys.integrity.expose());
    output.count(sa.selectors.len());
    sa.selectors.iter().for_each(|selector| record::write_selector(output, selector));
    output.u8(match sa.direction {
        Direction::Symmetric => 0,
        Direction::SenderOnly => 1,
        Direction::ReceiverOnly => 2,
    });
    for moment in [sa.activate_at, sa.soft_expiry, sa.hard_expiry, held.since] {
        output.moment(now, moment);
    }
    output.duration(held.timeline.lifetime);
    output.flag(held.named);
    output.flag(held.follower.is_some());
    output.u32(held.follower.unwrap_or_default());
    output.u32(held.fraction);
    output.flag(held.sa.carries_time);
}

fn read_tek(input: &mut Input<'_>) -> Result<Held> {
    let spi = input.u32("SPI")?;
    let suite: EspSuite = record::read_suite(input)?;
    let cipher = Secret::from_slice(input.counted("cipher key")?);
    let integrity = Secret::from_slice(input.counted("integrity key")?);
    if (cipher.len(), integrity.len()) != (suite.cipher_key_len(), suite.integrity_key_len()) {
        return Err(input.error("cipher key"));
    }
    let selectors = input.list("policies", record::read_selector)?;
    let direction = match input.u8("direction")? {
        0 => Direction::Symmetric,
        1 => Direction::SenderOnly,
        2 => Direction::ReceiverOnly,
        _ => return Err(input.error("direction")),
    };
    let (activate_at, soft_expiry) = (input.moment("activation")?, input.moment("expiry")?);
    let (hard_expiry, since) = (input.moment("expiry")?, input.moment("arrival")?);
    let lifetime = input.duration("lifetime")?;
    let named = input.flag("named")?;
    let has_follower = input.flag("follower")?;
    let follower = Some(input.u32("follower")?).filter(|_| has_follower);
    let fraction = input.u32("fraction")?;
    let carries_time = input.flag("pseudo-time")?;
    Ok(Held {
        sa: GroupSa {
            spi,
            suite,
            keys: Arc::new(Keys { cipher, integrity }),
            selectors: selectors.into(),
            direction,
            carries_time,
            activate_at,
            soft_expiry,
            hard_expiry,
        },
        timeline: timeline(lifetime),
        named,
        succeeded: false,
        follower,
        fraction,
        since,
    })
}

fn write_kek(output: &mut Output, now: Instant, held: &HeldKek) {
    record::write_kek(output, &held.kek);
    output.counted(held.verifying.to_spki_der());
    output.moment(now, held.ends);
    output.moment(now, held.since);
    output.optional_moment(now, held.renewed);
    output.duration(held.timeline.lifetime);
    output.optional_duration(held.heartbeat);
    output.optional_address(held.multicast);
    output.address(held.server);
    output.u32(held.sequence);
    output.u64(held.pushes);
    output.u32(held.fraction);
}

fn read_kek(input: &mut Input<'_>) -> Result<HeldKek> {
    let kek = record::read_kek(input)?;
    let verifying = VerifyingKey::from_wire(input.counted("public key")?);
    let verifying = verifying.map_err(|_| input.error("public key"))?;
    let ends = input.moment("expiry")?;
    let since = input.moment("arrival")?;
    let renewed = input.optional_moment("PULL")?;
    let lifetime = input.duration("lifetime")?;
    let heartbeat = input.optional_duration("heartbeat")?;
    Ok(HeldKek {
        kek,
        verifying,
        index: 0,
        since,
        renewed,
        ends,
        timeline: timeline(lifetime),
        heartbeat,
        multicast: input.optional_address("address")?,
        server: input.address("server")?,
        sequence: input.u32("sequence number")?,
        pushes: input.u64("pushes")?,
        recent: Recent::default(),
        fraction: input.u32("fraction")?,
    })
}
