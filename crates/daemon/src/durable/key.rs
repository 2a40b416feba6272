//! The key that the state is sealed with: a credential of systemd, a file that the operator names, or one of our own.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crypto::{Random, SEALING_KEY_LENGTH, SealingKey, Secret};

use super::OpenError;
use crate::files;
use crate::signing_keys::store;

/// Name of the credential.
const CREDENTIAL: &str = "gvpn-state-key";

/// No key file of ours is larger; what is, is none.
const LARGEST_FILE: u64 = 1024;

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// systemd put it there, readable by us only.
    Credential(PathBuf),
    /// `--state-key` names it.
    Named(PathBuf),
    /// It lies beside the state, and is made with it.
    Own(PathBuf),
}

impl Source {
    /// A credential is preferred to a file that is named, and that to one of our own.
    pub(super) fn choose(credentials: Option<&Path>, named: Option<&Path>, state: &Path) -> Self {
        let credential = credentials.map(|directory| directory.join(CREDENTIAL)).filter(|path| path.exists());
        match (credential, named) {
            (Some(path), _) => Self::Credential(path),
            (None, Some(path)) => Self::Named(path.to_owned()),
            (None, None) => Self::Own(state.with_extension("key")),
        }
    }

    /// Reads the key. Only our own is made where there is none, and only before there is a state that needs it.
    pub(super) fn key(&self, state: &Path, random: &mut dyn Random) -> Result<SealingKey, OpenError> {
        match self {
            Self::Credential(path) => read(path, false),
            Self::Named(path) => read(path, true),
            Self::Own(path) => {
                let exists = |path: &Path| path.try_exists().map_err(|error| failed(path, error));
                match (exists(path)?, exists(state)?) {
                    (true, _) => read(path, true),
                    (false, true) => Err(OpenError::NoKey(path.clone(), state.to_owned())),
                    (false, false) => make(path, random),
                }
            }
        }
    }
}

fn failed(path: &Path, error: io::Error) -> OpenError {
    OpenError::Key(path.to_owned(), error.to_string())
}

pub(super) fn read(path: &Path, must_be_private: bool) -> Result<SealingKey, OpenError> {
    let file = files::open(path).map_err(|error| failed(path, error))?;
    let mode = file.metadata().map_err(|error| failed(path, error))?.permissions().mode();
    if must_be_private && mode & 0o077 != 0 {
        let problem = "others may read this key; `chmod 600` it if nobody has".to_owned();
        return Err(OpenError::Key(path.to_owned(), problem));
    }
    let mut octets = Vec::with_capacity(LARGEST_FILE as usize);
    file.take(LARGEST_FILE).read_to_end(&mut octets).map_err(|error| failed(path, error))?;
    let octets = Secret::new(octets);
    let key = hexadecimal(octets.expose()).unwrap_or(octets);
    SealingKey::new(&key).map_err(|error| {
        let digits = 2 * SEALING_KEY_LENGTH;
        OpenError::Key(path.to_owned(), format!("{error}; as text it has {digits} hexadecimal digits"))
    })
}

/// A key that was written as text.
fn hexadecimal(octets: &[u8]) -> Option<Secret> {
    let digits = octets.trim_ascii();
    if digits.len() != 2 * SEALING_KEY_LENGTH {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?));
    Some(Secret::new(pairs.collect::<Option<Vec<u8>>>()?))
}

/// Makes a key, and is sure that it is on the disk before anything is sealed with it.
fn make(path: &Path, random: &mut dyn Random) -> Result<SealingKey, OpenError> {
    let mut octets = vec![0; SEALING_KEY_LENGTH];
    random.fill(&mut octets);
    let key = Secret::new(octets);
    if let Some(directory) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| failed(directory, error))?;
    }
    store(path, key.expose()).map_err(|error| failed(path, error))?;
    tracing::info!(target: "database", file = %path.display(), "made the key that seals the state");
    SealingKey::new(&key).map_err(|error| OpenError::Key(path.to_owned(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use crypto::SeededRandom;

    use tempfile::TempDir;

    use super::*;

    fn write(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn seals_alike(one: &SealingKey, other: &SealingKey) -> bool {
        let sealed = one.seal(b"place", b"content", &mut SeededRandom::new(1));
        other.open(b"place", &sealed).is_ok()
    }

    #[test]
    fn a_credential_comes_before_a_named_file_and_that_before_our_own() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("server/state.redb");
        let named = scratch.path().join("named");
        let choose = |named| Source::choose(Some(scratch.path()), named, &state);
        assert_eq!(choose(None), Source::Own(scratch.path().join("server/state.key")));
        assert_eq!(choose(Some(&named)), Source::Named(named.clone()));
        let credential = write(&scratch, CREDENTIAL, &[1; 32]);
        assert_eq!(choose(Some(&named)), Source::Credential(credential));
    }

    #[test]
    fn our_own_is_made_once_for_its_owner_only_and_never_for_a_state_that_has_another() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("server/state.redb");
        let source = Source::choose(None, None, &state);
        let first = source.key(&state, &mut SeededRandom::new(1)).unwrap();
        let again = source.key(&state, &mut SeededRandom::new(2)).unwrap();
        assert!(seals_alike(&first, &again));
        let path = scratch.path().join("server/state.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        fs::write(&state, b"sealed").unwrap();
        let error = source.key(&state, &mut SeededRandom::new(3)).unwrap_err().to_string();
        assert!(error.contains("state.key") && error.contains("state.redb"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_key_is_32_octets_or_64_digits_and_nobody_elses_business() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("state.redb");
        let key = |path: PathBuf| Source::Named(path).key(&state, &mut SeededRandom::new(1));
        let binary = key(write(&scratch, "binary", &[0xab; 32])).unwrap();
        let text = key(write(&scratch, "text", format!("{}\n", "aB".repeat(32)).as_bytes())).unwrap();
        assert!(seals_alike(&binary, &text));
        for wrong in [&[][..], &[1; 31], &[1; 33], &[b'x'; 64], &[b'1'; 63]] {
            assert!(key(write(&scratch, "wrong", wrong)).is_err());
        }
        let open = write(&scratch, "open", &[1; 32]);
        fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(key(open.clone()).unwrap_err().to_string().contains("others may read"));
        assert!(Source::Credential(open).key(&state, &mut SeededRandom::new(1)).is_ok());
        assert!(key(scratch.path().join("missing")).unwrap_err().to_string().contains("missing"));
    }
}
