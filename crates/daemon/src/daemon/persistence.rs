//! The server and its state: nothing of the one leaves before the other is safe.

use anyhow::{Context as _, Result};
use config::model;
use crypto::Random;
use proto::server::{Server, Settings};

use super::Daemon;
use crate::agreement::Agreement;
use crate::dispatch::Destination;
use crate::durable::{Durable, Identity, LocalState, OpenError, Outcome, Output, credentials_directory};
use crate::settings;

/// A server that is about to begin, or to go on.
pub(super) struct Restored {
    pub(super) server: Server,
    pub(super) durable: Durable,
    /// What it kept while it was alone, for others to share.
    pub(super) local: Option<LocalState>,
}

impl Daemon {
    /// A server that goes on with what one before it has kept, or with what others share with it. After an error everything is
    /// as it was.
    pub(super) fn restore(
        &self,
        settings: Settings,
        configured: Option<&model::Server>,
        random: Box<dyn Random + Send>,
    ) -> Result<Restored> {
        let credentials = credentials_directory();
        let cluster = configured.and_then(|server| Some((settings::cluster(server)?, Agreement::of(server))));
        if let Some((cluster, agreement)) = cluster {
            let open =
                |identity| Durable::open_cluster(&cluster, agreement, identity, credentials.as_deref());
            let (durable, cooperation) = self.identity().and_then(open).context("cluster-store")?;
            let local = if self.keeps_a_file() { None } else { self.local_state()? };
            if let Some(local) = &local {
                Server::understand(&settings, &local.records())
                    .with_context(|| format!("state of the key server: {}", local.file().display()))?;
            }
            let server = Server::cooperating(self.clock.now(), settings, random, cooperation);
            return Ok(Restored { server, durable, local });
        }
        let options = &self.command_line;
        let (durable, records) =
            Durable::open_file(&options.state_dir, options.state_key.as_deref(), credentials.as_deref())
                .context("state of the key server")?;
        let server = Server::restored(self.clock.now(), settings, random, &records)
            .with_context(|| format!("state of the key server: {}", durable.place()))?;
        tracing::debug!(target: "database", records = records.len(), "state read");
        Ok(Restored { server, durable, local: None })
    }

    /// Whether the state of the server is in a file, which it has open.
    pub(super) fn keeps_a_file(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.cluster().is_none())
    }

    /// What the server kept while it shared nothing, where it has no file open.
    pub(super) fn local_state(&self) -> Result<Option<LocalState>, OpenError> {
        let options = &self.command_line;
        let credentials = credentials_directory();
        LocalState::find(&options.state_dir, options.state_key.as_deref(), credentials.as_deref())
    }

    /// Which server this is, as others of its name are told: the same as long as the daemon lives.
    fn identity(&self) -> Result<&Identity, OpenError> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let identity = Identity::take(&self.command_line.state_dir)?;
        Ok(self.identity.get_or_init(|| identity))
    }

    /// Whether the server may be told anything.
    pub(super) fn server_listens(&self) -> bool {
        self.durable.as_ref().is_none_or(Durable::lets_in)
    }

    /// A commit has ended, or other servers did something.
    pub(super) fn handle_committed(&mut self, outcome: Outcome) {
        let now = self.clock.now();
        if let (Some(durable), Some(server)) = (&mut self.durable, &mut self.server) {
            durable.handle_outcome(now, outcome, server);
        }
    }

    /// Sends what depends on nothing that could be forgotten.
    pub(super) fn send_released(&mut self) {
        while let Some(output) = self.durable.as_mut().and_then(Durable::poll_released) {
            match output {
                Output::Datagram(path, datagram) => self.transmit(Destination::Server, path, &datagram),
                Output::Push(batch) => self.send_rekey(batch),
            }
        }
    }

    /// The server ends: what it did last is written and sent.
    pub(super) fn close_state(&mut self) {
        let now = self.clock.now();
        let (Some(server), Some(durable)) = (&mut self.server, &mut self.durable) else { return };
        loop {
            durable.collect(now, server, &mut self.buffer);
            if !durable.flush(now, server) || !server.has_changes() {
                break;
            }
        }
        self.send_released();
        self.durable = None;
    }
}
