//! Rekeys of very many members: what must not grow with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crypto::signature::{SigningKey, SigningKeyKind};
use crypto::{CbcCipher, EspSuite, Hash, Integrity, SeededRandom};
use wire::codec::LengthWidth;
use wire::isakmp::Identity;
use wire::selector::Selector;

use super::cluster::Newcomer;
use super::*;
use crate::push::Kek;

fn settings() -> Settings {
    let sa = IpsecSaSettings {
        name: "sa".into(),
        suite: EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 },
        lifetime: Duration::from_secs(3600),
        anti_replay: None,
        policies: vec![MatchPolicy {
            name: "p".into(),
            selector: Selector::between("10.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()),
        }],
    };
    let push = PushSettings {
        communication: Communication::Unicast { acknowledgement_required: false },
        source: None,
        lifetime: Duration::from_secs(86_400),
        retransmission_period: Duration::from_secs(10),
        number_of_retransmission: 2,
        heartbeat: None,
        cipher: CbcCipher::Aes128,
        hash: Hash::Sha256,
        signing_key: SigningKey::generate(SigningKeyKind::EcdsaP256).unwrap(),
    };
    let group = GroupSettings {
        name: "group".into(),
        id: 1,
        gateways: vec!["all".into()],
        member_threshold: None,
        activation_time_delay: Duration::from_secs(15),
        multicast_group: None,
        id_length: LengthWidth::One,
        sender_id_bits: 16,
        ipsec_sas: vec![sa],
        push: Some(push),
    };
    Settings { groups: vec![group], ..Settings::default() }
}

fn path(member: u32) -> Path {
    let address = Ipv4Addr::from(0x0a00_0000 + member);
    Path::new(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 848)), SocketAddr::from((address, 848)))
}

/// A server at which so many members have registered.
fn server_with(members: u32) -> Server {
    let mut server = Server::new(Instant::ORIGIN, settings(), Box::new(SeededRandom::new(1)));
    let gateway: Arc<str> = "all".into();
    let group = &mut server.groups[0];
    let offer = group.offer(Instant::ORIGIN, true).unwrap();
    for member in 0..members {
        let path = path(member);
        let newcomer = Newcomer { gateway: &gateway, path, ours: true, offer: &offer };
        group.register(Instant::ORIGIN, &newcomer, false);
    }
    server.update_due(Instant::ORIGIN);
    server
}

fn drain(server: &mut Server) -> Vec<PushBatch> {
    std::iter::from_fn(|| server.poll_push()).collect()
}

fn copies(batches: &[PushBatch]) -> usize {
    let paths = batches.iter().map(|batch| match &batch.to {
        Recipients::Unicast(paths) => paths.len(),
        Recipients::Multicast { .. } => 0,
    });
    paths.sum()
}

fn kek(server: &Server) -> &Kek {
    server.groups[0].keks[0].shared()
}

#[test]
fn one_datagram_goes_to_all_in_batches_and_only_silence_is_answered_with_another_round() {
    const MEMBERS: u32 = 20_000;
    let mut server = server_with(MEMBERS);
    let now = Instant::ORIGIN + Duration::from_secs(3240);
    server.handle_timeout(now);
    let batches = drain(&mut server);
    assert_eq!(copies(&batches), MEMBERS as usize);
    assert_eq!(batches.len(), (MEMBERS as usize).div_ceil(BATCH));
    assert!(batches.iter().all(|batch| Arc::ptr_eq(&batch.datagram, &batches[0].datagram)));

    let keys = kek(&server).acknowledgement_keys().unwrap();
    let spi = kek(&server).spi;
    let silent = |member: u32| member % 1000 == 7;
    for member in (0..MEMBERS).filter(|member| !silent(*member)) {
        let identity = Identity::address(path(member).remote.ip());
        let acknowledgement = keys.seal(spi, 1, &identity).unwrap();
        server.handle_datagram(now, path(member), &acknowledgement);
    }
    assert_eq!(server.statistics(now)[0].push_acknowledged, u64::from(MEMBERS - MEMBERS / 1000));
    let round = now + Duration::from_secs(10);
    assert_eq!(server.poll_timeout(), Some(round));
    server.handle_timeout(round);
    let batches = drain(&mut server);
    assert_eq!((batches.len(), copies(&batches)), (1, MEMBERS as usize / 1000));
    // The first round's number counts as well as the second's.
    for member in (0..MEMBERS).filter(|member| silent(*member)) {
        let identity = Identity::address(path(member).remote.ip());
        let acknowledgement = keys.seal(spi, 1 + member % 2, &identity).unwrap();
        server.handle_datagram(round, path(member), &acknowledgement);
    }
    server.handle_timeout(round + Duration::from_secs(10));
    assert!(drain(&mut server).is_empty());
    assert_eq!(server.statistics(round)[0].acknowledgements_refused, []);
}

#[test]
fn what_is_kept_of_a_member_is_small() {
    assert!(size_of::<members::Member>() <= 192, "{}", size_of::<members::Member>());
}
