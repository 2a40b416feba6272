//! `show security group-vpn server server-cluster`.

use anyhow::Result;
use control::{ClusterPeer, ClusterState, Level, ServerCluster, ServerRole};

use crate::client;
use crate::columns::columns;
use crate::command::{Arguments, BRIEF, Context, DETAIL, GROUP, GROUP_ID, Output, command, value};

command! {
    /// Key servers that share the groups: which one makes the keys, and who is there.
    SERVER_CLUSTER = "show security group-vpn server server-cluster",
    &[BRIEF, DETAIL, GROUP, GROUP_ID, value("peer-gateway", "Only this server")], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<ServerCluster> = client::get(context, control::paths::SERVER_CLUSTER, &filter.to_query())?;
    Output::new(render(&reply, filter.level), &reply)
}

fn render(groups: &[ServerCluster], level: Level) -> String {
    let rendered: Vec<String> = groups.iter().map(|group| paragraph(group, level)).collect();
    rendered.join("\n")
}

fn paragraph(group: &ServerCluster, level: Level) -> String {
    let mut text = format!(
        "Group: {}, Group Id: {}\n  Server: {}, Role: {}, State: {}, for {} s\n  Keys are made by: {}\n",
        group.group,
        group.group_id,
        group.server,
        role(Some(group.role)),
        state(group.state),
        group.since_secs,
        group.leader.as_deref().unwrap_or("nobody that this server knows of"),
    );
    if let Some(reason) = &group.reason {
        text.push_str(&format!("  Reason: {reason}\n"));
    }
    if let (Level::Detail, Some(detail)) = (level, &group.detail) {
        text.push_str(&format!(
            "  Store: {}, Lease: {} s\n  Stats:\n    Elections won                   : {}\n    \
             Commits refused                 : {}\n    Times cut off                   : {}\n    \
             Datagrams dropped               : {}\n",
            detail.store,
            detail.lease_secs,
            detail.elections_won,
            detail.commits_refused,
            detail.cut_offs,
            detail.datagrams_dropped,
        ));
        if let Some(sequence) = detail.sequence_number {
            text.push_str(&format!("    Last sequence number            : {sequence}\n"));
        }
    }
    if group.peers.is_empty() {
        return text + "  No other server\n";
    }
    let rows: Vec<Vec<String>> = group.peers.iter().map(row).collect();
    text += &columns("  ", &["Peer Server", "Peer Gateway", "Peer IP", "Role", "Status"], &[], &rows);
    text + &differences(group)
}

/// What the others have configured otherwise, and whose configuration members get.
fn differences(group: &ServerCluster) -> String {
    let differs = |peer: &ClusterPeer| {
        let (server, what) = (peer.server.as_deref().unwrap_or("-"), peer.differs.as_deref()?);
        Some(format!("  Configured differently at {server}: {what}\n"))
    };
    let mut text: String = group.peers.iter().filter_map(differs).collect();
    if !text.is_empty() {
        let whose = match group.leader.as_deref() {
            Some(leader) => format!("That of {leader} counts, which makes the keys"),
            None => "That of the next server to make keys will count".to_owned(),
        };
        text.push_str(&format!("  {whose}; commit the same at every server\n"));
    }
    text
}

fn row(peer: &ClusterPeer) -> Vec<String> {
    let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    let status = match (peer.connected, peer.leads) {
        (true, true) => "Leading",
        (true, false) => "Following",
        (false, _) => "Not connected",
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        or_dash(&peer.server),
        or_dash(&peer.gateway),
        if addresses.is_empty() { "-".to_owned() } else { addresses.join(" ") },
        role(peer.role).to_owned(),
        status.to_owned(),
    ]
}

fn role(role: Option<ServerRole>) -> &'static str {
    match role {
        Some(ServerRole::RootServer) => "Root-server",
        Some(ServerRole::SubServer) => "Sub-server",
        None => "-",
    }
}

fn state(state: ClusterState) -> &'static str {
    match state {
        ClusterState::Leading => "Leading",
        ClusterState::Following => "Following",
        ClusterState::CutOff => "Cut off",
        ClusterState::Starting => "Starting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_tells_who_leads_and_who_is_there() {
        insta::assert_snapshot!(render(&samples::server_cluster(), Level::Brief));
    }

    #[test]
    fn detail_has_counters_and_a_server_that_is_cut_off_says_why() {
        let mut groups = samples::server_cluster();
        groups[0].state = ClusterState::CutOff;
        groups[0].leader = None;
        groups[0].reason = Some("http://10.0.0.9:2379: no answer".into());
        insta::assert_snapshot!(render(&groups, Level::Detail));
    }

    #[test]
    fn servers_that_are_configured_differently_are_named_with_what_differs() {
        let mut groups = samples::server_cluster();
        groups[0].peers[0].differs = Some("ike-gateway, ipsec-sa".into());
        groups[0].peers[1].differs = Some("it does not have the group".into());
        insta::assert_snapshot!(render(&groups, Level::Brief));
        groups[0].leader = None;
        let rendered = render(&groups, Level::Brief);
        assert!(rendered.contains("the next server to make keys will count"), "{rendered}");
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::server_cluster()).unwrap());
    }
}
