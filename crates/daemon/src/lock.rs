//! One daemon per runtime directory.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

/// Held while the daemon lives. The kernel releases it when the process ends, however that comes about, so a lock file
/// that a crash left behind is no obstacle.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("another gvpnd{} runs with the runtime directory {directory}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Running {
        /// Its process id, where the file tells.
        pid: Option<u32>,
        /// The directory.
        directory: String,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a runtime directory, which is created where it is missing.
    pub fn take(directory: &Path) -> Result<Lock, LockError> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |source| LockError::Io { path, source }
        };
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join("gvpnd.lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Running { pid, directory: directory.display().to_string() });
            }
            Err(TryLockError::Error(source)) => return Err(at(&path)(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(at(&path))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_runs_and_a_stale_file_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run");
        let first = Lock::take(&directory).unwrap();
        let error = Lock::take(&directory).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        std::fs::write(directory.join("gvpnd.lock"), "4711\n").unwrap();
        drop(Lock::take(&directory).unwrap());
    }
}
