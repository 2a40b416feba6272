//! What the key server must not forget, safe before anything leaves that depends on it: in a sealed file of its own
//! ([`file`]), or in what several servers share ([`cluster`]).
//!
//! ```text
//!   server → datagrams, rekeys ─┐
//!          → changes ───────────┴→ next ──one commit at a time──→ in flight ──durable──→ released
//! ```
//!
//! What the server does while a commit is under way is gathered for the next one: however many members register
//! meanwhile, they share the one after it. The event loop never waits.

mod cluster;
mod file;
mod key;
mod local;
mod resumption;
mod stamp;
mod waiting;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::server::{Record, Server};
use proto::time::Instant;
use store::SharedEvent;

use cluster::Cluster;
use file::Kept;

use crate::agreement::Agreement;
use writer::Written;

pub use cluster::{ClusterSettings, ClusterState, Connection, Identity, ServerInfo, TlsFiles};
pub use local::LocalState;
pub use resumption::{Found, Received, Resumption};
pub use waiting::Output;

/// How long an orderly end waits for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Why there is no state to go on with. What there is, is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key cannot be used.
    #[error("{path}: {1}", path = .0.display())]
    Key(PathBuf, String),
    /// There is a state, and the key that was made with it is gone.
    #[error("{key}: this key is missing, and {state} is sealed with it; restore it from a copy, or move the state away to start with new keys", key = .0.display(), state = .1.display())]
    NoKey(PathBuf, PathBuf),
    /// There is neither a statement nor a credential that names the cluster key.
    #[error(
        "no cluster key: write `cluster-key FILE` in `cluster-store etcd`, or give gvpnd the credential `{0}`; all servers of a cluster have the same"
    )]
    NoClusterKey(&'static str),
    /// A file with a certificate or its key cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Certificate(PathBuf, std::io::Error),
    /// The server has no name.
    #[error("this host has no name: write `server-name` in `cluster-store etcd`")]
    NoName,
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] crypto::RandomError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// The file cannot be read.
    #[error(transparent)]
    Load(#[from] store::LoadError),
    /// A record is none of ours.
    #[error("{path}: record `{1}` is of another version of gvpnd; upgrade, or move the file away to start with new keys", path = .0.display())]
    Layout(PathBuf, String),
}

/// What happened to what the server wants kept.
#[derive(Debug)]
pub enum Outcome {
    /// A commit to the file has ended.
    File(Written),
    /// The shared store tells something.
    Cluster(SharedEvent),
}

/// The state of the key server.
pub enum Durable {
    /// Its own.
    File(Box<Kept>),
    /// That of several.
    Cluster(Box<Cluster>),
}

impl Durable {
    /// Opens `STATE/server/state.redb`, which is created where it is missing, with what a server before us kept there.
    pub fn open_file(
        state_directory: &Path,
        key_file: Option<&Path>,
        credentials: Option<&Path>,
    ) -> Result<(Self, Vec<Record>), OpenError> {
        let (kept, records) = Kept::open(state_directory, key_file, credentials)?;
        Ok((Self::File(Box::new(kept)), records))
    }

    /// Prepares to share with other servers, who are told of `agreement`. Returns who we are among them.
    pub fn open_cluster(
        settings: &ClusterSettings,
        agreement: Agreement,
        identity: &Identity,
        credentials: Option<&Path>,
    ) -> Result<(Self, proto::server::Cooperation), OpenError> {
        let (cluster, cooperation) = Cluster::open(settings, agreement, identity, credentials)?;
        Ok((Self::Cluster(Box::new(cluster)), cooperation))
    }

    /// Begins to share, where there is somebody to share with: what is shared comes as an outcome. `local` is what this server
    /// kept while it was alone, or why it cannot be read: then nothing is shared.
    pub fn begin(&mut self, now: Instant, local: Result<Option<LocalState>, OpenError>) {
        match self {
            Self::File(_) => {}
            Self::Cluster(cluster) => cluster.begin(now, local),
        }
    }

    /// Takes everything that the server has to send and to keep. What depends on nothing unwritten is released at once.
    pub fn collect(&mut self, now: Instant, server: &mut Server, buffer: &mut Vec<u8>) {
        match self {
            Self::File(kept) => kept.collect(now, server, buffer),
            Self::Cluster(cluster) => cluster.collect(now, server, buffer),
        }
    }

    /// What may leave.
    pub fn poll_released(&mut self) -> Option<Output> {
        match self {
            Self::File(kept) => kept.poll_released(),
            Self::Cluster(cluster) => cluster.poll_released(),
        }
    }

    /// Waits for something to happen.
    pub async fn outcome(durable: &mut Option<Durable>) -> Outcome {
        match durable {
            Some(Self::File(kept)) => Outcome::File(kept.outcome().await),
            Some(Self::Cluster(cluster)) => Outcome::Cluster(cluster.event().await),
            None => std::future::pending().await,
        }
    }

    /// Goes on after something happened.
    pub fn handle_outcome(&mut self, now: Instant, outcome: Outcome, server: &mut Server) {
        match (self, outcome) {
            (Self::File(kept), Outcome::File(written)) => kept.handle_outcome(now, written),
            (Self::Cluster(cluster), Outcome::Cluster(event)) => cluster.handle_event(now, event, server),
            (Self::File(_), Outcome::Cluster(_)) | (Self::Cluster(_), Outcome::File(_)) => {}
        }
    }

    /// The server was given other settings.
    pub fn handle_configured(&mut self, now: Instant, agreement: Agreement, server: &mut Server) {
        match self {
            Self::File(_) => {}
            Self::Cluster(cluster) => cluster.handle_configured(now, agreement, server),
        }
    }

    /// Tries again what has failed, if it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::File(kept) => kept.handle_timeout(now),
            Self::Cluster(_) => {}
        }
    }

    /// When to call [`Durable::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::File(kept) => kept.poll_timeout(),
            Self::Cluster(_) => None,
        }
    }

    /// Whether the server may be told anything: time, datagrams, commands.
    pub fn lets_in(&self) -> bool {
        match self {
            Self::File(kept) => kept.lets_in(),
            Self::Cluster(cluster) => cluster.lets_in(),
        }
    }

    /// What the operator should know.
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        match self {
            Self::File(kept) => kept.warning().into_iter().collect(),
            Self::Cluster(cluster) => cluster.warnings(now),
        }
    }

    /// Waits until everything that was collected is durable, but not forever. Tells whether it is.
    #[must_use]
    pub fn flush(&mut self, now: Instant, server: &mut Server) -> bool {
        match self {
            Self::File(kept) => kept.flush(now),
            Self::Cluster(cluster) => cluster.flush(now, server),
        }
    }

    /// How it stands with the other servers, where there are any.
    pub fn cluster(&self) -> Option<&ClusterState> {
        match self {
            Self::File(_) => None,
            Self::Cluster(cluster) => Some(cluster.state()),
        }
    }

    /// Where it is kept, in words.
    pub fn place(&self) -> String {
        match self {
            Self::File(kept) => kept.file().display().to_string(),
            Self::Cluster(cluster) => cluster.state().store.clone(),
        }
    }
}

/// Where systemd put credentials for us, if it did.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
