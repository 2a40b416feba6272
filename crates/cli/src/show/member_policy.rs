//! `show security group-vpn member policy`.

use anyhow::Result;
use control::MemberPolicy;
use ipnet::IpNet;

use crate::client;
use crate::command::{Arguments, Context, GROUP_ID, Output, VPN, command};

command! {
    /// What the member does with which packets, in the order of evaluation.
    MEMBER_POLICY = "show security group-vpn member policy", &[GROUP_ID, VPN], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<MemberPolicy> = client::get(context, control::paths::MEMBER_POLICY, &filter.to_query())?;
    Output::new(render(&reply), &reply)
}

fn render(policies: &[MemberPolicy]) -> String {
    let mut text = String::new();
    let mut vpn = None;
    let mut zones = None;
    for policy in policies {
        if vpn != Some(&policy.vpn) {
            if vpn.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("Group VPN Name: {}, Group Id: {}\n", policy.vpn, policy.group_id));
            vpn = Some(&policy.vpn);
            zones = None;
        }
        if zones != Some((&policy.from_zone, &policy.to_zone)) {
            if !policy.from_zone.is_empty() {
                text.push_str(&format!("  From-zone: {}, To-zone: {}\n", policy.from_zone, policy.to_zone));
            }
            zones = Some((&policy.from_zone, &policy.to_zone));
        }
        let tunnel = policy.tunnel_id.map(|id| format!("Tunnel-id: {id}, ")).unwrap_or_default();
        let selector = &policy.selector;
        text.push_str(&format!(
            "  {tunnel}Policy type: {}\n    Source             : {}\n    Destination        : {}\n",
            policy.policy_type,
            end(selector.source, selector.source_port, selector.protocol),
            end(selector.destination, selector.destination_port, selector.protocol),
        ));
    }
    text
}

/// As in `IP <172.16.0.0 - 172.31.255.255>, Port <0 - 65535>, Protocol <0>`.
fn end(prefix: IpNet, port: u16, protocol: u8) -> String {
    let (first, last) = if port == 0 { (0, 65535) } else { (port, port) };
    let last_address = match prefix {
        IpNet::V4(prefix) => prefix.broadcast().to_string(),
        IpNet::V6(prefix) => prefix.broadcast().to_string(),
    };
    format!("IP <{} - {last_address}>, Port <{first} - {last}>, Protocol <{protocol}>", prefix.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn policies_are_grouped_by_vpn_and_zones() {
        insta::assert_snapshot!(render(&samples::member_policies()));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::member_policies()).unwrap());
    }
}
