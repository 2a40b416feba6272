//! Which gateway of the configuration a peer is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use wire::isakmp::Identity;

use super::settings::{Gateway, Mode, Peer};
use crate::path::Path;

/// The configured gateways, found by name, address and identity without looking at all of them.
#[derive(Debug, Default)]
pub(super) struct Directory {
    by_name: BTreeMap<String, Arc<Gateway>>,
    /// Gateways at an address, in the order of the configuration.
    at_address: BTreeMap<IpAddr, Candidates>,
    /// Gateways at any address.
    anywhere: Candidates,
    by_identity: BTreeMap<Identity<'static>, Vec<Arc<Gateway>>>,
}

/// Gateways among which the first message of main mode cannot tell: the first of those that treat a peer alike.
#[derive(Debug, Default)]
struct Candidates(Vec<Arc<Gateway>>);

impl Candidates {
    fn add(&mut self, gateway: &Arc<Gateway>) {
        if !self.0.iter().any(|other| alike(other, gateway)) {
            self.0.push(gateway.clone());
        }
    }
}

/// Whether two gateways treat a peer alike until its identity is known.
fn alike(one: &Gateway, other: &Gateway) -> bool {
    one.mode == other.mode
        && one.local_address == other.local_address
        && one.pre_shared_key == other.pre_shared_key
        && one.proposals == other.proposals
}

impl Directory {
    pub(super) fn new(gateways: &[Gateway]) -> Self {
        let mut directory = Self::default();
        for gateway in gateways {
            let gateway = Arc::new(gateway.clone());
            match &gateway.peer {
                Peer::Addresses(addresses) => {
                    for &address in addresses {
                        directory.at_address.entry(address.to_canonical()).or_default().add(&gateway);
                        let expected = gateway.expected_identity(address);
                        directory.by_identity.entry(expected).or_default().push(gateway.clone());
                    }
                }
                Peer::Dynamic(identity) => {
                    directory.anywhere.add(&gateway);
                    let expected = gateway.remote_identity.as_ref().unwrap_or(identity).clone();
                    directory.by_identity.entry(expected).or_default().push(gateway.clone());
                }
            }
            directory.by_name.entry(gateway.name.clone()).or_insert(gateway);
        }
        directory
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Gateway>> {
        self.by_name.get(name)
    }

    /// The gateways that a peer of unknown identity may be: those at its address first, then those at any address.
    pub(super) fn candidates(&self, path: &Path) -> impl Iterator<Item = &Arc<Gateway>> {
        let here = self.at_address.get(&path.remote.ip().to_canonical());
        here.into_iter()
            .flat_map(|candidates| &candidates.0)
            .chain(&self.anywhere.0)
            .filter(move |gateway| is_addressed(gateway, path))
    }

    /// The gateways that a peer with this identity may be.
    pub(super) fn identified<'a>(
        &'a self,
        path: &'a Path,
        mode: Mode,
        identity: &'a Identity<'static>,
    ) -> impl Iterator<Item = &'a Arc<Gateway>> {
        let remote = path.remote.ip().to_canonical();
        self.by_identity.get(identity).into_iter().flatten().filter(move |gateway| {
            let at_address = match &gateway.peer {
                Peer::Addresses(addresses) => {
                    addresses.iter().any(|address| address.to_canonical() == remote)
                }
                Peer::Dynamic(_) => true,
            };
            at_address
                && gateway.mode == mode
                && is_addressed(gateway, path)
                && gateway.expected_identity(remote) == *identity
        })
    }

    /// The gateway that a peer turns out to be whose message was answered as if it were `assumed`: that one, or one
    /// with the same key whose identity the peer proved.
    pub(super) fn recognize(
        &self,
        path: &Path,
        assumed: &Arc<Gateway>,
        identity: &Identity<'static>,
    ) -> Option<Arc<Gateway>> {
        let same = self
            .identified(path, assumed.mode, identity)
            .find(|gateway| Arc::ptr_eq(gateway, assumed) || gateway.name == assumed.name);
        let alike = || self.identified(path, assumed.mode, identity).find(|gateway| alike(gateway, assumed));
        same.or_else(alike).cloned()
    }
}

fn is_addressed(gateway: &Gateway, path: &Path) -> bool {
    let local = path.local.ip();
    match gateway.local_address {
        Some(address) => local.is_unspecified() || address.to_canonical() == local.to_canonical(),
        None => true,
    }
}
