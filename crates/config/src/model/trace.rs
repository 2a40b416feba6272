//! Trace options.

use std::net::IpAddr;

use super::algorithm::words;
use crate::place::Place;

words! {
    /// Which `traceoptions` hierarchy.
    TraceScope {
        /// `security group-vpn server traceoptions`.
        Server = "server",
        /// `security group-vpn member ike traceoptions`.
        Member = "member",
        /// `security traceoptions`.
        Security = "security",
        /// `security ipsec traceoptions`.
        Ipsec = "ipsec",
    }
}

words! {
    /// `level`.
    TraceLevel {
        /// Errors.
        Error = "error",
        /// Warnings.
        Warning = "warning",
        /// Conditions to handle specially.
        Notice = "notice",
        /// Informational.
        Info = "info",
        /// Verbose.
        Verbose = "verbose",
        /// Everything.
        All = "all",
    }
}

words! {
    /// `flag`.
    TraceFlag {
        /// Timer events.
        Timer = "timer",
        /// Routing socket messages.
        RoutingSocket = "routing-socket",
        /// Configuration processing.
        Parse = "parse",
        /// Configuration download.
        Config = "config",
        /// IKE.
        Ike = "ike",
        /// Policy manager.
        PolicyManager = "policy-manager",
        /// General events.
        General = "general",
        /// Security association database.
        Database = "database",
        /// Certificates.
        Certificates = "certificates",
        /// SNMP.
        Snmp = "snmp",
        /// Threads.
        Thread = "thread",
        /// High availability.
        HighAvailability = "high-availability",
        /// Next-hop tunnels.
        NextHopTunnels = "next-hop-tunnels",
        /// Everything.
        All = "all",
    }
}

/// One `traceoptions` hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// Which one.
    pub scope: TraceScope,
    /// File name; a bare name lies in the log directory. Absent: the daemon's log only.
    pub file: Option<String>,
    /// Size in octets at which the file is rotated.
    pub size: u64,
    /// How many files are kept, 2..1000.
    pub files: u16,
    /// Whether everybody may read the file.
    pub world_readable: bool,
    /// Only lines that match this regular expression.
    pub match_expression: Option<String>,
    /// Most detailed level that is written.
    pub level: TraceLevel,
    /// What is traced; empty: nothing beyond errors.
    pub flags: Vec<TraceFlag>,
    /// Only messages about this local gateway address (not active yet).
    pub filter_local: Option<IpAddr>,
    /// Only messages about this remote gateway address (not active yet).
    pub filter_remote: Option<IpAddr>,
    /// Where it was written.
    pub place: Place,
}
