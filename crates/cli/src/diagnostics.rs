//! Findings about a configuration, as text.

use control::{Diagnostic, Severity};

/// Every finding, and a line of totals; nothing for none.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let lines: String = diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let total = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{lines}{}, {}, {}\n",
        total(count(Severity::Error), "error"),
        total(count(Severity::Warning), "warning"),
        total(count(Severity::Note), "note")
    )
}

/// What a commit or load changes.
pub fn changes(changes: &[String]) -> String {
    changes.iter().map(|change| format!("{change}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_have_place_path_and_totals() {
        let diagnostic = |severity, message: &str| Diagnostic {
            severity,
            source: "gvpnd.conf".into(),
            line: 3,
            column: 5,
            path: "security group-vpn server".into(),
            message: message.into(),
        };
        let text = render(&[diagnostic(Severity::Error, "bad"), diagnostic(Severity::Warning, "weak")]);
        assert_eq!(
            text,
            "gvpnd.conf:3:5: error: [security group-vpn server] bad\n\
             gvpnd.conf:3:5: warning: [security group-vpn server] weak\n1 error, 1 warning, 0 notes\n"
        );
        assert_eq!(render(&[]), "");
    }
}
