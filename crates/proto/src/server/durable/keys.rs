//! The keys of a group as one record: either all of a change is durable or nothing of it.

use std::sync::Arc;

use crypto::Secret;
use crypto::signature::SigningKey;
use wire::codec::Result;

use crate::pseudo_time::{PseudoClock, PseudoTime};
use crate::record::{self, Input, Output};
use crate::server::group::Group;
use crate::server::kek::{KekState, Remembered};
use crate::server::rekey::Subject;
use crate::server::sender_ids::{Allotment, RememberedSenderIds, Span};
use crate::server::settings::{Communication, IpsecSaSettings, MatchPolicy, PushSettings};
use crate::server::tek::{RememberedSa, RememberedTek, Tek};
use crate::time::Instant;

/// Layout of the record. A reader of a later layout reads this one too.
const LAYOUT: u8 = 4;

/// The layouts before pseudo-time, and before several servers shared a group.
const LAYOUT_WITHOUT_PSEUDO_TIME: u8 = 3;
const LAYOUT_OF_ONE_SERVER: u8 = 2;

/// The layout before sender ids.
const LAYOUT_WITHOUT_SENDER_IDS: u8 = 1;

/// What the record of a group holds.
pub(in crate::server) struct GroupKeys {
    pub(in crate::server) last_rekey: u64,
    pub(in crate::server) sas: Vec<RememberedSa>,
    pub(in crate::server) keks: Vec<Remembered>,
    /// What members are still to be told to forget, and until when.
    pub(in crate::server) deletions: Vec<(Subject, Instant)>,
    /// `None`: nobody knew of any.
    pub(in crate::server) sender_ids: Option<RememberedSenderIds>,
    /// How often all keys were dropped for new ones.
    pub(in crate::server) fresh_starts: u64,
    /// `None`: nobody kept one.
    pub(in crate::server) pseudo_clock: Option<PseudoClock>,
}

pub(super) fn write(group: &Group, now: Instant) -> Secret {
    let mut output = Output::default();
    output.u8(LAYOUT);
    output.u64(group.last_rekey);
    output.count(group.sas.len());
    for sa in &group.sas {
        output.text(&sa.settings.name);
        output.count(sa.teks.len());
        for tek in &sa.teks {
            write_tek(&mut output, now, tek);
        }
    }
    output.count(group.keks.len());
    for kek in &group.keks {
        write_kek(&mut output, now, kek.remember());
    }
    let deletions: Vec<_> =
        group.rekeys.iter().filter_map(|rekey| Some((deletion(&rekey.subject)?, rekey.ends))).collect();
    output.count(deletions.len());
    for ((kind, spis), ends) in deletions {
        output.u8(kind);
        output.moment(now, ends);
        output.count(spis.len());
        spis.iter().for_each(|spi| output.u32(*spi));
    }
    write_sender_ids(&mut output, now, &group.sender_ids.remember());
    output.u64(group.fresh_starts);
    output.u64(group.pseudo_clock.read(now).as_micros());
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<GroupKeys> {
    let layout = input.u8("layout")?;
    if !(LAYOUT_WITHOUT_SENDER_IDS..=LAYOUT).contains(&layout) {
        return Err(input.error("layout"));
    }
    let keys = GroupKeys {
        last_rekey: input.u64("rekey")?,
        sas: input.list("ipsec-sas", |input| {
            Ok(RememberedSa {
                name: input.text("name")?,
                teks: input.list("TEKs", |input| read_tek(input, layout))?,
            })
        })?,
        keks: input.list("KEKs", read_kek)?,
        deletions: input.list("deletions", |input| {
            let kind = input.u8("deletion")?;
            let ends = input.moment("end")?;
            let spis = input.list("SPIs", |input| input.u32("SPI"))?;
            let subject = match kind {
                1 => Subject::RemovedTeks(spis),
                2 => Subject::RevokedKeks,
                3 => Subject::CleanSlate,
                _ => return Err(input.error("deletion")),
            };
            Ok((subject, ends))
        })?,
        sender_ids: match layout {
            LAYOUT_WITHOUT_SENDER_IDS => None,
            _ => Some(read_sender_ids(&mut input, layout)?),
        },
        fresh_starts: if layout > LAYOUT_OF_ONE_SERVER { input.u64("fresh starts")? } else { 0 },
        pseudo_clock: match layout {
            ..=LAYOUT_WITHOUT_PSEUDO_TIME => None,
            _ => Some(read_pseudo_clock(&mut input)?),
        },
    };
    input.finish()?;
    Ok(keys)
}

fn write_sender_ids(output: &mut Output, now: Instant, ids: &RememberedSenderIds) {
    output.u8(ids.bits);
    output.u64(ids.reserved);
    output.count(ids.spans.len());
    for span in &ids.spans {
        output.u64(span.first);
        output.optional_moment(now, span.free_at);
    }
    output.count(ids.allotments.len());
    for allotment in &ids.allotments {
        output.text(&allotment.incarnation);
        output.u64(allotment.first);
        output.u64(allotment.end);
        output.optional_moment(now, allotment.covers);
    }
}

fn read_sender_ids(input: &mut Input<'_>, layout: u8) -> Result<RememberedSenderIds> {
    let bits = input.u8("sender id bits")?;
    if ![8, 12, 16, 24].contains(&bits) {
        return Err(input.error("sender id bits"));
    }
    let reserved = input.u64("sender ids")?;
    let spans: Vec<Span> = input.list("sender ids", |input| {
        Ok(Span { first: input.u64("sender ids")?, free_at: input.optional_moment("sender ids")? })
    })?;
    if reserved >= 1 << 62 || !spans.iter().map(|span| span.first).chain([reserved]).is_sorted() {
        return Err(input.error("sender ids"));
    }
    let allotments = match layout {
        ..=LAYOUT_OF_ONE_SERVER => Vec::new(),
        _ => input.list("allotments", |input| read_allotment(input, reserved))?,
    };
    Ok(RememberedSenderIds { bits, reserved, spans, allotments })
}

fn read_allotment(input: &mut Input<'_>, reserved: u64) -> Result<Allotment> {
    let incarnation = Arc::from(input.text("server")?);
    let (first, end) = (input.u64("sender ids")?, input.u64("sender ids")?);
    let covers = input.optional_moment("sender ids")?;
    if first > end || end > reserved {
        return Err(input.error("sender ids"));
    }
    Ok(Allotment { incarnation, first, end, covers })
}

/// It has gone on since it was written.
fn read_pseudo_clock(input: &mut Input<'_>) -> Result<PseudoClock> {
    let then = input.u64("pseudo-time")?;
    let written = input.written();
    let age = u64::try_from(written.age.as_micros()).unwrap_or(u64::MAX);
    Ok(PseudoClock::new(written.now, PseudoTime::from_micros(then.saturating_add(age))))
}

/// The number of a subject that keys do not tell of themselves, and its SPIs.
fn deletion(subject: &Subject) -> Option<(u8, &[u32])> {
    match subject {
        Subject::Keys(_) | Subject::Kek => None,
        Subject::RemovedTeks(spis) => Some((1, spis)),
        Subject::RevokedKeks => Some((2, &[])),
        Subject::CleanSlate => Some((3, &[])),
    }
}

fn write_tek(output: &mut Output, now: Instant, tek: &Tek) {
    let tek = tek.remember();
    output.u32(tek.spi);
    output.counted(tek.cipher_key.expose());
    output.counted(tek.integrity_key.expose());
    record::write_suite(output, tek.settings.suite);
    output.duration(tek.settings.lifetime);
    output.text(&tek.settings.name);
    output.count(tek.settings.policies.len());
    for policy in &tek.settings.policies {
        output.text(&policy.name);
        record::write_selector(output, &policy.selector);
    }
    output.moment(now, tek.activates);
    output.moment(now, tek.expires);
    output.optional_moment(now, tek.predecessor_expires);
    output.optional_duration(tek.settings.anti_replay);
}

fn read_tek(input: &mut Input<'_>, layout: u8) -> Result<RememberedTek> {
    let spi = input.u32("SPI")?;
    let cipher_key = Secret::from_slice(input.counted("cipher key")?);
    let integrity_key = Secret::from_slice(input.counted("integrity key")?);
    let suite = record::read_suite(input)?;
    if (cipher_key.len(), integrity_key.len()) != (suite.cipher_key_len(), suite.integrity_key_len()) {
        return Err(input.error("cipher key"));
    }
    let mut settings = IpsecSaSettings {
        suite,
        anti_replay: None,
        lifetime: input.duration("lifetime")?,
        name: input.text("name")?,
        policies: input.list("policies", |input| {
            Ok(MatchPolicy { name: input.text("policy")?, selector: record::read_selector(input)? })
        })?,
    };
    let (activates, expires) = (input.moment("activation")?, input.moment("expiry")?);
    let predecessor_expires = input.optional_moment("predecessor")?;
    if layout > LAYOUT_WITHOUT_PSEUDO_TIME {
        settings.anti_replay = input.optional_duration("anti-replay")?;
    }
    let settings = Arc::new(settings);
    Ok(RememberedTek { spi, cipher_key, integrity_key, settings, activates, expires, predecessor_expires })
}

fn write_kek(output: &mut Output, now: Instant, kek: Remembered) {
    output.u32(kek.index);
    output.u8(match kek.state {
        KekState::Current => 1,
        KekState::Succeeded => 2,
        KekState::Revoked => 3,
    });
    record::write_kek(output, &kek.shared);
    output.u32(kek.reserved);
    output.moment(now, kek.expires);
    output.moment(now, kek.forget_at);
    write_push(output, &kek.settings);
}

fn read_kek(input: &mut Input<'_>) -> Result<Remembered> {
    let index = input.u32("KEK")?;
    let state = match input.u8("state")? {
        1 => KekState::Current,
        2 => KekState::Succeeded,
        3 => KekState::Revoked,
        _ => return Err(input.error("state")),
    };
    Ok(Remembered {
        index,
        state,
        shared: record::read_kek(input)?,
        reserved: input.u32("sequence number")?,
        expires: input.moment("expiry")?,
        forget_at: input.moment("expiry")?,
        settings: Arc::new(read_push(input)?),
    })
}

fn write_push(output: &mut Output, settings: &PushSettings) {
    match &settings.communication {
        Communication::Unicast { acknowledgement_required } => {
            output.u8(1);
            output.flag(*acknowledgement_required);
        }
        Communication::Multicast { group, interface } => {
            output.u8(2);
            output.address(*group);
            output.text(interface);
        }
    }
    output.optional_address(settings.source);
    output.duration(settings.lifetime);
    output.duration(settings.retransmission_period);
    output.u32(settings.number_of_retransmission);
    output.optional_duration(settings.heartbeat);
    record::write_cipher(output, settings.cipher);
    record::write_hash(output, settings.hash);
    output.counted(settings.signing_key.to_pkcs8_der().expose());
}

fn read_push(input: &mut Input<'_>) -> Result<PushSettings> {
    let communication = match input.u8("communication")? {
        1 => Communication::Unicast { acknowledgement_required: input.flag("acknowledgement")? },
        2 => Communication::Multicast { group: input.address("group")?, interface: input.text("interface")? },
        _ => return Err(input.error("communication")),
    };
    let source = input.optional_address("source")?;
    let lifetime = input.duration("lifetime")?;
    let retransmission_period = input.duration("retransmission period")?;
    let number_of_retransmission = input.u32("number of retransmissions")?;
    let heartbeat = input.optional_duration("heartbeat")?;
    let (cipher, hash) = (record::read_cipher(input)?, record::read_hash(input)?);
    let signing_key =
        SigningKey::from_pkcs8_der(input.counted("signing key")?).map_err(|_| input.error("signing key"))?;
    Ok(PushSettings {
        communication,
        source,
        lifetime,
        retransmission_period,
        number_of_retransmission,
        heartbeat,
        cipher,
        hash,
        signing_key,
    })
}
