//! The messages that both roles send in phase 1, field by field.

use proto::phase1::Mode;
use wire::isakmp::{
    Identification, Message, MessageId, Nonce, Notification, PayloadBody, Payloads, SecurityAssociation,
    Version,
};
use wire::registry::{Doi, ExchangeType, IdType, PayloadType, ProtocolId, TransformId};

use crate::peers::World;

/// All messages of one exchange, in order.
fn exchange(mode: Mode) -> Vec<Vec<u8>> {
    let mut world = World::with(|gateway| gateway.mode = mode);
    world.establish();
    world.sent.into_iter().map(|sent| sent.octets).collect()
}

fn kinds(message: &[u8]) -> Vec<PayloadType> {
    Message::parse(message)
        .unwrap()
        .payloads()
        .unwrap()
        .kinds()
        .filter(|kind| *kind != PayloadType::VENDOR_ID)
        .collect()
}

#[test]
fn every_header_of_phase_1_is_the_one_of_the_rfc() {
    for (mode, kind, encrypted_from, count) in [
        (Mode::Main, ExchangeType::IDENTITY_PROTECTION, 4, 6),
        (Mode::Aggressive, ExchangeType::AGGRESSIVE, 2, 3),
    ] {
        let messages = exchange(mode);
        assert_eq!(messages.len(), count);
        let cookie = Message::parse(&messages[0]).unwrap().header.initiator_cookie;
        for (index, octets) in messages.iter().enumerate() {
            let message = Message::parse(octets).unwrap();
            let header = message.header;
            assert_eq!(header.version, Version::V1_0);
            assert_eq!(header.exchange, kind);
            assert_eq!(header.message_id, MessageId::PHASE_ONE);
            assert_eq!(header.flags.0, u8::from(index >= encrypted_from), "message {}", index + 1);
            assert_eq!(header.initiator_cookie, cookie);
            assert_eq!(header.responder_cookie.is_zero(), index == 0);
            if index >= encrypted_from {
                assert!(message.body().len().is_multiple_of(16));
            } else {
                assert_reserved_octets_are_zero(octets);
            }
        }
    }
}

fn assert_reserved_octets_are_zero(octets: &[u8]) {
    let message = Message::parse(octets).unwrap();
    let mut next = message.header.next_payload;
    let mut rest = message.body();
    while next != PayloadType::NONE {
        assert_eq!(rest[1], 0, "RESERVED of {next}");
        next = PayloadType(rest[0]);
        rest = &rest[usize::from(u16::from_be_bytes([rest[2], rest[3]]))..];
    }
    assert!(rest.is_empty());
}

#[test]
fn the_payloads_come_in_the_order_of_the_rfc() {
    use PayloadType as P;
    let main = exchange(Mode::Main);
    assert_eq!(kinds(&main[0]), [P::SECURITY_ASSOCIATION]);
    assert_eq!(kinds(&main[1]), [P::SECURITY_ASSOCIATION]);
    assert_eq!(kinds(&main[2]), [P::KEY_EXCHANGE, P::NONCE]);
    assert_eq!(kinds(&main[3]), [P::KEY_EXCHANGE, P::NONCE]);
    let first = |octets: &[u8]| Message::parse(octets).unwrap().header.next_payload;
    assert_eq!([first(&main[4]), first(&main[5])], [P::IDENTIFICATION; 2]);
    let aggressive = exchange(Mode::Aggressive);
    let beginning = [P::SECURITY_ASSOCIATION, P::KEY_EXCHANGE, P::NONCE, P::IDENTIFICATION];
    assert_eq!(kinds(&aggressive[0]), beginning);
    assert_eq!(kinds(&aggressive[1]), [&beginning[..], &[P::HASH]].concat());
    assert_eq!(first(&aggressive[2]), P::HASH);
}

#[test]
fn one_proposal_is_offered_and_one_transform_comes_back_as_it_went() {
    for mode in [Mode::Main, Mode::Aggressive] {
        let messages = exchange(mode);
        let sa = |octets: &[u8]| {
            let message = Message::parse(octets).unwrap();
            message.payloads().unwrap().only::<SecurityAssociation<'_>>().unwrap().unwrap().into_owned()
        };
        let (offer, choice) = (sa(&messages[0]), sa(&messages[1]));
        assert_eq!((offer.doi, offer.situation), (Doi::GDOI, 0));
        assert_eq!(offer, choice, "there was only one transform to choose from");
        let [proposal] = &offer.proposals[..] else { panic!("one proposal") };
        assert_eq!((proposal.number, proposal.protocol, proposal.spi.len()), (1, ProtocolId::ISAKMP, 0));
        let numbers: Vec<u8> = proposal.transforms.iter().map(|transform| transform.number).collect();
        assert_eq!(numbers, [1]);
        assert_eq!(proposal.transforms[0].id, TransformId::KEY_IKE);
        let bodies = messages[..2].iter().map(|octets| {
            let message = Message::parse(octets).unwrap();
            message.payloads().unwrap().find(PayloadType::SECURITY_ASSOCIATION).unwrap().body().to_vec()
        });
        let bodies: Vec<_> = bodies.collect();
        assert_eq!(bodies[0], bodies[1]);
    }
}

#[test]
fn nonces_and_identities_in_clear_keep_within_the_rules() {
    let messages = exchange(Mode::Aggressive);
    for octets in &messages[..2] {
        let message = Message::parse(octets).unwrap();
        let payloads: Payloads<'_> = message.payloads().unwrap();
        let nonce = payloads.only::<Nonce<'_>>().unwrap().unwrap();
        assert!((8..=256).contains(&nonce.octets().len()));
        let identification = payloads.only::<Identification<'_>>().unwrap().unwrap();
        assert_eq!((identification.protocol, identification.port), (0, 0));
        assert_eq!(identification.identity.kind, IdType::IPV4_ADDR);
    }
}

#[test]
fn what_is_refused_in_clear_is_one_well_formed_notification() {
    let mut world = World::with(|_| {});
    world.connect();
    // Whoever sends the next message of the exchange under a cookie that nobody knows.
    let mut stray = world.sent[0].octets.clone();
    stray[8..16].copy_from_slice(&[9; 8]);
    let path = world.sent[0].path.reversed();
    world.server.receive(world.now, path, &stray);
    world.flush();
    let answer = &world.sent.last().unwrap().octets;
    let message = Message::parse(answer).unwrap();
    assert_eq!(message.header.exchange, ExchangeType::INFORMATIONAL);
    assert_ne!(message.header.message_id, MessageId::PHASE_ONE);
    assert_eq!(message.header.flags.0, 0);
    let payloads = message.payloads().unwrap();
    assert_eq!(payloads.as_slice().len(), 1);
    let notification = Notification::parse(payloads.as_slice()[0].body()).unwrap();
    assert_eq!(notification.protocol, ProtocolId::ISAKMP);
    assert!(notification.spi.is_empty() && notification.data.is_empty());
}
