//! `show security group-vpn server server-cluster`.

use crate::client;
use crate::command::{BRIEF, DETAIL, GROUP, GROUP_ID, Output, command, value};

command! {
    /// Cooperating key servers. Not available yet.
    SERVER_CLUSTER = "show security group-vpn server server-cluster",
    &[BRIEF, DETAIL, GROUP, GROUP_ID, value("peer-gateway", "Only this server")],
    |context, _| client::get(context, control::paths::SERVER_CLUSTER, "").map(Output::text);
}
