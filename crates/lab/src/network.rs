//! Network namespaces and virtual cables, made and removed by iproute2.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::scenario::Scenario;

/// Not under `/run`: strongSwan gets a private one.
const RUN: &str = "/var/lib/gvpn-lab";

/// A built network. Dropping it does not remove it: `remove` does, so that `--keep` is simply not calling it.
pub struct Network {
    prefix: String,
    run: PathBuf,
}

impl Network {
    /// The network of a scenario, whether it is up or not.
    pub fn of(scenario: &Scenario) -> Self {
        Self { prefix: scenario.topology.prefix.clone(), run: PathBuf::from(RUN).join(&scenario.name) }
    }

    /// Name of a host's namespace.
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Directory for a host's sockets, logs and state.
    pub fn run_directory(&self, host: &str) -> PathBuf {
        self.run.join(host)
    }

    /// Directory of the whole scenario.
    pub fn directory(&self) -> &std::path::Path {
        &self.run
    }

    /// Remove what an earlier run left, then make namespaces, cables and addresses.
    pub fn build(&self, scenario: &Scenario) -> Result<()> {
        self.remove(scenario)?;
        self.make_directory()?;
        for (name, host) in &scenario.topology.host {
            let namespace = self.namespace(name);
            ip(&["netns", "add", &namespace])?;
            std::fs::create_dir_all(self.run_directory(name))?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            for address in &host.loopback {
                add_address(&namespace, address, "lo")?;
            }
            let mut settings =
                vec!["net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0"];
            if host.forward {
                // Strict reverse-path filtering: what we inject must look as if it had arrived there.
                settings.extend(["net.ipv4.ip_forward=1", "net.ipv4.conf.default.rp_filter=1"]);
                settings.push("net.ipv6.conf.all.forwarding=1");
            }
            for setting in settings {
                run(Command::new("ip").args(["netns", "exec", &namespace, "sysctl", "-qw", setting]))?;
            }
        }
        for link in &scenario.topology.link {
            let [a, b] = link.ends()?;
            let (namespace_a, namespace_b) = (self.namespace(&a.host), self.namespace(&b.host));
            ip(&[
                "-n",
                &namespace_a,
                "link",
                "add",
                &a.interface,
                "type",
                "veth",
                "peer",
                "name",
                &b.interface,
                "netns",
                &namespace_b,
            ])?;
            for (end, namespace) in [(&a, &namespace_a), (&b, &namespace_b)] {
                if let Some(mtu) = link.mtu {
                    ip(&["-n", namespace, "link", "set", &end.interface, "mtu", &mtu.to_string()])?;
                }
                for address in &end.addresses {
                    add_address(namespace, address, &end.interface)?;
                }
                ip(&["-n", namespace, "link", "set", &end.interface, "up"])?;
            }
        }
        for (name, host) in &scenario.topology.host {
            for gateway in &host.gateway {
                ip(&["-n", &self.namespace(name), "route", "add", "default", "via", gateway])?;
            }
            for route in &host.routes {
                let words = route.split_whitespace();
                let namespace = self.namespace(name);
                ip(&["-n", &namespace, "route", "add"].into_iter().chain(words).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// The run directory, in memory. Key servers and etcd answer only when what they have written is on the disk, and a disk
    /// that is busy with what a build has left would make them late: the scenarios are not about the disk.
    fn make_directory(&self) -> Result<()> {
        std::fs::create_dir_all(&self.run).with_context(|| format!("making {}", self.run.display()))?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "gvpn-lab"]).arg(&self.run))
    }

    /// Kill what runs in the namespaces, remove them and the run directory.
    pub fn remove(&self, scenario: &Scenario) -> Result<()> {
        for name in scenario.topology.host.keys() {
            let namespace = self.namespace(name);
            if !std::path::Path::new("/run/netns").join(&namespace).exists() {
                continue;
            }
            let pids = Command::new("ip").args(["netns", "pids", &namespace]).output()?;
            for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            }
            ip(&["netns", "delete", &namespace])?;
        }
        // It may not be mounted.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.run));
        if self.run.exists() {
            std::fs::remove_dir_all(&self.run).with_context(|| format!("removing {}", self.run.display()))?;
        }
        Ok(())
    }
}

/// Nobody else has it, so it can be used at once.
fn add_address(namespace: &str, address: &str, interface: &str) -> Result<()> {
    let mut arguments = vec!["-n", namespace, "address", "add", address, "dev", interface];
    arguments.extend(address.contains(':').then_some("nodad"));
    ip(&arguments)
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

/// Run a command that must succeed; its error output becomes the error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
