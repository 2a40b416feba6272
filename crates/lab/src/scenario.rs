//! A scenario is a folder: `topology.toml` (hosts and links), `steps.toml` (what happens and what must be true),
//! configuration files named by the topology, and a `README.md` for people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::keys::Rollovers;
use crate::strongswan::Kernel;

/// A scenario as read from its folder.
#[derive(Debug)]
pub struct Scenario {
    /// The folder's name; namespaces and run directories are named after it.
    pub name: String,
    /// The scenario's own folder.
    pub folder: PathBuf,
    /// Where the topology and the configuration files are: a scenario may use another's network.
    pub network: PathBuf,
    /// Hosts and links.
    pub topology: Topology,
    /// About how many seconds it takes, if most of them go by in waiting: it may then run beside others that do. Else 0.
    pub waits: u32,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Hosts, and the cables between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Two or three letters that start every namespace's name.
    pub prefix: String,
    /// Network namespaces by name.
    pub host: BTreeMap<String, Host>,
    /// Virtual cables.
    #[serde(default)]
    pub link: Vec<Link>,
}

/// One namespace.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Addresses of the loopback interface, with prefix length.
    #[serde(default)]
    pub loopback: Vec<String>,
    /// Default gateways of a plain host, one for each address family.
    #[serde(default, deserialize_with = "one_or_more")]
    pub gateway: Vec<String>,
    /// Further routes, as `ip route add` takes them.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Whether the kernel forwards.
    #[serde(default)]
    pub forward: bool,
    /// FRR configuration file; its presence starts zebra and ospfd.
    pub frr: Option<String>,
    /// FRR daemons besides zebra; `ospfd` unless said otherwise.
    #[serde(default = "ospfd")]
    pub frr_daemons: Vec<String>,
    /// Our configuration file, for hosts that run gvpnd.
    pub gvpnd: Option<String>,
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    })
}

fn isakmp() -> u16 {
    500
}

fn headers() -> u32 {
    192
}

fn ospfd() -> Vec<String> {
    vec!["ospfd".into()]
}

/// A veth pair between two hosts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `host:interface address/length` of one end; the address may be absent.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Octets; 1500 unless said otherwise.
    pub mtu: Option<u32>,
}

/// One end of a link, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Host name.
    pub host: String,
    /// Interface name inside the host.
    pub interface: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

impl Link {
    /// Both ends, parsed.
    pub fn ends(&self) -> Result<[End; 2]> {
        Ok([parse_end(&self.a)?, parse_end(&self.b)?])
    }
}

fn parse_end(text: &str) -> Result<End> {
    let mut words = text.split_whitespace();
    let place = words.next().context("an end of a link is empty")?;
    let (host, interface) =
        place.split_once(':').with_context(|| format!("`{place}` is not host:interface"))?;
    if interface.len() > 15 {
        bail!("interface name `{interface}` is longer than 15 octets");
    }
    Ok(End { host: host.into(), interface: interface.into(), addresses: words.map(str::to_owned).collect() })
}

/// What one step does. Exactly one action per `[[step]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is for, printed as progress.
    pub say: String,
    /// The action.
    #[serde(flatten)]
    pub action: Action,
}

/// The actions of a step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start FRR on every host that has a configuration for it.
    StartFrr(Hosts),
    /// Start gvpnd on hosts.
    StartGvpnd(Daemons),
    /// Attach the closed programs (what the boot unit does) on hosts, and start nothing.
    CloseGvpnd(Hosts),
    /// Start strongSwan's charon with a swanctl configuration.
    StartStrongswan {
        /// Where.
        host: String,
        /// File of the scenario's folder.
        swanctl: String,
        /// What does its ESP.
        #[serde(default)]
        kernel: Kernel,
        /// UDP port it listens on.
        #[serde(default = "isakmp")]
        port: u16,
    },
    /// Change the text of a host's gvpnd configuration, before it starts or between reloads.
    Configure {
        /// Whose.
        host: String,
        /// Words that must be there.
        replace: String,
        /// What takes their place, everywhere.
        with: String,
    },
    /// Send a signal to a host's gvpnd and wait until it is gone.
    StopGvpnd {
        /// The hosts.
        hosts: Vec<String>,
        /// `TERM` or `KILL`.
        signal: String,
    },
    /// Run a command to its end and look at what it says.
    Run(Command),
    /// The same, repeated until it is as expected or time is up.
    Until(Command),
    /// Start a command that goes on in the background.
    Start {
        /// Name by which `finish` ends it.
        name: String,
        /// Where.
        host: String,
        /// What.
        command: String,
    },
    /// End a background command by SIGINT and look at what it said.
    Finish {
        /// Its name.
        name: String,
        /// As for `run`.
        #[serde(flatten)]
        expect: Expect,
    },
    /// Start capturing on every interface of a host.
    Capture {
        /// Name by which later steps count in it.
        name: String,
        /// Where.
        host: String,
        /// Octets of each packet that are kept; 0 keeps all.
        #[serde(default = "headers")]
        octets: u32,
        /// What is captured, in tcpdump's language; everything unless said otherwise.
        #[serde(default)]
        filter: String,
    },
    /// Stop a capture and look at the keys it shows.
    Rollovers(Rollovers),
    /// Stop a capture and count packets in it.
    Count {
        /// The capture's name.
        capture: String,
        /// Filters, each with how many packets it must find.
        filters: Vec<Filter>,
    },
}

/// Hosts whose gvpnd is started; none named means all that have one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemons {
    /// Names.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Further arguments of gvpnd.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// A list of hosts; empty means all that can.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Names.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A command on a host, and what it must say.
#[derive(Debug, Deserialize)]
pub struct Command {
    /// Where.
    pub host: String,
    /// Done by bash. `$GVPN` is the operator command of that host, `$LAB` this program, `$CONF` the scenario's folder, `$VICI` charon's socket,
    /// `$RUN` the host's run directory, `$SHARED` that of the scenario, `$PEERS` the folder of the independent peers.
    pub command: String,
    /// Print the output to the reader.
    #[serde(default)]
    pub show: bool,
    /// Expectations.
    #[serde(flatten)]
    pub expect: Expect,
}

/// What must be true of a command that ended.
#[derive(Debug, Default, Deserialize)]
pub struct Expect {
    /// Whether it must succeed (the default) or fail.
    #[serde(default)]
    pub fails: bool,
    /// Each must be in the output.
    #[serde(default)]
    pub contains: Vec<String>,
    /// None may be in the output.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// For `until`: seconds before giving up.
    #[serde(default = "thirty")]
    pub within_secs: u64,
}

fn thirty() -> u64 {
    30
}

/// A capture filter in tcpdump's language and what it must find.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// What the filter looks for, in words.
    pub what: String,
    /// tcpdump expression.
    pub filter: String,
    /// At least so many packets.
    pub at_least: Option<u64>,
    /// At most so many packets.
    pub at_most: Option<u64>,
    /// Print the first of them.
    #[serde(default)]
    pub show: bool,
}

impl Scenario {
    /// Read a scenario's folder.
    pub fn load(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Steps {
            network: Option<String>,
            prefix: Option<String>,
            #[serde(default)]
            waits: u32,
            step: Vec<Step>,
        }
        let name = folder.file_name().context("scenario folder has no name")?.to_string_lossy().into_owned();
        let steps: Steps = read(&folder.join("steps.toml"))?;
        let network = steps.network.map_or_else(|| folder.to_owned(), |other| folder.with_file_name(other));
        let mut topology: Topology = read(&network.join("topology.toml"))?;
        if let Some(prefix) = steps.prefix {
            topology.prefix = prefix;
        }
        let scenario = Self {
            name,
            folder: folder.to_owned(),
            network,
            topology,
            waits: steps.waits,
            steps: steps.step,
        };
        scenario.validate()?;
        Ok(scenario)
    }

    fn validate(&self) -> Result<()> {
        for link in &self.topology.link {
            for end in link.ends()? {
                if !self.topology.host.contains_key(&end.host) {
                    bail!("{}: link names unknown host `{}`", self.name, end.host);
                }
            }
        }
        for host in self.topology.host.values() {
            for file in host.frr.iter().chain(&host.gvpnd) {
                if !self.network.join(file).is_file() {
                    bail!("{}: `{file}` is not there", self.name);
                }
            }
        }
        for step in &self.steps {
            for host in step.action.hosts() {
                if !self.topology.host.contains_key(host) {
                    bail!("{}: step `{}` names unknown host `{host}`", self.name, step.say);
                }
            }
        }
        Ok(())
    }
}

impl Action {
    fn hosts(&self) -> Vec<&str> {
        match self {
            Self::StartGvpnd(Daemons { hosts, .. })
            | Self::StartFrr(Hosts { hosts })
            | Self::CloseGvpnd(Hosts { hosts }) => hosts.iter().map(String::as_str).collect(),
            Self::StopGvpnd { hosts, .. } => hosts.iter().map(String::as_str).collect(),
            Self::Run(command) | Self::Until(command) => vec![&command.host],
            Self::Start { host, .. }
            | Self::Capture { host, .. }
            | Self::StartStrongswan { host, .. }
            | Self::Configure { host, .. } => vec![host],
            Self::Finish { .. } | Self::Count { .. } | Self::Rollovers(_) => Vec::new(),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_in_the_repository_is_well_formed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/scenarios");
        let mut count = 0;
        let mut prefixes = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let scenario = Scenario::load(&path).unwrap();
                // What runs at the same time must not share namespaces.
                let shared = scenario.waits > 0 && !prefixes.insert(scenario.topology.prefix);
                assert!(!shared, "{}: prefix", path.display());
                count += 1;
            }
        }
        assert!(count > 0);
    }

    #[test]
    fn an_end_needs_host_and_interface() {
        assert!(parse_end("black").is_err());
        assert_eq!(parse_end("black:eth1 31.1.1.1/24").unwrap().interface, "eth1");
    }
}
