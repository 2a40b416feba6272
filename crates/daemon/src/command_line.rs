//! The command line of `gvpnd`.

use std::path::PathBuf;

use clap::Parser;

use crate::datapath::{MOST_LANES, WireIo, usual_lanes};

/// Group VPN daemon: key server, group member, or both, as its configuration says. Runs in the foreground.
#[derive(Parser, Debug)]
#[command(name = "gvpnd", version)]
pub struct CommandLine {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/groupvpn/gvpnd.conf")]
    pub config: PathBuf,

    /// Where the control socket and the lock live
    #[arg(long, value_name = "DIR", default_value = "/run/groupvpn")]
    pub runtime_dir: PathBuf,

    /// What must survive a restart: the keys and members of a key server; which VPNs of a member have ever registered,
    /// and their last known policies
    #[arg(long, value_name = "DIR", default_value = "/var/lib/groupvpn")]
    pub state_dir: PathBuf,

    /// The key that seals the state of a key server: 32 octets, or 64 hexadecimal digits. Without it, and without a
    /// credential `gvpn-state-key` of systemd, a key is made beside the state
    #[arg(long, value_name = "FILE")]
    pub state_key: Option<PathBuf>,

    /// Where `traceoptions` files without a directory are written
    #[arg(long, value_name = "DIR", default_value = "/var/log/groupvpn")]
    pub log_dir: PathBuf,

    /// Least severe entries of the log on standard error or in the journal: error, warn, info, debug, trace, or a
    /// list such as `info,ike=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// Judge the configuration file and end
    #[arg(long, conflicts_with_all = ["detach", "close"])]
    pub check: bool,

    /// Remove every program, device and route that any gvpnd added in this network namespace, and end. Traffic then
    /// flows in clear
    #[arg(long, conflicts_with = "close")]
    pub detach: bool,

    /// Attach the programs to the external interfaces so that protected traffic is dropped, and end: for the time
    /// before the daemon starts
    #[arg(long)]
    pub close: bool,

    /// Register and show keys, but attach nothing and protect nothing: for load tests of a key server
    #[arg(long)]
    pub control_plane_only: bool,

    /// Sockets that carry ESP: `auto`; `xdp` for AF_XDP both ways; `packet` for AF_PACKET
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub wire_io: WireIo,

    /// How long the data path looks for more packets before it sleeps, in microseconds: less delay for a whole core's time
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub busy_poll: u64,

    /// Threads that work on packets; if not said, one for each core that the process may use, at most 16
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=MOST_LANES as i64))]
    pub lanes: Option<u16>,
}

impl CommandLine {
    /// Threads that work on packets.
    pub fn lanes(&self) -> u16 {
        self.lanes.unwrap_or_else(usual_lanes)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
