//! Which role a datagram is for, where one machine is key server and member at once.

use std::collections::VecDeque;

use wire::registry::ExchangeType;

/// Initiator cookies that are remembered: four servers, a few gateways, and the SAs before the present ones.
const REMEMBERED: usize = 256;

/// The non-ESP marker that may stand before a message.
const MARKER: [u8; 4] = [0; 4];

/// Where the exchange type of a message stands.
const EXCHANGE_OFFSET: usize = 18;

/// Rekey messages are for members and their acknowledgements for servers. Otherwise the member is always the initiator of
/// phase 1: what carries an initiator cookie of its own is an answer to it, and the rest is for the server.
#[derive(Debug, Default)]
pub struct Dispatch {
    cookies: VecDeque<[u8; 8]>,
}

/// A protocol role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The key server.
    Server,
    /// The member.
    Member,
}

impl Dispatch {
    /// Notes a datagram that the member sends.
    pub fn sent_by_member(&mut self, datagram: &[u8]) {
        // An acknowledgement carries the cookies of the KEK, which nobody answers.
        if exchange(datagram) == Some(ExchangeType::GROUPKEY_PUSH_ACK) {
            return;
        }
        let Some(cookie) = initiator_cookie(datagram) else { return };
        if !self.cookies.contains(&cookie) {
            if self.cookies.len() == REMEMBERED {
                self.cookies.pop_front();
            }
            self.cookies.push_back(cookie);
        }
    }

    /// The role of a datagram that arrived.
    pub fn of_received(&self, datagram: &[u8]) -> Destination {
        match exchange(datagram) {
            Some(ExchangeType::GROUPKEY_PUSH) => return Destination::Member,
            Some(ExchangeType::GROUPKEY_PUSH_ACK) => return Destination::Server,
            _ => {}
        }
        match initiator_cookie(datagram) {
            Some(cookie) if self.cookies.contains(&cookie) => Destination::Member,
            _ => Destination::Server,
        }
    }
}

fn initiator_cookie(datagram: &[u8]) -> Option<[u8; 8]> {
    message(datagram).first_chunk().copied()
}

fn exchange(datagram: &[u8]) -> Option<ExchangeType> {
    message(datagram).get(EXCHANGE_OFFSET).copied().map(ExchangeType)
}

fn message(datagram: &[u8]) -> &[u8] {
    datagram.strip_prefix(&MARKER).filter(|rest| rest.len() >= 28).unwrap_or(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_the_member_are_the_members() {
        let mut dispatch = Dispatch::default();
        let mut question = vec![7; 40];
        question[8..16].fill(0);
        assert_eq!(dispatch.of_received(&question), Destination::Server);
        dispatch.sent_by_member(&question);
        let answer = vec![7; 40];
        assert_eq!(dispatch.of_received(&answer), Destination::Member);
        assert_eq!(dispatch.of_received(&[&MARKER[..], &answer].concat()), Destination::Member);
        assert_eq!(dispatch.of_received(&[9; 40]), Destination::Server);
        assert_eq!(dispatch.of_received(&[]), Destination::Server);
    }

    #[test]
    fn rekeys_are_the_members_and_acknowledgements_the_servers() {
        let mut dispatch = Dispatch::default();
        let mut datagram = vec![7; 40];
        dispatch.sent_by_member(&datagram);
        datagram[EXCHANGE_OFFSET] = 35;
        assert_eq!(dispatch.of_received(&datagram), Destination::Server);
        datagram[..8].fill(9);
        datagram[EXCHANGE_OFFSET] = 33;
        assert_eq!(dispatch.of_received(&datagram), Destination::Member);
        assert_eq!(dispatch.of_received(&[&MARKER[..], &datagram].concat()), Destination::Member);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut dispatch = Dispatch::default();
        for number in 0..1000_u64 {
            dispatch.sent_by_member(&[number.to_be_bytes(), [0; 8]].concat());
        }
        assert_eq!(dispatch.cookies.len(), REMEMBERED);
    }
}
