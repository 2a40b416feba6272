//! Commit, check and load: validate, diff, prepare, apply or abort.

use std::collections::VecDeque;

use config::LoadMode;
use control::{CheckRequest, CommitReply, CommitRequest, Diagnostic, LoadRequest, Severity};
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use crate::configuration::{Loaded, Replacement, changes, judge, read_file, without_place};
use crate::control_socket::{Refusal, Reply, reply};
use crate::interfaces::Interfaces;
use crate::notify;
use crate::signing_keys::{KeyError, Prepared};

/// A change of the configuration that somebody asked for.
pub(super) enum Change {
    /// `gvpn commit`.
    Commit {
        /// What to commit.
        request: CommitRequest,
        /// Who waits for the outcome.
        reply: oneshot::Sender<Reply>,
    },
    /// SIGHUP.
    Reload,
}

/// What became of making the keys that a change needs.
pub(super) type Outcome = Result<Prepared, KeyError>;

/// Changes wait while keys are made for one of them: that takes seconds, in which the daemon has others to serve.
pub(super) struct Changes {
    /// The one that keys are made for.
    current: Option<Change>,
    waiting: VecDeque<Change>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Changes {
    pub(super) fn new() -> (Changes, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        (Changes { current: None, waiting: VecDeque::new(), outcomes }, receiver)
    }
}

impl Daemon {
    /// Does a change as soon as the keys that it needs are there, in the order that changes were asked for.
    pub(super) fn change(&mut self, change: Change) {
        if self.changes.current.is_some() {
            return self.changes.waiting.push_back(change);
        }
        let request = match &change {
            Change::Commit { request, .. } => request.clone(),
            Change::Reload => CommitRequest::default(),
        };
        let candidate = self.candidate(request.text, request.source).ok();
        let model = candidate.and_then(|(text, _)| config::read(&text, &[]).model);
        let missing = model.map(|model| self.signing_keys.missing(&model)).unwrap_or_default();
        if missing.is_empty() {
            return self.perform(change);
        }
        tracing::debug!(target: "config", keys = missing.len(), "preparing keys that sign rekeys");
        let preparation = self.signing_keys.preparation(missing);
        let outcomes = self.changes.outcomes.clone();
        self.changes.current = Some(change);
        tokio::task::spawn_blocking(move || {
            // The daemon may have ended meanwhile.
            let _ = outcomes.send(preparation.run());
        });
    }

    /// Goes on with the change that keys were made for, and with those behind it.
    pub(super) fn handle_prepared(&mut self, outcome: Outcome) {
        match (self.changes.current.take(), outcome) {
            (Some(change), Ok(prepared)) => {
                self.signing_keys.add(prepared);
                self.change(change);
            }
            (Some(change), Err(error)) => self.refuse(change, &error),
            (None, _) => {}
        }
        while self.changes.current.is_none()
            && let Some(next) = self.changes.waiting.pop_front()
        {
            self.change(next);
        }
    }

    fn perform(&mut self, change: Change) {
        match change {
            Change::Commit { request, reply } => {
                // The asker may have gone away.
                let _ = reply.send(self.commit(request));
            }
            Change::Reload => {
                self.reload();
                notify::ready();
            }
        }
    }

    fn refuse(&mut self, change: Change, error: &KeyError) {
        tracing::error!(target: "config", %error, "configuration not applied, the one before stays");
        match change {
            Change::Commit { request, reply: asker } => {
                let source = match (&request.text, request.source) {
                    (Some(_), Some(source)) => source,
                    (Some(_), None) => "text".to_owned(),
                    (None, _) => self.command_line.config.display().to_string(),
                };
                let diagnostics = vec![without_place(&source, format!("keys that sign rekeys: {error}"))];
                let _ = asker.send(reply(&CommitReply { diagnostics, ..CommitReply::default() }));
            }
            Change::Reload => notify::ready(),
        }
    }

    /// SIGHUP: the outcome goes to the log.
    fn reload(&mut self) {
        let outcome = self.commit_text(None, None);
        for diagnostic in &outcome.diagnostics {
            match diagnostic.severity {
                Severity::Error => tracing::error!(target: "config", "{diagnostic}"),
                Severity::Warning => tracing::warn!(target: "config", "{diagnostic}"),
                Severity::Note => tracing::debug!(target: "config", "{diagnostic}"),
            }
        }
    }

    fn commit(&mut self, request: CommitRequest) -> Reply {
        reply(&self.commit_text(request.text, request.source))
    }

    pub(super) fn check(&mut self, request: CheckRequest) -> Reply {
        let (loaded, diagnostics) = match self.candidate(request.text, request.source) {
            Ok((text, source)) => judge(config::read(&text, &[]), &source),
            Err(diagnostic) => (None, vec![diagnostic]),
        };
        let changes =
            loaded.as_ref().map(|loaded| changes(&self.active.tree, &loaded.tree)).unwrap_or_default();
        reply(&CommitReply { success: loaded.is_some(), diagnostics, changes })
    }

    pub(super) fn load(&mut self, request: &LoadRequest) -> Reply {
        let file = self.command_line.config.clone();
        let source = request.source.clone().unwrap_or_else(|| "text".to_owned());
        let current = match read_file(&file) {
            Ok(text) => {
                let current = config::read(&text, &[]);
                if current.has_errors() && request.mode != control::LoadMode::Override {
                    let (_, diagnostics) = judge(current, &file.display().to_string());
                    return reply(&CommitReply { success: false, diagnostics, changes: Vec::new() });
                }
                current.tree
            }
            Err(diagnostic) => {
                return reply(&CommitReply { diagnostics: vec![diagnostic], ..CommitReply::default() });
            }
        };
        let at: Vec<&str> = request.at.split_whitespace().collect();
        let mode = match request.mode {
            control::LoadMode::Merge | control::LoadMode::Relative => LoadMode::Merge,
            control::LoadMode::Override => LoadMode::Override,
        };
        let (loaded, diagnostics) = judge(config::load(&current, &request.text, &at, mode), &source);
        let Some(loaded) = loaded else {
            return reply(&CommitReply { success: false, diagnostics, changes: Vec::new() });
        };
        let changes = changes(&current, &loaded.tree);
        Replacement::prepare(&file, &loaded.tree.to_braces())
            .and_then(Replacement::commit)
            .map_err(|error| Refusal::internal(format!("{}: {error}", file.display())))?;
        reply(&CommitReply { success: true, diagnostics, changes })
    }

    fn commit_text(&mut self, text: Option<String>, source: Option<String>) -> CommitReply {
        let replaces_file = text.is_some();
        let (text, source) = match self.candidate(text, source) {
            Ok(candidate) => candidate,
            Err(diagnostic) => {
                return CommitReply { diagnostics: vec![diagnostic], ..CommitReply::default() };
            }
        };
        let (loaded, mut diagnostics) = judge(config::read(&text, &[]), &source);
        let Some(loaded) = loaded else {
            tracing::warn!(target: "config", source, "configuration refused, the one in force stays");
            return CommitReply { success: false, diagnostics, changes: Vec::new() };
        };
        let changes = changes(&self.active.tree, &loaded.tree);
        diagnostics.extend(self.virtual_addresses(&loaded.model, &source));
        match self.put_into_force(loaded, replaces_file.then_some(&text)) {
            Ok(()) => {
                tracing::info!(target: "config", source, changes = changes.len(), "configuration in force");
                CommitReply { success: true, diagnostics, changes }
            }
            Err(error) => {
                tracing::error!(target: "config", source, error = format!("{error:#}"), "configuration not applied, the one before stays");
                diagnostics.insert(0, without_place(&source, format!("{error:#}")));
                CommitReply { success: false, diagnostics, changes: Vec::new() }
            }
        }
    }

    /// The file is replaced only if the configuration could be applied, and written beside before that.
    fn put_into_force(&mut self, loaded: Loaded, text: Option<&String>) -> anyhow::Result<()> {
        let links = |instance: Option<&str>| self.links_of(instance);
        if let Some(problem) = Interfaces::too_large_tunnel_mtu(&loaded.model, links) {
            anyhow::bail!(problem);
        }
        let replacement =
            text.map(|text| Replacement::prepare(&self.command_line.config, text)).transpose()?;
        self.apply(loaded)?;
        if let Some(replacement) = replacement {
            replacement.commit()?;
        }
        Ok(())
    }

    fn candidate(
        &self,
        text: Option<String>,
        source: Option<String>,
    ) -> Result<(String, String), Diagnostic> {
        match text {
            Some(text) => Ok((text, source.unwrap_or_else(|| "text".to_owned()))),
            None => {
                let file = &self.command_line.config;
                Ok((read_file(file)?, file.display().to_string()))
            }
        }
    }
}
