//! `show security group-vpn member ipsec statistics`.

use anyhow::Result;
use control::{DropCount, IpsecStatistics, SaCounters};

use crate::client;
use crate::command::{Arguments, Context, INDEX, Output, VPN, command};

command! {
    /// Packets encrypted, decrypted, passed in clear and dropped, each drop with its reason.
    MEMBER_STATISTICS = "show security group-vpn member ipsec statistics", &[INDEX, VPN], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: IpsecStatistics = client::get(context, control::paths::MEMBER_STATISTICS, &filter.to_query())?;
    Output::new(render(&reply), &reply)
}

fn render(statistics: &IpsecStatistics) -> String {
    let mut text = format!("ESP Statistics:\n{}", counters("  ", &statistics.totals));
    for sa in &statistics.security_associations {
        text.push_str(&format!("\nID: {}, VPN: {}, SPI: {}\n", sa.tunnel_id, sa.vpn, sa.spi));
        text.push_str(&counters("  ", &sa.counters));
    }
    text.push_str(&reasons("Passed in clear", &statistics.passed));
    text.push_str(&reasons("Dropped", &statistics.drops));
    for interface in &statistics.interfaces {
        text.push_str(&format!("\nInterface {}, packets:\n", interface.interface));
        let width = interface.counters.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        for (name, packets) in &interface.counters {
            text.push_str(&format!("  {:<width$} {packets:>12}\n", format!("{name}:")));
        }
    }
    text
}

fn counters(indent: &str, counters: &SaCounters) -> String {
    format!(
        "{indent}Encrypted bytes:   {:>20}\n{indent}Decrypted bytes:   {:>20}\n{indent}Encrypted packets: {:>20}\n{indent}Decrypted packets: {:>20}\n",
        counters.encrypted_bytes,
        counters.decrypted_bytes,
        counters.encrypted_packets,
        counters.decrypted_packets
    )
}

fn reasons(heading: &str, counts: &[DropCount]) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let width = counts.iter().map(|count| count.reason.len()).max().unwrap_or(0) + 1;
    let lines: String = counts
        .iter()
        .map(|count| {
            format!(
                "  {:<width$} {:>12}  {}\n",
                format!("{}:", count.reason),
                count.packets,
                count.description
            )
        })
        .collect();
    format!("\n{heading}, packets:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn every_drop_has_its_reason() {
        insta::assert_snapshot!(render(&samples::ipsec_statistics()));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::ipsec_statistics()).unwrap());
    }
}
