//! Data paths on the gateways of a test network, with tables and keys that the test makes.

use std::sync::Arc;

use crypto::esp::EspSuite;
use crypto::{CbcCipher, Integrity};
use daemon::datapath::{DataPath, Options, Publication, WireIo};
use daemon::netlink::Links;
use dataplane::{
    AddressPair, Binding, DefaultPolicy, DfBit, GroupSa, Instant, InterfaceId, Policy, Registration,
    SaDirection, SaSettings, Selector, Tables, TablesBuilder,
};

use super::network::{Network, Resident};

/// Makes tables for the links of the namespace it is called in.
pub type MakeTables = Box<dyn Fn(&Links) -> Arc<Tables> + Send>;

/// A zone-bound VPN on `wan` with a policy between 10.1.0.0/24 and 10.2.0.0/24; permit-all otherwise.
#[derive(Clone)]
pub struct Vpn {
    interfaces: Vec<&'static str>,
    registration: Registration,
    key: Option<Arc<GroupSa>>,
    exclude: Vec<AddressPair>,
    protocol: u8,
}

#[allow(dead_code, reason = "each test program uses a part")]
impl Vpn {
    /// Never registered; the policy is a last known one.
    pub fn unregistered() -> Self {
        Self {
            interfaces: vec!["wan"],
            registration: Registration::NotYet,
            key: None,
            exclude: Vec::new(),
            protocol: 0,
        }
    }

    /// Registered, and without a live key.
    pub fn keyless() -> Self {
        Self { registration: Registration::Registered, ..Self::unregistered() }
    }

    /// Registered, with AES-128-CBC and HMAC-SHA1-96 and the same keys every time.
    pub fn keyed() -> Self {
        let suite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };
        let settings = SaSettings {
            direction: SaDirection::Symmetric,
            spi: 0x1234_5678,
            suite,
            cipher_key: &[0x11; 16],
            integrity_key: &[0x22; 20],
            activate_at: Instant::ZERO,
            hard_expiry: Instant::FAR_FUTURE,
            sender_ids: None,
            pseudo_clock: None,
        };
        Self { key: Some(GroupSa::new(&settings).expect("a good key")), ..Self::keyless() }
    }

    /// With a policy for one IP protocol only.
    pub fn only(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }

    /// With a rule that exempts from it.
    pub fn excluding(mut self, pair: AddressPair) -> Self {
        self.exclude.push(pair);
        self
    }

    /// On one more external interface.
    pub fn also_on(mut self, interface: &'static str) -> Self {
        self.interfaces.push(interface);
        self
    }

    /// The VPN's key.
    pub fn key(&self) -> &Arc<GroupSa> {
        self.key.as_ref().expect("a keyed VPN")
    }

    /// What makes its tables.
    pub fn tables(self) -> MakeTables {
        Box::new(move |links| {
            let selector = Selector {
                protocol: self.protocol,
                ..Selector::between(prefix("10.1.0.0/24"), prefix("10.2.0.0/24"))
            };
            let mut builder = TablesBuilder::new();
            let links_of = self.interfaces.iter().filter_map(|name| links.by_name(name));
            let interfaces: Vec<InterfaceId> = links_of
                .map(|link| {
                    builder.interface(InterfaceId(link.index), link.mtu);
                    InterfaceId(link.index)
                })
                .collect();
            builder.default_policy(DefaultPolicy::PermitAll).local_addresses(links.local_addresses());
            builder.vpn(dataplane::Vpn {
                name: "test".into(),
                interfaces,
                binding: Binding::Zone,
                registration: self.registration,
                df_bit: DfBit::Clear,
                tunnel_mtu: None,
                policies: vec![Policy {
                    selector,
                    sas: self.key.iter().cloned().collect(),
                    drop_clear_from: Instant::ZERO,
                }],
                exclude: self.exclude.clone(),
                filters: Vec::new(),
                fail_open: Vec::new(),
                counters: Arc::default(),
            });
            Arc::new(builder.build())
        })
    }
}

fn prefix(text: &str) -> ipnet::IpNet {
    text.parse().expect("a prefix")
}

/// A data path on a node.
#[allow(dead_code, reason = "each test program uses a part")]
pub type Running = Resident<DataPath>;

/// Starts a data path on a node; returns when the interfaces are attached.
#[allow(dead_code, reason = "each test program uses a part")]
pub fn gateway(
    network: &Network,
    node: &str,
    tables: impl Fn(&Links) -> Arc<Tables> + Send + 'static,
) -> Resident<DataPath> {
    gateway_with(network, node, WireIo::Auto, tables)
}

/// The same with ESP carried by certain sockets.
#[allow(dead_code, reason = "each test program uses a part")]
pub fn gateway_with(
    network: &Network,
    node: &str,
    wire_io: WireIo,
    tables: impl Fn(&Links) -> Arc<Tables> + Send + 'static,
) -> Resident<DataPath> {
    let options = Options { wire_io, ..Options::at(daemon::clock::Clock::start()) };
    gateway_by(network, node, options, tables)
}

/// The same with all options.
pub fn gateway_by(
    network: &Network,
    node: &str,
    options: Options,
    tables: impl Fn(&Links) -> Arc<Tables> + Send + 'static,
) -> Resident<DataPath> {
    network.resident(node, move || {
        let mut datapath = DataPath::start(options).expect("can start");
        publish(&mut datapath, &tables);
        datapath
    })
}

/// Publishes tables for the links as they are now; to be called inside the node.
pub fn publish(datapath: &mut DataPath, tables: &impl Fn(&Links) -> Arc<Tables>) {
    let links = Links::read().expect("netlink works");
    let errors = datapath.publish(Publication { tables: &tables(&links), links: &links, peers: &[] });
    assert!(errors.is_empty(), "{errors:?}");
}
