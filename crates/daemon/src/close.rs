//! `gvpnd --close`: the external interfaces are closed before the daemon, or even the network, is up.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::clock::Clock;
use crate::command_line::CommandLine;
use crate::configuration::Loaded;
use crate::datapath::{DataPath, Options, Publication, StopBehaviour, WireIo};
use crate::instances::shown;
use crate::interfaces::Interfaces;
use crate::lock::{Lock, LockError};
use crate::namespace::Namespace;
use crate::netlink::{Link, Links};
use crate::protection::Protection;
use crate::state::StateDirectory;
use crate::terminal::tell;

/// Attaches the programs, without keys, and leaves them there. Where a daemon runs it does nothing: that one closes what
/// appears, and must keep its programs.
pub fn close(command_line: &CommandLine, loaded: &Loaded) -> Result<()> {
    let Some(member) = &loaded.model.member else {
        tell("no VPN is configured: nothing to close");
        return Ok(());
    };
    let _lock = match Lock::take(&command_line.runtime_dir) {
        Ok(lock) => lock,
        Err(LockError::Running { .. }) => {
            tell("gvpnd runs, and closes its interfaces itself");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let state = StateDirectory::open(&command_line.state_dir)
        .with_context(|| format!("state directory {}", command_line.state_dir.display()))?;
    let mut protection = Protection::default();
    protection.configure(&loaded.model, &state);
    let interfaces = Interfaces::new(&loaded.model);
    let peers: Vec<_> = member.gateways.iter().flat_map(|gateway| gateway.servers.clone()).collect();
    let mut outcome = Closed::default();
    let mut close = |instance: Option<&str>| -> Result<()> {
        let links = Links::read().context("reading links")?;
        let tables = Arc::new(protection.tables(&loaded.model, &interfaces, instance, &links));
        // It serves nothing: one lane, whose ring is all that remains.
        let options = Options { wire_io: WireIo::Packet, lanes: 1, ..Options::at(Clock::start()) };
        let mut data_path = DataPath::start(options).context("data path")?;
        let errors = data_path.publish(Publication { tables: &tables, links: &links, peers: &peers });
        data_path.stop(StopBehaviour::Closed)?;
        // One that cannot be served may be closed all the same, which is all that is asked for.
        outcome.errors.extend(errors.iter().filter(|error| !error.is_closed).map(ToString::to_string));
        let name = |link: &Link| shown(instance, &link.name);
        outcome.interfaces.extend(interfaces.links(instance, &links).map(name));
        Ok(())
    };
    close(None)?;
    for instance in loaded.model.instances_in_use() {
        // A namespace that appears later has no interfaces yet; the daemon closes them.
        if let Ok(namespace) = Namespace::open(loaded.model.namespace_of(instance)) {
            namespace.within(|| close(Some(instance)))??;
        }
    }
    let Closed { interfaces, errors } = outcome;
    if !errors.is_empty() {
        bail!("cannot close {}", errors.join("; "));
    }
    let interfaces = if interfaces.is_empty() { "no interface yet".into() } else { interfaces.join(", ") };
    tell(format_args!("closed: {interfaces}"));
    Ok(())
}

/// What was closed, over all routing instances.
#[derive(Default)]
struct Closed {
    interfaces: Vec<String>,
    errors: Vec<String>,
}
