//! `gvpn clear …`.

use anyhow::Result;
use control::{ClearReply, paths};

use crate::client;
use crate::command::{Arguments, Context, GROUP, GROUP_ID, INDEX, Output, PEER_ADDRESS, VPN, command, flag};

command! {
    /// Delete phase 1 SAs of the key server. Group SAs are not touched.
    SERVER_IKE = "clear security group-vpn server ike security-associations",
    &[PEER_ADDRESS, GROUP, GROUP_ID, INDEX],
    |context, arguments| clear(context, arguments, paths::SERVER_IKE, "IKE security associations");
}

command! {
    /// Set the counters of the groups to zero.
    SERVER_STATISTICS = "clear security group-vpn server statistics",
    &[GROUP, GROUP_ID],
    |context, arguments| clear(context, arguments, paths::SERVER_STATISTICS, "groups' counters");
}

command! {
    /// Delete the keys of a group and have its members register again. Not available yet.
    /// With `now` keys die at once and traffic stops until members have registered again.
    SERVER_GROUP = "clear security group-vpn server",
    &[GROUP, GROUP_ID, flag("now", "Keys die at once")],
    |context, arguments| clear(context, arguments, paths::SERVER_GROUP, "groups");
}

command! {
    /// Delete phase 1 SAs of the member. Group SAs are not touched.
    MEMBER_IKE = "clear security group-vpn member ike security-associations",
    &[PEER_ADDRESS, INDEX],
    |context, arguments| clear(context, arguments, paths::MEMBER_IKE, "IKE security associations");
}

command! {
    /// Delete traffic keys of the member and register again; protected traffic is dropped until then.
    MEMBER_IPSEC = "clear security group-vpn member ipsec security-associations",
    &[INDEX, GROUP_ID, VPN],
    |context, arguments| clear(context, arguments, paths::MEMBER_IPSEC, "IPsec security associations");
}

command! {
    /// Delete every SA of a group, phase 1 too, and register again; protected traffic is dropped until then.
    MEMBER_GROUP = "clear security group-vpn member group",
    &[GROUP_ID, VPN],
    |context, arguments| clear(context, arguments, paths::MEMBER_GROUP, "groups");
}

command! {
    /// Set the counters of the data path to zero.
    MEMBER_STATISTICS = "clear security group-vpn member ipsec statistics",
    &[VPN],
    |context, arguments| clear(context, arguments, paths::MEMBER_STATISTICS, "counters");
}

fn clear(context: &Context, arguments: &Arguments, path: &str, what: &str) -> Result<Output> {
    let reply: ClearReply = client::delete(context, path, &arguments.filter()?.to_query())?;
    Output::new(format!("cleared {} {what}\n", reply.cleared), &reply)
}
