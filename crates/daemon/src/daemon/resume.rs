//! A member that goes on where the process before it has stopped, and what it keeps for the next one.

use std::time::Duration;

use super::Daemon;
use crate::durable::{Received, Resumption};

/// What was received of other senders is kept so often: after a crash, what came since could be replayed.
const KEEP_WINDOWS: Duration = Duration::from_secs(2);

/// Windows that are kept between changes of keys; looking through more would take time from the event loop.
const MOST_WINDOWS: usize = 16_384;

/// The state of the member as the next process finds it.
#[derive(Default)]
pub(super) struct Kept {
    resumption: Option<Resumption>,
    /// What the process before us has received, of SAs that are not installed yet.
    before: Vec<Received>,
    /// What was kept last.
    received: Vec<Received>,
    keep_windows_at: Option<tokio::time::Instant>,
}

impl Kept {
    /// Waits until the windows are to be kept again.
    pub(super) async fn due(&self) {
        match self.keep_windows_at {
            Some(moment) => tokio::time::sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }
}

impl Daemon {
    /// A member that has just been made goes on with what the process before us has kept.
    pub(super) fn resume_member(&mut self) {
        if self.command_line.control_plane_only {
            return;
        }
        let options = &self.command_line;
        let opened = Resumption::open(&options.runtime_dir, &options.state_dir, options.state_key.as_deref());
        let resumption = match opened {
            Ok(resumption) => resumption,
            Err(error) => {
                tracing::error!(target: "database", error = format!("{error:#}"), "no keys are kept: after a restart the member must register");
                None
            }
        };
        let Some(resumption) = resumption else { return };
        let found = resumption.read();
        let now = self.clock.now();
        if let (Some(found), Some(member)) = (found, &mut self.member) {
            match member.restore(now, &found.state, found.age) {
                Ok(()) => self.kept.before = found.received,
                Err(error) => {
                    tracing::warn!(target: "database", %error, "keys of before the restart are not used");
                }
            }
        }
        self.kept.resumption = Some(resumption);
    }

    /// Keeps what the member has to know after a restart, if that has changed. Returns whether nothing older is left.
    pub(super) fn keep_member(&mut self) -> bool {
        let now = self.clock.now();
        match (&mut self.member, &mut self.kept.resumption) {
            (Some(member), Some(resumption)) if member.has_changed() => {
                resumption.write(&member.state(now), &self.kept.received)
            }
            _ => true,
        }
    }

    /// Keeps how far other senders were heard, if that has changed.
    pub(super) fn keep_windows(&mut self) {
        let most = Some(MOST_WINDOWS);
        let received = self.protection.received(most);
        self.kept.keep_windows_at =
            self.protection.has_senders().then(|| tokio::time::Instant::now() + KEEP_WINDOWS);
        if received != self.kept.received {
            self.kept.received = received;
            self.write_state();
        }
    }

    /// The member ends, and another process may go on with its keys.
    pub(super) fn leave_member(&mut self) {
        if self.kept.resumption.is_some() {
            self.kept.received = self.protection.received(None);
            self.write_state();
            self.kept.resumption = None;
        }
    }

    /// The member ends for good: nobody goes on with its keys.
    pub(super) fn forget_member(&mut self) {
        if let Some(resumption) = std::mem::take(&mut self.kept).resumption {
            resumption.remove();
        }
    }

    fn write_state(&mut self) {
        let now = self.clock.now();
        if let (Some(member), Some(resumption)) = (&mut self.member, &mut self.kept.resumption) {
            let _ = resumption.write(&member.state(now), &self.kept.received);
        }
    }

    /// SAs of a VPN were installed: what was received of them before is not accepted again.
    pub(super) fn resume_windows(&mut self, vpn: &str) {
        let mine = |received: &mut Received| received.vpn == vpn;
        for received in self.kept.before.extract_if(.., mine) {
            self.protection.resume_receiving(vpn, received.spi, &received.senders);
        }
    }

    /// A PULL brought sender ids, or those of one before a restart are there again: each lane gets one.
    pub(super) fn begin_sending(&mut self, vpn: &str) {
        self.recovery.watch_sender_ids();
        self.kept.keep_windows_at.get_or_insert_with(|| tokio::time::Instant::now() + KEEP_WINDOWS);
        self.grant_sender_ids(vpn, self.command_line.lanes().into());
    }

    /// Lets lanes send with spare sender ids. Returns how many there were. That they are used is kept before.
    pub(super) fn grant_sender_ids(&mut self, vpn: &str, count: usize) -> usize {
        let Some(member) = &mut self.member else { return 0 };
        let ids = member.use_sender_ids(vpn, count);
        if ids.is_empty() {
            return 0;
        }
        if !self.keep_member() {
            tracing::error!(target: "database", vpn, "sender ids are not used: an older state that cannot be replaced has them unused");
            return 0;
        }
        tracing::debug!(target: "policy-manager", vpn, ?ids, "sender ids in use");
        self.protection.grant_sender_ids(vpn, &ids);
        ids.len()
    }
}
