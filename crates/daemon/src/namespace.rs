//! Network namespaces: work that a thread does in another one than its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::files;

/// Where `ip netns` keeps the names of namespaces.
const DIRECTORY: &str = "/run/netns";
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It exists as long as this does, even if its name is gone.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// `None`: the one in which the daemon was started.
    other: Option<Arc<File>>,
}

impl Namespace {
    /// The one in which the daemon was started, where all its threads are unless they are [within](Self::within) another.
    pub fn home() -> Self {
        Self { other: None }
    }

    /// The namespace that `ip netns` calls so, now.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self { other: Some(Arc::new(files::open(&Path::new(DIRECTORY).join(name))?)) })
    }

    /// Whether it is still the one of that name.
    pub fn is_called(&self, name: &str) -> bool {
        let Some(file) = &self.other else { return false };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let now = std::fs::metadata(Path::new(DIRECTORY).join(name)).map(identity);
        now.is_ok_and(|now| file.metadata().map(identity).is_ok_and(|held| held == now))
    }

    /// Does some work in the namespace. Sockets and threads that it makes stay there; it must not wait for others that
    /// share the thread. A thread that cannot return ends the process: all it did from then on would be in the wrong place.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let Some(other) = &self.other else { return Ok(work()) };
        let home = File::open(OWN)?;
        move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Network))?;
        let _return = Return(home);
        Ok(work())
    }
}

/// Brings the thread back, also when the work panics.
struct Return(File);

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)) {
            tracing::error!(%error, "cannot return to the network namespace of the daemon");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_the_own_namespace_is_just_done() {
        assert_eq!(Namespace::home().within(|| 7).unwrap(), 7);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_an_error() {
        assert_eq!(Namespace::open("gvpn-no-such-namespace").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!Namespace::home().is_called("gvpn-no-such-namespace"));
    }
}
