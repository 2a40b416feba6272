//! `gvpn check`.

use std::io::IsTerminal as _;

use anyhow::{Result, bail};
use config::{Finding, Kind, Span};
use control::{CheckRequest, CommitReply, Diagnostic, Severity, paths};

use crate::client;
use crate::command::{Arguments, Context, Output, command, positional, value};
use crate::input;

command! {
    /// Judge a configuration: every error, warning and note, with line, column, path and remedy.
    /// No daemon is needed. Where one runs, it adds what only it knows: whether the policies of a group fit the messages
    /// that carry them.
    /// With --at FILE is a part, pasted from `show` for instance; references to what is elsewhere are then warnings.
    CHECK = "check",
    &[
        positional("FILE", "Curly or `set` text; `-` reads standard input"),
        value("at", "Where a part belongs, in quotes: \"security group-vpn server ike\""),
    ],
    run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let Some(file) = arguments.value("FILE") else { bail!("check needs a FILE") };
    let text = input::text(file)?;
    let at: Vec<&str> = arguments.value("at").unwrap_or_default().split_whitespace().collect();
    let mut candidate = config::read(&text, &at);
    let name = if file == "-" { "standard input" } else { file };
    if at.is_empty() && !candidate.has_errors() {
        let request = CheckRequest { text: Some(text.clone()), source: Some(name.to_owned()) };
        // Without a daemon, or with one that we may not ask, this is all there is to say.
        let reply: CommitReply = client::post(context, paths::CHECK, &request).unwrap_or_default();
        for diagnostic in reply.diagnostics.into_iter().filter(|it| it.severity == Severity::Error) {
            candidate.add(found_by_the_daemon(&text, diagnostic));
        }
    }
    let report = config::Report { name, text: &text, findings: &candidate.findings };
    Ok(Output {
        text: report.for_people(std::io::stdout().is_terminal()),
        json: report.json(),
        success: !candidate.has_errors(),
    })
}

/// What our own reading did not find, at the word it is about.
fn found_by_the_daemon(text: &str, diagnostic: Diagnostic) -> Finding {
    let Diagnostic { line, column, .. } = diagnostic;
    let before: usize =
        text.split_inclusive('\n').take((line as usize).saturating_sub(1)).map(str::len).sum();
    let rest = &text[before..];
    let skipped: usize = rest.chars().take((column as usize).saturating_sub(1)).map(char::len_utf8).sum();
    let start = before + skipped;
    let word = text[start..].find(char::is_whitespace).unwrap_or(text.len() - start);
    let span = Span { start, end: start + word, line, column };
    Finding::error(Kind::Conflict, span, diagnostic.path, diagnostic.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_finds_is_shown_at_its_word() {
        let text = "security {\n    group-vpn {\n        ü server { }\n";
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            source: "x".into(),
            line: 3,
            column: 11,
            path: "security group-vpn server".into(),
            message: "too large".into(),
        };
        let finding = found_by_the_daemon(text, diagnostic.clone());
        assert_eq!(&text[finding.span.start..finding.span.end], "server");
        // Another text than the one it judged.
        found_by_the_daemon("", diagnostic);
    }
}
