//! `show configuration`.

use anyhow::Result;
use control::{ConfigurationReply, query::encode};
use serde_json::Value;

use crate::client;
use crate::command::{Argument, Arguments, Context, Kind, Output, command};

command! {
    /// The configuration in force. `| display set`, `json` and `xml` show it in another form; secrets are obfuscated.
    CONFIGURATION = "show configuration",
    &[Argument { name: "PATH", kind: Kind::Rest, help: "Words of a statement path" }], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    show(context, arguments, "text")
}

/// The configuration in a form: `text`, `set`, `json` or `xml`.
pub fn show(context: &Context, arguments: &Arguments, format: &str) -> Result<Output> {
    let path: Vec<&str> = arguments.values("PATH").collect();
    let query = format!("path={}&format={format}", encode(&path.join(" ")));
    let reply: ConfigurationReply = client::get(context, control::paths::CONFIGURATION, &query)?;
    let json = serde_json::from_str(&reply.text).unwrap_or_else(|_| Value::String(reply.text.clone()));
    Ok(Output { text: reply.text, json, success: true })
}
