//! What must survive a restart: which VPNs have ever registered, with the policies they learnt.
//!
//! One file per VPN, replaced as a whole: a crash leaves the old one or the new one. A file that cannot be understood
//! is reported, taken for the safe side, and moved aside before another takes its place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use control::Selector;
use serde::{Deserialize, Serialize};

use crate::files;

/// Version of the files. A file of another version counts as damaged: the safe side.
const VERSION: u32 = 1;

/// No record of a group that one datagram can describe is larger; what is, is not ours.
const LARGEST_RECORD: u64 = 4 << 20;

/// What is recorded of a VPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// Name of the VPN.
    pub vpn: String,
    /// The group it registered with.
    pub group_id: u32,
    /// The policies it learnt last, in the server's order.
    pub policies: Vec<Selector>,
}

impl Record {
    /// A record of a registration.
    pub fn new(vpn: &str, group_id: u32, policies: Vec<Selector>) -> Record {
        Record { version: VERSION, vpn: vpn.to_owned(), group_id, policies }
    }
}

/// What the state directory knows of a VPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has never registered.
    Nothing,
    /// It has.
    Registered(Record),
    /// There is a file, and it tells nothing; the text says why.
    Damaged(String),
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    members: PathBuf,
}

impl StateDirectory {
    /// Opens, and creates where it is missing, a state directory. Only its owner may read it.
    pub fn open(directory: &Path) -> io::Result<StateDirectory> {
        use std::os::unix::fs::DirBuilderExt as _;
        let members = directory.join("member");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&members)?;
        Ok(StateDirectory { members })
    }

    /// What is known of a VPN that is configured with a group. A record of another group is no news of this one.
    pub fn read(&self, vpn: &str, group_id: u32) -> Known {
        let path = self.path(vpn);
        let damaged = |why: String| Known::Damaged(format!("{}: {why}", path.display()));
        let text = match files::read(&path, LARGEST_RECORD) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Known::Nothing,
            Err(error) => return damaged(error.to_string()),
        };
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.version != VERSION => {
                damaged(format!("version {} is unknown", record.version))
            }
            Ok(record) if record.vpn != vpn => damaged(format!("is about another VPN, `{}`", record.vpn)),
            Ok(record) if record.group_id != group_id => Known::Nothing,
            Ok(record) => Known::Registered(record),
            Err(error) => damaged(error.to_string()),
        }
    }

    /// Records a registration, durably: when this returns, a crash does not forget it. A damaged file is moved aside.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.vpn);
        if let Known::Damaged(why) = self.read(&record.vpn, record.group_id) {
            let aside = path.with_extension("damaged");
            tracing::warn!(target: "database", %why, moved_to = %aside.display(), "state file damaged");
            fs::rename(&path, aside)?;
        }
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.members)?.sync_all()
    }

    fn path(&self, vpn: &str) -> PathBuf {
        self.members.join(format!("{}.json", file_name(vpn)))
    }
}

/// Names in the configuration may hold anything; file names may not.
pub(crate) fn file_name(name: &str) -> String {
    name.bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, StateDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(folder.path()).unwrap();
        (folder, state)
    }

    fn record(group_id: u32) -> Record {
        let selector = Selector::between("31.1.1.0/24".parse().unwrap(), "41.1.0.0/16".parse().unwrap());
        Record::new("g/vpn ..", group_id, vec![selector])
    }

    #[test]
    fn a_registration_survives_and_belongs_to_its_group() {
        let (_scratch, state) = scratch();
        assert_eq!(state.read("g/vpn ..", 1), Known::Nothing);
        state.write(&record(1)).unwrap();
        assert_eq!(state.read("g/vpn ..", 1), Known::Registered(record(1)));
        assert_eq!(state.read("g/vpn ..", 2), Known::Nothing);
        assert_eq!(state.read("other", 1), Known::Nothing);
    }

    #[test]
    fn a_damaged_file_is_told_and_moved_aside_never_overwritten() {
        let (scratch, state) = scratch();
        state.write(&record(1)).unwrap();
        let path = state.path("g/vpn ..");
        for (damage, reason) in [
            ("{\"version\":", "EOF"),
            ("{\"version\":9,\"vpn\":\"g/vpn ..\",\"group-id\":1,\"policies\":[]}", "version 9"),
        ] {
            fs::write(&path, damage).unwrap();
            let Known::Damaged(why) = state.read("g/vpn ..", 1) else { panic!("damage not seen") };
            assert!(why.contains(reason), "{why}");
        }
        let damage = fs::read(&path).unwrap();
        state.write(&record(1)).unwrap();
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), damage);
        assert_eq!(state.read("g/vpn ..", 1), Known::Registered(record(1)));
        drop(scratch);
    }
}
