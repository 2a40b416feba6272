//! `gvpnd`: key server, group member, or both.

#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use control::Severity;
use daemon::command_line::CommandLine;
use daemon::configuration::{Loaded, judge, read_file};
use daemon::log::Log;
use daemon::terminal::{complain, tell};

fn main() -> ExitCode {
    match run(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("gvpnd: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command_line: CommandLine) -> Result<()> {
    if command_line.detach {
        let interfaces = daemon::datapath::detach_all().context("detaching")?;
        match interfaces.is_empty() {
            true => tell("nothing was attached"),
            false => tell(format_args!("detached from {}", interfaces.join(", "))),
        }
        return Ok(());
    }
    let loaded = configuration(&command_line)?;
    if command_line.check {
        return Ok(());
    }
    if command_line.close {
        return daemon::close::close(&command_line, &loaded);
    }
    let log = Log::start(&command_line.log_level)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(daemon::daemon::run(
        command_line,
        loaded,
        log,
    ))
}

/// Reads and judges the file; everything that is wrong is printed before anything is touched.
fn configuration(command_line: &CommandLine) -> Result<Loaded> {
    let file = &command_line.config;
    let (loaded, diagnostics) = match read_file(file) {
        Ok(text) => judge(config::read(&text, &[]), &file.display().to_string()),
        Err(diagnostic) => (None, vec![diagnostic]),
    };
    for diagnostic in &diagnostics {
        if diagnostic.severity != Severity::Note || command_line.check {
            complain(diagnostic);
        }
    }
    match loaded {
        Some(loaded) => Ok(loaded),
        None => bail!("the configuration has errors; nothing was touched"),
    }
}
