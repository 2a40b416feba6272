//! Datagrams and octets of each phase 1 SA, for `show`. Counted from its establishment, by the cookies in the header.

use std::collections::BTreeMap;

use crate::phase1::{Association, AssociationId};

type Cookies = [u8; 16];

/// What went through an SA.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) input_packets: u64,
    pub(crate) input_bytes: u64,
    pub(crate) output_packets: u64,
    pub(crate) output_bytes: u64,
}

/// The counters of all living SAs of one role.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    cookies: BTreeMap<AssociationId, Cookies>,
    traffic: BTreeMap<Cookies, Traffic>,
}

impl Meter {
    pub(crate) fn established(&mut self, sa: &Association) {
        let mut cookies = [0; 16];
        cookies[..8].copy_from_slice(&sa.initiator_cookie().0);
        cookies[8..].copy_from_slice(&sa.responder_cookie().0);
        self.cookies.insert(sa.id(), cookies);
        self.traffic.insert(cookies, Traffic::default());
    }

    pub(crate) fn closed(&mut self, id: AssociationId) {
        if let Some(cookies) = self.cookies.remove(&id) {
            self.traffic.remove(&cookies);
        }
    }

    pub(crate) fn received(&mut self, datagram: &[u8]) {
        if let Some(traffic) = self.traffic_of(datagram) {
            traffic.input_packets += 1;
            traffic.input_bytes += datagram.len() as u64;
        }
    }

    pub(crate) fn sent(&mut self, datagram: &[u8]) {
        if let Some(traffic) = self.traffic_of(datagram) {
            traffic.output_packets += 1;
            traffic.output_bytes += datagram.len() as u64;
        }
    }

    pub(crate) fn of(&self, id: AssociationId) -> Traffic {
        let traffic = self.cookies.get(&id).and_then(|cookies| self.traffic.get(cookies));
        traffic.copied().unwrap_or_default()
    }

    fn traffic_of(&mut self, datagram: &[u8]) -> Option<&mut Traffic> {
        let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
        self.traffic.get_mut(message.first_chunk::<16>()?)
    }
}
