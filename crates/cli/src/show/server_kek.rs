//! `show security group-vpn server kek security-associations`.

use anyhow::Result;
use control::KekSecurityAssociation;

use super::kek_text;
use crate::client;
use crate::command::{Arguments, BRIEF, Context, DETAIL, GROUP, GROUP_ID, INDEX, Output, command};

command! {
    /// Key encryption keys of the groups that rekey by push.
    SERVER_KEK = "show security group-vpn server kek security-associations", &[BRIEF, DETAIL, GROUP, GROUP_ID, INDEX], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    let filter = arguments.filter()?;
    let reply: Vec<KekSecurityAssociation> =
        client::get(context, control::paths::SERVER_KEK, &filter.to_query())?;
    Output::new(kek_text::render(&reply, filter.level), &reply)
}
