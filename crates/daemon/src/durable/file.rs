//! What the key server must not forget: in a sealed file, on the disk before anything leaves that depends on it.
//!
//! ```text
//!   server → datagrams, rekeys ─┐
//!          → changes ───────────┴→ next ──one commit at a time──→ in flight ──on the disk──→ released
//! ```
//!
//! A commit waits for the disk on a thread of its own, so the event loop never does. What the server does meanwhile is
//! gathered for the next commit: however many members register while one is under way, they share the one after it.
//!
//! When a commit fails, nothing of the server leaves until it has succeeded, and nothing is said to the server either:
//! [`Kept::lets_in`]. It is as if it were down; the member role and the data path go on.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crypto::{OsRandom, Random};
use proto::server::{Record, Server};
use proto::time::Instant;
use store::Embedded;

use super::key::Source;
use super::stamp::{self, Stamp};
use super::waiting::{Gathered, MOST_WAITING, Output, Waiting};
use super::writer::{Writer, Written};
use super::{LAST_COMMIT, OpenError, local};

/// How soon a commit is tried again that has failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often the log says that commits go on failing.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The state of a key server that shares it with nobody.
pub struct Kept {
    file: PathBuf,
    boot: Option<[u8; 16]>,
    writer: Writer,
    /// What waits for the commit that is under way, if one is.
    in_flight: Option<Waiting>,
    /// What is gathered for the one after it.
    next: Gathered,
    released: VecDeque<Output>,
    failure: Option<Failure>,
}

struct Failure {
    error: String,
    since: Instant,
    try_at: Instant,
    said_at: Instant,
}

impl Kept {
    /// Opens `STATE/server/state.redb`, which is created where it is missing, with what a server before us kept there.
    pub(super) fn open(
        state_directory: &Path,
        key_file: Option<&Path>,
        credentials: Option<&Path>,
    ) -> Result<(Self, Vec<Record>), OpenError> {
        let file = state_directory.join("server").join(local::ALONE);
        if local::was_moved(&file) {
            tracing::warn!(target: "database", file = %file.display(), "what this server kept was moved to other servers, who go on with it: it begins with new keys");
        }
        let source = Source::choose(credentials, key_file, &file);
        let key = source.key(&file, &mut OsRandom::new()?)?;
        if let Some(directory) = file.parent() {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| store::OpenError::Io(directory.to_owned(), error))?;
        }
        let reopen = {
            let file = file.clone();
            move || -> Result<Embedded, OpenError> {
                let random: Box<dyn Random + Send> = Box::new(OsRandom::new()?);
                Ok(Embedded::open(&file, key.clone(), random)?)
            }
        };
        let store = reopen()?;
        let boot = stamp::boot_id();
        let now = Stamp::now(boot);
        let record = |(place, written, content)| Record { place, content, age: now.since(&written) };
        let records = stamp::load(&store, &file)?.into_iter().map(record).collect();
        let writer = Writer::start(store, reopen).map_err(OpenError::Thread)?;
        let durable = Self {
            file,
            boot,
            writer,
            in_flight: None,
            next: Gathered::default(),
            released: VecDeque::new(),
            failure: None,
        };
        Ok((durable, records))
    }

    /// Takes everything that the server has to send and to keep. What depends on nothing unwritten is released at once.
    pub(super) fn collect(&mut self, now: Instant, server: &mut Server, buffer: &mut Vec<u8>) {
        self.next.collect(now, self.boot, server, buffer);
        self.advance(now);
    }

    /// What may leave.
    pub(super) fn poll_released(&mut self) -> Option<Output> {
        self.released.pop_front()
    }

    /// Waits for the end of a commit.
    pub(super) async fn outcome(&mut self) -> Written {
        self.writer.outcome().await
    }

    /// Goes on after a commit.
    pub(super) fn handle_outcome(&mut self, now: Instant, outcome: Written) {
        let mut waiting = self.in_flight.take().unwrap_or_default();
        match outcome.result {
            Ok(()) => {
                tracing::trace!(target: "database", records = outcome.changes.len(), took = ?outcome.took, "committed");
                if let Some(failure) = self.failure.take() {
                    let silent = (now - failure.since).as_secs();
                    tracing::warn!(target: "database", seconds = silent, "state written again, the server goes on");
                }
                self.release(now, waiting);
            }
            Err(error) => {
                self.next.put_back(outcome.changes);
                waiting.append(self.next.take_waiting());
                self.next.waiting = waiting;
                self.note_failure(now, error);
            }
        }
        self.advance(now);
    }

    /// Tries again what has failed, if it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When to call [`Durable::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.failure.as_ref().filter(|_| self.in_flight.is_none()).map(|failure| failure.try_at)
    }

    /// Whether the server may be told anything: time, datagrams, commands.
    pub(super) fn lets_in(&self) -> bool {
        let in_flight = self.in_flight.as_ref().map_or(0, |waiting| waiting.len());
        self.failure.is_none() && in_flight + self.next.waiting.len() < MOST_WAITING
    }

    /// What the operator should know.
    pub(super) fn warning(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(format!("the key server is silent, as its state cannot be written: {}", failure.error))
    }

    /// Waits until everything that was collected is on the disk, but not forever. Tells whether it is.
    #[must_use]
    pub(super) fn flush(&mut self, now: Instant) -> bool {
        let deadline = std::time::Instant::now() + LAST_COMMIT;
        while self.in_flight.is_some() {
            let Some(outcome) = self.writer.wait(deadline) else { return false };
            self.handle_outcome(now, outcome);
        }
        self.failure.is_none()
    }

    /// Starts the next commit if there is something to write and nothing stands against it.
    fn advance(&mut self, now: Instant) {
        if self.in_flight.is_some() || self.failure.as_ref().is_some_and(|failure| failure.try_at > now) {
            return;
        }
        let waiting = self.next.take_waiting();
        if self.next.changes.is_empty() {
            return self.release(now, waiting);
        }
        self.in_flight = Some(waiting);
        self.writer.commit(self.next.take_changes());
    }

    fn release(&mut self, now: Instant, waiting: Waiting) {
        let datagrams = waiting.release(now, &mut self.released);
        if datagrams > 0 {
            tracing::warn!(target: "database", datagrams, "not sent: the disk took too long");
        }
    }

    fn note_failure(&mut self, now: Instant, error: String) {
        let said_before = self.failure.as_ref().filter(|failure| now - failure.said_at < SAY_AGAIN);
        let said_at = match said_before {
            Some(failure) => failure.said_at,
            None => {
                tracing::error!(target: "database", %error, "state not written; the key server is silent until it can be");
                now
            }
        };
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        self.failure = Some(Failure { error, since, try_at: now + TRY_AGAIN, said_at });
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}
