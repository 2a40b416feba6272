//! The server and its state: nothing of the one leaves before the other is on the disk.

use anyhow::{Context as _, Result};
use crypto::Random;
use proto::server::{Server, Settings};

use super::Daemon;
use crate::dispatch::Destination;
use crate::durable::{Durable, Outcome, Output, credentials_directory};

impl Daemon {
    /// A server that goes on with what one before it has kept. After an error the file is as it was.
    pub(super) fn restore(
        &self,
        settings: Settings,
        random: Box<dyn Random + Send>,
    ) -> Result<(Server, Durable)> {
        let credentials = credentials_directory();
        let options = &self.command_line;
        let (durable, records) =
            Durable::open(&options.state_dir, options.state_key.as_deref(), credentials.as_deref())
                .context("state of the key server")?;
        let server = Server::restored(self.clock.now(), settings, random, &records)
            .with_context(|| format!("state of the key server: {}", durable.file().display()))?;
        tracing::debug!(target: "database", records = records.len(), "state read");
        Ok((server, durable))
    }

    /// Whether the server may be told anything.
    pub(super) fn server_listens(&self) -> bool {
        self.durable.as_ref().is_none_or(Durable::lets_in)
    }

    /// A commit has ended.
    pub(super) fn handle_committed(&mut self, outcome: Outcome) {
        let now = self.clock.now();
        if let Some(durable) = &mut self.durable {
            durable.handle_outcome(now, outcome);
        }
    }

    /// Sends what depends on nothing that is not on the disk.
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
            if !durable.flush(now) || !server.has_changes() {
                break;
            }
        }
        self.send_released();
        self.durable = None;
    }
}
