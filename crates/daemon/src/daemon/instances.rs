//! The routing instances of the configuration, whose namespaces come and go, and what their data paths go by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::model::Configuration;
use proto::log::{Entry, Facility, Level};

use super::{ATTACH_AGAIN, Daemon, peers, ports};
use crate::datapath::{Options, Publication};
use crate::instances::{DEFAULT, shown};
use crate::netlink::Links;
use crate::sockets::{Datagram, Routes};

/// How often is looked whether a namespace has come, gone, or been made anew: nothing tells of that.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Daemon {
    /// Opens the instances of a configuration beside those that are open, as far as their namespaces are there.
    pub(super) fn open_instances(&mut self, model: &Configuration) {
        self.instances.open(&wanted(model));
    }

    /// Closes the instances that the configuration in force does not have, and their sockets.
    pub(super) fn close_instances(&mut self) {
        let wanted = wanted(&self.active.model);
        if self.instances.retain(&wanted) {
            self.listen_in_instances();
        }
        self.look_at_instances = (!wanted.is_empty()).then(|| self.clock.now() + LOOK_AGAIN);
    }

    /// Starts the data paths that a member needs and that are not there yet. Returns whether there were any, and why others did
    /// not start.
    pub(super) fn start_data_paths(&mut self, has_member: bool) -> (bool, Vec<String>) {
        let is_complete = self.instances.iter().all(|(_, instance)| instance.data_path().is_some());
        if is_complete || !has_member || self.command_line.control_plane_only {
            return (false, Vec::new());
        }
        let options = Options {
            wire_io: self.command_line.wire_io,
            busy_poll: Duration::from_micros(self.command_line.busy_poll),
            lanes: self.command_line.lanes(),
            ..Options::at(self.clock)
        };
        let (started, problems) = self.instances.start_data_paths(options);
        for data_path in &started {
            self.recovery.watch(data_path.unknown_spi());
        }
        (!started.is_empty(), problems)
    }

    /// Sees whether namespaces have come or gone.
    pub(super) fn follow_instances(&mut self) {
        let wanted = wanted(&self.active.model);
        self.look_at_instances = (!wanted.is_empty()).then(|| self.clock.now() + LOOK_AGAIN);
        if !self.instances.open(&wanted) {
            return;
        }
        self.publish();
        self.listen_in_instances();
        self.sockets.set_routes(Routes::new(&self.active.model, &self.instances));
        self.join_groups();
        self.follow_addresses();
        self.tell_readiness();
    }

    fn listen_in_instances(&mut self) {
        if let Err(error) = self.sockets.listen(&self.instances.namespaces(), &ports(&self.active.model)) {
            tracing::error!(%error, "sockets of routing instances");
        }
    }

    /// Whether a datagram came by another instance than the one its addresses belong to. Groups are joined only where
    /// they are to be heard, and their rekeys are signed.
    pub(super) fn is_astray(&mut self, datagram: &Datagram) -> bool {
        let belongs_to = self.sockets.instance(&datagram.path);
        if belongs_to == datagram.instance || datagram.path.local.ip().is_multicast() {
            return false;
        }
        let name = |id| self.instances.by_id(id).map_or("?", |(name, _)| name.unwrap_or(DEFAULT)).to_owned();
        let entry =
            Entry::new(Level::Debug, Facility::General, "a datagram came by another routing instance")
                .with("path", datagram.path)
                .with("instance", name(datagram.instance))
                .with("belongs-to", name(belongs_to));
        self.journal.record(self.clock.now(), entry);
        true
    }

    /// The links of an instance; none where its namespace is not there.
    pub(super) fn links_of(&self, instance: Option<&str>) -> Arc<Links> {
        self.instances.get(instance).map(|instance| instance.links()).unwrap_or_default()
    }

    /// Hands the data paths everything they go by. Those of instances that came later are started first, and again until they are.
    pub(super) fn publish(&mut self) {
        self.stale = false;
        self.publish_again = None;
        let peers = peers(&self.active.model, &self.listening, self.server.as_ref(), self.clock.now());
        let (_, without) = self.start_data_paths(self.active.model.member.is_some());
        let mut problems: Vec<String> = without
            .iter()
            .map(|problem| format!("{problem}; protected traffic may leave there in clear"))
            .collect();
        for (name, instance) in
            self.instances.iter_mut().filter(|(_, instance)| instance.data_path().is_some())
        {
            let links = instance.links();
            let tables = self.protection.tables(&self.active.model, &self.interfaces, name, &links);
            let publication = Publication { tables: &Arc::new(tables), links: &links, peers: &peers };
            problems.extend(instance.publish(publication).iter().map(|error| {
                let interface = shown(name, &error.interface);
                let source = &error.source;
                let consequence = match error.is_closed {
                    true => "what its policies match is dropped",
                    false => "protected traffic may leave by it in clear",
                };
                format!("cannot attach to interface {interface}: {source}; {consequence}")
            }));
        }
        // Said once of each, though the cause may read differently each time.
        let subject = |problem: &String| problem.split(": ").next().unwrap_or_default().to_owned();
        let known: BTreeSet<String> = self.attach_problems.iter().map(subject).collect();
        for problem in problems.iter().filter(|problem| !known.contains(&subject(problem))) {
            tracing::error!(%problem, "data path");
        }
        if !problems.is_empty() {
            self.publish_again = Some(self.clock.now() + ATTACH_AGAIN);
        }
        self.attach_problems = problems;
    }
}

/// The instances that a configuration uses, with their namespaces.
fn wanted(model: &Configuration) -> BTreeMap<String, String> {
    let instances = model.instances_in_use().into_iter();
    instances.map(|name| (name.to_owned(), model.namespace_of(name).to_owned())).collect()
}
