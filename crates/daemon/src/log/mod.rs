//! The daemon's log: standard error or the journal, `traceoptions` files, and the stream behind `gvpn monitor`.
//!
//! What an entry is about is its `tracing` target; entries of the protocol roles use the names of the `traceoptions`
//! flags (`ike`, `policy-manager`, `timer`, …), other modules their path.

mod line;
mod role;
mod trace_file;

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use control::MonitorEntry;
use tokio::sync::broadcast;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use role::record;
pub use trace_file::TraceFile;

/// Entries that a slow `gvpn monitor` may be behind before it misses some.
const MONITOR_BACKLOG: usize = 1024;

/// The reloadable parts of the log.
#[derive(Clone)]
pub struct Log {
    files: Arc<Mutex<Vec<TraceFile>>>,
    monitor: broadcast::Sender<MonitorEntry>,
}

impl Log {
    /// Starts the log of the process.
    pub fn start(level: &str) -> Result<Log> {
        let filter = || EnvFilter::try_new(level).with_context(|| format!("log level `{level}`"));
        let log = Log { files: Arc::default(), monitor: broadcast::channel(MONITOR_BACKLOG).0 };
        let lines = line::LineLayer::new(log.clone()).with_filter(filter_fn(line::is_ours));
        let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
        let (journal, stderr) = match journal {
            Some(journal) => (Some(journal.with_filter(filter()?)), None),
            None => {
                let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
                (None, Some(stderr.with_filter(filter()?)))
            }
        };
        tracing_subscriber::registry().with(lines).with(journal).with(stderr).try_init()?;
        Ok(log)
    }

    /// Replaces the `traceoptions` files.
    pub fn set_files(&self, files: Vec<TraceFile>) {
        *self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = files;
    }

    /// Entries from now on.
    pub fn monitor(&self) -> broadcast::Receiver<MonitorEntry> {
        self.monitor.subscribe()
    }
}
