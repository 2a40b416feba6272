//! Rekeys on their way: from the server to its members, and to the groups that our own VPNs listen to.

use std::net::{IpAddr, SocketAddr};

use config::model::InterfaceName;
use proto::log::{Entry, Facility, Level};
use proto::path::Path;
use proto::server::{PushBatch, Recipients};

use super::outputs::arrival;
use super::{ATTACH_AGAIN, Daemon};
use crate::dispatch::Destination;
use crate::instances::shown;
use crate::multicast::{self, NoWayOut, Outgoing};
use crate::settings::GDOI_PORT;

impl Daemon {
    /// Sends a message of the server to many: to a group at once, to single members as the sockets can take it.
    pub(super) fn send_rekey(&mut self, batch: PushBatch) {
        match batch.to {
            Recipients::Unicast(mut paths) => {
                if self.member.is_some() {
                    let local = |path: &mut Path| self.is_local(path);
                    for path in paths.extract_if(.., local).collect::<Vec<_>>() {
                        self.local.push_back((Destination::Member, arrival(path), batch.datagram.to_vec()));
                    }
                }
                self.sockets.push(batch.datagram, paths);
            }
            Recipients::Multicast { group, interface } => {
                if let Err(error) = self.send_to_group(group, &interface, &batch.datagram) {
                    let entry = Entry::new(Level::Warn, Facility::General, "a rekey could not be sent")
                        .with("multicast-group", group.ip())
                        .with("multicast-outgoing-interface", interface)
                        .with("error", error);
                    self.journal.record(self.clock.now(), entry);
                }
            }
        }
    }

    fn send_to_group(
        &mut self,
        group: SocketAddr,
        interface: &str,
        datagram: &[u8],
    ) -> Result<(), SendError> {
        let name = InterfaceName(interface.to_owned());
        let instance = self.active.model.instance_of(&name);
        let device = self.active.model.linux_device(&name).unwrap_or_else(|| name.0.clone());
        let instance =
            self.instances.get(instance).ok_or_else(|| SendError::Absent(self.instances.reason(instance)))?;
        let (id, links) = (instance.id(), instance.links());
        let outgoing = || multicast::outgoing(&links, &device, group.ip());
        let Outgoing { mut source, looped } = instance.namespace().within(outgoing)??;
        // What members were told, where the interface has that address.
        let told = self.server_address(group.ip());
        let own = links.by_name(&device).map(|link| &link.addresses[..]).unwrap_or_default();
        if let Some(told) = told.filter(|told| own.iter().any(|prefix| prefix.addr() == *told)) {
            source.address = told;
        }
        // Our own VPNs hear it without the network: they may listen on other interfaces than it leaves by.
        if self.member.is_some() && self.listening.has(group.ip()) {
            let of_family = |address: &IpAddr| address.is_ipv4() == group.is_ipv4();
            let from = Some(source.address).filter(|address| !address.is_unspecified()).or(told);
            let from = from.or_else(|| own.iter().map(|prefix| prefix.addr()).find(of_family));
            let from = from.unwrap_or(source.address);
            let path = Path::new(group, SocketAddr::new(from, GDOI_PORT));
            self.local.push_back((Destination::Member, path, datagram.to_vec()));
        }
        Ok(self.sockets.send_to_group(id, group, source, looped, datagram)?)
    }

    /// `server-address` of the group that sends its rekeys there.
    fn server_address(&self, multicast_group: IpAddr) -> Option<IpAddr> {
        let groups = self.active.model.server.iter().flat_map(|server| &server.groups);
        groups
            .filter(|group| {
                let communication = group.communication.as_ref();
                communication.and_then(|it| it.multicast_group) == Some(multicast_group)
            })
            .find_map(|group| group.server_address)
    }

    /// Whether a datagram is a rekey of our own server, looped back: our own VPNs have it already.
    pub(super) fn is_own_rekey(&self, path: &Path) -> bool {
        self.server.is_some() && path.local.ip().is_multicast() && self.is_local(path)
    }

    /// Sends some of the rekey messages that wait.
    pub(super) fn send_waiting_rekeys(&mut self) {
        if let Some((count, error)) = self.sockets.send_pushes() {
            let entry = Entry::new(Level::Warn, Facility::General, "rekey messages could not be sent")
                .with("members", count)
                .with("error", error);
            self.journal.record(self.clock.now(), entry);
        }
    }

    /// Joins and leaves groups so that the member's VPNs hear their rekeys.
    pub(super) fn join_groups(&mut self) {
        let member = self.active.model.member.as_ref();
        let control_instance =
            |vpn: &str| member.and_then(|member| member.vpn(vpn)?.gateway.routing_instance.as_deref());
        let wanted = self.listening.memberships(&self.interfaces, &self.instances, control_instance);
        let problems: Vec<String> = self
            .sockets
            .join(&wanted, GDOI_PORT)
            .iter()
            .map(|(id, membership, error)| {
                let name = self.instances.by_id(*id).and_then(|(name, instance)| {
                    let links = instance.links();
                    links.by_index(membership.interface).map(|link| shown(name, &link.name))
                });
                let name = name.unwrap_or_else(|| "?".into());
                format!("cannot join multicast group {} on {name}: {error}{}", membership.group, hint(error))
            })
            .collect();
        for problem in problems.iter().filter(|problem| !self.join_problems.contains(problem)) {
            tracing::error!(target: "general", %problem, "rekeys by multicast are not heard");
        }
        self.join_again = (!problems.is_empty()).then(|| self.clock.now() + ATTACH_AGAIN);
        self.join_problems = problems;
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => "; net.ipv4.igmp_max_memberships limits how many one socket may have",
        _ => "",
    }
}

/// Why a message to a group was not sent.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    Absent(String),
    #[error(transparent)]
    NoWayOut(#[from] NoWayOut),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
