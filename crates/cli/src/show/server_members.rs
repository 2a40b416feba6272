//! `show security group-vpn server registered-members`.

use anyhow::Result;
use control::{Level, MemberState, RegisteredMember, RegisteredMembers};

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
    let list = |members: &[RegisteredMember]| -> String {
        match level {
            Level::Brief => {
                let rows: Vec<Vec<String>> = members.iter().map(|member| row(member, &updated)).collect();
                columns("  ", &["Member Gateway", "Member IP", "Last Update", "Vsys"], &[], &rows)
            }
            Level::Detail => members.iter().map(|member| paragraph(member, &updated)).collect(),
        }
    };
    let rendered: Vec<String> = groups
        .iter()
        .map(|group| {
            let (active, lost): (Vec<_>, Vec<_>) =
                group.members.iter().cloned().partition(|member| member.state == MemberState::Active);
            let mut text = format!(
                "Group: {}, Group Id: {}\n  Total number of registered members: {}\n{}",
                group.group,
                group.group_id,
                active.len(),
                list(&active)
            );
            if !lost.is_empty() {
                text.push_str(&format!(
                    "  Members removed because they acknowledge no rekeys: {}\n{}",
                    lost.len(),
                    list(&lost)
                ));
            }
            text
        })
        .collect();
    rendered.join("\n")
}

fn row(member: &RegisteredMember, updated: &dyn Fn(u64) -> String) -> Vec<String> {
    vec![
        member.gateway.clone(),
        member.address.to_string(),
        updated(member.last_update_secs_ago),
        "root".to_owned(),
    ]
}

fn paragraph(member: &RegisteredMember, updated: &dyn Fn(u64) -> String) -> String {
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
    fn members_that_acknowledge_nothing_are_listed_apart() {
        let mut groups = samples::registered_members();
        groups[0].members[1].state = MemberState::Unacknowledged;
        insta::assert_snapshot!(render(&groups, Level::Brief, 1_447_950_669));
        insta::assert_snapshot!(render(&groups, Level::Detail, 1_447_950_669));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::registered_members()).unwrap());
    }
}
