//! What somebody may try who knows the rules: repetitions, replays, flags, numbers.

use std::time::Duration;

use proto::phase1::{AssociationId, DeadPeerDetection, Mode};
use wire::isakmp::{Hash, Message, Notification, PayloadBody, PayloadChain, SecurityAssociation};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType, ProtocolId};

use crate::peers::{Datagram, World, gateway, proposal};

/// Notifications in clear among what was sent.
fn clear_notifications(sent: &[Datagram]) -> Vec<NotifyType> {
    sent.iter()
        .filter_map(|sent| {
            let message = Message::parse(&sent.octets).ok()?;
            let informational =
                message.header.exchange == ExchangeType::INFORMATIONAL && !message.is_encrypted();
            let payloads = informational.then(|| message.payloads().ok()).flatten()?;
            payloads.only::<Notification<'_>>().ok().flatten().map(|notification| notification.kind)
        })
        .collect()
}

#[test]
fn a_late_copy_of_any_earlier_message_draws_no_notification() {
    for mode in [Mode::Main, Mode::Aggressive] {
        for delay in [50, 90, 130] {
            let mut world = World::with(|gateway| gateway.mode = mode);
            world.fate = Box::new(move |_, datagram| {
                let mut late = datagram.clone();
                late.arrives_at += Duration::from_millis(delay);
                vec![datagram.clone(), late]
            });
            world.establish();
            assert_eq!(clear_notifications(&world.sent), [], "{mode:?}, {delay} ms");
        }
    }
}

/// Sends an informational message with these payloads from the member; returns its octets.
fn inform(world: &mut World, id: AssociationId, payloads: &PayloadChain) -> Vec<u8> {
    let message_id = world.member.endpoint.start_phase2(world.now, id).unwrap();
    let association = world.member.endpoint.association(id).unwrap();
    let hash = association.prf_a(&[&message_id.0.to_be_bytes(), payloads.bytes()]);
    let mut chain = PayloadChain::new();
    chain.push(&Hash::from(&*hash)).unwrap().append(payloads);
    let kind = ExchangeType::INFORMATIONAL;
    world.member.endpoint.send_phase2(world.now, id, kind, message_id, chain.first(), chain.bytes()).unwrap();
    world.flush();
    world.sent.last().unwrap().octets.clone()
}

fn notification(world: &World, id: AssociationId, kind: NotifyType, data: &[u8]) -> PayloadChain {
    let association = world.member.endpoint.association(id).unwrap();
    let cookies = [association.initiator_cookie().0, association.responder_cookie().0].concat();
    let mut chain = PayloadChain::new();
    let notification = Notification {
        doi: Doi::IPSEC,
        protocol: ProtocolId::ISAKMP,
        spi: cookies.into(),
        kind,
        data: data.to_vec().into(),
    };
    chain.push(&notification).unwrap();
    chain
}

//= https://www.rfc-editor.org/rfc/rfc2409#section-5.7
//= type=test
//# As noted the message ID in the ISAKMP header-- and used in the prf
//# computation-- is unique to this exchange
#[test]
fn a_replayed_notification_is_not_told_twice() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let chain = notification(&world, member, NotifyType::INVALID_ID_INFORMATION, &[]);
    let octets = inform(&mut world, member, &chain);
    world.run_for(Duration::from_secs(1));
    let path = world.sent.last().unwrap().path.reversed();
    for _ in 0..3 {
        world.server.receive(world.now, path, &octets);
        world.flush();
    }
    let told = world.server.told();
    assert_eq!(told.iter().filter(|text| text.starts_with("notified")).count(), 1, "{told:?}");
}

#[test]
fn a_replayed_question_is_answered_but_does_not_keep_a_dead_peer_alive() {
    let mut world = World::with(|gateway| {
        gateway.dead_peer_detection =
            Some(DeadPeerDetection { interval: Duration::from_secs(10), threshold: 3, always_send: true });
    });
    let (member, _) = world.establish();
    let chain = notification(&world, member, NotifyType::R_U_THERE, &7_u32.to_be_bytes());
    let octets = inform(&mut world, member, &chain);
    let path = world.sent.last().unwrap().path.reversed();
    world.run_for(Duration::from_secs(1));
    // The member is dead from now on; somebody repeats its question.
    world.fate = Box::new(|_, _| vec![]);
    let before = world.sent.len();
    world.server.receive(world.now, path, &octets);
    world.flush();
    assert_eq!(world.sent.len(), before + 1, "a repeated question is answered");
    for _ in 0..60 {
        world.run_for(Duration::from_secs(1));
        world.server.receive(world.now, path, &octets);
    }
    assert!(world.server.told().iter().any(|text| text.starts_with("closed")), "{:?}", world.server.told());
}

//= https://www.rfc-editor.org/rfc/rfc2408#section-5.2
//= type=test
//# Check the Flags field to ensure it contains correct values.
#[test]
fn messages_with_undefined_flags_are_discarded_in_both_phases() {
    for flags in [0x04, 0x08, 0x80] {
        let mut world = World::with(|_| {});
        world.connect();
        let mut first = world.sent[0].clone();
        first.octets[19] |= flags;
        world.wire.clear();
        world.server.receive(world.now, first.path.reversed(), &first.octets);
        world.flush();
        assert_eq!(clear_notifications(&world.sent), [NotifyType::INVALID_FLAGS]);
        assert_eq!(world.server.endpoint.half_open(), 0);

        let mut world = World::with(|_| {});
        let (member, _) = world.establish();
        world.fate = Box::new(|_, _| vec![]);
        let chain = notification(&world, member, NotifyType::INVALID_ID_INFORMATION, &[]);
        let mut octets = inform(&mut world, member, &chain);
        let path = world.sent.last().unwrap().path.reversed();
        octets[19] |= flags;
        world.server.receive(world.now, path, &octets);
        world.flush();
        assert_eq!(world.server.told(), ["established member"], "flags {flags:02x}");
        // The commit bit may come with any message.
        octets[19] = 0x03;
        world.server.receive(world.now, path, &octets);
        world.flush();
        assert_eq!(world.server.told().len(), 2);
    }
}

//= https://www.rfc-editor.org/rfc/rfc2408#section-4.2
//= type=test
//# The multiple
//# transforms MUST be presented with monotonically increasing numbers in
//# the initiator's preference order.
#[test]
fn an_offer_numbers_its_transforms_from_1_and_one_that_does_not_is_refused() {
    use crypto::{CbcCipher, DhGroup, Hash};
    let mut member = gateway("server", "192.0.2.1");
    member.proposals = [CbcCipher::Aes256, CbcCipher::Aes192, CbcCipher::Aes128]
        .map(|cipher| proposal(cipher, Hash::Sha1, DhGroup::Ecp256))
        .into();
    for (numbers, refused) in [([1, 2, 3], false), ([2, 7, 9], false), ([1, 1, 2], true), ([3, 2, 1], true)] {
        let mut world = World::new(member.clone(), gateway("member", "192.0.2.2"));
        world.connect();
        world.wire.clear();
        let sent = world.sent[0].clone();
        let message = Message::parse(&sent.octets).unwrap();
        let payloads = message.payloads().unwrap();
        let mut sa = payloads.only::<SecurityAssociation<'_>>().unwrap().unwrap();
        let transforms = &mut sa.proposals[0].transforms;
        assert_eq!(transforms.iter().map(|transform| transform.number).collect::<Vec<_>>(), [1, 2, 3]);
        for (transform, number) in transforms.iter_mut().zip(numbers) {
            transform.number = number;
        }
        let mut chain = PayloadChain::new();
        chain.push_raw(PayloadType::SECURITY_ASSOCIATION, &sa.to_octets().unwrap()).unwrap();
        let octets = message.header.message(chain.bytes()).unwrap();
        world.server.receive(world.now, sent.path.reversed(), &octets);
        world.flush();
        let expected: &[NotifyType] = if refused { &[NotifyType::BAD_PROPOSAL_SYNTAX] } else { &[] };
        assert_eq!(clear_notifications(&world.sent), expected, "{numbers:?}");
        if !refused {
            let answer = Message::parse(&world.sent.last().unwrap().octets).unwrap();
            let sa =
                answer.payloads().unwrap().only::<SecurityAssociation<'_>>().unwrap().unwrap().into_owned();
            let [transform] = &sa.proposals[0].transforms[..] else { panic!("one transform") };
            assert_eq!(transform.number, numbers[2], "the number is retained");
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//= type=test
//# Implementations
//# MUST NOT switch exchange types in the middle of an exchange.
#[test]
fn an_exchange_type_that_switches_is_refused_and_the_exchange_goes_on() {
    let mut world = World::with(|_| {});
    world.fate = Box::new(|number, datagram| {
        let mut switched = datagram.clone();
        switched.octets[18] = ExchangeType::AGGRESSIVE.0;
        if number == 2 { vec![switched, datagram.clone()] } else { vec![datagram.clone()] }
    });
    world.establish();
    assert_eq!(clear_notifications(&world.sent), [NotifyType::INVALID_EXCHANGE_TYPE]);
    assert_eq!(world.server.told(), ["established member"]);
}
