//! The event loop: one thread that owns everything but the packet path. One input, then every output, then the next.

mod addresses;
mod apply;
mod cluster;
mod commit;
mod eviction;
mod instances;
mod outputs;
mod persistence;
mod recovery;
mod rekey;
mod resume;
mod show;
mod supervision;

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proto::Role as _;
use proto::log::Journal;
use proto::member::Member;
use proto::path::Path;
use proto::server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use commit::{Change, Changes};
use eviction::Forwarded;
use recovery::Recovery;
use resume::Kept;
use supervision::Supervision;

use crate::clock::{Alarm, Clock};
use crate::command_line::CommandLine;
use crate::configuration::Loaded;
use crate::control_socket::{Call, ControlSocket, Request, Subject};
use crate::datapath::StopBehaviour;
use crate::dispatch::{Destination, Dispatch};
use crate::durable::{Durable, Identity};
use crate::instances::Instances;
use crate::interfaces::{Interfaces, Readiness};
use crate::lock::Lock;
use crate::log::Log;
use crate::multicast::Listening;
use crate::notify;
use crate::protection::Protection;
use crate::settings;
use crate::signing_keys::SigningKeys;
use crate::sockets::{Datagram, Sockets};
use crate::state::StateDirectory;

/// How soon an interface that could not be attached to is tried again.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);

/// The running daemon.
pub struct Daemon {
    command_line: CommandLine,
    clock: Clock,
    started: proto::time::Instant,
    log: Log,
    journal: Journal,
    state: StateDirectory,
    signing_keys: SigningKeys,
    /// Changes of the configuration that wait for keys to be made.
    changes: Changes,
    active: Loaded,
    sockets: Sockets,
    dispatch: Dispatch,
    /// From one role of this machine to the other.
    local: VecDeque<(Destination, Path, Vec<u8>)>,
    server: Option<Server>,
    /// The state of the server: there is one as long as there is a server.
    durable: Option<Durable>,
    /// Once the server has shared its state with others.
    identity: OnceCell<Identity>,
    /// Commands that another server was asked to do.
    forwarded: Vec<Forwarded>,
    member: Option<Member>,
    interfaces: Interfaces,
    /// What each VPN was told last.
    readiness: BTreeMap<String, Readiness>,
    instances: Instances,
    /// When to see whether the namespaces of routing instances have come or gone.
    look_at_instances: Option<proto::time::Instant>,
    protection: Protection,
    attach_problems: Vec<String>,
    publish_again: Option<proto::time::Instant>,
    /// The groups that rekeys of the member's VPNs come by.
    listening: Listening,
    /// Memberships that could not be had.
    join_problems: Vec<String>,
    join_again: Option<proto::time::Instant>,
    recovery: Recovery,
    kept: Kept,
    supervision: Supervision,
    /// The tables are behind.
    stale: bool,
    buffer: Vec<u8>,
    _lock: Lock,
}

/// What wakes the event loop.
struct Inputs {
    datagrams: mpsc::Receiver<Vec<Datagram>>,
    calls: mpsc::Receiver<Call>,
    prepared: mpsc::UnboundedReceiver<commit::Outcome>,
    _control_socket: ControlSocket,
}

/// Runs until a signal ends it.
pub async fn run(command_line: CommandLine, loaded: Loaded, log: Log) -> Result<()> {
    let lock = Lock::take(&command_line.runtime_dir)?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (mut daemon, mut inputs) = Daemon::start(command_line, loaded, log, lock)?;
    daemon.tell_ready();
    let mut alarm = Alarm::new(daemon.clock).context("timer")?;
    loop {
        daemon.drain();
        alarm.set(daemon.wake()).context("timer")?;
        tokio::select! {
            Some(batch) = inputs.datagrams.recv() => {
                for datagram in batch {
                    daemon.handle_datagram(datagram);
                    daemon.drain();
                }
            }
            () = daemon.sockets.ready_to_push(), if daemon.sockets.has_pushes() => daemon.send_waiting_rekeys(),
            () = alarm.rings() => daemon.handle_timeout(),
            Some(call) = inputs.calls.recv() => daemon.handle_call(call),
            Some(outcome) = inputs.prepared.recv() => daemon.handle_prepared(outcome),
            outcome = Durable::outcome(&mut daemon.durable) => daemon.handle_committed(outcome),
            () = daemon.supervision.due() => daemon.tell_service_manager(),
            () = daemon.kept.due() => daemon.keep_windows(),
            () = daemon.recovery.alarm() => daemon.handle_unknown_spi(),
            () = daemon.instances.links_changed() => daemon.handle_links(),
            Some(()) = hangup.recv() => daemon.handle_hangup(),
            Some(()) = terminate.recv() => break,
            Some(()) = interrupt.recv() => break,
        }
    }
    notify::stopping();
    daemon.stop()
}

impl Daemon {
    fn start(command_line: CommandLine, loaded: Loaded, log: Log, lock: Lock) -> Result<(Daemon, Inputs)> {
        let clock = Clock::start();
        let state = StateDirectory::open(&command_line.state_dir)
            .with_context(|| format!("state directory {}", command_line.state_dir.display()))?;
        let instances = Instances::start().context("netlink")?;
        let (sockets, datagrams) = Sockets::new();
        let (changes, prepared) = Changes::new();
        let mut signing_keys = SigningKeys::new(&command_line.state_dir);
        // Nothing else runs yet, so this may take its time.
        let preparation = signing_keys.preparation(signing_keys.missing(&loaded.model));
        signing_keys.add(preparation.run().context("keys that sign rekeys")?);
        let mut daemon = Daemon {
            clock,
            started: clock.now(),
            log: log.clone(),
            journal: Journal::default(),
            state,
            signing_keys,
            changes,
            active: Loaded {
                tree: config::Tree::default(),
                model: config::read(NO_ROLES, &[]).model.unwrap_or_else(empty),
            },
            sockets,
            dispatch: Dispatch::default(),
            local: VecDeque::new(),
            server: None,
            durable: None,
            identity: OnceCell::new(),
            forwarded: Vec::new(),
            member: None,
            interfaces: Interfaces::default(),
            readiness: BTreeMap::new(),
            instances,
            look_at_instances: None,
            protection: Protection::default(),
            attach_problems: Vec::new(),
            publish_again: None,
            listening: Listening::default(),
            join_problems: Vec::new(),
            join_again: None,
            recovery: Recovery::default(),
            kept: Kept::default(),
            supervision: Supervision::start(),
            stale: false,
            buffer: Vec::new(),
            command_line,
            _lock: lock,
        };
        if loaded.model.member.is_none() && !daemon.command_line.control_plane_only {
            // A daemon before us may have had VPNs; this configuration has none to keep closed.
            for interface in crate::datapath::detach_abandoned().unwrap_or_default() {
                tracing::info!(interface, "detached: no VPN is configured");
            }
        }
        daemon.apply(loaded)?;
        for diagnostic in daemon.virtual_addresses(&daemon.active.model, "") {
            tracing::warn!(target: "high-availability", "{}", diagnostic.message);
        }
        let (control_socket, calls) = ControlSocket::open(&daemon.command_line.runtime_dir, log)
            .with_context(|| format!("control socket in {}", daemon.command_line.runtime_dir.display()))?;
        let listening = daemon.sockets.listening().join(" ");
        tracing::info!(version = env!("CARGO_PKG_VERSION"), listening, "gvpnd started");
        Ok((daemon, Inputs { datagrams, calls, prepared, _control_socket: control_socket }))
    }

    fn handle_datagram(&mut self, datagram: Datagram) {
        if self.is_own_rekey(&datagram.path) || self.is_astray(&datagram) {
            return;
        }
        let destination = match (&self.server, &self.member) {
            (Some(_), Some(_)) => self.dispatch.of_received(&datagram.octets),
            (None, Some(_)) => Destination::Member,
            _ => Destination::Server,
        };
        self.deliver(destination, datagram.path, &datagram.octets);
    }

    fn deliver(&mut self, destination: Destination, path: Path, octets: &[u8]) {
        let now = self.clock.now();
        match destination {
            Destination::Server => {
                if self.server_listens()
                    && let Some(server) = &mut self.server
                {
                    server.handle_datagram(now, path, octets);
                }
            }
            Destination::Member => {
                if let Some(member) = &mut self.member {
                    member.handle_datagram(now, path, octets);
                }
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = self.clock.now();
        if let Some(durable) = &mut self.durable {
            durable.handle_timeout(now);
        }
        if self.server_listens()
            && let Some(server) = &mut self.server
        {
            server.handle_timeout(now);
        }
        if let Some(member) = &mut self.member {
            member.handle_timeout(now);
        }
        if self.publish_again.is_some_and(|moment| moment <= now) {
            self.stale = true;
        }
        if self.look_at_instances.is_some_and(|moment| moment <= now) {
            self.follow_instances();
        }
        if self.join_again.is_some_and(|moment| moment <= now) {
            self.join_groups();
        }
        self.give_up_evictions(now);
    }

    fn handle_links(&mut self) {
        self.instances.mark_links_seen();
        // Closed first: an interface that appeared must not carry anything before the data path is on it.
        self.publish();
        self.join_groups();
        self.follow_addresses();
        self.tell_readiness();
    }

    fn handle_call(&mut self, call: Call) {
        let reply = match call.request {
            Request::Commit(request) => {
                return self.change(Change::Commit { request, reply: call.reply });
            }
            Request::Clear(Subject::ServerGroup, filter) => return self.evict(&filter, call.reply),
            Request::Show(subject, filter) => self.show(subject, &filter),
            Request::Clear(subject, filter) => self.clear(subject, &filter),
            Request::Configuration(query) => self.show_configuration(&query),
            Request::Check(request) => self.check(request),
            Request::Load(request) => self.load(&request),
        };
        // The asker may have gone away.
        let _ = call.reply.send(reply);
    }

    fn handle_hangup(&mut self) {
        notify::reloading();
        self.change(Change::Reload);
    }

    /// When the event loop must wake without other input.
    fn wake(&self) -> Option<proto::time::Instant> {
        let server = self.server.as_ref().filter(|_| self.server_listens());
        let server = server.and_then(|server| server.poll_timeout());
        let durable = self.durable.as_ref().and_then(|durable| durable.poll_timeout());
        let member = self.member.as_ref().and_then(|member| member.poll_timeout());
        let forwarded = self.forwarded.iter().map(|forwarded| forwarded.ends()).min();
        [server, durable, member, forwarded, self.publish_again, self.join_again, self.look_at_instances]
            .into_iter()
            .flatten()
            .min()
    }

    /// An orderly end: peers are told, and the interfaces are left as `stop-behaviour` says.
    fn stop(mut self) -> Result<()> {
        let now = self.clock.now();
        if let Some(server) = &mut self.server {
            server.shut_down(now);
        }
        let behaviour = match self.active.model.member.as_ref().map(|member| member.stop_behaviour) {
            Some(config::model::StopBehaviour::Detach) => StopBehaviour::Detach,
            Some(config::model::StopBehaviour::Closed) | None => StopBehaviour::Closed,
        };
        match behaviour {
            StopBehaviour::Closed => self.leave_member(),
            StopBehaviour::Detach => self.forget_member(),
        }
        if let Some(member) = &mut self.member {
            member.shut_down(now);
        }
        self.drain();
        self.close_state();
        self.instances.stop(behaviour).context("stopping the data path")?;
        tracing::info!(?behaviour, "gvpnd stopped");
        Ok(())
    }
}

fn empty() -> config::Configuration {
    unreachable!("it has no errors")
}

/// What is in force before anything is.
const NO_ROLES: &str = "security { group-vpn; }";

/// UDP ports of the roles.
fn ports(configuration: &config::Configuration) -> Vec<u16> {
    let mut ports: Vec<u16> =
        configuration.server.iter().flat_map(|server| server.listen_ports.clone()).collect();
    if configuration.member.is_some() {
        ports.push(settings::GDOI_PORT);
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Whom GDOI is spoken with: that always passes.
fn peers(
    configuration: &config::Configuration,
    listening: &Listening,
    server: Option<&Server>,
    now: proto::time::Instant,
) -> Vec<IpAddr> {
    let servers =
        configuration.member.iter().flat_map(|member| &member.gateways).flat_map(|gateway| &gateway.servers);
    let members =
        configuration.server.iter().flat_map(|server| &server.gateways).filter_map(|gateway| match &gateway
            .peer
        {
            config::model::Peer::Address(address) => Some(*address),
            config::model::Peer::Dynamic(_) => None,
        });
    let multicast = configuration
        .server
        .iter()
        .flat_map(|server| &server.groups)
        .filter_map(|group| group.communication.as_ref()?.multicast_group);
    let registered = server.map(|server| server.registered_members(now)).unwrap_or_default();
    let registered = registered.into_iter().flat_map(|group| group.members).map(|member| member.address);
    let mut peers: Vec<IpAddr> = servers
        .copied()
        .chain(members)
        .chain(multicast)
        .chain(listening.groups())
        .chain(registered)
        .collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}
