//! `show security group-vpn server registered-members`.

use anyhow::Result;
use control::{Level, RegisteredMembers};

use crate::client;
use crate::clock::date;
use crate::columns::columns;
use crate::command::{Arguments, BRIEF, Context, DETAIL, GROUP, GROUP_ID, Output, PEER_ADDRESS, command};

command! {
    /// Members that are registered with each group.
    SERVER_MEMBERS = "show security group-vpn server registered-members",
    &[BRIEF, DETAIL, GROUP, GROUP_ID, PEER_ADDRESS], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<RegisteredMembers> =
        client::get(context, control::paths::SERVER_MEMBERS, &filter.to_query())?;
    Output::new(render(&reply, filter.level, context.now_unix_secs), &reply)
}

fn render(groups: &[RegisteredMembers], level: Level, now_unix_secs: u64) -> String {
    let updated = |ago: u64| date(now_unix_secs.saturating_sub(ago));
    let rendered: Vec<String> = groups
        .iter()
        .map(|group| {
            let head = format!(
                "Group: {}, Group Id: {}\n  Total number of registered members: {}\n",
                group.group,
                group.group_id,
                group.members.len()
            );
            let body = match level {
                Level::Brief => {
                    let rows: Vec<Vec<String>> = group
                        .members
                        .iter()
                        .map(|member| {
                            vec![
                                member.gateway.clone(),
                                member.address.to_string(),
                                updated(member.last_update_secs_ago),
                                "root".to_owned(),
                            ]
                        })
                        .collect();
                    columns("  ", &["Member Gateway", "Member IP", "Last Update", "Vsys"], &[], &rows)
                }
                Level::Detail => group
                    .members
                    .iter()
                    .map(|member| {
                        let statistics = member.statistics.unwrap_or_default();
                        format!(
                            "\n  Member gateway: {}, Member IP: {}, Port: {}, Vsys: root\n  Last Update: {}\n  Stats:\n    \
                             Pull Succeeded                  : {}\n    Pull Failed                     : {}\n    \
                             Push Sent                       : {}\n    Push Acknowledged               : {}\n    \
                             Push Unacknowledged             : {}\n",
                            member.gateway,
                            member.address,
                            member.port,
                            updated(member.last_update_secs_ago),
                            statistics.pull_succeeded,
                            statistics.pull_failed,
                            statistics.push_sent,
                            statistics.push_acknowledged,
                            statistics.push_unacknowledged,
                        )
                    })
                    .collect(),
            };
            head + &body
        })
        .collect();
    rendered.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_is_one_line_a_member() {
        insta::assert_snapshot!(render(&samples::registered_members(), Level::Brief, 1_447_950_669));
    }

    #[test]
    fn detail_has_counters() {
        insta::assert_snapshot!(render(&samples::registered_members(), Level::Detail, 1_447_950_669));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::registered_members()).unwrap());
    }
}
