//! What is kept of everything that happens: a hash, and on request the story of one member.

use proto::member::Event;
use proto::server::Event as Said;
use proto::time::Instant;

use crate::world::{BEGINNING, World};

impl World<'_> {
    pub(crate) fn note_member_event(&mut self, event: &Event) {
        match event {
            Event::InstallSas { sas, .. } => {
                for sa in sas {
                    let times = [sa.activate_at, sa.soft_expiry, sa.hard_expiry].map(Instant::as_micros);
                    self.note(&sa.spi.to_be_bytes());
                    times.iter().for_each(|time| self.note(&time.to_be_bytes()));
                }
            }
            Event::SenderIds { sender_ids, .. } => {
                sender_ids.ids.iter().for_each(|id| self.note(&id.to_be_bytes()));
            }
            Event::PseudoTime { anti_replay, .. } => {
                self.note(&anti_replay.time.as_micros().to_be_bytes());
            }
            Event::RemoveSas { spis, .. } => spis.iter().for_each(|spi| self.note(&spi.to_be_bytes())),
            Event::JoinGroup { .. } => self.note(b"join"),
            Event::LeaveGroup { .. } => self.note(b"leave"),
            Event::Registered { .. } => self.note(b"registered"),
            Event::RegistrationFailed { .. } => self.note(b"registration failed"),
            Event::Log(entry) => self.note(entry.message.as_bytes()),
        }
    }

    pub(crate) fn note_server_event(&mut self, event: &Said) {
        if let (Some(_), Said::MemberLost { gateway, .. }) = (self.told_of, event) {
            println!("{:?} server: {gateway} is lost", self.now - BEGINNING);
        }
        match event {
            Said::Registered { gateway, .. } | Said::MemberLost { gateway, .. } => {
                self.note(gateway.as_bytes());
            }
            Said::RekeyCompleted { took, .. } => {
                self.report.replacements += 1;
                self.note(&took.as_micros().to_be_bytes());
            }
            Said::EvictionAnswered { number, .. } => self.note(&number.to_be_bytes()),
            Said::Log(entry) => self.note(entry.message.as_bytes()),
        }
    }

    pub(crate) fn tell(&self, member: usize, what: impl FnOnce() -> String) {
        if self.told_of == Some(member) {
            println!("{:?} member {member}: {}", self.now - BEGINNING, what());
        }
    }

    /// Everything that happens, and when.
    pub(crate) fn note(&mut self, octets: &[u8]) {
        let mut hash = self.report.hash ^ self.now.as_micros() ^ (octets.len() as u64) << 48;
        let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let (words, rest) = octets.as_chunks::<8>();
        words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(u64::from_le_bytes(last));
        self.report.hash = hash;
    }
}
