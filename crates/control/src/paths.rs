//! Paths of the control socket.

/// Version of the requests and replies; every path starts with it.
pub const VERSION_PREFIX: &str = "/v1";
/// Name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "gvpnd.sock";

/// `GET`, reply [`crate::Status`].
pub const STATUS: &str = "/v1/status";
/// `GET` with [`crate::Filter`], reply a list of [`crate::IkeSecurityAssociation`]; `DELETE` clears.
pub const SERVER_IKE: &str = "/v1/server/ike-security-associations";
/// `GET` with [`crate::Filter`], reply a list of [`crate::ServerGroupSas`].
pub const SERVER_IPSEC: &str = "/v1/server/ipsec-security-associations";
/// `GET` with [`crate::Filter`], reply a list of [`crate::KekSecurityAssociation`].
pub const SERVER_KEK: &str = "/v1/server/kek-security-associations";
/// `GET` with [`crate::Filter`], reply a list of [`crate::RegisteredMembers`].
pub const SERVER_MEMBERS: &str = "/v1/server/registered-members";
/// `GET` with [`crate::Filter`], reply a list of [`crate::ServerStatistics`]; `DELETE` clears.
pub const SERVER_STATISTICS: &str = "/v1/server/statistics";
/// `GET` with [`crate::Filter`], reply a list of [`crate::IkeSecurityAssociation`]; `DELETE` clears.
pub const MEMBER_IKE: &str = "/v1/member/ike-security-associations";
/// `GET` with [`crate::Filter`], reply a list of [`crate::MemberVpn`]; `DELETE` clears and re-registers.
pub const MEMBER_IPSEC: &str = "/v1/member/ipsec-security-associations";
/// `GET` with [`crate::Filter`], reply [`crate::IpsecStatistics`]; `DELETE` clears.
pub const MEMBER_STATISTICS: &str = "/v1/member/ipsec-statistics";
/// `GET` with [`crate::Filter`], reply a list of [`crate::InactiveTunnel`].
pub const MEMBER_INACTIVE: &str = "/v1/member/inactive-tunnels";
/// `GET` with [`crate::Filter`], reply a list of [`crate::KekSecurityAssociation`].
pub const MEMBER_KEK: &str = "/v1/member/kek-security-associations";
/// `GET` with [`crate::Filter`], reply a list of [`crate::MemberPolicy`].
pub const MEMBER_POLICY: &str = "/v1/member/policy";
/// `DELETE` with [`crate::Filter`]: drops every SA of the VPNs and registers again.
pub const MEMBER_GROUP: &str = "/v1/member/group";
/// `GET`, reply a list of [`crate::DynamicPolicy`].
pub const DYNAMIC_POLICIES: &str = "/v1/dynamic-policies";
/// `GET` with [`crate::ConfigurationQuery`], reply [`crate::ConfigurationReply`].
pub const CONFIGURATION: &str = "/v1/configuration";
/// `POST` of [`crate::CommitRequest`], reply [`crate::CommitReply`].
pub const COMMIT: &str = "/v1/commit";
/// `POST` of [`crate::CheckRequest`], reply [`crate::CommitReply`].
pub const CHECK: &str = "/v1/check";
/// `POST` of [`crate::LoadRequest`], reply [`crate::CommitReply`].
pub const LOAD: &str = "/v1/load";
/// `GET`, reply an endless stream of [`crate::MonitorEntry`], one a line.
pub const MONITOR: &str = "/v1/monitor";
/// `GET` with [`crate::Filter`], reply a list of [`crate::ServerCluster`].
pub const SERVER_CLUSTER: &str = "/v1/server/server-cluster";
/// Answered with a problem until the engine has sessions.
pub const FLOW_SESSION: &str = "/v1/flow-session";
/// `DELETE` with [`crate::Filter`]: new keys for a group, or for all, with `now` at once; reply [`crate::EvictionReply`].
pub const SERVER_GROUP: &str = "/v1/server/group";
