//! `gvpn status`.

use anyhow::Result;
use control::{RekeyMessages, Status, paths};

use crate::client;
use crate::columns::columns;
use crate::command::{Arguments, Context, Output, command};

command! {
    /// The daemon itself: roles, sockets, external interfaces, and what needs attention.
    STATUS = "status", &[], run;
}

fn run(context: &Context, _: &Arguments) -> Result<Output> {
    let reply: Status = client::get(context, paths::STATUS, "")?;
    Output::new(render(&reply), &reply)
}

fn render(status: &Status) -> String {
    let roles = if status.roles.is_empty() { "none".to_owned() } else { status.roles.join(", ") };
    let mut text = format!(
        "gvpnd {}, process {}, up {} seconds\nRoles: {roles}\nConfiguration: {}\nListening: {}\n",
        status.version,
        status.pid,
        status.uptime_secs,
        status.configuration_file,
        status.listening.join(", "),
    );
    if !status.interfaces.is_empty() {
        let rows: Vec<Vec<String>> = status
            .interfaces
            .iter()
            .map(|interface| {
                let state = match (interface.attached, interface.up) {
                    (true, true) => "up",
                    (true, false) => "down",
                    (false, _) => "not attached",
                };
                vec![interface.name.clone(), interface.device.clone(), state.into(), interface.vpns.join(" ")]
            })
            .collect();
        text.push_str(&columns("", &["Interface", "Device", "State", "VPNs"], &[], &rows));
    }
    if let Some(RekeyMessages { sent, refused, given_up, waiting }) = status.rekey_messages {
        text.push_str(&format!(
            "Rekey messages: {sent} sent, {waiting} waiting, {refused} refused by the system, {given_up} given up\n"
        ));
    }
    status.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_interfaces_and_warnings() {
        let status = Status {
            version: "0.1.0".into(),
            pid: 7,
            uptime_secs: 60,
            roles: vec!["member".into()],
            configuration_file: "/etc/groupvpn/gvpnd.conf".into(),
            listening: vec!["100.0.0.3:848".into()],
            interfaces: vec![control::InterfaceStatus {
                name: "ge-0/0/1.0".into(),
                device: "wan0".into(),
                attached: true,
                up: true,
                vpns: vec!["gvpn".into()],
            }],
            rekey_messages: Some(RekeyMessages { sent: 12, refused: 1, given_up: 0, waiting: 0 }),
            warnings: vec!["device wan1 does not exist".into()],
        };
        insta::assert_snapshot!(render(&status));
    }
}
