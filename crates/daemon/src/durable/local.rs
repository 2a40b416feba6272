//! What a server kept by itself before it began to share: it becomes what all share, once.
//!
//! ```text
//!   state.redb ── elected, and nothing is shared yet ──▶ state.moving.redb ── committed ──▶ state.moved.redb
//! ```
//!
//! The first renaming is on the disk before anything of the file can be in the shared store: from then on nobody goes on
//! with these keys alone, since numbers and sender ids that others have given would be given again. A crash in between
//! leaves `state.moving.redb`, which moves again if nothing is shared.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crypto::{OsRandom, Secret};
use proto::server::Record;
use store::Embedded;

use super::OpenError;
use super::key::Source;
use super::stamp::{self, Stamp};

/// Names in the directory of the server.
pub(super) const ALONE: &str = "state.redb";
const MOVING: &str = "state.moving.redb";
const MOVED: &str = "state.moved.redb";

/// The records of one server, on their way to many.
pub struct LocalState {
    directory: PathBuf,
    /// The name it has now.
    name: &'static str,
    records: Vec<(String, Stamp, Secret)>,
}

impl LocalState {
    /// What a server of this state directory kept, if it kept anything. No process may have it open.
    pub(crate) fn find(
        state_directory: &Path,
        key_file: Option<&Path>,
        credentials: Option<&Path>,
    ) -> Result<Option<Self>, OpenError> {
        let directory = state_directory.join("server");
        let exists = |name: &str| {
            let path = directory.join(name);
            path.try_exists().map_err(|error| OpenError::from(store::OpenError::Io(path, error)))
        };
        let name = match (exists(ALONE)?, exists(MOVING)?) {
            (true, _) => ALONE,
            (false, true) => MOVING,
            (false, false) => return Ok(None),
        };
        let path = directory.join(name);
        // Its key is called as it was when the file was made.
        let source = Source::choose(credentials, key_file, &directory.join(ALONE));
        let mut random = OsRandom::new()?;
        let key = source.key(&path, &mut random)?;
        let records = stamp::load(&Embedded::open(&path, key, Box::new(random))?, &path)?;
        Ok((!records.is_empty()).then_some(Self { directory, name, records }))
    }

    /// What it holds, as old as it is now.
    pub(crate) fn records(&self) -> Vec<Record> {
        let now = Stamp::now(stamp::boot_id());
        let record = |(place, written, content): &(String, Stamp, Secret)| Record {
            place: place.clone(),
            content: content.clone(),
            age: now.since(written),
        };
        self.records.iter().map(record).collect()
    }

    /// The file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join(self.name)
    }

    /// What it holds is about to be shared: no server goes on with it alone any more, whatever happens.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.rename(MOVING)
    }

    /// What it holds is shared, or something else is.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.rename(MOVED)
    }

    /// Whether it may have been shared before.
    pub(super) fn is_moving(&self) -> bool {
        self.name == MOVING
    }

    fn rename(&mut self, name: &'static str) -> io::Result<()> {
        if self.name != name {
            fs::rename(self.directory.join(self.name), self.directory.join(name))?;
            self.name = name;
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// Whether the state of a server that is about to begin afresh was moved into a cluster.
pub(super) fn was_moved(file: &Path) -> bool {
    let is_there = |name: &&str| file.with_file_name(name).exists();
    !file.exists() && [MOVING, MOVED].iter().any(is_there)
}
