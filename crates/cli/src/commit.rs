//! `gvpn commit`.

use anyhow::Result;
use control::{CommitReply, CommitRequest, paths};

use crate::client;
use crate::command::{Arguments, Context, Output, command, positional};
use crate::diagnostics;
use crate::input;

command! {
    /// Put a configuration into force: the daemon's file as it is now, or FILE, which then replaces it.
    /// The daemon validates it, applies it or changes nothing. What did not change keeps running.
    COMMIT = "commit", &[positional("FILE", "A whole configuration; `-` reads standard input")], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let (text, source) = match arguments.value("FILE") {
        Some(file) => (Some(input::text(file)?), Some(file.to_owned())),
        None => (None, None),
    };
    let reply: CommitReply = client::post(context, paths::COMMIT, &CommitRequest { text, source })?;
    let mut text = diagnostics::render(&reply.diagnostics);
    text.push_str(&diagnostics::changes(&reply.changes));
    text.push_str(if reply.success { "commit complete\n" } else { "commit failed, nothing was changed\n" });
    Ok(Output { success: reply.success, ..Output::new(text, &reply)? })
}
