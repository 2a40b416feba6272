//! The key pairs that sign rekeys: one for each group and kind, made when none exists, kept in the state directory.
//!
//! `STATE-DIR/server/GROUP.KIND.pkcs8` is a PKCS #8 PrivateKeyInfo in DER that only its owner may read. A file is never
//! overwritten and never removed: members hold its public half until they register again, so whoever loses or changes it
//! unknowingly loses the rekeys of a whole group. What cannot be used is an error that names the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use config::model::{Configuration, SignatureAlgorithm};
use crypto::signature::{SigningKey, SigningKeyError, SigningKeyKind};

use crate::files;
use crate::state::file_name;

/// No key of ours is larger; what is, is none.
const LARGEST_FILE: u64 = 16 << 10;

/// A key that a group needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Name of the group.
    pub group: String,
    /// Algorithm and length.
    pub kind: SigningKeyKind,
}

/// Why a group has no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file or its directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{}: others may read this private key; `chmod 600` it if nobody has, else move it away: another is then made, and members must register again", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("{}: {source}; restore it from a copy, or move it away: another is then made, and members must register again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SigningKeyError,
    },
    /// It holds a key that its name does not promise.
    #[error("{}: this is a key of kind {found}; its name belongs to {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Kind of the key in it.
        found: SigningKeyKind,
        /// Kind in its name.
        expected: SigningKeyKind,
    },
    /// No key could be made.
    #[error("cannot make a key of kind {kind}: {source}")]
    Generation {
        /// Algorithm and length.
        kind: SigningKeyKind,
        /// Why.
        source: SigningKeyError,
    },
}

/// The keys that are in use.
#[derive(Debug)]
pub struct SigningKeys {
    directory: PathBuf,
    loaded: BTreeMap<Wanted, SigningKey>,
}

impl SigningKeys {
    /// None yet; `state_directory` is where they are kept.
    pub fn new(state_directory: &Path) -> SigningKeys {
        SigningKeys { directory: state_directory.join("server"), loaded: BTreeMap::new() }
    }

    /// The keys that a configuration needs and that are not loaded yet.
    pub fn missing(&self, configuration: &Configuration) -> Vec<Wanted> {
        let groups = configuration.server.iter().flat_map(|server| &server.groups);
        let pushing = groups.filter(|group| group.communication.is_some());
        let wanted = pushing
            .map(|group| Wanted { group: group.name.clone(), kind: kind(group.signature_algorithm) })
            .filter(|wanted| !self.loaded.contains_key(wanted));
        wanted.collect()
    }

    /// Something that loads keys, and makes those that do not exist, on any thread: it takes a second or more.
    pub fn preparation(&self, wanted: Vec<Wanted>) -> Preparation {
        Preparation { directory: self.directory.clone(), wanted }
    }

    /// Takes over what a preparation brought.
    pub fn add(&mut self, prepared: Prepared) {
        self.loaded.extend(prepared.0);
    }

    /// The key of a group.
    pub fn key(&self, group: &str, algorithm: SignatureAlgorithm) -> Option<&SigningKey> {
        self.loaded.get(&Wanted { group: group.to_owned(), kind: kind(algorithm) })
    }
}

/// Keys to be loaded or made.
#[derive(Debug)]
pub struct Preparation {
    directory: PathBuf,
    wanted: Vec<Wanted>,
}

/// Keys that were.
#[derive(Debug)]
pub struct Prepared(Vec<(Wanted, SigningKey)>);

impl Preparation {
    /// Blocks until every key is there; with several processors several are worked on at a time.
    pub fn run(self) -> Result<Prepared, KeyError> {
        if self.wanted.is_empty() {
            return Ok(Prepared(Vec::new()));
        }
        let failed = |source| KeyError::File { path: self.directory.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let workers = thread::available_parallelism().map_or(1, usize::from).min(self.wanted.len());
        let share = self.wanted.len().div_ceil(workers);
        let shares = thread::scope(|scope| {
            let working: Vec<_> = self
                .wanted
                .chunks(share)
                .map(|share| scope.spawn(|| share.iter().map(|wanted| self.prepare(wanted)).collect()))
                .collect();
            working
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Vec<Vec<_>>>()
        });
        shares.into_iter().flatten().collect::<Result<Vec<_>, _>>().map(Prepared)
    }

    fn prepare(&self, wanted: &Wanted) -> Result<(Wanted, SigningKey), KeyError> {
        let path = self.directory.join(format!("{}.{}.pkcs8", file_name(&wanted.group), wanted.kind));
        let key = match read(&path, wanted.kind)? {
            Some(key) => key,
            None => make(&path, wanted)?,
        };
        Ok((wanted.clone(), key))
    }
}

/// The key of a file; `None` where there is no file.
fn read(path: &Path, kind: SigningKeyKind) -> Result<Option<SigningKey>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let file = match files::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned() });
    }
    let mut octets = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut octets).map_err(failed)?;
    let octets = crypto::Secret::new(octets);
    let key = SigningKey::from_pkcs8_der(octets.expose())
        .map_err(|source| KeyError::Damaged { path: path.to_owned(), source })?;
    if key.kind() != kind {
        return Err(KeyError::Foreign { path: path.to_owned(), found: key.kind(), expected: kind });
    }
    Ok(Some(key))
}

/// Makes a key, and is sure that it is on the disk before anybody learns of it.
fn make(path: &Path, wanted: &Wanted) -> Result<SigningKey, KeyError> {
    let key = SigningKey::generate(wanted.kind)
        .map_err(|source| KeyError::Generation { kind: wanted.kind, source })?;
    store(path, key.to_pkcs8_der().expose())
        .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    tracing::info!(target: "database", group = wanted.group, kind = %wanted.kind, file = %path.display(), "made a key pair that signs rekeys");
    Ok(key)
}

/// Writes a file that only its owner may read, durably and as a whole, unless there is one.
pub(crate) fn store(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Nobody ever used what a crash left there.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(octets)?;
    file.sync_all()?;
    // A link, unlike a renaming, fails where there is a file already.
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The kind of key that a statement names.
pub fn kind(algorithm: SignatureAlgorithm) -> SigningKeyKind {
    match algorithm {
        SignatureAlgorithm::Rsa2048 => SigningKeyKind::Rsa2048,
        SignatureAlgorithm::Rsa3072 => SigningKeyKind::Rsa3072,
        SignatureAlgorithm::Ecdsa256 => SigningKeyKind::EcdsaP256,
        SignatureAlgorithm::Ecdsa384 => SigningKeyKind::EcdsaP384,
        SignatureAlgorithm::Ecdsa521 => SigningKeyKind::EcdsaP521,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, SigningKeys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = SigningKeys::new(folder.path());
        (folder, keys)
    }

    fn wanted(group: &str, kind: SigningKeyKind) -> Vec<Wanted> {
        vec![Wanted { group: group.into(), kind }]
    }

    fn prepare(keys: &mut SigningKeys, group: &str, kind: SigningKeyKind) -> Result<SigningKey, KeyError> {
        keys.add(keys.preparation(wanted(group, kind)).run()?);
        Ok(keys.loaded[&wanted(group, kind)[0]].clone())
    }

    #[test]
    fn a_key_is_made_once_for_each_group_and_kind_and_only_its_owner_may_read_it() {
        let (scratch, mut keys) = scratch();
        let first = prepare(&mut keys, "g/1 ..", SigningKeyKind::EcdsaP256).unwrap();
        let path = scratch.path().join("server/g%2F1%20%2E%2E.ecdsa-256.pkcs8");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(scratch.path().join("server")).unwrap().permissions().mode() & 0o777, 0o700);
        let mut again = SigningKeys::new(scratch.path());
        assert_eq!(prepare(&mut again, "g/1 ..", SigningKeyKind::EcdsaP256).unwrap(), first);
        assert_ne!(prepare(&mut again, "g2", SigningKeyKind::EcdsaP256).unwrap(), first);
        let other = prepare(&mut again, "g/1 ..", SigningKeyKind::EcdsaP384).unwrap();
        assert_eq!(other.kind(), SigningKeyKind::EcdsaP384);
        let mut back = SigningKeys::new(scratch.path());
        assert_eq!(
            prepare(&mut back, "g/1 ..", SigningKeyKind::EcdsaP256).unwrap(),
            first,
            "kept for the way back"
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_left_as_it_is() {
        let (scratch, mut keys) = scratch();
        prepare(&mut keys, "g", SigningKeyKind::EcdsaP256).unwrap();
        let path = scratch.path().join("server/g.ecdsa-256.pkcs8");
        let good = fs::read(&path).unwrap();
        let refused = |octets: &[u8], mode: u32| {
            fs::write(&path, octets).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut keys = SigningKeys::new(scratch.path());
            let error = prepare(&mut keys, "g", SigningKeyKind::EcdsaP256).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), octets, "nothing is overwritten");
            assert!(error.to_string().contains("g.ecdsa-256.pkcs8"), "{error}");
            error
        };
        assert!(matches!(refused(&good[..good.len() - 1], 0o600), KeyError::Damaged { .. }));
        assert!(matches!(refused(b"", 0o600), KeyError::Damaged { .. }));
        assert!(matches!(refused(&good, 0o640), KeyError::Exposed { .. }));
        let foreign = SigningKey::generate(SigningKeyKind::EcdsaP521).unwrap().to_pkcs8_der();
        assert!(matches!(
            refused(foreign.expose(), 0o600),
            KeyError::Foreign { found: SigningKeyKind::EcdsaP521, expected: SigningKeyKind::EcdsaP256, .. }
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }

    #[test]
    fn what_a_crash_left_half_written_is_no_key() {
        let (scratch, mut keys) = scratch();
        fs::create_dir_all(scratch.path().join("server")).unwrap();
        fs::write(scratch.path().join("server/g.ecdsa-256.pkcs8.new"), b"half").unwrap();
        prepare(&mut keys, "g", SigningKeyKind::EcdsaP256).unwrap();
        assert!(!scratch.path().join("server/g.ecdsa-256.pkcs8.new").exists());
    }
}
