//! A peer of another make: our phase 1, and above it whatever octets a test wants to send.

use std::net::SocketAddr;

use crypto::SeededRandom;
use proto::Role;
use proto::path::Path;
use proto::phase1::{self, AssociationId, Endpoint, Outcome, Phase2Message};
use proto::pull::{self, Encoded, Received};
use proto::time::Instant;
use wire::isakmp::{MessageId, Notification};
use wire::registry::ExchangeType;

use crate::world::*;

pub struct Stranger {
    pub endpoint: Endpoint,
    pub now: Instant,
    pub association: Option<AssociationId>,
    pub messages: Vec<Phase2Message>,
    pub notifications: Vec<Notification<'static>>,
    pub closed: usize,
    random: SeededRandom,
    path: Path,
}

impl Stranger {
    /// A member: it knows our server and shows no vendor id of ours.
    pub fn member() -> Self {
        let gateways =
            member_settings(0, &[GROUP]).gateways.into_iter().map(|gateway| gateway.phase1).collect();
        Self::new(gateways, Path::new(SocketAddr::new(member_address(0), 848), SocketAddr::new(SERVER, 848)))
    }

    /// A server: it knows member 0.
    pub fn server() -> Self {
        let gateways = server_settings(1, Vec::new()).gateways;
        Self::new(gateways, Path::new(SocketAddr::new(SERVER, 848), SocketAddr::new(member_address(0), 848)))
    }

    /// The same with our vendor id.
    pub fn server_with_our_vendor_id() -> Self {
        let gateways = server_settings(1, Vec::new()).gateways;
        let path = Path::new(SocketAddr::new(SERVER, 848), SocketAddr::new(member_address(0), 848));
        Self::with_vendor_ids(gateways, path, vec![phase1::VENDOR_ID_GROUPVPN.to_vec()])
    }

    fn new(gateways: Vec<phase1::Gateway>, path: Path) -> Self {
        Self::with_vendor_ids(gateways, path, Vec::new())
    }

    fn with_vendor_ids(gateways: Vec<phase1::Gateway>, path: Path, vendor_ids: Vec<Vec<u8>>) -> Self {
        let mut random = SeededRandom::new(5);
        let settings = phase1::Settings { gateways, vendor_ids, ..phase1::Settings::default() };
        Self {
            endpoint: Endpoint::new(settings, &mut random),
            now: Instant::from_micros(1_000_000_000),
            association: None,
            messages: Vec::new(),
            notifications: Vec::new(),
            closed: 0,
            random,
            path,
        }
    }

    /// Does phase 1 with a server of ours.
    pub fn connect(&mut self, role: &mut impl Role) {
        self.endpoint.connect(self.now, "server", self.path, &mut self.random).unwrap();
        self.pump(role);
        assert!(self.association.is_some(), "phase 1 came to an SA");
    }

    /// Carries datagrams to and fro until neither has any.
    pub fn pump(&mut self, role: &mut impl Role) {
        let mut buffer = Vec::new();
        loop {
            let mut quiet = true;
            while self.endpoint.poll_transmit(&mut buffer).is_some() {
                role.handle_datagram(self.now, self.path.reversed(), &buffer);
                quiet = false;
            }
            while role.poll_transmit(&mut buffer).is_some() {
                match self.endpoint.handle_datagram(self.now, self.path, &buffer, &mut self.random) {
                    Outcome::Handled => {}
                    Outcome::Phase2(message) => self.messages.push(message),
                }
                quiet = false;
            }
            while let Some(event) = self.endpoint.poll_event() {
                match event {
                    phase1::Event::Established { association, .. } => self.association = Some(association),
                    phase1::Event::Notified { notification, .. } => self.notifications.push(notification),
                    phase1::Event::Closed { .. } => self.closed += 1,
                    _ => {}
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// The path of a datagram of ours as the other side sees it.
    pub fn their_path(&self) -> Path {
        self.path.reversed()
    }

    pub fn association(&self) -> &phase1::Association {
        self.endpoint.association(self.association.unwrap()).unwrap()
    }

    pub fn start(&mut self) -> MessageId {
        self.endpoint.start_phase2(self.now, self.association.unwrap()).unwrap()
    }

    pub fn send(&mut self, id: MessageId, encoded: &Encoded) {
        let association = self.association.unwrap();
        let (first, octets) = (encoded.first(), encoded.octets());
        self.endpoint
            .send_phase2(self.now, association, ExchangeType::GROUPKEY_PULL, id, first, octets)
            .unwrap();
    }

    /// The next message that came, taken for good.
    pub fn take(&mut self) -> Phase2Message {
        let message = self.messages.remove(0);
        self.endpoint.accept(self.now, &message).unwrap();
        message
    }

    /// Answers a registration of a member of ours with these bodies of SA and KD. Returns whether the member went on
    /// to message 3.
    pub fn serve(&mut self, role: &mut impl Role, sa: &[u8], sequence: Option<u32>, kd: &[u8]) -> bool {
        self.pump(role);
        let message = self.take();
        let id = message.message_id;
        let request = pull::read_message_1(self.association(), received(&message)).unwrap();
        let nr = [0x5a; 20];
        let reply = pull::message_2(self.association(), id, &request.nonce, &nr, sa, &[]).unwrap();
        self.send(id, &reply);
        self.pump(role);
        if self.messages.is_empty() {
            return false;
        }
        let message = self.take();
        pull::read_message_3(self.association(), received(&message), &request.nonce, &nr).unwrap();
        let reply = pull::message_4(self.association(), id, &request.nonce, &nr, sequence, kd).unwrap();
        self.send(id, &reply);
        self.pump(role);
        true
    }
}

pub fn received(message: &Phase2Message) -> Received<'_> {
    Received { id: message.message_id, first: message.first_payload, octets: &message.payloads }
}
