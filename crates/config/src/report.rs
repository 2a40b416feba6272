//! Findings as text: with the lines they are about for people, one line each for tools, JSON for programs.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value as Json, json};

use crate::finding::{Finding, Severity};
use crate::place::Span;
use crate::text::secret_places;

/// Lines longer than this are not quoted in a report.
const MAX_QUOTED_OCTETS: usize = 400;

/// Most findings that a report for people shows with their lines; the rest follow as one line each.
const MAX_QUOTED_FINDINGS: usize = 50;

/// Findings, and the text they are about.
pub struct Report<'a> {
    /// What the text is called: a file name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// The findings.
    pub findings: &'a [Finding],
}

impl Report<'_> {
    /// For people: every finding with the line it is about, and a summary. `color` for terminals.
    pub fn for_people(&self, color: bool) -> String {
        let renderer =
            if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let secrets = if self.findings.is_empty() { Vec::new() } else { secret_places(self.text) };
        let mut out = String::new();
        for (index, finding) in self.findings.iter().enumerate() {
            if index >= MAX_QUOTED_FINDINGS {
                out.push_str(&self.line(finding));
                out.push('\n');
                continue;
            }
            out.push_str(&renderer.render(&[self.group(finding, &secrets)]));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// One line for each finding: `FILE:LINE:COLUMN: error: PATH: message; expected ...; remedy`.
    pub fn lines(&self) -> String {
        self.findings.iter().map(|finding| self.line(finding) + "\n").collect()
    }

    /// An array of objects.
    pub fn json(&self) -> Json {
        self.findings
            .iter()
            .map(|finding| {
                json!({
                    "file": self.name,
                    "line": finding.span.line,
                    "column": finding.span.column,
                    "severity": finding.severity,
                    "kind": finding.kind,
                    "path": finding.path,
                    "message": finding.message,
                    "expected": finding.expected,
                    "remedy": finding.remedy,
                })
            })
            .collect()
    }

    /// `2 errors, 1 warning, 3 notes`.
    pub fn summary(&self) -> String {
        let count = |severity: Severity, name: &str| {
            let count = self.findings.iter().filter(|finding| finding.severity == severity).count();
            (count > 0).then(|| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
        };
        let parts: Vec<String> = [
            count(Severity::Error, "error"),
            count(Severity::Warning, "warning"),
            count(Severity::Note, "note"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { "no errors".to_owned() } else { parts.join(", ") }
    }

    fn line(&self, finding: &Finding) -> String {
        let mut out = match finding.span.line {
            0 => format!("{}: {}: ", self.name, finding.severity),
            line => format!("{}:{line}:{}: {}: ", self.name, finding.span.column, finding.severity),
        };
        if !finding.path.is_empty() {
            out.push_str(&format!("{}: ", finding.path));
        }
        out.push_str(&finding.message);
        if let Some(expected) = &finding.expected {
            out.push_str(&format!("; expected {expected}"));
        }
        if let Some(remedy) = &finding.remedy {
            out.push_str(&format!("; {remedy}"));
        }
        normalize_untrusted_str(&out.replace('\n', " "))
    }

    fn group<'g>(&'g self, finding: &'g Finding, secrets: &[Span]) -> Group<'g> {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(normalize_untrusted_str(&finding.message));
        let mut group = match self.quoted(finding, secrets) {
            Some((line_text, from, to)) => title.element(
                Snippet::source(line_text)
                    .line_start(finding.span.line as usize)
                    .path(self.name)
                    .fold(false)
                    .annotation(AnnotationKind::Primary.span(from..to)),
            ),
            None => Group::with_title(title),
        };
        if !finding.path.is_empty() {
            group =
                group.element(Level::NOTE.with_name("at").message(normalize_untrusted_str(&finding.path)));
        }
        if let Some(expected) = &finding.expected {
            group =
                group.element(Level::NOTE.with_name("expected").message(normalize_untrusted_str(expected)));
        }
        if let Some(remedy) = &finding.remedy {
            group = group.element(Level::HELP.message(normalize_untrusted_str(remedy)));
        }
        group
    }

    /// The line a finding is about, and the part of it that is meant.
    fn quoted(&self, finding: &Finding, secrets: &[Span]) -> Option<(&str, usize, usize)> {
        let span = finding.span;
        if span.line == 0 || span.start >= self.text.len() || !self.text.is_char_boundary(span.start) {
            return None;
        }
        let line_start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[span.start..].find('\n').map_or(self.text.len(), |at| span.start + at);
        if line_end - line_start > MAX_QUOTED_OCTETS {
            return None;
        }
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        // A secret must not get into a report through the line that is quoted.
        if secrets.iter().any(|secret| secret.start < line_end && line_start < secret.end) {
            return None;
        }
        let from = (span.start - line_start).min(line.len());
        let to = span.end.clamp(span.start, line_end) - line_start;
        let to = to.min(line.len()).max(from);
        line.is_char_boundary(to).then_some((line, from, to))
    }
}
