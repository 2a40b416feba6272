//! One look at everything that the daemon tells.

use anyhow::Result;
use control::{
    InactiveTunnel, IpsecStatistics, KekSecurityAssociation, MemberVpn, ServerGroupSas, ServerStatistics,
    Status, paths,
};
use serde::de::DeserializeOwned;

use crate::client;
use crate::command::Context;

/// The replies that metrics are made of.
#[derive(Default)]
pub struct Snapshot {
    /// The daemon itself.
    pub status: Status,
    /// What a key server tells.
    pub server: Option<ServerSnapshot>,
    /// What a group member tells.
    pub member: Option<MemberSnapshot>,
}

/// Replies of a key server.
#[derive(Default)]
pub struct ServerSnapshot {
    /// Counters, by group.
    pub statistics: Vec<ServerStatistics>,
    /// TEKs, by group.
    pub teks: Vec<ServerGroupSas>,
    /// KEKs of all groups.
    pub keks: Vec<KekSecurityAssociation>,
}

/// Replies of a group member.
#[derive(Default)]
pub struct MemberSnapshot {
    /// VPNs with their TEKs and counters.
    pub vpns: Vec<MemberVpn>,
    /// VPNs without a usable TEK.
    pub inactive: Vec<InactiveTunnel>,
    /// Counters of the data path.
    pub traffic: IpsecStatistics,
    /// KEKs of all VPNs.
    pub keks: Vec<KekSecurityAssociation>,
}

impl Snapshot {
    /// Asks the daemon.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn take(context: &Context) -> Result<Snapshot> {
        fn get<Reply: DeserializeOwned>(context: &Context, path: &str) -> Result<Reply> {
            client::get(context, path, "detail")
        }
        let status: Status = client::get(context, paths::STATUS, "")?;
        let has = |name: &str| status.roles.iter().any(|role| role == name);
        let server = if has("server") {
            Some(ServerSnapshot {
                statistics: get(context, paths::SERVER_STATISTICS)?,
                teks: get(context, paths::SERVER_IPSEC)?,
                keks: get(context, paths::SERVER_KEK)?,
            })
        } else {
            None
        };
        let member = if has("member") {
            Some(MemberSnapshot {
                vpns: get(context, paths::MEMBER_IPSEC)?,
                inactive: get(context, paths::MEMBER_INACTIVE)?,
                traffic: get(context, paths::MEMBER_STATISTICS)?,
                keks: get(context, paths::MEMBER_KEK)?,
            })
        } else {
            None
        };
        Ok(Snapshot { status, server, member })
    }
}
