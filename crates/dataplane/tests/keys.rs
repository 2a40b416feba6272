//! Which key encrypts and decrypts when, and what the tables tell the tc programs.

mod support;

use std::sync::Arc;

use crypto::esp::EspSuite;
use dataplane::DropReason as D;
use dataplane::*;
use support::*;

fn packet() -> Vec<u8> {
    Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), b"data").frame()
}

/// SPI of what leaves at a moment.
fn sent_spi(engine: &mut Engine, tables: &Tables, now: Instant) -> Option<u32> {
    let output = run_batch(engine, now, tables, &[(OWN_FORWARDED, VnetHeader::default(), packet())]);
    assert!(output.iter().all(|out| out.destination == Destination::WireEsp));
    output.first().map(|out| u32::from_be_bytes(out.bytes[34..38].try_into().unwrap()))
}

#[test]
fn the_newest_active_key_encrypts_and_none_before_activation_or_after_expiry() {
    let old = sa_with(AES128_SHA1, 1000, at(10), at(100));
    let new = sa_with(AES128_SHA1, 1001, at(90), at(200));
    let vpn = seed_vpn(&[old, new]);
    let tables = tables(&vpn);
    let mut engine = engine();
    let micro = std::time::Duration::from_micros(1);
    let before = |seconds| Instant::from_micros(at(seconds).as_micros() - 1);
    // Before the first activation the policy does not protect yet, and the default policy lets the packet pass.
    let clear =
        run_batch(&mut engine, before(10), &tables, &[(OWN_FORWARDED, VnetHeader::default(), packet())]);
    assert_eq!(single(clear).destination, Destination::WireClear);
    assert_eq!(sent_spi(&mut engine, &tables, at(10)), Some(1000));
    assert_eq!(sent_spi(&mut engine, &tables, before(90)), Some(1000));
    assert_eq!(sent_spi(&mut engine, &tables, at(90)), Some(1001));
    assert_eq!(sent_spi(&mut engine, &tables, at(100).saturating_add(micro)), Some(1001));
    assert_eq!(sent_spi(&mut engine, &tables, before(200)), Some(1001));
    assert_eq!(sent_spi(&mut engine, &tables, at(200)), None);
    assert_eq!(reasons(&vpn), [(D::NoLiveKey, 1)]);
}

#[test]
fn a_successor_that_is_not_active_yet_does_not_save_an_expired_key() {
    let old = sa_with(AES128_SHA1, 1000, at(0), at(100));
    let new = sa_with(AES128_SHA1, 1001, at(110), at(200));
    let tables = tables(&seed_vpn(&[new, old]));
    let mut engine = engine();
    assert_eq!(sent_spi(&mut engine, &tables, at(99)), Some(1000));
    assert_eq!(sent_spi(&mut engine, &tables, at(105)), None);
    assert_eq!(sent_spi(&mut engine, &tables, at(110)), Some(1001));
}

#[test]
fn received_packets_are_decrypted_before_activation_and_not_after_expiry() {
    let sender = tables(&seed_vpn(&[sa(SPI)]));
    let esp = single(run(&mut engine(), &sender, OWN_FORWARDED, &packet())).bytes;
    let vpn = seed_vpn(&[sa_with(AES128_SHA1, SPI, at(50), at(100))]);
    let tables = tables(&vpn);
    let mut engine = engine();
    for (seconds, expected) in [(10, 1), (60, 1), (99, 1), (100, 0)] {
        let output = run_batch(
            &mut engine,
            at(seconds),
            &tables,
            &[(Origin::Wire, VnetHeader::default(), esp.clone())],
        );
        assert_eq!(output.len(), expected, "second {seconds}");
    }
    assert_eq!(reasons(&vpn), [(D::SaExpired, 1)]);
}

fn directed(direction: SaDirection, spi: u32) -> Arc<GroupSa> {
    directed_sa(direction, AES128_SHA1, spi, None, None, Instant::ZERO, Instant::FAR_FUTURE)
}

#[test]
fn a_key_that_only_receives_never_sends_and_its_policy_lets_nothing_out_in_clear() {
    let vpn = seed_vpn(&[directed(SaDirection::ReceiverOnly, 1000)]);
    let tables = tables(&vpn);
    let mut engine = engine();
    for origin in [OWN_FORWARDED, OWN, INJECTED] {
        assert!(
            run_batch(&mut engine, at(1), &tables, &[(origin, VnetHeader::default(), packet())]).is_empty()
        );
    }
    let error =
        Packet::icmp_error("31.1.1.2", "41.1.1.2", &Packet::udp("41.1.1.2", "31.1.1.2", (2, 1), b"data"));
    let frames = [(OWN_FORWARDED, VnetHeader::default(), error.frame())];
    assert!(run_batch(&mut engine, at(1), &tables, &frames).is_empty());
    assert_eq!(reasons(&vpn), [(D::ReceiverOnly, 4)]);
    // It decrypts, and another key of the policy sends.
    let sender = self::tables(&seed_vpn(&[sa(1000)]));
    let esp = single(run(&mut self::engine(), &sender, OWN_FORWARDED, &packet())).bytes;
    assert_eq!(single(run(&mut engine, &tables, Origin::Wire, &esp)).destination, Destination::Inject);
    for sending in [SaDirection::Symmetric, SaDirection::SenderOnly] {
        let both = [directed(SaDirection::ReceiverOnly, 1000), directed(sending, 1001)];
        assert_eq!(sent_spi(&mut engine, &self::tables(&seed_vpn(&both)), at(1)), Some(1001));
    }
}

#[test]
fn a_key_that_only_sends_decrypts_nothing() {
    let vpn = seed_vpn(&[directed(SaDirection::SenderOnly, 1000)]);
    let tables = tables(&vpn);
    let mut engine = engine();
    assert_eq!(sent_spi(&mut engine, &tables, at(1)), Some(1000));
    let esp = single(run(&mut engine, &tables, OWN_FORWARDED, &packet())).bytes;
    assert!(run(&mut engine, &tables, Origin::Wire, &esp).is_empty());
    assert_eq!(reasons(&vpn), [(D::SenderOnly, 1)]);
    // Its retimed form is no other.
    let retimed = directed(SaDirection::SenderOnly, 1000).retimed(at(0), at(100_000));
    let vpn = seed_vpn(&[retimed]);
    assert!(run(&mut engine, &self::tables(&vpn), Origin::Wire, &esp).is_empty());
    assert_eq!(reasons(&vpn), [(D::SenderOnly, 1)]);
}

#[test]
fn of_two_keys_for_the_two_directions_each_takes_its_own_in_whatever_order_the_policies_are() {
    let mut vpn = seed_vpn(&[]);
    let (out, back) = (selector("31.1.1.0/24", "41.1.1.0/24"), selector("41.1.1.0/24", "31.1.1.0/24"));
    let policy = |selector, sa| Policy { selector, sas: vec![sa], drop_clear_from: Instant::ZERO };
    let ours = || policy(out, directed(SaDirection::SenderOnly, 1000));
    let theirs = || policy(back, directed(SaDirection::ReceiverOnly, 1001));
    for policies in [vec![ours(), theirs()], vec![theirs(), ours()]] {
        vpn.policies = policies;
        assert_eq!(sent_spi(&mut engine(), &tables(&vpn), at(1)), Some(1000));
    }
}

#[test]
fn clear_packets_of_a_new_policy_are_dropped_from_its_moment_on() {
    let mut vpn = seed_vpn(&[sa(SPI)]);
    vpn.policies[0].drop_clear_from = at(50);
    let tables = tables(&vpn);
    let mut engine = engine();
    for (seconds, expected) in [(49, 1), (50, 0)] {
        let output = run_batch(
            &mut engine,
            at(seconds),
            &tables,
            &[(
                Origin::Ingress,
                VnetHeader::default(),
                Packet::udp("41.1.2.2", "31.1.1.2", (1, 2), b"x").frame(),
            )],
        );
        assert_eq!(output.len(), expected);
    }
}

#[test]
fn sequence_numbers_and_counters_survive_an_exchange_of_tables() {
    let key = sa(SPI);
    let mut engine = engine();
    let mut expected = 1u32;
    let counters: Arc<Counters> = Arc::default();
    for _ in 0..3 {
        let tables = tables(&Vpn { counters: counters.clone(), ..seed_vpn(std::slice::from_ref(&key)) });
        for _ in 0..5 {
            let out = single(run(&mut engine, &tables, OWN_FORWARDED, &packet()));
            assert_eq!(out.bytes[38..42], expected.to_be_bytes());
            expected += 1;
        }
    }
    assert_eq!((key.encrypted().packets(), counters.encrypted.packets()), (15, 15));
}

#[test]
fn initialization_vectors_do_not_repeat() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    let input: Vec<_> = (0..1000).map(|_| (OWN_FORWARDED, VnetHeader::default(), packet())).collect();
    let sent = run_batch(&mut engine(), at(1), &tables, &input);
    let ivs: std::collections::BTreeSet<_> = sent.iter().map(|out| out.bytes[42..58].to_vec()).collect();
    assert_eq!(ivs.len(), 1000);
}

#[test]
fn counter_modes_without_sender_ids_and_reserved_spis_are_refused() {
    let gcm = EspSuite::all().find(|suite| !suite.wants_random_iv()).unwrap();
    let settings = |suite: EspSuite, spi| SaSettings {
        direction: SaDirection::Symmetric,
        spi,
        suite,
        cipher_key: &[0; 64][..suite.cipher_key_len()],
        integrity_key: &[0; 64][..suite.integrity_key_len()],
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: None,
        pseudo_clock: None,
    };
    assert_eq!(GroupSa::new(&settings(gcm, 256)).unwrap_err(), SaError::NoSenderIds);
    assert_eq!(GroupSa::new(&settings(AES128_SHA1, 255)).unwrap_err(), SaError::ReservedSpi(255));
    let short = SaSettings { cipher_key: &[0; 15], ..settings(AES128_SHA1, 256) };
    assert!(matches!(GroupSa::new(&short), Err(SaError::Key(_))));
}

#[test]
fn a_retimed_key_ends_at_its_new_end_and_keeps_its_sequence_numbers() {
    let key = sa_with(AES128_SHA1, SPI, at(0), at(100));
    let mut engine = engine();
    let mut sent = |key: &Arc<GroupSa>, now| {
        let tables = tables(&seed_vpn(&[Arc::clone(key)]));
        let output =
            run_batch(&mut engine, now, &tables, &[(OWN_FORWARDED, VnetHeader::default(), packet())]);
        output.first().map(|out| u32::from_be_bytes(out.bytes[38..42].try_into().unwrap()))
    };
    assert_eq!(sent(&key, at(1)), Some(1));
    let cut = key.retimed(at(0), at(50));
    assert_eq!(sent(&cut, at(49)), Some(2));
    assert_eq!(sent(&cut, at(50)), None);
    assert_eq!(key.encrypted().packets(), 2);
    let later = cut.retimed(at(60), at(100));
    assert_eq!(sent(&later, at(60)), Some(3));
}

#[test]
fn two_groups_may_use_the_same_spi() {
    let one = seed_vpn(&[sa(SPI)]);
    let suite = cbc_suites().find(|suite| *suite != AES128_SHA1).unwrap();
    let mut other = seed_vpn(&[]);
    let key = sa_with(suite, SPI, Instant::ZERO, Instant::FAR_FUTURE);
    other.policies = vec![policy(selector("51.1.1.0/24", "61.1.1.0/24"), &[key])];
    let tables = tables_of(&[one, other], DefaultPolicy::PermitAll);
    for (source, destination) in [("31.1.1.2", "41.1.1.2"), ("51.1.1.2", "61.1.1.2")] {
        let frame = Packet::udp(source, destination, (1, 2), b"data").frame();
        let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &frame));
        assert_eq!(single(run(&mut engine(), &tables, Origin::Wire, &sent.bytes)).bytes, frame);
    }
    assert_eq!(tables.known_spis(), [SPI]);
}

#[test]
fn the_tc_programs_are_told_what_the_engine_has_to_see() {
    let mut vpn = seed_vpn(&[sa(SPI)]);
    vpn.policies.truncate(1);
    vpn.exclude = vec![pair("31.1.1.50/32", "41.1.1.0/24")];
    let pairs = vec![pair("31.1.1.0/24", "41.1.0.0/16"), pair("41.1.0.0/16", "31.1.1.0/24")];
    let exclude = vec![pair("31.1.1.50/32", "41.1.1.0/24"), pair("41.1.1.0/24", "31.1.1.50/32")];
    let tables_for = |vpn: &Vpn, policy| tables_of(std::slice::from_ref(vpn), policy);
    let expected = |all_forwarded| Candidates {
        all_forwarded,
        pairs: pairs.clone(),
        exclude: exclude.clone(),
        filter: vec![],
    };

    let tables = tables_for(&vpn, DefaultPolicy::PermitAll);
    assert_eq!(tables.egress_candidates(WAN), expected(false));
    assert_eq!(tables.ingress_candidates(WAN), expected(false));
    assert_eq!(tables.external_interfaces(), [WAN]);
    assert_eq!(tables.egress_candidates(InterfaceId(1)), Candidates::default());
    assert!(tables_for(&vpn, DefaultPolicy::DenyAll).egress_candidates(WAN).all_forwarded);
    assert!(!tables_for(&vpn, DefaultPolicy::DenyAll).ingress_candidates(WAN).all_forwarded);

    let service = Vpn { binding: Binding::ServiceSet { forward_mismatch: false }, ..vpn.clone() };
    assert!(tables_for(&service, DefaultPolicy::PermitAll).egress_candidates(WAN).all_forwarded);
    let last_known = Vpn { registration: Registration::NotYet, ..vpn.clone() };
    assert!(tables_for(&last_known, DefaultPolicy::PermitAll).egress_candidates(WAN).all_forwarded);
    assert!(!tables_for(&last_known, DefaultPolicy::PermitAll).ingress_candidates(WAN).all_forwarded);
    let new = Vpn { policies: vec![], ..last_known };
    assert!(tables_for(&new, DefaultPolicy::PermitAll).ingress_candidates(WAN).all_forwarded);

    // A rule of one VPN must not exempt from the other.
    let both = tables_of(&[vpn.clone(), vpn], DefaultPolicy::PermitAll);
    assert_eq!(both.egress_candidates(WAN).exclude, []);
}

#[test]
fn dynamic_policies_outside_their_scope_policy_are_listed() {
    let scope = [selector("31.1.0.0/16", "0.0.0.0/0")];
    let inside = selector("31.1.1.0/24", "41.1.0.0/16");
    let other_way = selector("41.1.1.0/24", "31.1.0.0/16");
    let outside = selector("21.1.1.0/24", "31.1.1.0/24");
    let wide = selector("31.0.0.0/8", "41.1.1.0/24");
    assert!(scope_contains(&scope, &inside));
    let dynamic = [inside, other_way, outside, wide];
    assert_eq!(outside_scope(&scope, &dynamic).collect::<Vec<_>>(), [&wide]);
    let telnet = [Selector { destination_port: 23, protocol: 6, ..scope[0] }];
    assert!(!scope_contains(&telnet, &inside));
    assert!(scope_contains(&telnet, &Selector { destination_port: 23, protocol: 6, ..inside }));
}
