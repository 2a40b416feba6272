//! The first leader brings what it kept while it was alone, if nothing is shared yet.

use proto::server::Server;
use proto::time::Instant;

use super::super::{LocalState, OpenError};
use super::{Cluster, Connection};

impl Cluster {
    /// Begins to connect. `local` is what this server kept while it was alone.
    pub(in crate::durable) fn begin(&mut self, now: Instant, local: Result<Option<LocalState>, OpenError>) {
        match local {
            Ok(local) => {
                self.local = local;
                self.connected.begin();
            }
            Err(error) => {
                tracing::error!(target: "high-availability", %error, "what this server kept cannot be read: it joins the others when it is started anew");
                self.enter(now, Connection::Starting(error.to_string()));
            }
        }
    }

    /// This server was elected.
    pub(super) fn lead(&mut self, now: Instant, server: &mut Server) {
        self.look_at_local();
        let Some(local) = &mut self.local else { return server.lead(now) };
        let file = local.file().display().to_string();
        if let Err(error) = local.begin() {
            return self.part(now, &file, &error.to_string(), server);
        }
        let records = local.records();
        match server.adopt(now, &records) {
            Ok(()) => {
                self.adopted = true;
                tracing::info!(target: "high-availability", file, records = records.len(), "nothing is shared yet: the servers go on with the keys of this one");
            }
            Err(error) => self.part(now, &error.place, &error.error.to_string(), server),
        }
    }

    /// What this server kept is of no use where the servers share something already.
    pub(super) fn look_at_local(&mut self) {
        let is_useless = |_: &mut LocalState| !self.adopted && self.records.has_keys();
        let Some(local) = self.local.take_if(is_useless) else { return };
        let file = local.file().display().to_string();
        tracing::warn!(target: "high-availability", file, "the servers share keys already: what this server kept while it was alone is not used");
        // It may be what they share.
        if local.is_moving() {
            self.local = Some(local);
            self.local_is_shared();
        }
    }

    /// Nobody goes on alone with what this server kept.
    pub(super) fn local_is_shared(&mut self) {
        let Some(local) = self.local.take() else { return };
        let file = local.file().display().to_string();
        match local.finish() {
            Ok(()) => {
                tracing::info!(target: "high-availability", file, "what this server kept is shared now")
            }
            // By its name nobody goes on with it alone either.
            Err(error) => tracing::warn!(target: "high-availability", file, %error, "cannot be renamed"),
        }
    }
}
