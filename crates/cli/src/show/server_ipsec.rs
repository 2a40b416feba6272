//! `show security group-vpn server ipsec security-associations`.

use anyhow::Result;
use control::{AntiReplay, Level, ServerGroupSas, ServerIpsecSa};

use crate::client;
use crate::columns::columns;
use crate::command::{Arguments, BRIEF, Context, DETAIL, GROUP, GROUP_ID, Output, command};

command! {
    /// Traffic keys (TEKs) of each group.
    SERVER_IPSEC = "show security group-vpn server ipsec security-associations",
    &[BRIEF, DETAIL, GROUP, GROUP_ID], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<ServerGroupSas> = client::get(context, control::paths::SERVER_IPSEC, &filter.to_query())?;
    Output::new(render(&reply, filter.level), &reply)
}

fn render(groups: &[ServerGroupSas], level: Level) -> String {
    let rendered: Vec<String> = groups
        .iter()
        .map(|group| {
            let sas = &group.security_associations;
            let body = match level {
                Level::Brief => {
                    let rows: Vec<Vec<String>> = sas.iter().map(row).collect();
                    columns("  ", &["IPsec SA", "Algorithm", "SPI", "Lifetime"], &[12, 16, 12], &rows)
                }
                Level::Detail => sas.iter().map(paragraph).collect(),
            };
            format!(
                "Group: {}, Group Id: {}\nTotal IPsec SAs: {}\n{body}",
                group.group,
                group.group_id,
                sas.len()
            )
        })
        .collect();
    rendered.join("\n")
}

fn row(sa: &ServerIpsecSa) -> Vec<String> {
    vec![sa.name.clone(), sa.algorithm.clone(), sa.spi.to_string(), sa.lifetime_secs.to_string()]
}

fn paragraph(sa: &ServerIpsecSa) -> String {
    let Some(detail) = &sa.detail else { return String::new() };
    let authentication = match detail.authentication_algorithm.as_str() {
        "" => "built in",
        algorithm => algorithm,
    };
    let activation = match detail.activation_in_secs {
        0 => "Activated".to_owned(),
        seconds => format!("Activates in {seconds} seconds"),
    };
    let rekey =
        detail.rekey_in_secs.map(|seconds| format!("    Rekey in {seconds} seconds\n")).unwrap_or_default();
    let sender_ids = detail.sender_ids.map_or_else(String::new, |ids| {
        format!("    Sender IDs: {} bits, {} in use, {} free\n", ids.bits, ids.in_use, ids.free)
    });
    let policies: String = detail
        .policies
        .iter()
        .map(|policy| {
            let selector = &policy.selector;
            format!(
                "    Policy Name: {}\n      Source: {}\n      Destination: {}\n      Source Port: {}\n      \
                 Destination Port: {}\n      Protocol: {}\n",
                policy.name,
                selector.source,
                selector.destination,
                selector.source_port,
                selector.destination_port,
                selector.protocol
            )
        })
        .collect();
    format!(
        "  IPsec SA: {}\n    Protocol: ESP, Authentication: {authentication}, Encryption: {}\n    SPI: {}\n    \
         Anti-replay: {}\n{sender_ids}    Lifetime: Expires in {} of {} seconds, {activation}\n{rekey}{policies}",
        sa.name,
        detail.encryption_algorithm,
        sa.spi,
        anti_replay(detail.anti_replay),
        sa.lifetime_secs,
        detail.configured_lifetime_secs,
    )
}

pub(super) fn anti_replay(anti_replay: AntiReplay) -> String {
    match anti_replay {
        AntiReplay::Disabled => "D3P disabled".to_owned(),
        AntiReplay::WindowMillis(millis) => format!("D3P enabled, window size {millis} milliseconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_has_the_seeds_columns() {
        insta::assert_snapshot!(render(&samples::server_groups(), Level::Brief));
    }

    #[test]
    fn detail_tells_everything() {
        insta::assert_snapshot!(render(&samples::server_groups(), Level::Detail));
    }

    #[test]
    fn detail_shows_how_many_sender_ids_are_left() {
        let mut groups = samples::server_groups();
        let detail = groups[0].security_associations[0].detail.as_mut().expect("in detail");
        detail.sender_ids = Some(control::SenderIdUse { bits: 12, in_use: 8, free: 4088 });
        let shown = render(&groups, Level::Detail);
        assert!(shown.contains("\n    Sender IDs: 12 bits, 8 in use, 4088 free\n"), "{shown}");
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::server_groups()).unwrap());
    }
}
