//! `show security group-vpn server statistics`.

use anyhow::Result;
use control::ServerStatistics;

use crate::client;
use crate::command::{Arguments, Context, GROUP, GROUP_ID, Output, command};

command! {
    /// Counters of each group, and its last refusals in words.
    SERVER_STATISTICS = "show security group-vpn server statistics", &[GROUP, GROUP_ID], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<ServerStatistics> =
        client::get(context, control::paths::SERVER_STATISTICS, &filter.to_query())?;
    Output::new(render(&reply), &reply)
}

fn render(groups: &[ServerStatistics]) -> String {
    let rendered: Vec<String> = groups
        .iter()
        .map(|group| {
            // A group of number 0 holds what could be assigned to no group.
            let head = match group.group_id {
                0 => "No group\n".to_owned(),
                id => format!("Group: {}, Group Id: {id}\n", group.group),
            };
            let more = refused(group) + &replacement(group);
            let failures = match &group.recent_failures[..] {
                [] => String::new(),
                failures => {
                    let lines: String = failures.iter().map(|failure| format!("    {failure}\n")).collect();
                    format!("  Recent failures:\n{lines}")
                }
            };
            if group.group_id == 0 && group.pull_failed == 0 && group.push_sent == 0 {
                return format!("{head}{more}{failures}");
            }
            format!(
                "{head}  Stats:\n    Pull Succeeded                  : {}\n    Pull Failed                     : {}\n    \
                 Pull Exceed Member Threshold    : {}\n    Push Sent                       : {}\n    \
                 Push Acknowledged               : {}\n    Push Unacknowledged             : {}\n{more}{failures}",
                group.pull_succeeded,
                group.pull_failed,
                group.pull_exceed_member_threshold,
                group.push_sent,
                group.push_acknowledged,
                group.push_unacknowledged,
            )
        })
        .collect();
    rendered.join("\n")
}

/// Acknowledgements that proved nothing.
fn refused(group: &ServerStatistics) -> String {
    let lines: String = group
        .acknowledgements_refused
        .iter()
        .map(|refusal| format!("    {:<32}: {}  {}\n", refusal.reason, refusal.count, refusal.description))
        .collect();
    if lines.is_empty() { lines } else { format!("  Acknowledgements refused:\n{lines}") }
}

/// New keys out of turn: what is under way, or how the last went.
fn replacement(group: &ServerStatistics) -> String {
    let Some(progress) = &group.rekey else { return String::new() };
    let (cause, members, outstanding) = (&progress.cause, progress.members, progress.outstanding);
    match progress.took_millis {
        None => format!(
            "  New keys ({cause}): all use them in {} seconds; {outstanding} of {members} members have not answered \
             yet\n",
            progress.done_in_secs.unwrap_or(progress.switch_after_secs)
        ),
        Some(took) => format!(
            "  Last new keys ({cause}): took {}.{:03} seconds; {outstanding} of {members} members missed them\n",
            took / 1000,
            took % 1000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn counters_and_refusals() {
        insta::assert_snapshot!(render(&samples::server_statistics()));
    }

    #[test]
    fn pushes_and_replacements_of_keys() {
        let mut groups = samples::pushing_statistics();
        insta::assert_snapshot!(render(&groups));
        groups[0].rekey.as_mut().unwrap().took_millis = Some(132_034);
        groups[0].rekey.as_mut().unwrap().outstanding = 0;
        insta::assert_snapshot!(render(&groups));
    }

    #[test]
    fn what_belongs_to_no_group_has_only_what_there_is() {
        let refused = samples::pushing_statistics().remove(0).acknowledgements_refused;
        let stray = ServerStatistics { acknowledgements_refused: refused, ..ServerStatistics::default() };
        assert_eq!(
            render(&[stray]),
            "No group\n  Acknowledgements refused:\n    bad-hash                        : 2  the HASH is wrong\n"
        );
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::pushing_statistics()).unwrap());
    }
}
