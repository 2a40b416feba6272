//! Counter-mode keys: no IV is used twice, and no packet of a sender is accepted twice.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use dataplane::DropReason as D;
use dataplane::*;
use proptest::prelude::*;
use support::*;

fn packet(index: u8) -> Vec<u8> {
    Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[index; 40]).frame()
}

/// A member with its own identifiers: its VPN and its tables.
fn member(own: &[u32]) -> (Vpn, Tables) {
    let vpn = seed_vpn(&[member_sa(AES128_GCM, SPI, own, None)]);
    let tables = tables(&vpn);
    (vpn, tables)
}

fn send(engine: &mut Engine, tables: &Tables, count: u8) -> Vec<Vec<u8>> {
    let input: Vec<_> =
        (0..count).map(|index| (OWN_FORWARDED, VnetHeader::default(), packet(index))).collect();
    run_batch(engine, at(1), tables, &input)
        .into_iter()
        .map(|out| {
            assert_eq!(out.destination, Destination::WireEsp);
            out.bytes
        })
        .collect()
}

fn receive(engine: &mut Engine, tables: &Tables, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let input: Vec<_> =
        frames.iter().map(|frame| (Origin::Wire, VnetHeader::default(), frame.clone())).collect();
    run_batch(engine, at(1), tables, &input).into_iter().map(|out| out.bytes).collect()
}

fn iv(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[42..50].try_into().unwrap())
}

#[test]
fn what_one_member_encrypts_another_decrypts_once() {
    for suite in gcm_suites() {
        let sender = tables(&seed_vpn(&[member_sa(suite, SPI, &[3], None)]));
        let vpn = seed_vpn(&[member_sa(suite, SPI, &[4], None)]);
        let receiver = tables(&vpn);
        let sent = send(&mut engine(), &sender, 100);
        let mut engine = engine();
        let received = receive(&mut engine, &receiver, &sent);
        assert_eq!(received, (0..100).map(packet).collect::<Vec<_>>());
        assert_eq!(receive(&mut engine, &receiver, &sent), Vec::<Vec<u8>>::new());
        // Another lane knows the same windows.
        assert_eq!(receive(&mut support::engine(), &receiver, &sent[50..]), Vec::<Vec<u8>>::new());
        assert_eq!(reasons(&vpn), [(D::SequenceRepeated, 150)]);
    }
}

#[test]
fn copies_within_one_batch_are_accepted_once() {
    let (_, sender) = member(&[3]);
    let (vpn, receiver) = member(&[4]);
    let sent = send(&mut engine(), &sender, 3);
    let twice = [&sent[..], &sent[..]].concat();
    assert_eq!(receive(&mut engine(), &receiver, &twice).len(), 3);
    assert_eq!(reasons(&vpn), [(D::SequenceRepeated, 3)]);
}

#[test]
fn packets_behind_the_window_are_refused_and_within_it_in_any_order_accepted() {
    let (_, sender) = member(&[3]);
    let (vpn, receiver) = member(&[4]);
    let mut lane = engine();
    let sent: Vec<_> = (0..12).flat_map(|_| send(&mut lane, &sender, 200)).collect();
    let mut engine = engine();
    assert_eq!(receive(&mut engine, &receiver, &sent[2399..]).len(), 1);
    let mut rest = sent[..2399].to_vec();
    rest.reverse();
    assert_eq!(receive(&mut engine, &receiver, &rest).len(), 2015);
    assert_eq!(reasons(&vpn), [(D::SequenceTooOld, 384)]);
}

#[test]
fn a_forged_packet_moves_no_window() {
    let (_, sender) = member(&[3]);
    let (vpn, receiver) = member(&[4]);
    let sent = send(&mut engine(), &sender, 1).remove(0);
    let mut forged = sent.clone();
    // The highest sequence number there is, and another sender.
    forged[38..42].fill(0xff);
    let mut engine = engine();
    assert_eq!(receive(&mut engine, &receiver, &[forged]).len(), 0);
    assert_eq!(receive(&mut engine, &receiver, &[sent]).len(), 1);
    assert_eq!(reasons(&vpn), [(D::BadIntegrity, 1)]);
}

#[test]
fn an_own_packet_that_comes_back_is_dropped() {
    let (vpn, tables) = member(&[3]);
    let sent = send(&mut engine(), &tables, 2);
    assert_eq!(receive(&mut engine(), &tables, &sent).len(), 0);
    assert_eq!(reasons(&vpn), [(D::OwnPacket, 2)]);
}

#[test]
fn without_an_identifier_nothing_leaves_and_more_are_asked_for() {
    let ids = sender_ids(&[]);
    let sa = sa_of(AES128_GCM, SPI, Some(&ids), None, Instant::ZERO, Instant::FAR_FUTURE);
    let vpn = seed_vpn(&[sa]);
    let tables = tables(&vpn);
    let mut engine = engine();
    assert_eq!(send(&mut engine, &tables, 40).len(), 0);
    assert_eq!(reasons(&vpn), [(D::NoSenderId, 40)]);
    assert_eq!((ids.wanted(), vpn.counters.encrypted.packets()), (1, 0));
    ids.grant(9).unwrap();
    assert_eq!(ids.wanted(), 0);
    let sent = send(&mut engine, &tables, 2);
    assert_eq!(sent.iter().map(|frame| iv(frame)).collect::<Vec<_>>(), [9 << 48 | 1, 9 << 48 | 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Lanes come and go, the key is installed anew, registrations bring numbers already seen, tables change.
    #[test]
    fn no_iv_is_ever_used_twice(
        steps in prop::collection::vec((0usize..3, 1u8..40, 0u8..8, 0u32..12), 1..40),
    ) {
        let ids = sender_ids(&[1]);
        let install = || sa_of(AES128_GCM, SPI, Some(&ids), None, Instant::ZERO, Instant::FAR_FUTURE);
        let mut sa = install();
        let mut lanes: Vec<Engine> = (0..3).map(|_| engine()).collect();
        let mut seen = BTreeSet::new();
        for (lane, count, change, id) in steps {
            match change {
                0 => sa = install(),
                1 => lanes[lane] = engine(),
                2 => {
                    ids.begin_period();
                    ids.grant(id).unwrap();
                    sa.renew_sender_ids();
                }
                3 => ids.grant(id).unwrap(),
                _ => {}
            }
            let tables = tables(&seed_vpn(&[Arc::clone(&sa)]));
            for frame in send(&mut lanes[lane], &tables, count) {
                prop_assert!(seen.insert(iv(&frame)));
            }
        }
    }
}
