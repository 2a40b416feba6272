//! Typed requests and replies of the local control socket.
//!
//! The socket speaks HTTP with JSON, one path per subject under [`VERSION_PREFIX`], so that `curl --unix-socket` shows
//! the same as `gvpn`. `proto` and `dataplane` fill these types directly; `gvpn` turns them into the vendor's columns.
//! Lives are remaining seconds, because the roles know no wall clock.

pub mod cluster;
pub mod configuration;
pub mod filter;
pub mod flow;
pub mod identifiers;
pub mod ike;
pub mod kek;
pub mod member;
pub mod monitor;
pub mod paths;
pub mod policy;
pub mod problem;
pub mod query;
pub mod server;
pub mod statistics;
pub mod status;

pub use cluster::{ClusterDetail, ClusterPeer, ClusterState, ServerCluster, ServerRole};
pub use configuration::{
    CheckRequest, CommitReply, CommitRequest, ConfigurationFormat, ConfigurationQuery, ConfigurationReply,
    Diagnostic, LoadMode, LoadRequest, Severity,
};
pub use filter::{Filter, Level};
pub use flow::{FlowSession, FlowWing, SessionKind};
pub use identifiers::{Cookie, GroupReference, Spi};
pub use ike::{IkeDetail, IkeMode, IkeRole, IkeSecurityAssociation, SaState};
pub use kek::{KekDetail, KekSecurityAssociation};
pub use member::{
    InactiveTunnel, MemberCounters, MemberIpsecDetail, MemberIpsecSa, MemberVpn, PushRejections, SaDirection,
    SenderIds,
};
pub use monitor::MonitorEntry;
pub use paths::VERSION_PREFIX;
pub use policy::{AntiReplay, DynamicPolicy, MemberPolicy, PolicyType, PortRange, Selector};
pub use problem::Problem;
pub use server::{EvictedGroup, EvictionReply};
pub use server::{
    MemberState, MemberStatistics, ReasonCount, RegisteredMember, RegisteredMembers, RekeyProgress,
    SenderIdUse, ServerGroupSas, ServerIpsecDetail, ServerIpsecSa, ServerMatchPolicy, ServerStatistics,
};
pub use statistics::{DropCount, InterfaceCounters, IpsecStatistics, SaCounters, SaStatistics};
pub use status::{ClearReply, InterfaceStatus, RekeyMessages, Status};
