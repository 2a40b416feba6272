//! `show security group-vpn server ike security-associations`.

use anyhow::Result;
use control::IkeSecurityAssociation;

use super::ike_text;
use crate::client;
use crate::command::{
    Arguments, BRIEF, Context, DETAIL, GROUP, GROUP_ID, INDEX, Output, PEER_ADDRESS, command,
};

command! {
    /// Phase 1 SAs of the key server, one for each member that talked to it lately.
    SERVER_IKE = "show security group-vpn server ike security-associations", &[BRIEF, DETAIL, PEER_ADDRESS, GROUP, GROUP_ID, INDEX], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<IkeSecurityAssociation> =
        client::get(context, control::paths::SERVER_IKE, &filter.to_query())?;
    Output::new(ike_text::render(&reply, filter.level), &reply)
}
