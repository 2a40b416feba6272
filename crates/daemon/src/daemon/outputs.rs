//! Where everything goes that the roles put out: datagrams, keys, groups to listen to, the log.

use proto::Role as _;
use proto::log::{Entry, Facility, Level};
use proto::path::Path;

use super::{Daemon, ports};
use crate::dispatch::Destination;
use crate::log;
use crate::protection::engine_time;

/// Datagrams between the two roles of one machine that one turn may handle; a loop between them ends there.
const LOCAL_DELIVERIES: usize = 256;

impl Daemon {
    /// Takes every output of the roles, and publishes new tables if they are behind.
    pub(super) fn drain(&mut self) {
        for _ in 0..LOCAL_DELIVERIES {
            self.drain_server();
            self.drain_member();
            match self.local.pop_front() {
                Some((destination, path, octets)) => self.deliver(destination, path, &octets),
                None => break,
            }
        }
        while let Some(entry) = self.journal.poll() {
            log::record("daemon", &entry);
        }
        if self.stale {
            self.publish();
        }
    }

    fn drain_server(&mut self) {
        if let (Some(server), Some(durable)) = (&mut self.server, &mut self.durable) {
            durable.collect(self.clock.now(), server, &mut self.buffer);
        }
        self.send_released();
        while let Some(event) = self.server.as_mut().and_then(|server| server.poll_event()) {
            match event {
                proto::server::Event::Log(entry) => log::record("server", &entry),
                proto::server::Event::EvictionAnswered { number, group, outcome } => {
                    self.handle_eviction_answered(number, group, outcome);
                }
                // The log entries beside them say it all.
                proto::server::Event::Registered { .. }
                | proto::server::Event::MemberLost { .. }
                | proto::server::Event::RekeyCompleted { .. } => {}
            }
        }
    }

    fn drain_member(&mut self) {
        // What it acknowledges it must know after a restart.
        self.keep_member();
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(path) = self.member.as_mut().and_then(|member| member.poll_transmit(&mut buffer)) {
            self.dispatch.sent_by_member(&buffer);
            self.transmit(Destination::Member, path, &buffer);
        }
        self.buffer = buffer;
        while let Some(event) = self.member.as_mut().and_then(|member| member.poll_event()) {
            match event {
                proto::member::Event::InstallSas { vpn, sas, closed } => {
                    let now = engine_time(self.clock.now());
                    self.protection.install(&vpn, &sas, &closed, now, &self.state);
                    self.resume_windows(&vpn);
                    self.stale = true;
                }
                proto::member::Event::SenderIds { vpn, sender_ids, spis } => {
                    self.protection.begin_sender_ids(&vpn, sender_ids.bits, &spis);
                    // None at first tells of those to come, with the keys that are installed in between.
                    if !sender_ids.ids.is_empty() {
                        self.begin_sending(&vpn);
                    }
                }
                proto::member::Event::PseudoTime { vpn, at, anti_replay, set } => {
                    let at = engine_time(at);
                    self.protection.take_pseudo_time(&vpn, at, anti_replay, set);
                }
                proto::member::Event::RemoveSas { vpn, spis, .. } => {
                    self.protection.remove(&vpn, &spis);
                    self.stale = true;
                }
                proto::member::Event::JoinGroup { vpn, group, source } => {
                    self.listening.join(&vpn, group, source);
                    self.join_groups();
                    self.stale = true;
                }
                proto::member::Event::LeaveGroup { vpn, group } => {
                    self.listening.leave(&vpn, group);
                    self.join_groups();
                    self.stale = true;
                }
                proto::member::Event::Log(entry) => log::record("member", &entry),
                proto::member::Event::Registered { .. } | proto::member::Event::RegistrationFailed { .. } => {
                }
            }
        }
    }

    /// Sends a datagram of a role. What goes to an address of this machine where the other role listens needs no
    /// socket, and must not need one: both ends would be the same.
    pub(super) fn transmit(&mut self, from: Destination, path: Path, datagram: &[u8]) {
        let other = match from {
            Destination::Server => self.member.is_some().then_some(Destination::Member),
            Destination::Member => self.server.is_some().then_some(Destination::Server),
        };
        if let Some(other) = other
            && self.is_local(&path)
        {
            self.local.push_back((other, arrival(path), datagram.to_vec()));
            return;
        }
        if let Err(error) = self.sockets.send(path, datagram) {
            let entry = Entry::new(Level::Warn, Facility::General, "a datagram could not be sent")
                .with("path", path)
                .with("octets", datagram.len())
                .with("error", error);
            self.journal.record(self.clock.now(), entry);
        }
    }

    /// Whether a datagram on this path would come back to one of our own sockets.
    pub(super) fn is_local(&self, path: &Path) -> bool {
        let remote = path.remote;
        let links = || Some(self.instances.by_id(self.sockets.instance(path))?.1.links());
        ports(&self.active.model).contains(&remote.port())
            && (remote.ip().is_loopback() || links().is_some_and(|links| links.has_address(remote.ip())))
    }
}

/// A path as the other end sees it, where both ends are this machine.
pub(super) fn arrival(sent: Path) -> Path {
    let mut path = sent.reversed();
    if path.remote.ip().is_unspecified() {
        path.remote.set_ip(path.local.ip());
    }
    path
}
