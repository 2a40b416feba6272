//! `show security group-vpn member ike security-associations`.

use anyhow::Result;
use control::IkeSecurityAssociation;

use super::ike_text;
use crate::client;
use crate::command::{Arguments, BRIEF, Context, DETAIL, INDEX, Output, PEER_ADDRESS, command};

command! {
    /// Phase 1 SAs of the member, one for each key server it talks to.
    MEMBER_IKE = "show security group-vpn member ike security-associations", &[BRIEF, DETAIL, PEER_ADDRESS, INDEX], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<IkeSecurityAssociation> =
        client::get(context, control::paths::MEMBER_IKE, &filter.to_query())?;
    Output::new(ike_text::render(&reply, filter.level), &reply)
}
