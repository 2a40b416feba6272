//! KEKs as text: the same for server and member.

use control::{KekSecurityAssociation, Level};

use super::ike_text::state;
use crate::columns::columns;

/// A table, or a paragraph each.
pub fn render(sas: &[KekSecurityAssociation], level: Level) -> String {
    match level {
        Level::Brief => {
            let rows: Vec<Vec<String>> = sas.iter().map(row).collect();
            let headings =
                ["Index", "Remote Address", "State", "Initiator cookie", "Responder cookie", "GroupId"];
            columns("", &headings, &[], &rows)
        }
        Level::Detail => sas.iter().map(paragraph).collect::<Vec<_>>().join("\n"),
    }
}

fn row(sa: &KekSecurityAssociation) -> Vec<String> {
    vec![
        sa.index.to_string(),
        sa.remote_address.to_string(),
        state(sa.state).to_owned(),
        sa.initiator_cookie.to_string(),
        sa.responder_cookie.to_string(),
        sa.group_id.to_string(),
    ]
}

fn paragraph(sa: &KekSecurityAssociation) -> String {
    let Some(detail) = &sa.detail else { return String::new() };
    let rekey =
        detail.rekey_in_secs.map(|seconds| format!("  Rekey in {seconds} seconds\n")).unwrap_or_default();
    format!(
        "Index {}, Group Name: {}, Group Id: {}\n\
         \x20 Initiator cookie: {}, Responder cookie: {}\n\
         \x20 Authentication method: {}\n\
         \x20 Lifetime: Expires in {} seconds, State: {}\n{rekey}\
         \x20 Algorithms:\n\
         \x20  Sig-hash              : {}\n\
         \x20  Encryption            : {}\n\
         \x20 Server Member Communication: {}\n\
         \x20 Group Key Push sequence number: {}, Pushes: {}\n",
        sa.index,
        sa.group,
        sa.group_id,
        sa.initiator_cookie,
        sa.responder_cookie,
        detail.authentication_method,
        detail.lifetime_remaining_secs,
        state(sa.state),
        detail.signature_hash,
        detail.encryption_algorithm,
        detail.communication,
        detail.sequence_number,
        detail.pushes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn brief_has_the_seeds_columns() {
        insta::assert_snapshot!(render(&samples::keks(), Level::Brief));
    }

    #[test]
    fn detail_tells_everything() {
        insta::assert_snapshot!(render(&samples::keks(), Level::Detail));
    }
}
