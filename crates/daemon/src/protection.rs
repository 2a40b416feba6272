//! What the member's VPNs protect right now: keys and policies from the protocol, rules from the configuration, and
//! what the state directory remembers, put together into the engine's tables.

mod convert;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::model::{self, Configuration};
use dataplane::{
    Binding, Counters, DefaultPolicy, DfBit, GroupSa, Instant, InterfaceId, Policy, PseudoClock,
    Registration, SaSettings, Selector, SenderIdLength, SenderIds, ServiceFilter, Tables, TablesBuilder, Vpn,
};
use proto::control_selector;
use proto::member::{self, Direction};
use proto::pseudo_time::AntiReplay;

use convert::{direction, engine_selector, service_filters};
pub use convert::{engine_time, pairs, selector_of_wire};

use crate::durable::Received;
use crate::interfaces::Interfaces;
use crate::netlink::Links;
use crate::state::{Known, Record, StateDirectory};

/// The VPNs of the member, by name.
#[derive(Default)]
pub struct Protection {
    vpns: BTreeMap<String, Protected>,
    /// By VPN and group. They outlive the configuration: what was used with a key must not be forgotten before the key.
    sender_ids: BTreeMap<(String, u32, SenderIdLength), Arc<SenderIds>>,
    /// Of packets that belong to no VPN.
    counters: Arc<Counters>,
}

/// One VPN.
struct Protected {
    group_id: u32,
    memory: Memory,
    /// The policies in the server's order, with the moment from which matching clear packets are dropped.
    policies: Vec<(Selector, Instant)>,
    /// Live SAs, oldest first within a policy, with what each protects.
    sas: Vec<Installed>,
    /// Those of the last PULL.
    sender_ids: Option<Arc<SenderIds>>,
    /// For keys that only receive, whose PULL brought none.
    receiving_ids: Option<Arc<SenderIds>>,
    /// The group's pseudo-time, once a server has told it.
    pseudo_clock: Option<Arc<PseudoClock>>,
    counters: Arc<Counters>,
}

/// Whether the VPN has ever registered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Memory {
    Never,
    Registered,
    /// The state directory cannot tell: closed, without fail-open rules.
    Damaged(String),
}

struct Installed {
    runtime: Arc<GroupSa>,
    selectors: Arc<[wire::Selector]>,
}

impl Protection {
    /// Takes over the VPNs of a configuration. What is known of a new one comes from the state directory; one that is
    /// gone is forgotten here, and stays in the state directory in case it comes back.
    pub fn configure(&mut self, configuration: &Configuration, state: &StateDirectory) {
        let configured = configuration.member.as_ref().map(|member| &member.vpns[..]).unwrap_or_default();
        self.vpns.retain(|name, known| {
            configured.iter().any(|vpn| vpn.name == *name && vpn.group_id == known.group_id)
        });
        for vpn in configured {
            self.vpns.entry(vpn.name.clone()).or_insert_with(|| Protected::remembered(vpn, state));
        }
    }

    /// Sender ids of so many bits are there for these SAs, before they are installed or after. Which of them may be used,
    /// [`Protection::grant_sender_ids`] says.
    pub fn begin_sender_ids(&mut self, name: &str, bits: u8, spis: &[u32]) {
        let Some(vpn) = self.vpns.get_mut(name) else { return };
        let Some(length) = SenderIdLength::from_bits(bits.into()) else { return };
        let key = (name.to_owned(), vpn.group_id, length);
        let ids = self.sender_ids.entry(key).or_insert_with(|| SenderIds::new(length));
        ids.begin_period();
        for sa in vpn.sas.iter().filter(|sa| spis.contains(&sa.runtime.spi())) {
            sa.runtime.renew_sender_ids();
        }
        vpn.sender_ids = Some(Arc::clone(ids));
    }

    /// Takes the pseudo-time that a server told, as it was at a moment that has passed. A PULL sets the clock; a push only
    /// moves it forward.
    pub fn take_pseudo_time(&mut self, name: &str, at: Instant, told: AntiReplay, set: bool) {
        let Some(vpn) = self.vpns.get_mut(name) else { return };
        let time = told.time;
        let clock = vpn.pseudo_clock.get_or_insert_with(|| PseudoClock::new(at, time, told.window));
        clock.set_window(told.window);
        if set {
            clock.set(at, time);
        } else {
            clock.advance(at, time);
        }
    }

    /// Lets lanes send with these sender ids. No later process gets to know them.
    pub fn grant_sender_ids(&self, vpn: &str, granted: &[u32]) {
        let Some(ids) = self.vpns.get(vpn).and_then(|vpn| vpn.sender_ids.as_ref()) else { return };
        for id in granted {
            if let Err(error) = ids.grant(*id) {
                tracing::error!(target: "policy-manager", vpn, id, %error, "sender id not usable");
            }
        }
    }

    /// How many sender ids the lanes of a VPN lack, or will soon.
    pub fn wanted_sender_ids(&self, vpn: &str) -> usize {
        let ids = self.vpns.get(vpn).and_then(|vpn| vpn.sender_ids.as_ref());
        ids.map_or(0, |ids| ids.wanted())
    }

    /// Whether there are keys whose packets are counted by sender.
    pub fn has_senders(&self) -> bool {
        !self.sender_ids.is_empty()
    }

    /// How far the packets of each sender were received, under each key that counts them. Nothing at all where those are
    /// more senders than `most`.
    pub fn received(&self, most: Option<usize>) -> Vec<Received> {
        let mut all = Vec::new();
        let mut room = most.unwrap_or(usize::MAX);
        for (name, vpn) in &self.vpns {
            for sa in &vpn.sas {
                let Some(senders) = sa.runtime.received(room) else { return Vec::new() };
                room -= senders.len();
                if !senders.is_empty() {
                    all.push(Received { vpn: name.clone(), spi: sa.runtime.spi(), senders });
                }
            }
        }
        all
    }

    /// Accepts only what is later than what an earlier process has received under a key.
    pub fn resume_receiving(&self, vpn: &str, spi: u32, senders: &[(u32, u32)]) {
        let sas = self.vpns.get(vpn).into_iter().flat_map(|vpn| &vpn.sas);
        for sa in sas.filter(|sa| sa.runtime.spi() == spi) {
            sa.runtime.resume_receiving(senders);
        }
    }

    /// Frees what belongs to keys that have ended. Returns whether there is anything that will have to be freed.
    pub fn forget_expired_senders(&self, now: Instant) -> bool {
        self.sender_ids.values().for_each(|ids| ids.forget_expired(now));
        !self.sender_ids.is_empty()
    }

    /// Installs SAs, and records the registration durably first.
    pub fn install(
        &mut self,
        name: &str,
        sas: &[member::GroupSa],
        closed: &[wire::Selector],
        now: Instant,
        state: &StateDirectory,
    ) {
        let Some(vpn) = self.vpns.get_mut(name) else {
            tracing::warn!(target: "general", vpn = name, "keys for an unknown VPN");
            return;
        };
        if sas.iter().any(|sa| sa.direction == Direction::ReceiverOnly) {
            // How long the ids of the senders are nobody has said: the longest that there are keep all senders apart.
            let length = SenderIdLength::Bits24;
            let key = (name.to_owned(), vpn.group_id, length);
            let ids = self.sender_ids.entry(key).or_insert_with(|| SenderIds::new(length));
            vpn.receiving_ids = Some(Arc::clone(ids));
        }
        vpn.install(name, sas, closed, now);
        vpn.memory = Memory::Registered;
        let policies = vpn.policies.iter().map(|(selector, _)| control_selector(selector)).collect();
        let record = Record::new(name, vpn.group_id, policies);
        if state.read(name, vpn.group_id) != Known::Registered(record.clone())
            && let Err(error) = state.write(&record)
        {
            tracing::error!(target: "database", vpn = name, %error, "registration not recorded: after a crash this VPN would count as never registered");
        }
    }

    /// Forgets SAs. Their policies stay, and stay closed, unless the VPN itself has changed.
    pub fn remove(&mut self, name: &str, spis: &[u32]) {
        if let Some(vpn) = self.vpns.get_mut(name) {
            vpn.sas.retain(|sa| !spis.contains(&sa.runtime.spi()));
        }
    }

    /// Starts the counters of a VPN, or of all, again. Returns how many sets that were.
    pub fn clear_counters(&self, vpn: Option<&str>) -> u64 {
        let mut cleared = 0;
        for (_, protected) in self.vpns.iter().filter(|(name, _)| vpn.is_none_or(|wanted| wanted == *name)) {
            protected.counters.reset();
            for sa in &protected.sas {
                sa.runtime.encrypted().reset();
                sa.runtime.decrypted().reset();
            }
            cleared += 1;
        }
        if vpn.is_none() {
            self.counters.reset();
            cleared += 1;
        }
        cleared
    }

    /// Problems that an operator should know of.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.vpns.iter().filter_map(|(name, vpn)| match &vpn.memory {
            Memory::Damaged(why) => {
                Some(format!("VPN {name} is closed until it registers: state file damaged: {why}"))
            }
            Memory::Never | Memory::Registered => None,
        })
    }

    /// What the data path of a routing instance is to go by.
    pub fn tables(
        &self,
        configuration: &Configuration,
        interfaces: &Interfaces,
        instance: Option<&str>,
        links: &Links,
    ) -> Tables {
        let mut builder = TablesBuilder::new();
        builder
            .default_policy(match configuration.default_policy {
                model::DefaultPolicy::PermitAll => DefaultPolicy::PermitAll,
                model::DefaultPolicy::DenyAll => DefaultPolicy::DenyAll,
            })
            .local_addresses(links.local_addresses())
            .counters(Arc::clone(&self.counters));
        for link in interfaces.links(instance, links) {
            builder.interface(InterfaceId(link.index), link.mtu);
        }
        let vpns = configuration.member.iter().flat_map(|member| &member.vpns);
        for vpn in vpns.filter(|vpn| interfaces.instance(&vpn.name) == instance) {
            if let Some(protected) = self.vpns.get(&vpn.name) {
                let ids = interfaces.of_vpn(&vpn.name, links).map(|link| InterfaceId(link.index)).collect();
                let filters = service_filters(configuration, &vpn.name, links);
                builder.vpn(protected.vpn(vpn, ids, filters));
            }
        }
        builder.build()
    }

    /// Whether a VPN has ever registered, and its live SAs with what they protect.
    pub fn sas(&self, vpn: &str) -> impl Iterator<Item = &Arc<GroupSa>> {
        self.vpns.get(vpn).into_iter().flat_map(|vpn| vpn.sas.iter().map(|sa| &sa.runtime))
    }

    /// The policies of a VPN, in the server's order: the present ones, or the last known.
    pub fn policies(&self, vpn: &str) -> impl Iterator<Item = &Selector> {
        self.vpns.get(vpn).into_iter().flat_map(|vpn| vpn.policies.iter().map(|(selector, _)| selector))
    }

    /// Whether a VPN has never registered and its fail-open rules hold.
    pub fn fails_open(&self, vpn: &str) -> bool {
        self.vpns.get(vpn).is_some_and(|vpn| vpn.memory == Memory::Never)
    }

    /// Whether a VPN protects nothing yet because it does not know what: everything forwarded is dropped.
    pub fn knows_nothing(&self, vpn: &str) -> bool {
        self.vpns.get(vpn).is_some_and(|vpn| vpn.memory != Memory::Registered)
    }

    /// Counters of a VPN.
    pub fn counters(&self, vpn: &str) -> Option<&Arc<Counters>> {
        self.vpns.get(vpn).map(|vpn| &vpn.counters)
    }

    /// Counters of packets that belong to no VPN.
    pub fn other_counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Installed {
    fn protects(&self, selector: &Selector) -> bool {
        self.selectors.iter().any(|own| selector_of_wire(own) == *selector)
    }
}

impl Protected {
    fn remembered(vpn: &model::Vpn, state: &StateDirectory) -> Protected {
        let (memory, policies) = match state.read(&vpn.name, vpn.group_id) {
            Known::Nothing => (Memory::Never, Vec::new()),
            Known::Registered(record) => {
                let policies =
                    record.policies.iter().map(|selector| (engine_selector(selector), Instant::ZERO));
                (Memory::Registered, policies.collect())
            }
            Known::Damaged(why) => {
                tracing::error!(target: "database", vpn = vpn.name, %why, "state file damaged: the VPN is closed until it registers");
                (Memory::Damaged(why), Vec::new())
            }
        };
        Protected {
            group_id: vpn.group_id,
            memory,
            policies,
            sas: Vec::new(),
            sender_ids: None,
            receiving_ids: None,
            pseudo_clock: None,
            counters: Arc::default(),
        }
    }

    fn install(&mut self, name: &str, sas: &[member::GroupSa], closed: &[wire::Selector], now: Instant) {
        let mut installed = Vec::new();
        for sa in sas {
            let (activate_at, hard_expiry) = (engine_time(sa.activate_at), engine_time(sa.hard_expiry));
            let pseudo_clock = self.pseudo_clock.as_ref().filter(|_| sa.carries_time);
            let known = self.sas.iter().find(|known| {
                known.runtime.spi() == sa.spi
                    && known.runtime.pseudo_clock().is_some() == pseudo_clock.is_some()
                    && known.runtime.direction() == direction(sa.direction)
            });
            // What only receives needs no ids of its own, and a place for the windows of others.
            let receives_only = sa.direction == Direction::ReceiverOnly;
            let receiving_ids = self.receiving_ids.as_ref().filter(|_| receives_only);
            let runtime = match known.map(|known| &known.runtime) {
                Some(known) if known.hard_expiry() == hard_expiry && known.activate_at() == activate_at => {
                    Ok(Arc::clone(known))
                }
                // The server shortened its life or moved its activation: key, counters and sequence numbers go on.
                Some(known) => Ok(known.retimed(activate_at, hard_expiry)),
                None => GroupSa::new(&SaSettings {
                    spi: sa.spi,
                    suite: sa.suite,
                    direction: direction(sa.direction),
                    cipher_key: sa.keys.cipher.expose(),
                    integrity_key: sa.keys.integrity.expose(),
                    activate_at,
                    hard_expiry,
                    sender_ids: self.sender_ids.as_ref().or(receiving_ids),
                    pseudo_clock,
                }),
            };
            match runtime {
                Ok(runtime) => installed.push(Installed { runtime, selectors: Arc::clone(&sa.selectors) }),
                // Its policies are among the closed ones below: nothing leaks.
                Err(error) => {
                    tracing::error!(target: "policy-manager", vpn = name, spi = %format_args!("{:x}", sa.spi), %error, "key not usable");
                }
            }
        }
        self.policies = self.next_policies(sas, closed, now);
        self.sas = installed;
    }

    /// The policies of new SAs in the server's order. One that was not there before drops clear packets from outside
    /// only when the keys before it have ended: other members may not know it yet. Should those keys end earlier than
    /// they were to, so does its grace.
    fn next_policies(
        &self,
        sas: &[member::GroupSa],
        closed: &[wire::Selector],
        now: Instant,
    ) -> Vec<(Selector, Instant)> {
        let end_of = |known: &Installed| {
            let same = sas.iter().find(|sa| sa.spi == known.runtime.spi());
            same.map_or(known.runtime.hard_expiry(), |sa| engine_time(sa.hard_expiry))
        };
        let last_end = |ends: &mut dyn Iterator<Item = Instant>| ends.filter(|end| *end > now).max();
        let predecessors_end = last_end(&mut self.sas.iter().map(end_of)).unwrap_or(Instant::ZERO);
        let mut policies: Vec<(Selector, Instant)> = Vec::new();
        for selector in sas.iter().flat_map(|sa| sa.selectors.iter()).chain(closed).map(selector_of_wire) {
            if policies.iter().any(|(known, _)| *known == selector) {
                continue;
            }
            let drop_clear_from = match self.policies.iter().find(|(known, _)| *known == selector) {
                None => predecessors_end,
                Some((_, from)) if *from <= now => *from,
                Some((_, from)) => {
                    let others = self.sas.iter().filter(|sa| !sa.protects(&selector));
                    last_end(&mut others.map(end_of)).map_or(now, |end| end.min(*from))
                }
            };
            policies.push((selector, drop_clear_from));
        }
        policies
    }

    fn vpn(&self, configured: &model::Vpn, interfaces: Vec<InterfaceId>, filters: Vec<ServiceFilter>) -> Vpn {
        let policies = self
            .policies
            .iter()
            .map(|(selector, drop_clear_from)| Policy {
                selector: *selector,
                sas: self
                    .sas
                    .iter()
                    .filter(|sa| sa.protects(selector))
                    .map(|sa| Arc::clone(&sa.runtime))
                    .collect(),
                drop_clear_from: *drop_clear_from,
            })
            .collect();
        Vpn {
            name: configured.name.clone(),
            interfaces,
            binding: match configured.external_interface {
                Some(_) => Binding::Zone,
                None => Binding::ServiceSet { forward_mismatch: configured.forward_policy_mismatch },
            },
            registration: match self.memory {
                Memory::Registered => Registration::Registered,
                Memory::Never | Memory::Damaged(_) => Registration::NotYet,
            },
            df_bit: match configured.df_bit {
                model::DfBit::Clear => DfBit::Clear,
                model::DfBit::Set => DfBit::Set,
                model::DfBit::Copy => DfBit::Copy,
            },
            tunnel_mtu: configured.tunnel_mtu,
            policies,
            exclude: pairs(&configured.exclude),
            filters,
            fail_open: match self.memory {
                Memory::Damaged(_) => Vec::new(),
                Memory::Never | Memory::Registered => pairs(&configured.fail_open),
            },
            counters: Arc::clone(&self.counters),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::{CbcCipher, EspSuite, Integrity, Secret};
    use dataplane::SaDirection;
    use proto::member::Keys;

    use super::*;

    fn at(seconds: u64) -> proto::time::Instant {
        proto::time::Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn now(seconds: u64) -> Instant {
        engine_time(at(seconds))
    }

    fn policy(number: u8) -> wire::Selector {
        let prefix = |first: u8| format!("{first}.0.{number}.0/24").parse().expect("a prefix");
        wire::Selector::between(prefix(10), prefix(20))
    }

    fn sa(spi: u32, activate_at: u64, hard_expiry: u64, policies: &[u8]) -> member::GroupSa {
        member::GroupSa {
            spi,
            suite: EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 },
            keys: Arc::new(Keys { cipher: Secret::new(vec![7; 16]), integrity: Secret::new(vec![9; 20]) }),
            selectors: policies.iter().map(|number| policy(*number)).collect(),
            direction: Direction::Symmetric,
            carries_time: false,
            activate_at: at(activate_at),
            soft_expiry: at(hard_expiry),
            hard_expiry: at(hard_expiry),
        }
    }

    fn empty() -> Protected {
        Protected {
            group_id: 1,
            memory: Memory::Never,
            policies: Vec::new(),
            sas: Vec::new(),
            sender_ids: None,
            receiving_ids: None,
            pseudo_clock: None,
            counters: Arc::default(),
        }
    }

    #[test]
    fn a_life_that_is_cut_ends_earlier_and_the_counters_go_on() {
        let mut vpn = empty();
        vpn.install("vpn", &[sa(256, 0, 1000, &[1])], &[], now(0));
        let before = Arc::clone(&vpn.sas[0].runtime);
        vpn.install("vpn", &[sa(256, 0, 1000, &[1])], &[], now(10));
        assert!(Arc::ptr_eq(&before, &vpn.sas[0].runtime), "nothing has changed");
        vpn.install("vpn", &[sa(256, 0, 90, &[1]), sa(257, 60, 2000, &[1])], &[], now(20));
        assert_eq!(vpn.sas[0].runtime.hard_expiry(), now(90));
        assert!(std::ptr::eq(before.encrypted(), vpn.sas[0].runtime.encrypted()), "one count");
        assert_eq!(vpn.sas[1].runtime.activate_at(), now(60));
        // A deleted predecessor lets the next one encrypt at once.
        vpn.install("vpn", &[sa(257, 30, 2000, &[1])], &[], now(30));
        assert!(vpn.sas[0].runtime.is_active(now(30)));
    }

    #[test]
    fn a_key_that_only_receives_needs_no_sender_ids_and_keeps_its_direction() {
        let gcm = |direction| member::GroupSa {
            suite: EspSuite::Gcm { key: crypto::GcmKeyLen::Bits128 },
            keys: Arc::new(Keys { cipher: Secret::new(vec![7; 20]), integrity: Secret::new(Vec::new()) }),
            direction,
            ..sa(256, 0, 1000, &[1])
        };
        let mut vpn = empty();
        vpn.install("vpn", &[gcm(Direction::Symmetric)], &[], now(0));
        assert!(vpn.sas.is_empty(), "it could not send, and others could not tell");
        vpn.receiving_ids = Some(SenderIds::new(SenderIdLength::Bits24));
        vpn.install("vpn", &[gcm(Direction::Symmetric)], &[], now(0));
        assert!(vpn.sas.is_empty());
        vpn.install("vpn", &[gcm(Direction::ReceiverOnly)], &[], now(0));
        assert_eq!(vpn.sas[0].runtime.direction(), SaDirection::ReceiverOnly);
    }

    #[test]
    fn a_new_policy_drops_clear_packets_from_the_end_of_the_keys_before_it_even_if_that_comes_nearer() {
        let mut vpn = empty();
        vpn.install("vpn", &[sa(256, 0, 1000, &[1])], &[], now(0));
        vpn.install("vpn", &[sa(256, 0, 500, &[1]), sa(257, 400, 2000, &[2])], &[], now(20));
        let from = |vpn: &Protected, number: u8| {
            let selector = selector_of_wire(&policy(number));
            vpn.policies.iter().find(|(known, _)| *known == selector).map(|(_, from)| *from)
        };
        assert_eq!(from(&vpn, 2), Some(now(500)));
        vpn.install("vpn", &[sa(256, 0, 100, &[1]), sa(257, 60, 2000, &[2])], &[], now(30));
        assert_eq!(from(&vpn, 2), Some(now(100)));
        vpn.install("vpn", &[sa(257, 60, 2000, &[2])], &[], now(101));
        assert_eq!(from(&vpn, 2), Some(now(100)));
        assert_eq!(from(&vpn, 1), None, "the server's policy does not have it any more");
        // What has lost its key without a word of the server stays.
        vpn.install("vpn", &[sa(257, 60, 2000, &[2])], &[policy(1)], now(102));
        assert!(from(&vpn, 1).is_some());
    }
}
