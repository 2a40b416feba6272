//! `gvpn clear …`.

use anyhow::Result;
use control::{ClearReply, EvictionReply, paths};

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
    /// Replace the keys of a group, or of all, so that whoever was removed from it holds none that is used.
    /// Members are told to register again, and all switch to new keys together: no packet is lost, and the reply says how
    /// long it takes. Until then the old keys are used, also by whoever was removed. A commit that removes a gateway from
    /// a group does the same by itself. Groups whose members pull get a key that was never out there with the next roll.
    /// Of cooperating servers any can be asked: the one that makes the keys does it.
    /// With `now` every key dies at once: protected traffic stops in the whole group until each member has registered
    /// again, some ten seconds. It is refused for groups whose members pull, as they cannot be told.
    SERVER_GROUP = "clear security group-vpn server",
    &[GROUP, GROUP_ID, flag("now", "Keys die at once: traffic stops until members have registered again")],
    |context, arguments| {
        let reply: EvictionReply =
            client::delete(context, paths::SERVER_GROUP, &arguments.filter()?.to_query())?;
        Output::new(eviction(&reply), &reply)
    };
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

fn eviction(reply: &EvictionReply) -> String {
    let line = |group: &control::EvictedGroup| {
        let seconds = group.done_in_millis.div_ceil(1000);
        let name = &group.group;
        match reply.now {
            true => format!(
                "Group {name}: all keys are deleted; members register again within {seconds} seconds, and protected \
                 traffic is dropped until they have\n"
            ),
            false => format!(
                "Group {name}: in {seconds} seconds every member that stays uses new keys; no packet is lost\n"
            ),
        }
    };
    let by = reply.by.iter().map(|server| format!("Done by {server}, which makes the keys:\n"));
    match reply.groups.is_empty() {
        true => "no group\n".to_owned(),
        false => by.chain(reply.groups.iter().map(line)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use control::EvictedGroup;

    use super::*;

    #[test]
    fn an_eviction_says_until_when_it_is_done() {
        let mut reply = EvictionReply {
            now: false,
            by: None,
            groups: vec![
                EvictedGroup { group: "g1".into(), done_in_millis: 149_001 },
                EvictedGroup { group: "g2".into(), done_in_millis: 50_000 },
            ],
        };
        insta::assert_snapshot!(eviction(&reply));
        reply.now = true;
        reply.groups.truncate(1);
        reply.groups[0].done_in_millis = 10_000;
        insta::assert_snapshot!(eviction(&reply));
        reply.by = Some("key-server-1".into());
        assert!(
            eviction(&reply).starts_with("Done by key-server-1, which makes the keys:\nGroup g1: all keys")
        );
    }
}
