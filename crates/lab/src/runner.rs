//! Runs a scenario: builds its network, does its steps in order, prints progress, stops at the first step that fails
//! with everything a person needs to see why.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::frr;
use crate::keys::{Keys, Rollovers};
use crate::network::Network;
use crate::output::Output;
use crate::scenario::{self, Action, Expect, Filter, Scenario};
use crate::strongswan::{self, Kernel};

/// How long an orderly stop of a program may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One run of a scenario.
pub struct Runner {
    scenario: Scenario,
    network: Network,
    programs: PathBuf,
    daemons: BTreeMap<String, Child>,
    background: BTreeMap<String, Child>,
    captures: BTreeMap<String, Child>,
    start: Instant,
    output: Output,
}

impl Runner {
    /// Ready to run; `programs` is the folder of gvpnd and gvpn.
    pub fn new(scenario: Scenario, programs: PathBuf) -> Self {
        let network = Network::of(&scenario);
        Self {
            scenario,
            network,
            programs,
            daemons: BTreeMap::new(),
            background: BTreeMap::new(),
            captures: BTreeMap::new(),
            start: Instant::now(),
            output: Output::Live,
        }
    }

    /// Print no progress: standard output is for something else.
    pub fn quiet(self) -> Self {
        self.output(Output::None)
    }

    /// Say what happens there and not on the terminal.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// What was said so far, if it was kept.
    pub fn take_output(&self) -> String {
        self.output.take()
    }

    /// The network, for those who do more in it than the steps say.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Build the network and do every step.
    pub fn run(&mut self) -> Result<()> {
        self.say("building the network");
        self.network.build(&self.scenario)?;
        for index in 0..self.scenario.steps.len() {
            let say = self.scenario.steps[index].say.clone();
            self.say(&say);
            if let Err(error) = self.step(index) {
                self.print_logs();
                return Err(error.context(format!("step `{say}`")));
            }
        }
        Ok(())
    }

    /// End everything and remove the network.
    pub fn clean(mut self) -> Result<()> {
        for (_, mut child) in
            std::mem::take(&mut self.background).into_iter().chain(std::mem::take(&mut self.captures))
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (_, mut child) in std::mem::take(&mut self.daemons) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.network.remove(&self.scenario)
    }

    /// Lines that tell a person how to look around in a network that was kept.
    pub fn shell_hint(&self) -> String {
        let mut text = String::from("The network is still up. Look around with\n");
        for (name, host) in &self.scenario.topology.host {
            if host.gvpnd.is_some() {
                text += &format!(
                    "  {} --runtime-dir {} status\n",
                    self.programs.join("gvpn").display(),
                    self.network.run_directory(name).display(),
                );
            }
        }
        if let Some(name) = self.scenario.topology.host.keys().next() {
            text += &format!("  ip netns exec {} bash\n", self.network.namespace(name));
        }
        text + &format!(
            "and remove it with\n  {} clean {}",
            self.programs.join("lab").display(),
            self.scenario.name
        )
    }

    fn say(&self, text: &str) {
        self.output.line(&format!("[{:6.2}] {text}", self.start.elapsed().as_secs_f64()));
    }

    fn step(&mut self, index: usize) -> Result<()> {
        // The steps are read only; taking them out for the call keeps the borrow checker and the reader at ease.
        let steps = std::mem::take(&mut self.scenario.steps);
        let result = self.act(&steps[index].action);
        self.scenario.steps = steps;
        result
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::StartFrr(hosts) => self.start_frr(&hosts.hosts),
            Action::StartGvpnd(daemons) => self
                .gvpnd_hosts(&daemons.hosts)
                .into_iter()
                .try_for_each(|host| self.start_gvpnd(&host, &daemons.arguments)),
            Action::CloseGvpnd(hosts) => {
                self.gvpnd_hosts(&hosts.hosts).into_iter().try_for_each(|h| self.close_gvpnd(&h))
            }
            Action::StartStrongswan { host, swanctl, port, kernel } => {
                self.start_strongswan(host, swanctl, *kernel, *port)
            }
            Action::Configure { host, replace, with } => self.configure(host, replace, with),
            Action::StopGvpnd { hosts, signal } => {
                hosts.iter().try_for_each(|host| self.stop_gvpnd(host, signal))
            }
            Action::Run(command) => {
                let output = self.execute(command)?;
                judge(&command.command, &output, &command.expect)
            }
            Action::Until(command) => self.until(command),
            Action::Start { name, host, command } => self.start_background(name, host, command),
            Action::Finish { name, expect } => self.finish(name, expect),
            Action::Capture { name, host, octets, filter } => self.capture(name, host, *octets, filter),
            Action::Rollovers(expected) => self.rollovers(expected),
            Action::Count { capture, filters } => self.count(capture, filters),
        }
    }

    fn start_frr(&self, only: &[String]) -> Result<()> {
        for (name, host) in &self.scenario.topology.host {
            if let Some(file) = host.frr.as_ref().filter(|_| only.is_empty() || only.contains(name)) {
                let directory = self.network.run_directory(name);
                frr::start(
                    &self.network.namespace(name),
                    &directory,
                    &self.scenario.network.join(file),
                    &host.frr_daemons,
                )?;
            }
        }
        Ok(())
    }

    fn gvpnd_hosts(&self, only: &[String]) -> Vec<String> {
        let hosts = self.scenario.topology.host.iter();
        hosts
            .filter(|(name, host)| host.gvpnd.is_some() && (only.is_empty() || only.contains(name)))
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// The daemon's own copy of its configuration: a scenario may change it.
    fn configuration(&self, host: &str) -> Result<PathBuf> {
        let file = self.scenario.topology.host[host].gvpnd.as_ref();
        let file = file.with_context(|| format!("{host} has no gvpnd"))?;
        let copy = self.network.run_directory(host).join("gvpnd.conf");
        if !copy.exists() {
            std::fs::copy(self.scenario.network.join(file), &copy)?;
        }
        Ok(copy)
    }

    fn configure(&self, host: &str, replace: &str, with: &str) -> Result<()> {
        let file = self.configuration(host)?;
        let text = std::fs::read_to_string(&file)?;
        if !text.contains(replace) {
            bail!("the configuration of {host} does not say `{replace}`");
        }
        std::fs::write(file, text.replace(replace, with))?;
        Ok(())
    }

    fn start_strongswan(&mut self, host: &str, swanctl: &str, kernel: Kernel, port: u16) -> Result<()> {
        let directory = self.network.run_directory(host);
        let file = self.scenario.folder.join(swanctl);
        let child = strongswan::start(&self.network.namespace(host), &directory, &file, kernel, port)?;
        self.background.insert(format!("charon on {host}"), child);
        Ok(())
    }

    fn gvpnd(&self, host: &str) -> Result<Command> {
        let directory = self.network.run_directory(host);
        let configuration = self.configuration(host)?;
        let mut command = self.in_namespace(host);
        command.arg(self.programs.join("gvpnd")).arg("--config").arg(configuration);
        command.arg("--runtime-dir").arg(&directory).arg("--state-dir").arg(directory.join("state"));
        Ok(command)
    }

    fn start_gvpnd(&mut self, host: &str, arguments: &[String]) -> Result<()> {
        let mut command = self.gvpnd(host)?;
        command.args(arguments);
        let log = self.network.run_directory(host).join("gvpnd.log");
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        let child = command.spawn().context("starting gvpnd")?;
        self.daemons.insert(host.to_owned(), child);
        Ok(())
    }

    fn close_gvpnd(&self, host: &str) -> Result<()> {
        crate::network::run(self.gvpnd(host)?.arg("--close"))
    }

    fn stop_gvpnd(&mut self, host: &str, signal: &str) -> Result<()> {
        let child = self.daemons.remove(host).with_context(|| format!("gvpnd of {host} is not running"))?;
        stop(child, signal).with_context(|| format!("gvpnd of {host}"))?;
        Ok(())
    }

    fn in_namespace(&self, host: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.network.namespace(host)]);
        command
    }

    fn shell(&self, host: &str, command: &str) -> Command {
        let mut shell = self.in_namespace(host);
        shell.args(["bash", "-c", command]);
        let directory = self.network.run_directory(host);
        let gvpn = format!("{} --runtime-dir {}", self.programs.join("gvpn").display(), directory.display());
        shell.env("GVPN", gvpn).env("LAB", self.programs.join("lab")).env("RUN", &directory);
        shell
            .env("SHARED", self.network.directory())
            .env("PEERS", self.scenario.folder.join("../../peers"))
            .env("GVPND", self.programs.join("gvpnd"))
            .env("CONF", &self.scenario.folder)
            .env("VICI", strongswan::vici(&directory))
            .stdin(Stdio::null());
        shell
    }

    fn execute(&self, command: &scenario::Command) -> Result<(bool, String)> {
        let output = self.shell(&command.host, &command.command).output()?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if command.show {
            let shown = command.command.replace("$GVPN", "gvpn").replace("$LAB", "lab");
            self.output.line(&format!("{}$ {shown}", command.host));
            self.output.line(&indent(&text));
        }
        Ok((output.status.success(), text))
    }

    fn until(&self, command: &scenario::Command) -> Result<()> {
        let start = Instant::now();
        loop {
            let output = self.shell(&command.host, &command.command).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            let verdict = judge(&command.command, &(output.status.success(), text.clone()), &command.expect);
            if verdict.is_ok() {
                if command.show {
                    self.output.line(&indent(&text));
                }
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(command.expect.within_secs) {
                return verdict.with_context(|| format!("not so within {} s", command.expect.within_secs));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_background(&mut self, name: &str, host: &str, command: &str) -> Result<()> {
        let log = File::create(self.network.directory().join(format!("{name}.log")))?;
        let mut shell = self.shell(host, &format!("exec {command}"));
        let child = shell.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.background.insert(name.to_owned(), child);
        Ok(())
    }

    fn finish(&mut self, name: &str, expect: &Expect) -> Result<()> {
        let child = self.background.remove(name).with_context(|| format!("`{name}` was not started"))?;
        let success = stop(child, "INT")?;
        let text = std::fs::read_to_string(self.network.directory().join(format!("{name}.log")))?;
        self.output.line(&indent(&text));
        judge(name, &(success, text), expect)
    }

    fn capture(&mut self, name: &str, host: &str, octets: u32, filter: &str) -> Result<()> {
        let file = self.capture_file(name);
        let log = self.network.directory().join(format!("{name}.tcpdump.log"));
        let mut command = self.in_namespace(host);
        command.args(["tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-B", "65536", "-i", "any"]);
        command.args(["-s", &octets.to_string(), "-w"]).arg(file);
        if !filter.is_empty() {
            command.arg(filter);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        self.captures.insert(name.to_owned(), child);
        let start = Instant::now();
        while !std::fs::read_to_string(&log)?.contains("listening on") {
            if start.elapsed() > STOP_LIMIT {
                bail!("tcpdump did not start: {}", std::fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn end_capture(&mut self, name: &str) -> Result<()> {
        if let Some(child) = self.captures.remove(name) {
            // What was just sent is still on its way through the capture's buffers.
            std::thread::sleep(Duration::from_millis(300));
            stop(child, "INT")?;
            let log = std::fs::read_to_string(self.network.directory().join(format!("{name}.tcpdump.log")))?;
            if !log.contains("0 packets dropped by kernel") {
                bail!("the capture is incomplete: {log}");
            }
        }
        Ok(())
    }

    fn rollovers(&mut self, expected: &Rollovers) -> Result<()> {
        self.end_capture(&expected.capture)?;
        let table = Keys::read(&self.capture_file(&expected.capture))?.judge(expected)?;
        self.output.line(&indent(&table));
        Ok(())
    }

    fn count(&mut self, name: &str, filters: &[Filter]) -> Result<()> {
        self.end_capture(name)?;
        for filter in filters {
            let (count, first) = count_packets(&self.capture_file(name), &filter.filter)?;
            self.output.line(&format!("         {}: {count} packets", filter.what));
            if filter.show {
                self.output.line(&indent(&first));
            }
            if filter.at_least.is_some_and(|least| count < least)
                || filter.at_most.is_some_and(|most| count > most)
            {
                bail!("{count} packets of `{}` ({}), first: {first}", filter.what, filter.filter);
            }
        }
        Ok(())
    }

    fn capture_file(&self, name: &str) -> PathBuf {
        self.network.directory().join(format!("{name}.pcap"))
    }

    /// The end of every daemon's log, whoever started it.
    fn print_logs(&self) {
        for host in self.scenario.topology.host.keys() {
            let log = self.network.run_directory(host).join("gvpnd.log");
            let Ok(text) = std::fs::read_to_string(log) else { continue };
            let lines: Vec<&str> = text.lines().collect();
            self.output.line(&format!("--- log of gvpnd on {host}, last lines"));
            for line in &lines[lines.len().saturating_sub(25)..] {
                self.output.line(&format!("    {line}"));
            }
        }
    }
}

fn count_packets(file: &Path, filter: &str) -> Result<(u64, String)> {
    let output = Command::new("tcpdump").args(["-n", "-r"]).arg(file).arg(filter).output()?;
    if !output.status.success() {
        bail!("tcpdump: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let first = lines.next().map(str::to_owned);
    Ok((first.iter().count() as u64 + lines.count() as u64, first.unwrap_or_default()))
}

fn judge(what: &str, (success, text): &(bool, String), expect: &Expect) -> Result<()> {
    if *success == expect.fails {
        bail!(
            "`{what}` {}: {}",
            if *success { "succeeded and should not have" } else { "failed" },
            text.trim()
        );
    }
    if let Some(missing) = expect.contains.iter().find(|words| !text.contains(*words)) {
        bail!("`{what}` does not say `{missing}` but: {}", text.trim());
    }
    if let Some(found) = expect.lacks.iter().find(|words| text.contains(*words)) {
        bail!("`{what}` says `{found}`: {}", text.trim());
    }
    Ok(())
}

fn stop(mut child: Child, signal: &str) -> Result<bool> {
    // The child is `ip netns exec`, which replaces itself by the program: its pid is the program's.
    Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(child.id().to_string())
        .stderr(Stdio::null())
        .status()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > STOP_LIMIT {
            child.kill()?;
            bail!("did not stop within {} s of {signal}", STOP_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("         | {line}")).collect::<Vec<_>>().join("\n")
}
