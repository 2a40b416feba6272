//! `show security flow session`.

use anyhow::Result;
use control::{Filter, FlowSession, FlowWing};

use crate::client;
use crate::command::{Arguments, Context, Output, command, flag};

command! {
    /// Flows that policies protect, with what they carried, and what is decrypted for them.
    FLOW_SESSION = "show security flow session", &[flag("tunnel", "Only tunnel sessions and their shadows")], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = Filter { tunnel: arguments.has("tunnel"), ..Filter::default() };
    let reply: Vec<FlowSession> = client::get(context, control::paths::FLOW_SESSION, &filter.to_query())?;
    Output::new(render(&reply), &reply)
}

fn render(sessions: &[FlowSession]) -> String {
    let mut text = String::new();
    for session in sessions {
        text.push_str(&format!(
            "Session ID: {}, Policy name: {}, Timeout: {}, Valid\n",
            session.id,
            session.policy.as_deref().unwrap_or("N/A"),
            session.timeout_secs.map_or("N/A".to_owned(), |secs| secs.to_string()),
        ));
        text.push_str(&wing("In", &session.inward));
        if let Some(outward) = &session.outward {
            text.push_str(&wing("Out", outward));
        }
        text.push('\n');
    }
    text.push_str(&format!("Total sessions: {}\n", sessions.len()));
    text
}

fn wing(direction: &str, wing: &FlowWing) -> String {
    format!(
        "  {direction}: {}/{} --> {}/{};{}, If: {}, Pkts: {}, Bytes: {}\n",
        wing.source,
        wing.source_port,
        wing.destination,
        wing.destination_port,
        protocol(wing.protocol),
        wing.interface,
        wing.packets,
        wing.bytes
    )
}

fn protocol(number: u8) -> String {
    let name = match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        89 => "ospf",
        103 => "pim",
        132 => "sctp",
        _ => return number.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use control::SessionKind;

    use super::*;

    fn wing(ports: (u16, u16), protocol: u8, interface: &str, packets: u64, bytes: u64) -> FlowWing {
        FlowWing {
            source: "31.1.1.2".parse().unwrap(),
            source_port: ports.0,
            destination: "41.1.1.2".parse().unwrap(),
            destination_port: ports.1,
            protocol,
            interface: interface.to_owned(),
            packets,
            bytes,
        }
    }

    #[test]
    fn the_output_is_the_seeds() {
        let answers = FlowWing {
            source: "41.1.1.2".parse().unwrap(),
            destination: "31.1.1.2".parse().unwrap(),
            ..wing((23, 57887), 6, "lo0.0", 31, 1874)
        };
        let sessions = [
            FlowSession {
                id: 25911,
                kind: SessionKind::PlainText,
                policy: Some("scope1-0002/2097156".to_owned()),
                timeout_secs: Some(1798),
                inward: wing((57887, 23), 6, "ge-0/0/1.0", 40, 2182),
                outward: Some(answers),
            },
            FlowSession {
                id: 25912,
                kind: SessionKind::Tunnel,
                policy: None,
                timeout_secs: None,
                inward: wing((18788, 24687), 50, "ge-0/0/10.0", 0, 0),
                outward: None,
            },
        ];
        assert_eq!(
            render(&sessions),
            "Session ID: 25911, Policy name: scope1-0002/2097156, Timeout: 1798, Valid\n  \
             In: 31.1.1.2/57887 --> 41.1.1.2/23;tcp, If: ge-0/0/1.0, Pkts: 40, Bytes: 2182\n  \
             Out: 41.1.1.2/23 --> 31.1.1.2/57887;tcp, If: lo0.0, Pkts: 31, Bytes: 1874\n\n\
             Session ID: 25912, Policy name: N/A, Timeout: N/A, Valid\n  \
             In: 31.1.1.2/18788 --> 41.1.1.2/24687;esp, If: ge-0/0/10.0, Pkts: 0, Bytes: 0\n\n\
             Total sessions: 2\n"
        );
    }
}
