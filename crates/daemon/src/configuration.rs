//! The configuration file: reading, judging, replacing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use config::model::Configuration;
use config::{Candidate, Finding, Kind, Tree};
use control::{Diagnostic, Severity};
use proto::server::message_size;

use crate::settings;

/// A configuration that may be put into force.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its statements.
    pub tree: Tree,
    /// Its meaning.
    pub model: Configuration,
}

/// What is to be said about a candidate, and the configuration if nothing forbids it.
pub fn judge(mut candidate: Candidate, source: &str) -> (Option<Loaded>, Vec<Diagnostic>) {
    let sizes = candidate.model.as_ref().map(size_findings).unwrap_or_default();
    sizes.into_iter().for_each(|finding| candidate.add(finding));
    let mut diagnostics: Vec<Diagnostic> =
        candidate.findings.iter().map(|finding| diagnostic(finding, source)).collect();
    if candidate.model.is_none() && !candidate.has_errors() {
        let message = "this is a part of a configuration; a whole one is needed here";
        diagnostics.push(without_place(source, message.to_owned()));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
    let loaded = match (candidate.has_errors(), candidate.model) {
        (false, Some(model)) => Some(Loaded { tree: candidate.tree, model }),
        _ => None,
    };
    (loaded, diagnostics)
}

/// An error that no line of the text is to blame for.
pub fn without_place(source: &str, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        source: source.to_owned(),
        line: 0,
        column: 0,
        path: String::new(),
        message,
    }
}

/// Groups whose policies one UDP datagram cannot carry.
fn size_findings(configuration: &Configuration) -> Vec<Finding> {
    let Some(server) = &configuration.server else { return Vec::new() };
    let settings = settings::server(server);
    settings
        .groups
        .iter()
        .zip(&server.groups)
        .filter_map(|(settings, configured)| {
            let size = message_size(settings);
            if size.fits() {
                return None;
            }
            let message = format!(
                "the policies of this group do not fit into one UDP datagram: {} policies make {} octets",
                settings.policy_count(),
                size.policy.max(size.keys),
            );
            let remedy = format!(
                "about {} policies fit; summarize prefixes or make several groups",
                size.policies_that_fit(settings.policy_count())
            );
            let place = &configured.place;
            Some(Finding::error(Kind::Conflict, place.span, place.path.clone(), message).remedy(remedy))
        })
        .collect()
}

fn diagnostic(finding: &Finding, source: &str) -> Diagnostic {
    let mut message = finding.message.clone();
    if let Some(expected) = &finding.expected {
        message.push_str(&format!("; expected {expected}"));
    }
    if let Some(remedy) = &finding.remedy {
        message.push_str(&format!("; {remedy}"));
    }
    Diagnostic {
        severity: match finding.severity {
            config::Severity::Error => Severity::Error,
            config::Severity::Warning => Severity::Warning,
            config::Severity::Note => Severity::Note,
        },
        source: source.to_owned(),
        line: finding.span.line,
        column: finding.span.column,
        path: finding.path.clone(),
        message,
    }
}

/// Reads the configuration file. A file that cannot be read is a finding too.
pub fn read_file(path: &Path) -> Result<String, Diagnostic> {
    let failed = |error: io::Error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "no such file; --config names another".to_owned(),
            io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        without_place(&path.display().to_string(), message)
    };
    fs::read_to_string(path).map_err(failed)
}

/// A text that is ready to take the file's place.
pub struct Replacement {
    file: std::path::PathBuf,
    temporary: std::path::PathBuf,
}

impl Replacement {
    /// Writes a text beside the file, with the file's permissions.
    pub fn prepare(file: &Path, text: &str) -> io::Result<Replacement> {
        let mode = fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
        let temporary = beside(file, "new");
        let _ = fs::remove_file(&temporary);
        let mut output = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        output.write_all(text.as_bytes())?;
        output.sync_all()?;
        Ok(Replacement { file: file.to_owned(), temporary })
    }

    /// Puts it in place; the text before is kept beside it as `FILE.previous`.
    pub fn commit(self) -> io::Result<()> {
        let previous = beside(&self.file, "previous");
        let _ = fs::remove_file(&previous);
        match fs::hard_link(&self.file, &previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&self.temporary, &self.file)?;
        match self.file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Replacement {
    /// What was not committed goes away.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

fn beside(file: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// How many lines of changes a reply carries; beyond it their number is told.
const MAX_CHANGES: usize = 200;

/// What makes one configuration out of another, as lines of the `set` language with `+` and `-`. Secrets are obfuscated.
pub fn changes(before: &Tree, after: &Tree) -> Vec<String> {
    let (before, after) = (before.to_set_lines(), after.to_set_lines());
    let lines = |text: &'_ str| text.lines().map(str::to_owned).collect::<std::collections::HashSet<_>>();
    let (known, wanted) = (lines(&before), lines(&after));
    let removed = before.lines().filter(|line| !wanted.contains(*line)).map(|line| format!("- {line}"));
    let added = after.lines().filter(|line| !known.contains(*line)).map(|line| format!("+ {line}"));
    let mut changes: Vec<String> = removed.chain(added).collect();
    if changes.len() > MAX_CHANGES {
        let more = changes.len() - MAX_CHANGES;
        changes.truncate(MAX_CHANGES);
        changes.push(format!("… and {more} more lines"));
    }
    changes
}
