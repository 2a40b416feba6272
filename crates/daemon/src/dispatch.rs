//! Which role a datagram is for, where one machine is key server and member at once.

use std::collections::VecDeque;

/// Initiator cookies that are remembered: four servers, a few gateways, and the SAs before the present ones.
const REMEMBERED: usize = 256;

/// Length of the non-ESP marker that may stand before a message.
const MARKER: [u8; 4] = [0; 4];

/// The member is always the initiator of phase 1: what carries an initiator cookie of its own is an answer to it, and
/// the rest is for the server.
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
        match initiator_cookie(datagram) {
            Some(cookie) if self.cookies.contains(&cookie) => Destination::Member,
            _ => Destination::Server,
        }
    }
}

fn initiator_cookie(datagram: &[u8]) -> Option<[u8; 8]> {
    let message = datagram.strip_prefix(&MARKER).filter(|rest| rest.len() >= 28).unwrap_or(datagram);
    message.first_chunk().copied()
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
    fn what_is_remembered_is_bounded() {
        let mut dispatch = Dispatch::default();
        for number in 0..1000_u64 {
            dispatch.sent_by_member(&[number.to_be_bytes(), [0; 8]].concat());
        }
        assert_eq!(dispatch.cookies.len(), REMEMBERED);
    }
}
