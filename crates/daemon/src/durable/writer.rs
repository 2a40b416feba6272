//! The thread that waits for the disk.

use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use store::{Change, Embedded};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::OpenError;

/// How often the end of a commit is looked for by whoever cannot do anything else meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What became of a commit.
#[derive(Debug)]
pub struct Written {
    /// What was to be written.
    pub(super) changes: Vec<Change>,
    pub(super) result: Result<(), String>,
    pub(super) took: Duration,
}

/// Writes one batch of changes after the other.
pub(super) struct Writer {
    /// Closed to end the thread.
    batches: Option<blocking::Sender<Vec<Change>>>,
    outcomes: mpsc::UnboundedReceiver<Written>,
    thread: Option<JoinHandle<()>>,
    /// Batches whose outcome was not taken yet.
    under_way: usize,
}

impl Writer {
    /// Starts the thread. After a failure the file must be opened anew, which `reopen` does.
    pub(super) fn start(
        store: Embedded,
        reopen: impl Fn() -> Result<Embedded, OpenError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (batches, receiver) = blocking::channel::<Vec<Change>>();
        let (sender, outcomes) = mpsc::unbounded_channel();
        let work = move || {
            let mut store = Some(store);
            for changes in receiver {
                let started = Instant::now();
                let result = write(&mut store, &changes, &reopen);
                // Nobody may listen any more: the batch is written all the same.
                let _ = sender.send(Written { changes, result, took: started.elapsed() });
            }
        };
        let thread = thread::Builder::new().name("gvpnd-state".into()).spawn(work)?;
        Ok(Self { batches: Some(batches), outcomes, thread: Some(thread), under_way: 0 })
    }

    /// Has a batch written; its outcome follows.
    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        self.under_way += 1;
        if let Some(batches) = &self.batches {
            batches.send(changes).expect("the thread ends only after its sender");
        }
    }

    /// Waits for an outcome.
    pub(super) async fn outcome(&mut self) -> Written {
        let outcome = self.outcomes.recv().await.expect("the thread ends only after its sender");
        self.under_way -= 1;
        outcome
    }

    /// Waits for an outcome where nothing else can be done meanwhile; until the deadline.
    pub(super) fn wait(&mut self, deadline: Instant) -> Option<Written> {
        loop {
            match self.outcomes.try_recv() {
                Ok(outcome) => {
                    self.under_way -= 1;
                    return Some(outcome);
                }
                Err(TryRecvError::Empty) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
    }
}

impl Drop for Writer {
    /// Closes the file, unless the disk keeps the thread: nobody waits for that.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take().filter(|_| self.under_way == 0) {
            let _ = thread.join();
        }
    }
}

fn write(
    store: &mut Option<Embedded>,
    changes: &[Change],
    reopen: &impl Fn() -> Result<Embedded, OpenError>,
) -> Result<(), String> {
    let mut open = match store.take() {
        Some(open) => open,
        None => reopen().map_err(|error| error.to_string())?,
    };
    // After a failed write the database refuses everything; it is opened anew, which repairs it.
    open.commit(changes).map_err(|error| error.to_string())?;
    *store = Some(open);
    Ok(())
}
