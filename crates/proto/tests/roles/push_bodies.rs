//! What the fuzz targets `push_member` and `push_server` do with their octets, shared with the replay of their corpora.
//!
//! The octets are a list of steps, as those of `pull_member`. Encryption and, where a step says so, the signature are made
//! right, so that what is behind them is reached.
//!
//! ```text
//! kind (1) | length (2) | octets (length)
//! ```

use std::time::Duration;

use crypto::{BareHash, CbcCipher, Hash, Secret, SeededRandom, SigningKey};
use hex_literal::hex;
use proto::Role;
use proto::member::{Event, Member};
use proto::pull;
use proto::push::{AcknowledgementPrf, Body, Deletion, Kek, KekSpi, exchange_of, kek_spi_of, open, seal};
use proto::server::{Eviction, Server};
use wire::isakmp::Identity;
use wire::registry::{ExchangeType, KekKeyAttribute, KeyDownloadType, PayloadType};

use crate::fuzz_steps::steps;
use crate::stranger::{Stranger, received};
use crate::world::*;

const SPI: [u8; 16] = hex!("000102030405060708090a0b0c0d0e0f");
const IV: [u8; 16] = hex!("101112131415161718191a1b1c1d1e1f");
const KEY: [u8; 16] = hex!("202122232425262728292a2b2c2d2e2f");

/// The TEK that the member registers with.
const FIRST_TEK: [u8; 4] = hex!("00001000");

fn signing_key() -> SigningKey {
    let der = include_bytes!("../../../crypto/tests/vectors/signature/ecdsa-256.pkcs8");
    SigningKey::from_pkcs8_der(der).expect("a key of ours")
}

fn kek() -> Kek {
    Kek {
        spi: KekSpi(SPI),
        cipher: CbcCipher::Aes128,
        key: Secret::from_slice(&KEY),
        iv: Secret::from_slice(&IV),
        hash: Hash::Sha256,
        acknowledgement: Some(AcknowledgementPrf::Sha256),
    }
}

/// Body of an SA payload with a SAK for [`kek`], and one TEK.
fn first_sa() -> Vec<u8> {
    [
        &hex!("00000002 00000000 000f 0000")[..],
        &hex!("10 00 0049 11 01 0350 04 e2010102 01 0350 04 00000000"),
        &SPI,
        &hex!("00000000 8002 0003 8003 0080 8005 0003 8006 0004 8007 0100 8009 0001 0004 0004 00000e10"),
        &hex!("00 00 0037 01 00 04 0000 08 0a000000 ff000000 04 0000 08 14000000 ff000000 0c"),
        &FIRST_TEK,
        &hex!("8001 0001 8002 0e10 8004 0001 8005 0002 8006 0080"),
    ]
    .concat()
}

/// Body of the KD payload that belongs to it.
fn first_kd(key: &SigningKey) -> Vec<u8> {
    let public = key.verifying_key();
    let public = public.to_spki_der();
    let length = (4 + 17 + 4 + 32 + 4 + public.len()) as u16;
    [
        &hex!("0002 0000 01 00 0035 04")[..],
        &FIRST_TEK,
        &hex!("0001 0010 000102030405060708090a0b0c0d0e0f"),
        &hex!("0002 0014 000102030405060708090a0b0c0d0e0f10111213"),
        &[2, 0],
        &length.to_be_bytes(),
        &[16],
        &SPI,
        &hex!("0001 0020"),
        &IV,
        &KEY,
        &hex!("0002"),
        &(public.len() as u16).to_be_bytes(),
        public,
    ]
    .concat()
}

/// A push whose payloads between SEQ and SIG are these, the first of them of the type of the first octet.
fn raw_push(key: &SigningKey, sequence: u32, octets: &[u8], signed: bool) -> Vec<u8> {
    let (first, rest) = octets.split_first().unwrap_or((&PayloadType::SIGNATURE.0, &[]));
    let before = [&[*first, 0, 0, 8][..], &sequence.to_be_bytes(), rest].concat();
    let header = |length: usize| {
        [&SPI[..], &hex!("12 10 21 01 00000000"), &((28 + length) as u32).to_be_bytes()].concat()
    };
    let signature = match signed {
        true => {
            let covered = header(before.len() + 4 + key.signature_len());
            key.sign(Hash::Sha256, &[b"rekey", &covered, &before]).expect("the curve's hash")
        }
        false => vec![0x55; key.signature_len()],
    };
    let mut body = [&before[..], &[0, 0, 0, 4 + signature.len() as u8], &signature].concat();
    body.resize(body.len().next_multiple_of(16), 0);
    CbcCipher::Aes128.encrypt_in_place(&KEY, &IV, &mut body).expect("whole blocks");
    [header(body.len()), body].concat()
}

/// What a step says about a well-made push: Deletes, then SA and KD if there is anything left.
///
/// ```text
/// number of Deletes (1) | SPIs (4 each; 0: all) | length of SA (2) | SA | KD
/// ```
fn push(key: &SigningKey, sequence: u32, octets: &[u8]) -> Option<Vec<u8>> {
    let (&count, rest) = octets.split_first()?;
    let (spis, rest) = rest.split_at_checked(usize::from(count & 7) * 4)?;
    let mut deletions = Vec::new();
    for spi in spis.chunks_exact(4) {
        deletions.push(match u32::from_be_bytes(spi.try_into().expect("four octets")) {
            0 => Deletion::EveryTek,
            1 => Deletion::EveryKek,
            2 => Deletion::Kek(KekSpi(SPI)),
            spi => Deletion::Tek(spi),
        });
    }
    let mut body = Body { deletions: &deletions, sa: None, kd: None };
    if let Some((length, rest)) = rest.split_first_chunk() {
        let (sa, kd) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        (body.sa, body.kd) = (Some(sa), Some(kd));
    }
    // Too long for a datagram is no finding.
    seal(&kek(), key, sequence, &body).ok()
}

/// A member that has a KEK gets pushes: the server's, a fellow member's and a stranger's. Returns how many it acknowledged.
pub fn push_member(input: &[u8]) -> u64 {
    let key = signing_key();
    let mut stranger = Stranger::server();
    let mut member = Member::new(stranger.now, member_settings(0, &[GROUP]), Box::new(SeededRandom::new(2)));
    member.interface_up(stranger.now, "vpn-1", None);
    assert!(stranger.serve(&mut member, &first_sa(), Some(0), &first_kd(&key)), "the member registers");
    let registered = std::iter::from_fn(|| member.poll_event())
        .any(|event| matches!(event, Event::InstallSas { sas, .. } if sas.len() == 1));
    assert!(registered, "with the first TEK");
    let mut sequence = 0;
    let mut signed_pushes = 0;
    let mut acknowledged = 0;
    let mut buffer = Vec::new();
    for step in steps(input) {
        // Whether the member has been given something that the server signed, or time has passed.
        let mut may_change = false;
        let datagram = match step.kind % 6 {
            0 => Some(step.octets.to_vec()),
            1 => Some(raw_push(&key, u32::MAX, step.octets, false)),
            2 => {
                sequence += 1;
                (may_change, signed_pushes) = (true, signed_pushes + 1);
                Some(raw_push(&key, sequence, step.octets, true))
            }
            3 => {
                let datagram = push(&key, sequence + 1, step.octets);
                may_change = datagram.is_some();
                (sequence, signed_pushes) =
                    (sequence + u32::from(may_change), signed_pushes + u64::from(may_change));
                datagram
            }
            // The server's own, but not newer than the last one.
            4 if sequence > 0 && acknowledged == signed_pushes => push(&key, sequence, step.octets),
            4 => None,
            _ => {
                may_change = true;
                stranger.now += Duration::from_secs(step.octets.len() as u64);
                member.handle_timeout(stranger.now);
                None
            }
        };
        if let Some(datagram) = datagram {
            member.handle_datagram(stranger.now, stranger.their_path(), &datagram);
        }
        while member.poll_transmit(&mut buffer).is_some() {
            acknowledged += u64::from(exchange_of(&buffer) == Some(ExchangeType::GROUPKEY_PUSH_ACK));
        }
        assert!(acknowledged <= signed_pushes, "only what the server signed is acknowledged, and once");
        while let Some(event) = member.poll_event() {
            match event {
                Event::InstallSas { sas, .. } => {
                    assert!(may_change, "nobody but the server installs");
                    for sa in &sas {
                        assert!(sa.spi > 255 && sa.hard_expiry > stranger.now && !sa.selectors.is_empty());
                        assert_eq!(sa.keys.cipher.len(), sa.suite.cipher_key_len());
                        assert_eq!(sa.keys.integrity.len(), sa.suite.integrity_key_len());
                    }
                }
                Event::RemoveSas { .. } => assert!(may_change, "nobody but the server removes"),
                _ => {}
            }
        }
    }
    acknowledged
}

/// A member of another make registers with a server that pushes, and returns the KEK it was given.
fn register(stranger: &mut Stranger, server: &mut Server, cipher: CbcCipher, hash: Hash) -> Kek {
    let id = stranger.start();
    let ni = [9; 16];
    let message =
        pull::message_1(stranger.association(), id, &ni, &Identity::key_id(GROUP), &[]).expect("short");
    stranger.send(id, &message);
    stranger.pump(server);
    let reply = stranger.take();
    let nr = pull::read_message_2(stranger.association(), received(&reply), &ni)
        .expect("the server answers")
        .nonce;
    let message = pull::message_3(stranger.association(), id, &ni, &nr, None).expect("short");
    stranger.send(id, &message);
    stranger.pump(server);
    let reply = stranger.take();
    let keys = pull::read_message_4(stranger.association(), received(&reply), &ni, &nr)
        .expect("and gives keys")
        .keys;
    let packet =
        keys.packets.iter().find(|packet| packet.kind == KeyDownloadType::KEK).expect("a KEK among them");
    let octets = packet.attributes.bytes(KekKeyAttribute::ALGORITHM_KEY).expect("with its key");
    let (iv, key) = Kek::split_algorithm_key(cipher, octets).expect("of the right length");
    let spi = KekSpi((*packet.spi).try_into().expect("16 octets"));
    Kek { spi, cipher, key, iv, hash, acknowledgement: Some(AcknowledgementPrf::Sha256) }
}

/// A server that pushes gets acknowledgements, good ones and others, and pushes of somebody else. Returns how many
/// acknowledgements it counts.
pub fn push_server(input: &[u8]) -> u64 {
    let mut stranger = Stranger::member();
    let settings = pushing_group();
    let push = settings.push.clone().expect("it pushes");
    let settings = server_settings(1, vec![settings]);
    let mut server = Server::new(stranger.now, settings, Box::new(SeededRandom::new(1)));
    stranger.connect(&mut server);
    let kek = register(&mut stranger, &mut server, push.cipher, push.hash);
    let keys = kek.acknowledgement_keys().expect("members acknowledge");
    let verifying = push.signing_key.verifying_key();
    let own = Identity::address(member_address(0));
    let path = stranger.their_path();
    let mut last = 0;
    let mut good = 0;
    for step in steps(input) {
        match step.kind % 7 {
            0 => server.handle_datagram(stranger.now, path, step.octets),
            // Whatever follows HASH, under a good one: what a fellow member could send.
            1 => {
                let first = step.octets.first().copied().unwrap_or_default();
                let rest = step.octets.get(1..).unwrap_or_default();
                let tag = fellow_tag(&kek, rest);
                let length = (28 + 4 + tag.len() + rest.len()) as u32;
                let datagram = [
                    &kek.spi.0[..],
                    &hex!("08 10 23 00 00000000"),
                    &length.to_be_bytes(),
                    &[first, 0, 0, 4 + tag.len() as u8],
                    &tag,
                    rest,
                ]
                .concat();
                good += 1;
                server.handle_datagram(stranger.now, path, &datagram);
            }
            2 if last > 0 => {
                good += 1;
                let datagram = keys.seal(kek.spi, last, &own).expect("it is short");
                server.handle_datagram(stranger.now, path, &datagram);
            }
            3 => {
                if let Some((sequence, address)) = step.octets.split_first_chunk() {
                    let identity = match <[u8; 4]>::try_from(address) {
                        Ok(address) => Identity::address(address.into()),
                        Err(_) => own.clone(),
                    };
                    let sequence = u32::from_be_bytes(*sequence);
                    good += 1;
                    let datagram = keys.seal(kek.spi, sequence, &identity).expect("it is short");
                    server.handle_datagram(stranger.now, path, &datagram);
                }
            }
            4 => {
                stranger.now += Duration::from_secs(step.octets.len() as u64);
                server.handle_timeout(stranger.now);
            }
            5 => {
                let datagram =
                    seal(&kek, &signing_key(), 1, &Body { sa: Some(step.octets), ..Body::default() });
                if let Ok(datagram) = datagram {
                    server.handle_datagram(stranger.now, path, &datagram);
                }
            }
            6 => {
                let how = if step.octets.is_empty() { Eviction::Graceful } else { Eviction::Now };
                server.evict(stranger.now, None, how).expect("a group that pushes evicts");
            }
            _ => {}
        }
        stranger.pump(&mut server);
        while let Some(batch) = server.poll_push() {
            if kek_spi_of(&batch.datagram) != Some(kek.spi) {
                continue;
            }
            let opened = open(&kek, &batch.datagram).expect("the server makes what a member can read");
            if opened.sequence() != last {
                let newer = opened.newer_than(last).expect("its numbers only grow");
                last = newer.sequence();
                newer.verify(&verifying, BareHash::Refused).expect("it signs them");
            }
        }
        while server.poll_event().is_some() {}
    }
    let acknowledged = server.statistics(stranger.now)[0].push_acknowledged;
    assert!(acknowledged <= good, "what has no good hash does not count");
    acknowledged
}

/// HASH of an acknowledgement whose SEQ and ID are these octets.
fn fellow_tag(kek: &Kek, covered: &[u8]) -> Vec<u8> {
    let label = b"GROUPKEY-PUSH ACK\0";
    let key = Hash::Sha256.prf(kek.key.expose(), &[label, &kek.spi.0, &512_u16.to_be_bytes()]);
    Hash::Sha256.prf(key.expose(), &[covered]).expose().to_vec()
}

fn pushing_group() -> proto::server::GroupSettings {
    let mut settings = group(GROUP, 1, &[policy(1)]);
    settings.push = Some(proto::server::PushSettings { signing_key: signing_key(), ..unicast() });
    settings
}
