//! Quotes from RFCs in comments: each must stand word for word in the section that it names.
//!
//! ```text
//! //= https://www.rfc-editor.org/rfc/rfc6407#section-3.3
//! //= type=test                                          (optional)
//! //# the words of the RFC, line by line as long as it likes
//! ```
//!
//! The texts are in `specs/`. White space, page breaks with their headers and footers, and the ends of lines do not
//! count.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const META: &str = "//=";
const TEXT: &str = "//#";
const SOURCE: &str = "https://www.rfc-editor.org/rfc/";
/// Folders with code, from the root of the repository.
const FOLDERS: [&str; 3] = ["crates", "fuzz", "lab"];

/// Checks the quotes, and lets duvet report what they cover if it is installed.
pub fn run() -> Result<()> {
    let (checked, wrong) = check(Path::new("."))?;
    for complaint in &wrong {
        println!("{complaint}");
    }
    if !wrong.is_empty() {
        bail!("{} of {checked} quotes are not what the RFCs say", wrong.len());
    }
    println!("{checked} quotes, all word for word");
    if Command::new("duvet").arg("--version").output().is_err() {
        println!("duvet is not installed (cargo install duvet --locked): no report");
        return Ok(());
    }
    let status = Command::new("duvet").arg("report").status().context("running duvet")?;
    if !status.success() {
        bail!("duvet report failed");
    }
    println!("report: target/duvet.html");
    Ok(())
}

/// A quote that is wrong.
struct Complaint {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Checks every quote under `root`; returns how many there are and which are wrong.
fn check(root: &Path) -> Result<(usize, Vec<Complaint>)> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        find_code(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut specifications = Specifications { folder: root.join("specs"), read: BTreeMap::new() };
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in files {
        let code = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        for quote in quotes(&code) {
            checked += 1;
            if let Err(what) = specifications.verify(&quote) {
                wrong.push(Complaint { file: file.clone(), line: quote.line, what });
            }
        }
    }
    Ok((checked, wrong))
}

fn find_code(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                find_code(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// A quote as it stands in the code.
#[derive(Debug, PartialEq, Eq)]
struct Quote {
    /// Line of its source, from 1.
    line: usize,
    source: String,
    text: String,
}

fn quotes(code: &str) -> Vec<Quote> {
    let mut quotes: Vec<Quote> = Vec::new();
    let mut in_meta = false;
    for (index, line) in code.lines().enumerate() {
        let line = line.trim();
        if let Some(meta) = line.strip_prefix(META) {
            let meta = meta.trim();
            if !(in_meta && meta.contains('=') && !meta.contains("://")) {
                quotes.push(Quote { line: index + 1, source: meta.to_owned(), text: String::new() });
            }
            in_meta = true;
        } else {
            in_meta = false;
            if let (Some(text), Some(quote)) = (line.strip_prefix(TEXT), quotes.last_mut()) {
                quote.text.push(' ');
                quote.text.push_str(text);
            }
        }
    }
    quotes
}

/// The RFCs read so far, by name.
struct Specifications {
    folder: PathBuf,
    read: BTreeMap<String, Specification>,
}

/// The text of each section, white space folded.
type Specification = BTreeMap<String, String>;

impl Specifications {
    fn verify(&mut self, quote: &Quote) -> Result<(), String> {
        let (name, section) = quote
            .source
            .strip_prefix(SOURCE)
            .and_then(|rest| rest.split_once('#'))
            .ok_or_else(|| format!("{} is not {SOURCE}rfcN#section-X", quote.source))?;
        let text = fold(&quote.text);
        if text.is_empty() {
            return Err("a source without a quote".to_owned());
        }
        if !self.read.contains_key(name) {
            let path = self.folder.join(name).with_extension("txt");
            let contents = std::fs::read_to_string(&path)
                .map_err(|error| format!("{name} is not in specs/: {error}"))?;
            self.read.insert(name.to_owned(), sections(&contents));
        }
        let sections = &self.read[name];
        let Some(found) = sections.get(section) else {
            return Err(format!("{name} has no {section}"));
        };
        if found.contains(&text) {
            return Ok(());
        }
        match sections.iter().find(|(_, other)| other.contains(&text)) {
            Some((other, _)) => Err(format!("not in {section} of {name} but in {other}")),
            None => Err(format!("not in {name}: {text}")),
        }
    }
}

/// Cuts an RFC at its headings, which begin in the first column.
fn sections(contents: &str) -> Specification {
    let mut sections = Specification::new();
    let mut section = String::new();
    let mut after_page_break = false;
    for line in contents.lines() {
        if line.contains('\x0c') {
            after_page_break = true;
        }
        let line = line.trim_matches('\x0c').trim_end();
        if line.is_empty() || line.ends_with(']') && line.contains("[Page ") {
            continue;
        }
        if std::mem::take(&mut after_page_break) && line.starts_with("RFC ") {
            continue;
        }
        if let Some(heading) = heading(line) {
            section = heading;
            continue;
        }
        let text = sections.entry(section.clone()).or_default();
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&fold(line));
    }
    sections
}

/// The name of the section that a line begins, as an address has it.
fn heading(line: &str) -> Option<String> {
    let (first, rest) = line.split_once(' ')?;
    let is_appendix = first.eq_ignore_ascii_case("appendix");
    let name = if is_appendix { rest.split_whitespace().next()? } else { first };
    let name = name.trim_end_matches(['.', ':']);
    if is_appendix {
        return (name.len() == 1).then(|| format!("appendix-{name}"));
    }
    let numbered =
        name.split('.').all(|part| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit()));
    numbered.then(|| format!("section-{name}"))
}

fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quote_in_the_repository_is_word_for_word_in_its_section() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (checked, wrong) = check(&root).unwrap();
        let wrong: Vec<String> = wrong.iter().map(Complaint::to_string).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(checked > 50, "only {checked} quotes found: are they written in another form now?");
    }

    #[test]
    fn quotes_are_found_with_their_metadata() {
        let first =
            ["fn a() {", "    //= https://example.org/a#section-1", "    //= type=test", "    //# One"];
        let second = ["    //# two.", "}", "//= https://example.org/b#section-2", "//# Three."];
        let code = [first, second].concat().join("\n");
        let found = quotes(&code);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, &*found[0].source), (2, "https://example.org/a#section-1"));
        assert_eq!(fold(&found[0].text), "One two.");
        assert_eq!((found[1].line, &*fold(&found[1].text)), (7, "Three."));
    }

    #[test]
    fn sections_end_at_the_next_heading_and_continue_across_pages() {
        let text = "1.  First\n\n   It goes\n\nAuthor                 [Page 1]\n\x0c\nRFC 1        Title\n\n   on.\n\n\
                    1.1 Second\n   Other\nAppendix A\n   Last\n";
        let sections = sections(text);
        assert_eq!(sections["section-1"], "It goes on.");
        assert_eq!(sections["section-1.1"], "Other");
        assert_eq!(sections["appendix-A"], "Last");
    }
}
