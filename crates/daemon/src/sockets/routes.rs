//! Which routing instance a datagram belongs to: the addresses of both ends tell.

use std::collections::HashMap;
use std::net::IpAddr;

use config::model::{Configuration, Peer};
use proto::path::Path;

use crate::instances::{InstanceId, Instances};

/// The peers of a configuration and the instances in which they are reached.
#[derive(Debug, Default)]
pub struct Routes {
    /// By address: our own address, where it matters, and the instance.
    by_peer: HashMap<IpAddr, Vec<(Option<IpAddr>, InstanceId)>>,
    /// Where peers are reached whose address is not known, by our own address.
    by_local: HashMap<IpAddr, InstanceId>,
}

impl Routes {
    /// Those of a configuration whose checks have found nothing ambiguous.
    pub fn new(configuration: &Configuration, instances: &Instances) -> Routes {
        let mut routes = Routes::default();
        // Everything is in the default instance.
        if configuration.instances_in_use().is_empty() {
            return routes;
        }
        for gateway in configuration.member.iter().flat_map(|member| &member.gateways) {
            let instance = instances.id(gateway.routing_instance.as_deref());
            for server in &gateway.servers {
                routes.by_peer.entry(*server).or_default().push((gateway.local_address, instance));
            }
        }
        for gateway in configuration.server.iter().flat_map(|server| &server.gateways) {
            let instance = instances.id(gateway.routing_instance.as_deref());
            match (&gateway.peer, gateway.local_address) {
                (Peer::Address(address), local) => {
                    routes.by_peer.entry(*address).or_default().push((local, instance));
                }
                (Peer::Dynamic(_), Some(local)) => drop(routes.by_local.insert(local, instance)),
                (Peer::Dynamic(_), None) => {}
            }
        }
        routes
    }

    /// The instance of a path, as this machine sees it.
    pub fn instance(&self, path: &Path) -> InstanceId {
        if self.by_peer.is_empty() && self.by_local.is_empty() {
            return InstanceId::DEFAULT;
        }
        let (local, remote) = (path.local.ip(), path.remote.ip());
        let known = self.by_peer.get(&remote).into_iter().flatten();
        let fits = |own: &Option<IpAddr>| own.is_none_or(|own| own == local || local.is_unspecified());
        let chosen = known.filter(|(own, _)| fits(own)).map(|(_, instance)| *instance).next();
        chosen.or_else(|| self.by_local.get(&local).copied()).unwrap_or(InstanceId::DEFAULT)
    }

    #[cfg(test)]
    pub(super) fn of_peers(peers: &[(&str, Option<&str>, InstanceId)]) -> Routes {
        let mut routes = Routes::default();
        for (peer, local, instance) in peers {
            let local = local.map(|local| local.parse().expect("an address"));
            routes.by_peer.entry(peer.parse().expect("an address")).or_default().push((local, *instance));
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        let address = |text: &str| std::net::SocketAddr::new(text.parse().unwrap(), 848);
        Path::new(address(local), address(remote))
    }

    #[test]
    fn without_instances_everything_is_in_the_default_one() {
        assert_eq!(Routes::default().instance(&path("10.0.0.1", "10.0.0.2")), InstanceId::DEFAULT);
    }

    #[test]
    fn the_own_address_tells_peers_of_one_address_apart() {
        let red = InstanceId::ABSENT;
        let routes = Routes::of_peers(&[
            ("10.0.0.9", Some("10.0.1.1"), InstanceId::DEFAULT),
            ("10.0.0.9", Some("10.0.2.1"), red),
            ("10.0.0.8", None, red),
        ]);
        assert_eq!(routes.instance(&path("10.0.1.1", "10.0.0.9")), InstanceId::DEFAULT);
        assert_eq!(routes.instance(&path("10.0.2.1", "10.0.0.9")), red);
        assert_eq!(routes.instance(&path("0.0.0.0", "10.0.0.8")), red);
        assert_eq!(routes.instance(&path("10.0.9.9", "10.0.0.8")), red);
        assert_eq!(routes.instance(&path("10.0.2.1", "10.0.0.7")), InstanceId::DEFAULT, "nobody we know");
    }
}
