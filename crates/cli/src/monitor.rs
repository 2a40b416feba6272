//! `gvpn monitor`.

use std::io::Write as _;

use anyhow::Result;
use control::{MonitorEntry, paths};

use crate::client;
use crate::command::{Arguments, Context, Output, command};

command! {
    /// Print the daemon's log as it happens, until interrupted.
    MONITOR = "monitor", &[], run;
}

fn run(context: &Context, _: &Arguments) -> Result<Output> {
    client::stream(context, paths::MONITOR, |line| {
        let text = match serde_json::from_str::<MonitorEntry>(line) {
            Ok(entry) => format!("{} {:5} {}: {}", entry.time, entry.level, entry.target, entry.message),
            Err(_) => line.to_owned(),
        };
        // A reader that went away ends the command.
        writeln!(std::io::stdout(), "{text}").is_ok()
    })?;
    Ok(Output { success: true, ..Output::default() })
}
