//! One file of one server: redb, with every record sealed.
//!
//! ```text
//!   table "about"     schema  →  number of the layout, in clear: a newer file is recognized before its key is tried
//!                     seal    →  a sealed constant: a wrong key is recognized before any record is touched
//!   table "records"   place   →  sealed content
//! ```
//!
//! A file that is not ours, is damaged, was written by a newer version or was sealed with another key is reported and left as
//! it is. An older copy of the file that somebody puts back cannot be told from the present one.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crypto::{NotOpened, Random, SealingKey, Secret};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition,
};

use crate::{Change, PLACE_MAX};

/// Layout of the file that this version writes. Older ones are migrated when they are opened; there are none yet.
pub const SCHEMA: u64 = 1;

const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

const SCHEMA_ENTRY: &str = "schema";
const SEAL_ENTRY: &str = "seal";
const SEAL_CONTENT: &[u8] = b"groupvpn server state";

/// Octets of the file that are kept in memory. Records are read once, at the start.
const CACHE: usize = 4 << 20;

/// The store of one server.
pub struct Embedded {
    database: Database,
    key: SealingKey,
    random: Box<dyn Random + Send>,
    path: PathBuf,
}

/// Why a store cannot be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created or read.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
    /// Another process has it open.
    #[error("{path}: another gvpnd uses this state", path = .0.display())]
    InUse(PathBuf),
    /// It is something else than a store.
    #[error("{path}: this is not a state file of gvpnd ({1}); move it away or name another state directory", path = .0.display())]
    Foreign(PathBuf, String),
    /// It is a store that was damaged.
    #[error("{path}: the state is damaged ({1}); restore a copy, or move it away to start with new keys", path = .0.display())]
    Damaged(PathBuf, String),
    /// A newer version wrote it.
    #[error("{path}: written by a newer gvpnd (layout {1}, this one knows {SCHEMA}); upgrade, or move it away", path = .0.display())]
    Newer(PathBuf, u64),
    /// The sealing key is another one.
    #[error("{path}: sealed with another key than the one configured", path = .0.display())]
    WrongKey(PathBuf),
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    Storage(PathBuf, String),
    /// A record does not open.
    #[error("{path}: record `{1}`: {2}", path = .0.display())]
    Record(PathBuf, String, NotOpened),
}

/// Why a batch was not committed. Nothing of it is in the file.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The file cannot be written: no space, a failing disk.
    #[error("{path}: {1}", path = .0.display())]
    Storage(PathBuf, String),
    /// A place is longer than [`PLACE_MAX`].
    #[error("the place of a record has {0} octets, {PLACE_MAX} are the most")]
    Place(usize),
}

impl Embedded {
    /// Opens the store in the file at `path`, and creates it, readable by its owner only, where there is none.
    ///
    /// Every page is checked: a damaged file is noticed now and not when its turn comes.
    pub fn open(path: &Path, key: SealingKey, random: Box<dyn Random + Send>) -> Result<Self, OpenError> {
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let length =
            file.and_then(|file| file.metadata()).map_err(|error| OpenError::Io(path.into(), error))?.len();
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(length > 0);
        let database = builder.create(path).map_err(|error| refused(path, error))?;
        let mut store = Self { database, key, random, path: path.into() };
        store.recognize()?;
        Ok(store)
    }

    /// All records, in the order of their places.
    pub fn load(&self) -> Result<Vec<(String, Secret)>, LoadError> {
        let sealed =
            self.read_all().map_err(|error| LoadError::Storage(self.path.clone(), error.to_string()))?;
        let open = |(place, sealed): (String, Vec<u8>)| match self.key.open(place.as_bytes(), &sealed) {
            Ok(content) => Ok((place, content)),
            Err(error) => Err(LoadError::Record(self.path.clone(), place, error)),
        };
        sealed.into_iter().map(open).collect()
    }

    /// Writes `changes`, all or none. When this returns, a crash or a power cut does not undo them.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Some(longest) =
            changes.iter().map(|change| change.place.len()).max().filter(|length| *length > PLACE_MAX)
        {
            return Err(CommitError::Place(longest));
        }
        self.write(changes).map_err(|error| CommitError::Storage(self.path.clone(), error.to_string()))
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for change in changes {
                let place = change.place.as_str();
                match &change.content {
                    Some(content) => {
                        let sealed = self.key.seal(place.as_bytes(), content.expose(), &mut *self.random);
                        records.insert(place, sealed.as_slice())?;
                    }
                    None => {
                        records.remove(place)?;
                    }
                }
            }
        }
        // Durability::Immediate is the default: fsync before it returns.
        transaction.commit()?;
        Ok(())
    }

    fn read_all(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        let mut all = Vec::new();
        for entry in records.iter()? {
            let (place, sealed) = entry?;
            all.push((place.value().to_owned(), sealed.value().to_vec()));
        }
        Ok(all)
    }

    /// Reads what the file says of itself; writes it into a new one.
    fn recognize(&mut self) -> Result<(), OpenError> {
        let damaged = |error: redb::Error| OpenError::Damaged(self.path.clone(), error.to_string());
        let about = self.read_about().map_err(damaged)?;
        let Some((schema, seal)) = about else {
            return self.introduce().map_err(|error| match error {
                redb::Error::Io(error) => OpenError::Io(self.path.clone(), error),
                error => OpenError::Damaged(self.path.clone(), error.to_string()),
            });
        };
        match schema {
            SCHEMA => {}
            0 => return Err(OpenError::Foreign(self.path.clone(), "it has other tables".into())),
            newer => return Err(OpenError::Newer(self.path.clone(), newer)),
        }
        match self.key.open(SEAL_ENTRY.as_bytes(), &seal) {
            Ok(content) if content.matches(SEAL_CONTENT) => Ok(()),
            Ok(_) | Err(_) => Err(OpenError::WrongKey(self.path.clone())),
        }
    }

    /// Schema and seal; `None` in an empty file, schema 0 where the tables are not ours.
    fn read_about(&self) -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        if transaction.list_tables()?.next().is_none() {
            return Ok(None);
        }
        let about = match transaction.open_table(ABOUT) {
            Ok(about) => about,
            Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
                return Ok(Some((0, Vec::new())));
            }
            Err(error) => return Err(error.into()),
        };
        let schema = about
            .get(SCHEMA_ENTRY)?
            .and_then(|value| Some(u64::from_be_bytes(value.value().try_into().ok()?)));
        let seal = about.get(SEAL_ENTRY)?.map(|value| value.value().to_vec());
        Ok(Some((schema.unwrap_or(0), seal.unwrap_or_default())))
    }

    fn introduce(&mut self) -> Result<(), redb::Error> {
        let seal = self.key.seal(SEAL_ENTRY.as_bytes(), SEAL_CONTENT, &mut *self.random);
        let transaction = self.database.begin_write()?;
        {
            let mut about = transaction.open_table(ABOUT)?;
            about.insert(SCHEMA_ENTRY, SCHEMA.to_be_bytes().as_slice())?;
            about.insert(SEAL_ENTRY, seal.as_slice())?;
            transaction.open_table(RECORDS)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse(path),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            OpenError::Foreign(path, error.to_string())
        }
        DatabaseError::Storage(StorageError::Io(error)) => OpenError::Io(path, error),
        DatabaseError::UpgradeRequired(version) => {
            OpenError::Foreign(path, format!("redb file format {version}"))
        }
        error => OpenError::Damaged(path, error.to_string()),
    }
}
