//! Phase 1 SAs as text: the same for server and member.

use control::{IkeDetail, IkeSecurityAssociation, Level, SaState};

use crate::columns::columns;

/// A table, or a paragraph each.
pub fn render(sas: &[IkeSecurityAssociation], level: Level) -> String {
    match level {
        Level::Brief => {
            let rows: Vec<Vec<String>> = sas.iter().map(row).collect();
            let headings =
                ["Index", "Remote Address", "State", "Initiator cookie", "Responder cookie", "Mode"];
            columns("", &headings, &[], &rows)
        }
        Level::Detail => sas.iter().map(paragraph).collect::<Vec<_>>().join("\n"),
    }
}

pub(super) fn state(state: SaState) -> &'static str {
    match state {
        SaState::Up => "UP",
        SaState::Down => "DOWN",
    }
}

fn row(sa: &IkeSecurityAssociation) -> Vec<String> {
    vec![
        sa.index.to_string(),
        sa.remote_address.to_string(),
        state(sa.state).to_owned(),
        sa.initiator_cookie.to_string(),
        sa.responder_cookie.to_string(),
        format!("{:?}", sa.mode),
    ]
}

fn paragraph(sa: &IkeSecurityAssociation) -> String {
    let Some(detail) = &sa.detail else { return String::new() };
    let IkeDetail {
        gateway,
        role,
        local,
        remote,
        authentication_method,
        lifetime_remaining_secs,
        peer_identity,
        authentication_algorithm,
        encryption_algorithm,
        pseudo_random_function,
        diffie_hellman_group,
        input_bytes,
        output_bytes,
        input_packets,
        output_packets,
        doi,
        non_esp_marker,
        pulls_completed,
        pulls_in_progress,
    } = detail;
    let lifetime = match lifetime_remaining_secs {
        Some(seconds) => format!("Expires in {seconds} seconds"),
        None => "Being negotiated".to_owned(),
    };
    let groups: Vec<String> =
        sa.groups.iter().map(|group| format!("{} ({})", group.group, group.group_id)).collect();
    format!(
        "IKE peer {}, Index {}, Gateway Name: {}\n\
         \x20 Role: {role:?}, State: {}\n\
         \x20 Initiator cookie: {}, Responder cookie: {}\n\
         \x20 Exchange type: {:?}, Authentication method: {authentication_method}\n\
         \x20 Local: {local}, Remote: {remote}\n\
         \x20 DOI: {doi}, Non-ESP marker: {}\n\
         \x20 Lifetime: {lifetime}\n\
         \x20 Peer ike-id: {}\n\
         \x20 Groups: {}\n\
         \x20 Algorithms:\n\
         \x20  Authentication        : {authentication_algorithm}\n\
         \x20  Encryption            : {encryption_algorithm}\n\
         \x20  Pseudo random function: {pseudo_random_function}\n\
         \x20  Diffie-Hellman group  : {diffie_hellman_group}\n\
         \x20 Traffic statistics:\n\
         \x20  Input  bytes  : {input_bytes:>20}\n\
         \x20  Output bytes  : {output_bytes:>20}\n\
         \x20  Input  packets: {input_packets:>20}\n\
         \x20  Output packets: {output_packets:>20}\n\
         \x20 Pulls completed: {pulls_completed}, in progress: {pulls_in_progress}\n",
        sa.remote_address,
        sa.index,
        if gateway.is_empty() { "not available" } else { gateway },
        state(sa.state),
        sa.initiator_cookie,
        sa.responder_cookie,
        sa.mode,
        if *non_esp_marker { "yes" } else { "no" },
        peer_identity.as_deref().unwrap_or("not available"),
        if groups.is_empty() { "none".to_owned() } else { groups.join(", ") },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_has_the_seeds_columns() {
        insta::assert_snapshot!(render(&samples::ike_sas(), Level::Brief));
    }

    #[test]
    fn detail_tells_everything() {
        insta::assert_snapshot!(render(&samples::ike_sas()[..1], Level::Detail));
    }

    #[test]
    fn json_is_for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&samples::ike_sas()[..1]).unwrap());
    }
}
