//! `show security flow session`.

use crate::client;
use crate::command::{Output, command, flag};

command! {
    /// Sessions of the packet engine. Not available yet.
    FLOW_SESSION = "show security flow session", &[flag("tunnel", "Only tunnel sessions")],
    |context, _| client::get(context, control::paths::FLOW_SESSION, "").map(Output::text);
}
