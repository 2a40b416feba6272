//! Cooperating servers.

use super::server::Defined;
use super::{At, Builder};
use crate::finding::Kind;
use crate::model::*;
use crate::obfuscation;
use crate::secret::SecretText;
use crate::tree::Node;

/// First part of every key where none is written.
const DEFAULT_PREFIX: &str = "/groupvpn";

/// How long others wait for a silent leader where nothing is written, in seconds.
const DEFAULT_LEASE_SECS: u16 = 5;

/// Seconds between attempts where nothing is written.
const DEFAULT_RETRANSMISSION_PERIOD_SECS: u16 = 10;

impl Builder {
    pub(super) fn cluster(
        &mut self,
        at: &At<'_>,
        gateways: &Defined<ServerGateway>,
    ) -> Option<ServerCluster> {
        let role = self.require(at, "server-role", ServerRole::from_word);
        let gateways = self.listed_gateways(at, gateways);
        Some(ServerCluster {
            role: role?,
            gateways,
            retransmission_period_secs: at
                .number("retransmission-period")
                .unwrap_or(DEFAULT_RETRANSMISSION_PERIOD_SECS),
            place: at.place(),
        })
    }

    /// `cluster-store`, and whether the groups agree with it.
    pub(super) fn cluster_store(&mut self, at: &At<'_>, groups: &[Group]) -> Option<ClusterStore> {
        let clusters = || groups.iter().filter_map(|group| group.cluster.as_ref());
        let Some(store) = at.child("cluster-store") else {
            for cluster in clusters() {
                let message = "`server-cluster` without `cluster-store`: this server makes keys of its own, \
                               which members of other servers do not have";
                let remedy = "add `cluster-store etcd { ... }` to `security group-vpn server`";
                self.warn(Kind::Missing, cluster.place.span, &cluster.place.path, message, remedy);
            }
            return None;
        };
        let Some(etcd) = store.child("etcd") else {
            self.require(&store, "etcd", |_| Some(()));
            return None;
        };
        for group in groups.iter().filter(|group| group.cluster.is_none()) {
            let message = format!(
                "group `{}` has no `server-cluster`: where there is a `cluster-store` it keeps the state of every group",
                group.name
            );
            let remedy = "add `server-cluster { server-role root-server; }`";
            self.outside(Kind::Missing, group.place.span, &group.place.path, message, remedy);
        }
        let role = clusters().next().map_or(ServerRole::RootServer, |cluster| cluster.role);
        for cluster in clusters().filter(|cluster| cluster.role != role) {
            let message = format!("another group says `server-role {role}`: a server has one role for all");
            let remedy = "give every group the same `server-role`";
            self.error(Kind::Conflict, cluster.place.span, &cluster.place.path, message, remedy);
        }
        let endpoints = self.endpoints(&etcd);
        let secure = endpoints.first().is_some_and(|url| url.starts_with("https"));
        Some(ClusterStore {
            prefix: self.prefix(&etcd),
            server_name: etcd.text("server-name"),
            lease_secs: etcd.number("lease-seconds").unwrap_or(DEFAULT_LEASE_SECS),
            cluster_key: etcd.text("cluster-key"),
            tls: self.tls(&etcd, secure),
            user: self.user(&etcd),
            role,
            retransmission_period_secs: clusters()
                .map(|cluster| cluster.retransmission_period_secs)
                .min()
                .unwrap_or(DEFAULT_RETRANSMISSION_PERIOD_SECS),
            endpoints,
            place: etcd.place(),
        })
    }

    fn endpoints(&mut self, at: &At<'_>) -> Vec<String> {
        let leaves: Vec<&Node> = at.node.children_named("endpoint").collect();
        if leaves.is_empty() {
            self.require(at, "endpoint", |_| Some(()));
        }
        let mut endpoints: Vec<String> = Vec::new();
        for leaf in leaves.into_iter().filter(|leaf| !leaf.faulty) {
            let url = leaf.value().trim_end_matches('/');
            if let Err(problem) = check_url(url) {
                let message = format!("`{url}` is no endpoint: {problem}");
                let remedy = "write `http://ADDRESS:PORT` or `https://ADDRESS:PORT`; etcd listens on 2379";
                self.error(Kind::BadValue, leaf.span, &at.path, message, remedy);
            } else if endpoints.first().is_some_and(|first| scheme(first) != scheme(url)) {
                let message = "some endpoints speak TLS and others do not";
                self.error(Kind::Conflict, leaf.span, &at.path, message, "write all with `https`, or none");
            } else if endpoints.iter().any(|known| known == url) {
                let message = format!("endpoint `{url}` twice");
                self.warn(Kind::Duplicate, leaf.span, &at.path, message, "remove one");
            } else {
                endpoints.push(url.to_owned());
            }
        }
        endpoints
    }

    fn prefix(&mut self, at: &At<'_>) -> String {
        let Some(leaf) = at.node.child("prefix") else { return DEFAULT_PREFIX.to_owned() };
        let prefix = leaf.value();
        if !prefix.starts_with('/') || prefix.trim_end_matches('/').is_empty() {
            let message = format!("`{prefix}` begins with no name");
            self.error(Kind::BadValue, leaf.span, &at.path, message, "write a path such as `/groupvpn/wan`");
        }
        prefix.trim_end_matches('/').to_owned()
    }

    fn tls(&mut self, at: &At<'_>, secure: bool) -> Option<ClusterTls> {
        if !secure {
            for name in ["certificate-authority", "certificate", "private-key"] {
                if let Some(leaf) = at.node.child(name) {
                    let message = format!("`{name}` has no effect on endpoints without TLS");
                    self.warn(
                        Kind::Conflict,
                        leaf.span,
                        &at.path,
                        message,
                        "write the endpoints with `https`",
                    );
                }
            }
            return None;
        }
        self.both(at, "certificate", "private-key");
        Some(ClusterTls {
            certificate_authority: at.text("certificate-authority"),
            certificate: at.text("certificate").zip(at.text("private-key")),
        })
    }

    fn user(&mut self, at: &At<'_>) -> Option<(String, SecretText)> {
        self.both(at, "user", "password");
        let password = at.value("password", |text| obfuscation::decode(text).map(SecretText::new));
        at.text("user").zip(password)
    }

    /// Complains of one of two statements that need each other if it is there alone.
    fn both(&mut self, at: &At<'_>, one: &str, other: &str) {
        for (present, missing) in [(one, other), (other, one)] {
            if let (Some(leaf), false) = (at.node.child(present), at.has(missing)) {
                let message = format!("`{present}` without `{missing}`");
                let remedy = format!("add `{missing} ...;`");
                self.outside(Kind::Missing, leaf.span, &at.path, message, &remedy);
            }
        }
    }
}

fn scheme(url: &str) -> &str {
    url.split("://").next().unwrap_or_default()
}

/// Whether this names a member of etcd.
fn check_url(url: &str) -> Result<(), &'static str> {
    let authority = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("it begins with neither `http://` nor `https://`")?;
    let (host, port) = authority.rsplit_once(':').ok_or("it names no port")?;
    if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
        return Err("its port is no number from 1 to 65535");
    }
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_name = |host: &str| {
        !host.is_empty() && host.chars().all(|it| it.is_ascii_alphanumeric() || ".-_".contains(it))
    };
    match address {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("what stands in brackets is no IPv6 address"),
        None if is_name(host) => Ok(()),
        None => Err("its host is neither a name nor an address; IPv6 addresses stand in brackets"),
    }
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn endpoints_are_urls_of_a_host_and_a_port_and_nothing_else() {
        for good in ["http://10.0.0.1:2379", "https://etcd-1.example.net:2379", "https://[2001:db8::1]:2379"]
        {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "10.0.0.1:2379",
            "ftp://10.0.0.1:2379",
            "http://10.0.0.1",
            "http://10.0.0.1:0",
            "http://10.0.0.1:99999",
            "http://:2379",
            "http://2001:db8::1:2379",
            "http://[10.0.0.1]:2379",
            "http://a b:2379",
            "https://user@host:2379",
            "https://host:2379/path",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
