//! The configuration file: reading, judging, replacing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use config::model::{Configuration, Group};
use config::{Candidate, Finding, Kind, Tree};
use control::{Diagnostic, Severity};
use crypto::signature::{SigningKey, SigningKeyKind};
use proto::policy::MessageSize;
use proto::server::{GroupSettings, message_size};

use crate::{files, settings, signing_keys};

/// Octets of the largest text that is read: of a file, or of what a command sends.
pub const LARGEST_CONFIGURATION: u64 = 64 << 20;

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
    server
        .groups
        .iter()
        .filter_map(|configured| {
            let (settings, size) = group_size(configured);
            if size.fits() {
                return None;
            }
            let message = format!(
                "the policies of this group do not fit into one UDP datagram: {} policies make {} octets",
                settings.policy_count(),
                size.policy.max(size.keys).max(size.push),
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

/// The size of a group's messages, without the key that it is signed with: where it must be made, that takes a while.
fn group_size(group: &Group) -> (GroupSettings, MessageSize) {
    let Some(communication) = &group.communication else {
        let settings = settings::group(group, None);
        return (settings.clone(), message_size(&settings));
    };
    let kind = signing_keys::kind(group.signature_algorithm);
    let stand_in = SigningKey::generate(STAND_IN).ok();
    let push = stand_in.map(|stand_in| settings::push(group, communication, stand_in));
    let settings = settings::group(group, push);
    let mut size = message_size(&settings);
    let longer = public_key_len(kind).saturating_sub(public_key_len(STAND_IN));
    size.keys += longer;
    size.push += longer + kind.signature_len().saturating_sub(STAND_IN.signature_len());
    (settings, size)
}

/// A kind of key that is made in no time, and that is not longer than any other.
const STAND_IN: SigningKeyKind = SigningKeyKind::EcdsaP256;

/// Octets of a public key as members get it.
fn public_key_len(kind: SigningKeyKind) -> usize {
    match kind {
        SigningKeyKind::Rsa2048 => 294,
        SigningKeyKind::Rsa3072 => 422,
        SigningKeyKind::Rsa4096 => 550,
        SigningKeyKind::EcdsaP256 => 91,
        SigningKeyKind::EcdsaP384 => 120,
        SigningKeyKind::EcdsaP521 => 158,
    }
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
    let octets = files::read(path, LARGEST_CONFIGURATION).map_err(failed)?;
    String::from_utf8(octets).map_err(|_| failed(io::ErrorKind::InvalidData.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn group(statements: &str) -> Group {
        let text = format!(
            r#"security group-vpn server {{
                ike {{
                    proposal p {{ authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }}
                    policy p {{ proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }}
                    gateway a {{ ike-policy p; address 10.0.0.2; }}
                }}
                ipsec {{ proposal e {{ authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; }} }}
                group g {{
                    group-id 1;
                    ike-gateway a;
                    {statements}
                    ipsec-sa s {{ proposal e; match-policy m {{ source 10.1.0.0/16; destination 10.2.0.0/16; }} }}
                }}
            }}"#
        );
        let candidate = config::read(&text, &[]);
        candidate
            .model
            .unwrap_or_else(|| panic!("{:#?}", candidate.findings))
            .server
            .unwrap()
            .groups
            .remove(0)
    }

    #[test]
    fn the_size_of_messages_is_known_before_the_key_is_made() {
        for algorithm in ["rsa-2048", "ecdsa-256", "ecdsa-384", "ecdsa-521"] {
            let group = group(&format!(
                "signature-algorithm {algorithm}; server-member-communication {{ encryption-algorithm aes-256-cbc; \
                 sig-hash-algorithm sha-256; }}"
            ));
            let key = SigningKey::generate(algorithm.parse().unwrap()).unwrap();
            assert_eq!(key.verifying_key().to_spki_der().len(), public_key_len(key.kind()));
            let push = settings::push(&group, group.communication.as_ref().unwrap(), key);
            let settings = settings::group(&group, Some(push));
            assert_eq!(group_size(&group).1, message_size(&settings), "{algorithm}");
        }
    }
}
