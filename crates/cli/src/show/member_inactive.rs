//! `show security group-vpn member ipsec inactive-tunnels`.

use anyhow::Result;
use control::InactiveTunnel;

use crate::client;
use crate::columns::columns;
use crate::command::{Arguments, Context, GROUP_ID, INDEX, Output, VPN, command};

command! {
    /// VPNs without a usable traffic key, and why.
    MEMBER_INACTIVE = "show security group-vpn member ipsec inactive-tunnels", &[INDEX, GROUP_ID, VPN], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<InactiveTunnel> =
        client::get(context, control::paths::MEMBER_INACTIVE, &filter.to_query())?;
    Output::new(render(&reply), &reply)
}

fn render(tunnels: &[InactiveTunnel]) -> String {
    let mut text = format!("Total inactive tunnels: {}\n", tunnels.len());
    if tunnels.is_empty() {
        return text;
    }
    let rows: Vec<Vec<String>> = tunnels
        .iter()
        .map(|tunnel| {
            let next = match tunnel.next_try_in_secs {
                Some(seconds) => format!("; next try in {seconds} seconds"),
                None => String::new(),
            };
            vec![
                tunnel.tunnel_id.to_string(),
                tunnel.vpn.clone(),
                tunnel.server.to_string(),
                tunnel.port.to_string(),
                tunnel.group_id.to_string(),
                "root".to_owned(),
                format!("{}{next}", tunnel.reason),
            ]
        })
        .collect();
    text.push_str(&columns("  ", &["ID", "VPN", "Server", "Port", "GId", "vsys", "Reason"], &[], &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn every_tunnel_has_its_reason() {
        insta::assert_snapshot!(render(&samples::inactive_tunnels()));
        insta::assert_snapshot!(render(&[]), @"Total inactive tunnels: 0");
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::inactive_tunnels()).unwrap());
    }
}
