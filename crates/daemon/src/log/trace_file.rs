//! One `traceoptions` file: what it takes, and its rotation by size.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use config::model::{TraceFlag, TraceLevel, TraceOptions};
use regex::Regex;
use tracing::{Level, Metadata};

use crate::files;
use crate::terminal::complain;

/// A file that log lines go to.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    file: File,
    written: u64,
    size: u64,
    files: u16,
    mode: u32,
    expression: Option<Regex>,
    level: Level,
    flags: Vec<TraceFlag>,
    failed: bool,
}

impl TraceFile {
    /// Opens the file of a `traceoptions` statement; `None` where it names none.
    pub fn open(options: &TraceOptions, log_directory: &Path) -> io::Result<Option<TraceFile>> {
        let Some(name) = &options.file else { return Ok(None) };
        let expression = options
            .match_expression
            .as_deref()
            .map(Regex::new)
            .transpose()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let path = log_directory.join(name);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mode = if options.world_readable { 0o644 } else { 0o600 };
        let file = open(&path, mode)?;
        Ok(Some(TraceFile {
            written: file.metadata()?.len(),
            path,
            file,
            size: options.size,
            files: options.files,
            mode,
            expression,
            level: level(options.level),
            flags: options.flags.clone(),
            failed: false,
        }))
    }

    /// Whether an entry may go to this file, the regular expression apart.
    pub fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = *metadata.level();
        if level == Level::ERROR {
            return true;
        }
        level <= self.level && self.flags.iter().any(|flag| covers(*flag, metadata.target()))
    }

    /// Writes a line, after rotation where the file has reached its size.
    pub fn write(&mut self, line: &str) {
        if self.expression.as_ref().is_some_and(|expression| !expression.is_match(line)) {
            return;
        }
        let length = line.len() as u64 + 1;
        let outcome =
            if self.written > 0 && self.written + length > self.size { self.rotate() } else { Ok(()) }
                .and_then(|()| self.file.write_all(format!("{line}\n").as_bytes()));
        match outcome {
            Ok(()) => {
                self.written += length;
                self.failed = false;
            }
            // The log cannot take this entry: say it once, where it can be read.
            Err(error) if !self.failed => {
                self.failed = true;
                complain(format_args!("gvpnd: {}: {error}", self.path.display()));
            }
            Err(_) => {}
        }
    }

    /// `name` becomes `name.0`, `name.0` becomes `name.1`; as many files in all as configured.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u16| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (0..self.files.saturating_sub(2)).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(0))?;
        self.file = open(&self.path, self.mode)?;
        self.written = 0;
        Ok(())
    }
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    let file = files::open_with(OpenOptions::new().append(true).create(true).mode(mode), path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn level(level: TraceLevel) -> Level {
    match level {
        TraceLevel::Error => Level::ERROR,
        TraceLevel::Warning => Level::WARN,
        TraceLevel::Notice | TraceLevel::Info => Level::INFO,
        TraceLevel::Verbose => Level::DEBUG,
        TraceLevel::All => Level::TRACE,
    }
}

/// Whether entries of a target belong to a flag.
fn covers(flag: TraceFlag, target: &str) -> bool {
    match flag {
        TraceFlag::All => true,
        TraceFlag::Timer => target == "timer",
        TraceFlag::Parse | TraceFlag::Config => target == "config",
        TraceFlag::Ike => target == "ike",
        TraceFlag::PolicyManager => target == "policy-manager",
        TraceFlag::Database => target == "database",
        TraceFlag::Certificates => target == "certificates",
        TraceFlag::RoutingSocket => target.starts_with("daemon::netlink"),
        TraceFlag::Thread => target.starts_with("daemon::datapath"),
        TraceFlag::General => {
            target == "general" || target.starts_with("daemon") || target.starts_with("gvpnd")
        }
        TraceFlag::Snmp | TraceFlag::HighAvailability | TraceFlag::NextHopTunnels => false,
    }
}

#[cfg(test)]
mod tests {
    use config::model::TraceScope;

    use super::*;

    fn options(file: &str) -> TraceOptions {
        TraceOptions {
            scope: TraceScope::Server,
            file: Some(file.into()),
            size: 100,
            files: 3,
            world_readable: true,
            match_expression: Some("keep".into()),
            level: TraceLevel::Info,
            flags: vec![TraceFlag::Ike],
            filter_local: None,
            filter_remote: None,
            place: config::Place::default(),
        }
    }

    #[test]
    fn a_file_rotates_at_its_size_and_keeps_its_count() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        let mut file = TraceFile::open(&options("kmd"), &directory).unwrap().unwrap();
        for number in 0..20 {
            file.write(&format!("keep this line, which has some length: {number}"));
            file.write("drop this one");
        }
        let mut names: Vec<String> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["kmd", "kmd.0", "kmd.1"]);
        let text = std::fs::read_to_string(directory.join("kmd")).unwrap();
        assert!(text.contains("length: 19") && !text.contains("drop"), "{text}");
        assert!(text.len() <= 100);
        assert_eq!(std::fs::metadata(directory.join("kmd")).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn flags_select_targets() {
        assert!(covers(TraceFlag::Ike, "ike") && !covers(TraceFlag::Ike, "timer"));
        assert!(covers(TraceFlag::All, "anything"));
        assert!(covers(TraceFlag::General, "daemon::shell"));
    }
}
