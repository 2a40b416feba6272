//! A configuration on its way in: text, tree, model and findings together.

use crate::build::validate;
use crate::finding::{Finding, Kind, Severity};
use crate::model::Configuration;
use crate::place::Span;
use crate::tree::{LoadMode, Tree};

/// What a text came to.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The statements, shown back whatever is wrong with them.
    pub tree: Tree,
    /// The meaning; `None` with any error, and for fragments.
    pub model: Option<Configuration>,
    /// Everything there is to say, in text order. Callers add what only they can know (sizes of datagrams, path MTUs).
    pub findings: Vec<Finding>,
}

impl Candidate {
    /// Whether anything forbids a commit.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// Adds a finding of the caller's. An error takes the model away.
    pub fn add(&mut self, finding: Finding) {
        if finding.severity == Severity::Error {
            self.model = None;
        }
        self.findings.push(finding);
    }
}

/// Reads a whole configuration, or with `at` the part of one that stands at that path:
/// `read(text, &["security", "group-vpn", "server", "ike"])`. Prompt lines that name a path place what follows them; the
/// parts they show may together be a whole configuration. In a part, references to what is elsewhere are warnings, and
/// there is no model.
pub fn read(text: &str, at: &[&str]) -> Candidate {
    let mut tree = Tree::default();
    let loaded = tree.load(text, at, LoadMode::Override);
    if !at.is_empty() {
        return finish(tree, loaded.findings, true);
    }
    let whole = finish(tree, loaded.findings.clone(), false);
    if !loaded.placed_by_prompt || !whole.has_errors() {
        return whole;
    }
    let mut part = finish(whole.tree, loaded.findings, true);
    let message = "the prompts show a part of a configuration, which cannot be put into force by itself";
    let remedy = "load it into a whole one, or show `security` as a whole";
    part.findings.push(Finding::warning(Kind::Missing, Span::default(), "", message).remedy(remedy));
    part
}

/// Reads a text into a configuration that is there, and validates the result. Statements of the old configuration have
/// no place in the text, so findings about them carry only their path.
pub fn load(current: &Tree, text: &str, at: &[&str], mode: LoadMode) -> Candidate {
    let mut tree = current.clone();
    let loaded = tree.load(text, at, mode);
    finish(tree, loaded.findings, false)
}

/// Validates a tree, for instance after a rollback.
pub fn check(tree: Tree) -> Candidate {
    finish(tree, Vec::new(), false)
}

fn finish(tree: Tree, mut findings: Vec<Finding>, fragment: bool) -> Candidate {
    let mut failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    let (model, more) = validate(&tree, fragment);
    findings.extend(more);
    if !failed && !fragment && tree.root.children.is_empty() {
        findings.push(empty());
        failed = true;
    }
    findings.sort_by_key(|finding| (finding.span.line == 0, finding.span.start));
    findings.dedup();
    Candidate { tree, model: model.filter(|_| !failed), findings }
}

/// Of a file that a crash or a full disk has emptied nothing else is left, and nobody is to be without protection for that.
fn empty() -> Finding {
    let message = "there is no statement: an empty configuration is taken for a damaged one";
    let remedy = "`security { group-vpn; }` is one that does nothing and opens the interfaces";
    Finding::error(Kind::Missing, Span::default(), "", message).remedy(remedy)
}
