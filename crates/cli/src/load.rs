//! `gvpn load`.

use anyhow::{Result, bail};
use control::{CommitReply, LoadMode, LoadRequest, paths};

use crate::client;
use crate::command::{Arguments, Context, Output, command, flag, positional, value};
use crate::diagnostics;
use crate::input;

command! {
    /// Combine FILE with the daemon's configuration file; `gvpn commit` then puts it into force.
    /// A text that would make the file invalid is refused.
    LOAD = "load",
    &[
        positional("FILE", "Curly or `set` text, pasted `show` output; `-` reads standard input"),
        flag("merge", "FILE is a whole tree and is added (default)"),
        flag("override", "FILE is a whole tree and replaces the file"),
        flag("relative", "FILE is a fragment and is added below the path"),
        value("at", "The path, in quotes: \"security group-vpn server\""),
    ],
    run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let Some(file) = arguments.value("FILE") else { bail!("load needs a FILE") };
    let at = arguments.value("at").unwrap_or_default().to_owned();
    let mode = match (arguments.has("relative"), arguments.has("merge"), arguments.has("override")) {
        (true, false, false) => LoadMode::Relative,
        // A path alone says what is meant.
        (false, false, false) if !at.is_empty() => LoadMode::Relative,
        (false, _, false) => LoadMode::Merge,
        (false, false, true) => LoadMode::Override,
        _ => bail!("merge, override and relative exclude each other"),
    };
    if mode != LoadMode::Relative && !at.is_empty() {
        bail!("--at goes with relative");
    }
    let request = LoadRequest { text: input::text(file)?, source: Some(file.to_owned()), mode, at };
    let reply: CommitReply = client::post(context, paths::LOAD, &request)?;
    let mut text = diagnostics::render(&reply.diagnostics);
    text.push_str(&diagnostics::changes(&reply.changes));
    text.push_str(match reply.success {
        true => "load complete; `gvpn commit` puts it into force\n",
        false => "load failed, the file was not changed\n",
    });
    Ok(Output { success: reply.success, ..Output::new(text, &reply)? })
}
