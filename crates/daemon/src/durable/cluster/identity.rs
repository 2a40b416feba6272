//! Which server this is, whatever its name: two machines that were given one name must be told apart, and a server that comes
//! back after a crash must not wait for its own lease.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::super::{OpenError, stamp};

/// A file in the state directory that one process at a time holds. Its place on a disk of this run of the kernel is nobody
/// else's: not that of a copy of the machine, nor of another container.
#[derive(Debug)]
pub struct Identity {
    _file: File,
    name: Option<Vec<u8>>,
}

impl Identity {
    /// Takes hold of `STATE/server/cluster.lock`.
    pub(crate) fn take(state_directory: &Path) -> Result<Self, OpenError> {
        let directory = state_directory.join("server");
        let path = directory.join("cluster.lock");
        let failed = |error| store::OpenError::Io(path.clone(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let mut options = File::options();
        let file =
            options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(store::OpenError::InUse(path).into()),
            Err(TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        let place = file.metadata().map_err(failed)?;
        let name = stamp::boot_id().map(|boot| {
            let mut name = boot.to_vec();
            name.extend(place.dev().to_be_bytes());
            name.extend(place.ino().to_be_bytes());
            name
        });
        Ok(Self { _file: file, name })
    }

    /// What no other server has; `None` where the kernel does not tell its run.
    pub(super) fn name(&self) -> Option<Vec<u8>> {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_a_state_directory_and_its_next_life_has_the_same_identity() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Identity::take(one.path()).unwrap();
        let refused = Identity::take(one.path()).unwrap_err().to_string();
        assert!(refused.contains("another gvpnd uses this state"), "{refused}");
        let name = first.name();
        assert!(name.is_some());
        assert_ne!(Identity::take(other.path()).unwrap().name(), name);
        drop(first);
        assert_eq!(Identity::take(one.path()).unwrap().name(), name);
    }
}
