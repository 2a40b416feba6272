//! What the service manager is told: when the daemon is ready, what it does, and that it makes progress.
//!
//! *Ready* means protecting: the programs are on every external interface that exists, so nothing leaves in clear any more
//! that a policy protects. It does not mean registered: a key server that cannot be reached is no reason to hold up the boot.
//!
//! *Progress* is the event loop's own turn and the data path's answer to a question of the turn before. A loop that is stuck
//! says nothing, and one whose data path is stuck or has ended neither, so the service manager restarts both.

use std::time::Duration;

use super::Daemon;
use crate::notify;

/// How often the status line is looked at where nobody watches.
const STATUS: Duration = Duration::from_secs(5);

/// Signs of life within the time that the service manager waits: one may be late on a busy machine.
const SIGNS: u32 = 4;

/// What the service manager was told, and when it is told more.
pub(super) struct Supervision {
    watched: bool,
    every: Duration,
    next: tokio::time::Instant,
    is_ready: bool,
    status: String,
    /// The log has said that there is no progress.
    said_stuck: bool,
}

impl Supervision {
    /// Nothing told yet.
    pub(super) fn start() -> Self {
        let watchdog = notify::watchdog();
        Self {
            watched: watchdog.is_some(),
            every: watchdog.map_or(STATUS, |limit| (limit / SIGNS).min(STATUS)),
            next: tokio::time::Instant::now(),
            is_ready: false,
            status: String::new(),
            said_stuck: false,
        }
    }

    /// Waits until something is to be told.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }
}

impl Daemon {
    /// Tells that the event loop goes round, and what it does.
    pub(super) fn tell_service_manager(&mut self) {
        self.supervision.next = tokio::time::Instant::now() + self.supervision.every;
        let answers = self.instances.answer();
        if self.supervision.watched && answers {
            notify::alive();
        }
        if !answers && !std::mem::replace(&mut self.supervision.said_stuck, true) {
            tracing::error!("the data path makes no progress; its interfaces are closed");
        }
        self.supervision.said_stuck &= !answers;
        self.tell_ready();
        let status = self.status_line();
        if self.supervision.status != status {
            notify::status(&status);
            self.supervision.status = status;
        }
    }

    /// Tells that the daemon protects, once it does.
    pub(super) fn tell_ready(&mut self) {
        if !self.supervision.is_ready && self.attach_problems.is_empty() {
            self.supervision.is_ready = true;
            notify::ready();
        }
    }

    fn status_line(&self) -> String {
        let mut parts = self.attach_problems.clone();
        if let Some(member) = &self.active.model.member {
            let has_keys = |vpn: &&config::model::Vpn| self.protection.sas(&vpn.name).next().is_some();
            let with_keys = member.vpns.iter().filter(has_keys).count();
            parts.push(format!("{with_keys} of {} VPNs have keys", member.vpns.len()));
        }
        for (vpn, readiness) in &self.readiness {
            if let Some(reason) = readiness.reason() {
                parts.push(format!("VPN {vpn} is inactive: {reason}"));
            }
        }
        if let Some(server) = &self.active.model.server {
            parts.push(format!("key server of {} groups", server.groups.len()));
        }
        let now = self.clock.now();
        parts.extend(self.durable.iter().flat_map(|durable| durable.warnings(now)));
        if parts.is_empty() { "neither key server nor member".into() } else { parts.join("; ") }
    }
}
