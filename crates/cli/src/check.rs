//! `gvpn check`.

use std::io::IsTerminal as _;

use anyhow::{Result, bail};

use crate::command::{Arguments, Context, Output, command, positional, value};
use crate::input;

command! {
    /// Judge a configuration without a daemon: every error, warning and note, with line, column, path and remedy.
    /// With --at FILE is a part, pasted from `show` for instance; references to what is elsewhere are then warnings.
    CHECK = "check",
    &[
        positional("FILE", "Curly or `set` text; `-` reads standard input"),
        value("at", "Where a part belongs, in quotes: \"security group-vpn server ike\""),
    ],
    run;
}

fn run(_: &Context, arguments: &Arguments) -> Result<Output> {
    let Some(file) = arguments.value("FILE") else { bail!("check needs a FILE") };
    let text = input::text(file)?;
    let at: Vec<&str> = arguments.value("at").unwrap_or_default().split_whitespace().collect();
    let candidate = config::read(&text, &at);
    let name = if file == "-" { "standard input" } else { file };
    let report = config::Report { name, text: &text, findings: &candidate.findings };
    Ok(Output {
        text: report.for_people(std::io::stdout().is_terminal()),
        json: report.json(),
        success: !candidate.has_errors(),
    })
}
