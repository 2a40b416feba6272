//! What the fuzz targets `pull_server` and `pull_member` do with their octets, shared with the replay of the corpora.
//!
//! The octets are a list of steps. Hashes are made right, so that what is behind them is reached.
//!
//! ```text
//! kind (1) | length (2) | octets (length)
//! ```

use std::time::Duration;

use crypto::SeededRandom;
use proto::Role;
use proto::member::{Event, Member};
use proto::pull;
use proto::server::Server;
use wire::isakmp::MessageId;
use wire::registry::{ExchangeType, PayloadType};

use crate::fuzz_steps::steps;
use crate::stranger::{Stranger, received};
use crate::world::*;

/// Sends payloads of which the first has the type of the first octet, with a good HASH before them.
fn send_authentic(stranger: &mut Stranger, id: MessageId, nonces: &[&[u8]], octets: &[u8]) {
    let Some((&first, rest)) = octets.split_first() else { return };
    let id_octets = id.0.to_be_bytes();
    let parts: Vec<&[u8]> =
        [&id_octets[..]].into_iter().chain(nonces.iter().copied()).chain([rest]).collect();
    let hash = stranger.association().prf_a(&parts);
    let mut payloads = vec![first, 0, 0, hash.len() as u8 + 4];
    payloads.extend_from_slice(&hash);
    payloads.extend_from_slice(rest);
    let Some(association) = stranger.association else { return };
    let pull = ExchangeType::GROUPKEY_PULL;
    // Too long for a datagram is no finding.
    let _ = stranger.endpoint.send_phase2(stranger.now, association, pull, id, PayloadType::HASH, &payloads);
}

/// A member of another make sends what it likes to our server. Returns how often it registered.
pub fn pull_server(input: &[u8]) -> u64 {
    let mut stranger = Stranger::member();
    let settings = server_settings(1, vec![group(GROUP, 2, &[policy(1), policy(2)])]);
    let mut server = Server::new(stranger.now, settings, Box::new(SeededRandom::new(1)));
    stranger.connect(&mut server);
    let ni = [9; 16];
    let mut open = None;
    let mut good_message_3 = 0;
    for step in steps(input) {
        if stranger.endpoint.associations().next().is_none() {
            break;
        }
        match step.kind % 5 {
            0 => server.handle_datagram(stranger.now, stranger.their_path(), step.octets),
            1 => {
                let id = stranger.start();
                send_authentic(&mut stranger, id, &[], step.octets);
            }
            2 => {
                let id = stranger.start();
                let group = wire::isakmp::Identity::key_id(GROUP);
                let message =
                    pull::message_1(stranger.association(), id, &ni, &group, &[]).expect("it is short");
                stranger.send(id, &message);
            }
            3 => {
                if let Some((id, nr)) = open.take() {
                    let nr: Vec<u8> = nr;
                    send_authentic(&mut stranger, id, &[&ni, &nr], step.octets);
                    good_message_3 += 1;
                }
            }
            _ => {
                stranger.now += Duration::from_secs(step.octets.len() as u64 * 60);
                server.handle_timeout(stranger.now);
            }
        }
        stranger.pump(&mut server);
        while !stranger.messages.is_empty() {
            let message = stranger.take();
            if let Ok(reply) = pull::read_message_2(stranger.association(), received(&message), &ni) {
                open = Some((message.message_id, reply.nonce));
            }
        }
    }
    let registered = server.statistics(stranger.now)[0].pull_succeeded;
    assert!(registered <= good_message_3, "nobody is registered without message 3");
    registered
}

/// A server of another make sends what it likes to our member. Returns how often the member installed SAs.
pub fn pull_member(input: &[u8]) -> u64 {
    let mut stranger = Stranger::server();
    let mut member = Member::new(stranger.now, member_settings(0, &[GROUP]), Box::new(SeededRandom::new(2)));
    member.interface_up(stranger.now, "vpn-1", None);
    let nr = [0x5a; 20];
    let mut nonce = Vec::new();
    let mut installed = 0;
    stranger.pump(&mut member);
    for step in steps(input) {
        let waiting = (!stranger.messages.is_empty()).then(|| stranger.take());
        match (step.kind % 4, waiting) {
            (0, _) => member.handle_datagram(stranger.now, stranger.their_path(), step.octets),
            (1, Some(message)) => {
                if let Ok(request) = pull::read_message_1(stranger.association(), received(&message)) {
                    nonce = request.nonce;
                    let body =
                        [&nonce_before(&nr, step.octets)[..], step.octets.get(1..).unwrap_or_default()]
                            .concat();
                    send_authentic(&mut stranger, message.message_id, &[&nonce], &body);
                }
            }
            (2, Some(message)) => {
                send_authentic(&mut stranger, message.message_id, &[&nonce, &nr], step.octets)
            }
            (3, _) => {
                stranger.now += Duration::from_secs(step.octets.len() as u64);
                member.handle_timeout(stranger.now);
            }
            (_, None) | (4.., _) => {}
        }
        stranger.pump(&mut member);
        while let Some(event) = member.poll_event() {
            if let Event::InstallSas { sas, .. } = event {
                installed += 1;
                for sa in &sas {
                    assert!(sa.spi > 255 && sa.hard_expiry > stranger.now && !sa.selectors.is_empty());
                    assert_eq!(sa.keys.cipher.len(), sa.suite.cipher_key_len());
                    assert_eq!(sa.keys.integrity.len(), sa.suite.integrity_key_len());
                }
            }
        }
        if stranger.endpoint.associations().next().is_none() {
            break;
        }
    }
    installed
}

/// A nonce payload before payloads of which the first has the type of the first octet.
fn nonce_before(nr: &[u8], octets: &[u8]) -> Vec<u8> {
    let next = octets.first().copied().unwrap_or_default();
    let mut payload = vec![PayloadType::NONCE.0, next, 0, 0, nr.len() as u8 + 4];
    payload.extend_from_slice(nr);
    payload
}
