//! `show security group-vpn member ipsec security-associations`.

use std::collections::BTreeSet;

use anyhow::Result;
use control::{Level, MemberIpsecSa, MemberVpn, SaDirection, Selector};
use ipnet::IpNet;

use super::server_ipsec::anti_replay;
use crate::client;
use crate::command::{Arguments, BRIEF, Context, DETAIL, GROUP_ID, INDEX, Output, VPN, command};

command! {
    /// Traffic keys (TEKs) the member holds. `>` encrypts, `<` decrypts.
    MEMBER_IPSEC = "show security group-vpn member ipsec security-associations",
    &[BRIEF, DETAIL, INDEX, GROUP_ID, VPN], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<MemberVpn> = client::get(context, control::paths::MEMBER_IPSEC, &filter.to_query())?;
    Output::new(render(&reply, filter.level), &reply)
}

fn render(vpns: &[MemberVpn], level: Level) -> String {
    match level {
        Level::Brief => brief(vpns),
        Level::Detail => vpns.iter().map(detail).collect::<Vec<_>>().join("\n"),
    }
}

fn brief(vpns: &[MemberVpn]) -> String {
    let tunnels: BTreeSet<u32> =
        vpns.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.tunnel_id).collect();
    let mut text = format!("Total active tunnels: {}\n", tunnels.len());
    text.push_str("  ID        Server          Port  Algorithm         SPI      Life:sec/kb     GId vsys\n");
    for vpn in vpns {
        for sa in &vpn.security_associations {
            let arrows: &[char] = match sa.direction {
                SaDirection::BiDirectional => &['>', '<'],
                SaDirection::Outbound => &['>'],
                SaDirection::Inbound => &['<'],
            };
            for direction in arrows {
                let life = format!("{}/  unlim", sa.hard_lifetime_secs);
                let line = format!(
                    "{direction}{:<10} {:<15} {:<5} {:<17} {:<8} {life:<15} {:<3} root\n",
                    sa.tunnel_id, vpn.server, vpn.port, sa.algorithm, sa.spi, vpn.group_id
                );
                text.push_str(&line);
            }
        }
    }
    text
}

fn detail(vpn: &MemberVpn) -> String {
    let counters = &vpn.counters;
    let mut text = format!(
        "Virtual-system: root Group VPN Name: {}\n\
         \x20 Local Gateway: {}, GDOI Server: {}\n\
         \x20 Group Id: {}\n\
         \x20 Routing Instance: {}\n\
         \x20 Recovery Probe: {}\n\
         \x20 DF-bit: {}\n\
         \x20 Stats:\n\
         \x20     Pull Succeeded            : {}\n\
         \x20     Pull Failed               : {}\n\
         \x20     Pull Timeout              : {}\n\
         \x20     Pull Aborted              : {}\n\
         \x20     Push Succeeded            : {}\n\
         \x20     Push Failed               : {}\n\
         \x20     Server Failover           : {}\n\
         \x20     Delete Received           : {}\n\
         \x20     Exceed Maximum Keys       : {}\n\
         \x20     Exceed Maximum Policies   : {}\n\
         \x20     Unsupported Algo          : {}\n\
         \x20     Push Acknowledged         : {}\n\
         \x20     Recovery Probes           : {}\n\
         \x20 Flags:\n\
         \x20     Rekey Needed: {}\n",
        vpn.vpn,
        vpn.local_address,
        vpn.server,
        vpn.group_id,
        vpn.routing_instance,
        if vpn.recovery_probe { "Enabled" } else { "Disabled" },
        vpn.df_bit,
        counters.pull_succeeded,
        counters.pull_failed,
        counters.pull_timeout,
        counters.pull_aborted,
        counters.push_succeeded,
        counters.push_failed,
        counters.server_failover,
        counters.delete_received,
        counters.exceed_maximum_keys,
        counters.exceed_maximum_policies,
        counters.unsupported_algorithm,
        counters.push_acknowledged,
        counters.recovery_probes,
        if vpn.rekey_needed { "yes" } else { "no" },
    );
    let rejected: Vec<_> =
        counters.push_rejected.all().into_iter().filter(|(_, _, count)| *count > 0).collect();
    if !rejected.is_empty() {
        text.push_str("  Rejected rekeys:\n");
        for (reason, description, count) in rejected {
            text.push_str(&format!("      {reason:<26}: {count}  {description}\n"));
        }
    }
    // SAs of one tunnel carry the same policies: they are listed once, and then each SA.
    let mut policies_of: Option<u32> = None;
    for sa in &vpn.security_associations {
        if policies_of != Some(sa.tunnel_id) {
            text.push_str(&policies(sa));
            policies_of = Some(sa.tunnel_id);
        }
        text.push_str(&security_association(sa));
    }
    text
}

fn policies(sa: &MemberIpsecSa) -> String {
    let Some(detail) = &sa.detail else { return String::new() };
    let lines: String = detail
        .policies
        .iter()
        .map(|selector| {
            format!(
                "      Source IP: {}\n      Destination IP: {}\n",
                identity(selector, selector.source, selector.source_port),
                identity(selector, selector.destination, selector.destination_port)
            )
        })
        .collect();
    format!("\n  List of policies received from server:\n    Tunnel-id: {}\n{lines}", sa.tunnel_id)
}

/// As in `ipv4_subnet(any:0,[0..7]=172.16.0.0/12)`.
fn identity(selector: &Selector, prefix: IpNet, port: u16) -> String {
    let (kind, octets) = match prefix {
        IpNet::V4(_) => ("ipv4_subnet", 7),
        IpNet::V6(_) => ("ipv6_subnet", 31),
    };
    let protocol = match selector.protocol {
        0 => "any".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    };
    format!("{kind}({protocol}:{port},[0..{octets}]={prefix})")
}

fn security_association(sa: &MemberIpsecSa) -> String {
    let Some(detail) = &sa.detail else { return String::new() };
    let authentication = match detail.authentication_algorithm.as_str() {
        "" => "built in",
        algorithm => algorithm,
    };
    let activation = match detail.activation_in_secs {
        0 => "Activated".to_owned(),
        seconds => format!("Activates in {seconds} seconds"),
    };
    let soft = match detail.soft_lifetime_secs {
        Some(seconds) => format!("Expires in {seconds} seconds"),
        None => "none".to_owned(),
    };
    let sender_ids = detail.sender_ids.as_ref().map_or_else(String::new, |own| {
        let ids: Vec<String> = own.ids.iter().map(u32::to_string).collect();
        format!("    Sender IDs: {} ({} bits)\n", ids.join(", "), own.bits)
    });
    let direction = match sa.direction {
        SaDirection::BiDirectional => "bi-directional",
        SaDirection::Outbound => "outbound",
        SaDirection::Inbound => "inbound",
    };
    format!(
        "\n  Direction: {direction}, SPI: {}\n\
         \x20   Protocol: ESP, Authentication: {authentication}, Encryption: {}\n\
         \x20   Hard lifetime: Expires in {} seconds, {activation}\n\
         \x20   Lifesize Remaining:  Unlimited\n\
         \x20   Soft lifetime: {soft}\n\
         \x20   Mode: Tunnel, Type: Group VPN, State: installed\n\
         \x20   Anti-replay service: {}\n{sender_ids}",
        sa.spi,
        detail.encryption_algorithm,
        sa.hard_lifetime_secs,
        anti_replay(detail.anti_replay),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_has_the_seeds_columns() {
        insta::assert_snapshot!(render(&samples::member_vpns(), Level::Brief));
    }

    #[test]
    fn detail_tells_everything() {
        insta::assert_snapshot!(render(&samples::member_vpns(), Level::Detail));
    }

    #[test]
    fn detail_names_the_reasons_of_rejected_rekeys() {
        let mut vpns = samples::member_vpns();
        vpns[0].counters.push_succeeded = 7;
        vpns[0].counters.push_failed = 3;
        vpns[0].counters.push_rejected =
            control::PushRejections { old_sequence: 2, bad_signature: 1, ..Default::default() };
        insta::assert_snapshot!(render(&vpns, Level::Detail));
    }

    #[test]
    fn detail_shows_the_sender_ids_of_a_counter_mode() {
        let mut vpns = samples::member_vpns();
        let detail = vpns[0].security_associations[0].detail.as_mut().expect("in detail");
        detail.sender_ids = Some(control::SenderIds { bits: 16, ids: vec![4, 5, 6, 7] });
        assert!(render(&vpns, Level::Detail).contains("\n    Sender IDs: 4, 5, 6, 7 (16 bits)\n"));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::member_vpns()).unwrap());
    }
}
