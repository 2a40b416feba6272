//! The key server as configured.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::algorithm::{EspCipher, EspIntegrity, IkeCipher, SignatureAlgorithm, SignatureHash, words};
use super::ike::ServerGateway;
use super::interface::InterfaceName;
use crate::place::Place;
use crate::secret::SecretText;

/// `security group-vpn server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Every member that is configured, in text order.
    pub gateways: Vec<Arc<ServerGateway>>,
    /// The groups, in text order.
    pub groups: Vec<Group>,
    /// UDP ports to listen on: 848 and what `ike listen-port` adds.
    pub listen_ports: Vec<u16>,
    /// What this server shares with others; absent: its state is its own.
    pub cluster_store: Option<ClusterStore>,
    /// Where it was written.
    pub place: Place,
}

impl Server {
    /// The group of that number.
    pub fn group_by_id(&self, id: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The gateway of that name.
    pub fn gateway(&self, name: &str) -> Option<&Arc<ServerGateway>> {
        self.gateways.iter().find(|gateway| gateway.name == name)
    }
}

/// `server group N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `group-id`, 1..4294967295.
    pub id: u32,
    /// Free text.
    pub description: Option<String>,
    /// At most this many members register.
    pub member_threshold: Option<u32>,
    /// The only members that may register, in text order.
    pub gateways: Vec<Arc<ServerGateway>>,
    /// `server-address`: the address the server sends from (v1).
    pub server_address: Option<IpAddr>,
    /// Time-based anti-replay.
    pub anti_replay: AntiReplay,
    /// Key pair that signs rekeys.
    pub signature_algorithm: SignatureAlgorithm,
    /// Members that never acknowledge are removed as well.
    pub acknowledgement_required: bool,
    /// Width of a sender identifier in bits: 8, 12, 16, 24.
    pub sender_id_bits: u8,
    /// `activation-time-delay` in seconds, 10..900; 1..900 in tests.
    pub activation_time_delay_secs: u16,
    /// One TEK each, in text order; at least one.
    pub security_associations: Vec<GroupSa>,
    /// Rekey by push; absent: members pull.
    pub communication: Option<ServerMemberCommunication>,
    /// Cooperating servers; there in every group where there is a [`ClusterStore`].
    pub cluster: Option<ServerCluster>,
    /// Habits of other implementations.
    pub compatibility: GroupCompatibility,
    /// Where it was written.
    pub place: Place,
}

/// Time-based anti-replay of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiReplay {
    /// `no-anti-replay`.
    Off,
    /// The window, plus or minus, in milliseconds.
    Window {
        /// 1..360000.
        millis: u32,
    },
}

/// `compatibility { ... }` of a server group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCompatibility {
    /// Accept rekeys of another server that are signed over the bare hash (not active yet).
    pub rsa_bare_hash: bool,
    /// DOI of a phase 1 that the server starts; it answers in the member's (not active yet).
    pub ike_doi: IkeDoi,
    /// Octets of the identification lengths in the SAK and SATs we send: 1 (the RFC) or 2.
    pub id_length_octets: u8,
}

words! {
    /// The DOI of a phase 1 SA payload.
    IkeDoi {
        /// IPsec.
        Ipsec = "1",
        /// GDOI, as RFC 6407 says.
        Gdoi = "2",
    }
}

/// `ipsec-sa N`: one TEK and what it protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSa {
    /// Its name.
    pub name: String,
    /// Its proposal, resolved.
    pub proposal: Arc<IpsecProposal>,
    /// At least one, in text order.
    pub policies: Vec<MatchPolicy>,
    /// Where it was written.
    pub place: Place,
}

/// `ipsec proposal N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsecProposal {
    /// Its name.
    pub name: String,
    /// The cipher.
    pub cipher: EspCipher,
    /// The integrity algorithm; `None` exactly where the cipher authenticates by itself.
    pub integrity: Option<EspIntegrity>,
    /// TEK lifetime in seconds, 180..86400; 60..86400 in tests, and 60 is the least the rekey timeline can hold.
    pub lifetime_secs: u32,
    /// Where it was written.
    pub place: Place,
}

/// `match-policy N`: traffic to protect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchPolicy {
    /// Its name.
    pub name: String,
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses, of the same family.
    pub destination: IpNet,
    /// 0: any.
    pub source_port: u16,
    /// 0: any.
    pub destination_port: u16,
    /// 0: any.
    pub protocol: u8,
    /// Where it was written.
    pub place: Place,
}

words! {
    /// `communication-type`.
    CommunicationType {
        /// One copy to each member.
        Unicast = "unicast",
        /// One datagram to a multicast group.
        Multicast = "multicast",
    }
}

/// `server-member-communication { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMemberCommunication {
    /// Unicast or multicast.
    pub communication_type: CommunicationType,
    /// Destination of multicast rekeys; always there with multicast.
    pub multicast_group: Option<IpAddr>,
    /// Interface multicast rekeys leave by; always there with multicast.
    pub multicast_outgoing_interface: Option<InterfaceName>,
    /// KEK lifetime in seconds, 300..86400; 120..86400 in tests.
    pub lifetime_secs: u32,
    /// Seconds between rounds, 2..60.
    pub retransmission_period_secs: u16,
    /// Rounds after the first until a rekey counts as unacknowledged, 0..60.
    pub number_of_retransmission: u8,
    /// Heartbeat period in seconds, 60..3600, in tests 5..3600; absent with unicast unless it is written.
    pub heartbeat_secs: Option<u16>,
    /// KEK cipher.
    pub cipher: IkeCipher,
    /// Hash of the signature; may be absent with ECDSA, which implies it.
    pub signature_hash: Option<SignatureHash>,
    /// Certificate that signs; absent: a key pair of the server's own.
    pub certificate: Option<String>,
    /// Where it was written.
    pub place: Place,
}

words! {
    /// `server-cluster server-role`.
    ServerRole {
        /// Makes the keys.
        RootServer = "root-server",
        /// Takes over.
        SubServer = "sub-server",
    }
}

/// `server-cluster { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCluster {
    /// What this server is in the cluster.
    pub role: ServerRole,
    /// The other servers.
    pub gateways: Vec<Arc<ServerGateway>>,
    /// Seconds, 2..60.
    pub retransmission_period_secs: u16,
    /// Where it was written.
    pub place: Place,
}

/// `cluster-store etcd { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStore {
    /// URLs `http://HOST:PORT` or `https://HOST:PORT`, all of one kind, in text order; at least one.
    pub endpoints: Vec<String>,
    /// First part of every key.
    pub prefix: String,
    /// Name of this server; absent: that of the host.
    pub server_name: Option<String>,
    /// 2..60.
    pub lease_secs: u16,
    /// File with the key that seals what is shared; absent: a credential.
    pub cluster_key: Option<String>,
    /// TLS; there exactly where the endpoints begin with `https`.
    pub tls: Option<ClusterTls>,
    /// User and password at etcd.
    pub user: Option<(String, SecretText)>,
    /// What the groups say of this server.
    pub role: ServerRole,
    /// Longest time between two attempts in seconds, 2..60: the least that a group says.
    pub retransmission_period_secs: u16,
    /// Where it was written.
    pub place: Place,
}

/// Files with certificates, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTls {
    /// Authorities; absent: those of the system.
    pub certificate_authority: Option<String>,
    /// Our certificate and its private key.
    pub certificate: Option<(String, String)>,
}
