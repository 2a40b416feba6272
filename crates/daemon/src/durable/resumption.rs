//! What a restarted member goes on with: a sealed file in the runtime directory, as long as the machine runs.
//!
//! ```text
//!   RUNTIME/member.sealed = seal( stamp | length (4) | state of the role | windows )
//!   windows = per VPN and SPI: name, SPI, per sender: id, last number received
//! ```
//!
//! The runtime directory is in memory, so nothing waits for a disk, and keys of traffic lie on none. A file from before the
//! last boot, or that does not open, is nobody's loss: the member registers as if it were not there. What cannot be
//! replaced is removed, since an older state would let rekeys be replayed and sender ids be used again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crypto::{OsRandom, SealingKey, Secret};

use super::key::Source;
use super::stamp::{self, Stamp};
use super::{OpenError, credentials_directory};
use crate::files;

/// The place that the file is sealed for.
const CONTEXT: &[u8] = b"member";

/// No state of ours is larger: the most TEKs and policies of some VPNs, and the windows of all senders of 16 bits.
const LARGEST: u64 = 64 << 20;

/// How far the packets of other senders were received, so that none is accepted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Name of the VPN.
    pub vpn: String,
    /// The TEK.
    pub spi: u32,
    /// Sender ids with the last number received from each.
    pub senders: Vec<(u32, u32)>,
}

/// What the process before us kept.
#[derive(Debug)]
pub struct Found {
    /// State of the role.
    pub state: Secret,
    /// What was received.
    pub received: Vec<Received>,
    /// How long ago it was kept.
    pub age: Duration,
}

/// The file and what it takes to use it.
pub struct Resumption {
    file: PathBuf,
    key: SealingKey,
    boot: [u8; 16],
    random: OsRandom,
    /// The last attempt to write failed, and the log says so.
    fails: bool,
}

impl Resumption {
    /// Reads or makes the key. `None`: the kernel does not tell one boot from another.
    pub fn open(
        runtime_directory: &Path,
        state_directory: &Path,
        key_file: Option<&Path>,
    ) -> Result<Option<Self>, OpenError> {
        let mut random = OsRandom::new()?;
        // Named for its key only: a member's state is never there.
        let state = state_directory.join("member").join("state");
        let key =
            Source::choose(credentials_directory().as_deref(), key_file, &state).key(&state, &mut random)?;
        let file = runtime_directory.join("member.sealed");
        Ok(stamp::boot_id().map(|boot| Self { file, key, boot, random, fails: false }))
    }

    /// What the process before us kept, if it is of use.
    pub fn read(&self) -> Option<Found> {
        match self.try_read() {
            Ok(found) => found,
            Err(reason) => {
                let file = self.file.display();
                tracing::warn!(target: "database", %file, reason, "keys of before the restart are not used");
                None
            }
        }
    }

    fn try_read(&self) -> Result<Option<Found>, String> {
        let sealed = match files::read(&self.file, LARGEST) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let content = self.key.open(CONTEXT, &sealed).map_err(|error| error.to_string())?;
        let (written, content) = Stamp::split(&content).ok_or("the file is of another version of gvpnd")?;
        let now = Stamp::now(Some(self.boot));
        if !now.is_of_the_same_boot(&written) {
            return Err("the file is from before the last boot".to_owned());
        }
        let (state, received) = split(content.expose()).ok_or("the file is of another version of gvpnd")?;
        Ok(Some(Found { state, received, age: now.since(&written) }))
    }

    /// Keeps this in place of what was kept before. Returns whether nothing older is left: only then may anything be done
    /// that only this state tells of.
    #[must_use]
    pub fn write(&mut self, state: &Secret, received: &[Received]) -> bool {
        let content = Stamp::now(Some(self.boot)).before(&join(state, received));
        let sealed = self.key.seal(CONTEXT, content.expose(), &mut self.random);
        let Err(error) = replace(&self.file, &sealed) else {
            self.fails = false;
            return true;
        };
        if !std::mem::replace(&mut self.fails, true) {
            let file = self.file.display();
            tracing::error!(target: "database", %file, %error, "keys not kept: after a restart the member must register");
        }
        self.remove()
    }

    /// Keeps nothing. Returns whether nothing is left.
    pub fn remove(&self) -> bool {
        match fs::remove_file(&self.file) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Replaces the file as a whole. It is not flushed to a disk: what a crash of the machine leaves is of another boot.
fn replace(file: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut new = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    new.write_all(octets)?;
    fs::rename(&temporary, file)
}

fn join(state: &Secret, received: &[Received]) -> Secret {
    let windows: usize = received.iter().map(|it| 16 + it.vpn.len() + 8 * it.senders.len()).sum();
    let mut octets = Vec::with_capacity(4 + state.len() + windows);
    let count =
        |count: usize| u32::try_from(count).expect("fewer than the sender ids there are").to_be_bytes();
    octets.extend(count(state.len()));
    octets.extend(state.expose());
    for Received { vpn, spi, senders } in received {
        octets.extend(count(vpn.len()));
        octets.extend(vpn.as_bytes());
        octets.extend(spi.to_be_bytes());
        octets.extend(count(senders.len()));
        octets.extend(senders.iter().flat_map(|(id, last)| [id.to_be_bytes(), last.to_be_bytes()]).flatten());
    }
    Secret::new(octets)
}

fn split(octets: &[u8]) -> Option<(Secret, Vec<Received>)> {
    fn number(rest: &mut &[u8]) -> Option<u32> {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u32::from_be_bytes(*number))
    }
    fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = number(rest)? as usize;
        let (taken, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(taken)
    }
    let mut rest = octets;
    let state = Secret::from_slice(counted(&mut rest)?);
    let mut received = Vec::new();
    while !rest.is_empty() {
        let vpn = String::from_utf8(counted(&mut rest)?.to_vec()).ok()?;
        let spi = number(&mut rest)?;
        let count = number(&mut rest)? as usize;
        let (senders, after) = rest.split_at_checked(count.checked_mul(8)?)?;
        rest = after;
        let pair = |pair: &[u8]| {
            let number = u64::from_be_bytes(*pair.first_chunk().expect("chunks of eight"));
            ((number >> 32) as u32, number as u32)
        };
        received.push(Received { vpn, spi, senders: senders.chunks_exact(8).map(pair).collect() });
    }
    Some((state, received))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Scratch(TempDir);

    impl Scratch {
        fn new() -> Scratch {
            Scratch(tempfile::tempdir().unwrap())
        }

        fn join(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn open(&self) -> Resumption {
            Resumption::open(self.0.path(), &self.join("state"), None)
                .unwrap()
                .expect("the kernel tells its boot")
        }
    }

    fn received() -> Vec<Received> {
        let of =
            |spi, senders: &[(u32, u32)]| Received { vpn: "gvpn".into(), spi, senders: senders.to_vec() };
        vec![of(256, &[(1, 2), (3, u32::MAX)]), of(257, &[])]
    }

    #[test]
    fn what_was_kept_is_found_by_the_next_process_with_its_age() {
        let scratch = Scratch::new();
        assert!(scratch.open().read().is_none());
        assert!(scratch.open().write(&Secret::from_slice(b"state"), &received()));
        let found = scratch.open().read().expect("it is there");
        assert!(found.state.matches(b"state") && found.age < Duration::from_secs(60));
        assert_eq!(found.received, received());
        let file = scratch.join("member.sealed");
        assert!(!fs::read(&file).unwrap().windows(5).any(|octets| octets == b"state"), "sealed");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(scratch.open().remove() && scratch.open().read().is_none());
    }

    #[test]
    fn a_file_that_is_damaged_foreign_or_of_another_boot_is_as_if_it_were_not_there() {
        let scratch = Scratch::new();
        let file = scratch.join("member.sealed");
        let mut other = scratch.open();
        other.boot[0] ^= 1;
        assert!(other.write(&Secret::from_slice(b"state"), &[]));
        assert!(scratch.open().read().is_none(), "another boot");
        assert!(scratch.open().write(&Secret::from_slice(b"state"), &[]));
        let whole = fs::read(&file).unwrap();
        for damage in [&whole[..whole.len() - 1], &[], b"#!/bin/sh\n"] {
            fs::write(&file, damage).unwrap();
            assert!(scratch.open().read().is_none());
        }
        fs::write(&file, &whole).unwrap();
        fs::write(scratch.join("state/member/state.key"), [7; 32]).unwrap();
        assert!(scratch.open().read().is_none(), "another key");
    }

    #[test]
    fn what_cannot_be_replaced_is_removed() {
        let scratch = Scratch::new();
        let mut resumption = scratch.open();
        assert!(resumption.write(&Secret::from_slice(b"old"), &[]));
        fs::create_dir(scratch.join("member.new")).unwrap();
        assert!(resumption.write(&Secret::from_slice(b"new"), &[]));
        assert!(scratch.open().read().is_none());
        // A folder in its place cannot be removed so: something may be there that is older.
        fs::create_dir(scratch.join("member.sealed")).unwrap();
        assert!(!resumption.write(&Secret::from_slice(b"new"), &[]));
    }

    #[test]
    fn what_is_cut_is_not_taken_apart() {
        let whole = join(&Secret::from_slice(b"state"), &received());
        assert!(split(whole.expose()).is_some());
        let ends = [9, 9 + 16 + 16];
        for length in (0..whole.len()).filter(|length| !ends.contains(length)) {
            assert!(split(&whole.expose()[..length]).is_none(), "{length}");
        }
    }
}
