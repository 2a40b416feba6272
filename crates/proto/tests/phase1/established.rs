//! The established SA: phase 2 exchanges, informational messages, dead peers, the end.

use std::time::Duration;

use proto::phase1::{
    AssociationId, CloseReason, DeadPeerDetection, Event, Mode, Phase2Error, VENDOR_ID_D3P,
    VENDOR_ID_GROUPVPN,
};
use wire::isakmp::{Hash, MessageId, Nonce, Notification, PayloadChain};
use wire::registry::{Doi, ExchangeType, NotifyType, ProtocolId};

use crate::peers::World;

const PULL: ExchangeType = ExchangeType::GROUPKEY_PULL;

/// HASH and a nonce that says which message it is.
fn payloads(text: &[u8]) -> PayloadChain {
    let mut chain = PayloadChain::new();
    chain.push(&Hash::from(&[7; 20])).unwrap().push(&Nonce::from(text)).unwrap();
    chain
}

fn member_says(world: &mut World, id: AssociationId, message_id: MessageId, text: &[u8]) {
    let chain = payloads(text);
    world.member.endpoint.send_phase2(world.now, id, PULL, message_id, chain.first(), chain.bytes()).unwrap();
    world.run_for(Duration::from_millis(50));
}

/// The server takes what came last, and answers.
fn server_answers(world: &mut World, text: &[u8]) {
    let message = world.server.phase2.pop().unwrap();
    world.server.endpoint.accept(world.now, &message).unwrap();
    let chain = payloads(text);
    world
        .server
        .endpoint
        .send_phase2(world.now, message.association, PULL, message.message_id, chain.first(), chain.bytes())
        .unwrap();
    world.run_for(Duration::from_millis(50));
}

fn last_text(messages: &[proto::phase1::Phase2Message]) -> Vec<u8> {
    let message = messages.last().expect("a phase 2 message");
    message.parse().unwrap().only::<Nonce<'_>>().unwrap().unwrap().octets().to_vec()
}

#[test]
fn a_phase_2_exchange_of_four_messages_keeps_its_iv_chain() {
    for mode in [Mode::Main, Mode::Aggressive] {
        let mut world = World::with(|gateway| gateway.mode = mode);
        let (member, _) = world.establish();
        let message_id = world.member.endpoint.start_phase2(world.now, member).unwrap();
        member_says(&mut world, member, message_id, b"message 1");
        assert_eq!(last_text(&world.server.phase2), b"message 1");
        assert!(world.server.phase2[0].first);
        server_answers(&mut world, b"message 2");
        assert_eq!(last_text(&world.member.phase2), b"message 2");
        let second = world.member.phase2.pop().unwrap();
        world.member.endpoint.accept(world.now, &second).unwrap();
        member_says(&mut world, member, message_id, b"message 3 is longer");
        assert_eq!(last_text(&world.server.phase2), b"message 3 is longer");
        server_answers(&mut world, b"message 4");
        assert_eq!(last_text(&world.member.phase2), b"message 4");
    }
}

#[test]
fn a_repeated_question_gets_the_same_octets_and_does_not_reach_the_layer_above() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let message_id = world.member.endpoint.start_phase2(world.now, member).unwrap();
    member_says(&mut world, member, message_id, b"message 1");
    server_answers(&mut world, b"message 2");
    let answer = world.sent.last().unwrap().octets.clone();
    for _ in 0..3 {
        world.member.endpoint.retransmit_phase2(world.now, member, message_id).unwrap();
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.sent.last().unwrap().octets, answer);
        assert!(world.server.phase2.is_empty());
    }
    // The member opens the answer as often as it comes, until it accepts it; then no more.
    assert_eq!(world.member.phase2.len(), 4);
    let second = world.member.phase2.pop().unwrap();
    world.member.endpoint.accept(world.now, &second).unwrap();
    world.member.phase2.clear();
    let datagram = world.sent.last().unwrap().clone();
    world.member.receive(world.now, datagram.path.reversed(), &datagram.octets);
    assert!(world.member.phase2.is_empty());
}

#[test]
fn a_message_that_is_not_accepted_leaves_no_trace() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let message_id = world.member.endpoint.start_phase2(world.now, member).unwrap();
    member_says(&mut world, member, message_id, b"message 1");
    let genuine = world.sent.last().unwrap().clone();
    world.server.phase2.clear();

    let mut forged = genuine.octets.clone();
    *forged.last_mut().unwrap() ^= 1;
    world.server.receive(world.now, genuine.path.reversed(), &forged);
    assert_eq!(world.server.phase2.len(), 1, "it decrypts to something");
    world.server.phase2.clear();

    world.server.receive(world.now, genuine.path.reversed(), &genuine.octets);
    assert_eq!(last_text(&world.server.phase2), b"message 1");
    server_answers(&mut world, b"message 2");
    assert_eq!(last_text(&world.member.phase2), b"message 2");
}

#[test]
fn a_message_id_is_never_used_twice() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let message_id = world.member.endpoint.start_phase2(world.now, member).unwrap();
    member_says(&mut world, member, message_id, b"message 1");
    let first = world.sent.last().unwrap().clone();
    server_answers(&mut world, b"message 2");
    // Long after the exchange is forgotten, its first message comes again.
    world.run_for(Duration::from_secs(600));
    let sent = world.sent.len();
    world.server.receive(world.now, first.path.reversed(), &first.octets);
    world.run_for(Duration::from_secs(1));
    assert!(world.server.phase2.is_empty());
    assert_eq!(world.sent.len(), sent);

    let other = world.member.endpoint.start_phase2(world.now, member).unwrap();
    assert_ne!(other, message_id);
    world.member.endpoint.end_phase2(member, other);
    let chain = payloads(b"too late");
    let sent =
        world.member.endpoint.send_phase2(world.now, member, PULL, other, chain.first(), chain.bytes());
    assert_eq!(sent, Err(Phase2Error::NoExchange));
}

#[test]
fn an_sa_that_carried_too_many_exchanges_is_closed() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let mut count = 0;
    while world.member.endpoint.start_phase2(world.now, member).is_ok() {
        count += 1;
        assert!(count <= 10_000);
    }
    assert_eq!(world.member.endpoint.start_phase2(world.now, member), Err(Phase2Error::Exhausted));
}

#[test]
fn notifications_arrive_once_and_authenticated() {
    let mut world = World::with(|_| {});
    let (_, server) = world.establish();
    let notification = Notification {
        doi: Doi::GDOI,
        protocol: ProtocolId::ISAKMP,
        spi: (&[]).into(),
        kind: NotifyType::INVALID_ID_INFORMATION,
        data: b"group".to_vec().into(),
    };
    world.server.endpoint.send_notification(world.now, server, &notification).unwrap();
    world.flush();
    let genuine = world.sent.last().unwrap().clone();
    for at in 28..genuine.octets.len() {
        let mut forged = genuine.octets.clone();
        forged[at] ^= 0x40;
        world.member.receive(world.now, genuine.path.reversed(), &forged);
    }
    world.run_for(Duration::from_secs(1));
    // A copy tells nothing new.
    world.member.receive(world.now, genuine.path.reversed(), &genuine.octets);
    world.flush();
    let told: Vec<_> = world
        .member
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Notified { notification, .. } => Some(notification.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [notification]);
}

#[test]
fn a_deletion_closes_both_ends() {
    let mut world = World::with(|_| {});
    let (member, server) = world.establish();
    world.member.endpoint.delete(world.now, member);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.member.told()[1], "closed: deleted on request");
    assert_eq!(world.server.told()[1], "closed: deleted by the peer");
    assert!(world.server.endpoint.association(server).is_none());
    assert!(world.server.endpoint.poll_timeout().is_none());
    assert!(world.member.endpoint.poll_timeout().is_none());
}

#[test]
fn the_shorter_lifetime_ends_the_sa() {
    let mut world = World::with(|_| {});
    let mut settings = world.server.endpoint.settings().clone();
    settings.gateways[0].proposals[0].lifetime = Duration::from_secs(180);
    world.server.endpoint.configure(world.now, settings);
    world.establish();
    world.run_for(Duration::from_secs(170));
    assert_eq!(world.server.told().len(), 1);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.server.told()[1], "closed: lifetime expired");
    assert_eq!(world.member.told()[1], "closed: deleted by the peer");
}

fn detection(always_send: bool) -> Option<DeadPeerDetection> {
    Some(DeadPeerDetection { interval: Duration::from_secs(10), threshold: 3, always_send })
}

#[test]
fn a_dead_peer_is_noticed_after_threshold_questions() {
    let mut world = World::with(|gateway| gateway.dead_peer_detection = detection(true));
    world.establish();
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.member.told().len(), 1, "both are alive");
    world.fate = Box::new(|_, _| vec![]);
    let start = world.now;
    while world.member.told().len() == 1 && world.now < start + Duration::from_secs(100) {
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.member.told()[1], "closed: the peer is dead");
    let silence = (world.now - start).as_secs();
    assert!((30..=41).contains(&silence), "{silence}");
}

#[test]
fn an_idle_peer_is_not_asked_unless_something_was_sent() {
    let mut world = World::with(|gateway| gateway.dead_peer_detection = detection(false));
    let (member, _) = world.establish();
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.sent.len(), 6);
    let message_id = world.member.endpoint.start_phase2(world.now, member).unwrap();
    member_says(&mut world, member, message_id, b"message 1");
    world.run_for(Duration::from_secs(100));
    // The question, and its answer.
    assert_eq!(world.sent.len(), 9);
}

#[test]
fn a_peer_that_starts_afresh_replaces_its_old_sa() {
    let mut world = World::with(|_| {});
    let (_, first) = world.establish();
    let settings = world.member.endpoint.settings().clone();
    world.member = crate::peers::Host::new("192.0.2.2:848", settings, 99);
    world.establish_again();
    assert_eq!(
        world.server.told(),
        ["established member", "closed: replaced by a newer one", "established member"]
    );
    assert!(world.server.endpoint.association(first).is_none());
    assert_eq!(world.server.endpoint.associations().count(), 1);
}

#[test]
fn a_second_sa_of_the_same_peer_leaves_the_first_alone() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    world.establish_again();
    assert_eq!(world.server.endpoint.associations().count(), 2);
    let newest = world.member.endpoint.find("server", "192.0.2.1".parse().unwrap()).unwrap();
    assert!(newest > member);
    for _ in 0..40 {
        world.establish_again();
    }
    assert_eq!(world.server.endpoint.associations().count(), 16, "one peer needs no more");
    assert!(
        world
            .server
            .events
            .iter()
            .any(|event| matches!(event, Event::Closed { reason: CloseReason::Superseded, .. }))
    );
}

#[test]
fn vendor_ids_are_known_at_both_ends() {
    for mode in [Mode::Main, Mode::Aggressive] {
        let mut world = World::with(|gateway| gateway.mode = mode);
        for host in [&mut world.member, &mut world.server] {
            let mut settings = host.endpoint.settings().clone();
            settings.vendor_ids = vec![VENDOR_ID_GROUPVPN.to_vec()];
            host.endpoint.configure(world.now, settings);
        }
        let (member, server) = world.establish();
        let ends = [
            world.member.endpoint.association(member).unwrap(),
            world.server.endpoint.association(server).unwrap(),
        ];
        for end in ends {
            assert!(end.peer_is_groupvpn());
            assert!(!end.has_vendor_id(&VENDOR_ID_D3P));
        }
    }
}
