//! Several servers that share their groups: one makes the keys, every one hands them out.
//!
//! What is shared is a map of records here, changed at once; `sim` and `store` have what takes time and fails.

mod keys;
mod orders;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crypto::{EspSuite, GcmKeyLen, Secret, SeededRandom};
use proto::Role as _;
use proto::member::{Event, Member};
use proto::path::Path;
use proto::server::{
    self, Change, Cooperation, Eviction, EvictionError, PushSettings, Recipients, Record, Server, Settings,
    Standing, heard,
};
use proto::time::Instant;

use crate::world::{
    GROUP, gateway_name, group, member_address, member_of_servers, policy, seconds, server_settings, unicast,
};

const GROUP_NAME: &str = "group-1";

fn server_address(index: usize) -> IpAddr {
    Ipv4Addr::new(100, 0, 0, 1 + index as u8).into()
}

/// A server, and whether it reaches the records.
struct Node {
    server: Server,
    connected: bool,
    /// What was sealed and not sent, because the records did not take what it depends on.
    dropped: usize,
    /// What it wants written when it reaches the records again.
    pending: Vec<(Instant, Change)>,
    /// What others changed and it has not heard yet, while it is slow.
    unheard: Option<Vec<(String, Option<Record>)>>,
}

struct Cluster {
    now: Instant,
    nodes: Vec<Option<Node>>,
    leader: Option<usize>,
    records: BTreeMap<String, (Instant, Secret)>,
    members: Vec<Member>,
    /// Datagrams on their way, oldest first: from a server or a member, arriving by that path.
    wire: VecDeque<(Option<usize>, Path, Vec<u8>)>,
    lives: u64,
    sender_ids: Vec<u32>,
    /// Sequence numbers of pushes that left, by the SPI of their KEK.
    pushes: Vec<(usize, Vec<u8>)>,
    /// What servers were told of evictions that they asked for: server, number, and whether it is done.
    answers: Vec<(usize, u64, bool)>,
}

fn settings(members: usize, push: Option<PushSettings>) -> Settings {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.push = push;
    server_settings(members, vec![group])
}

impl Cluster {
    fn new(servers: usize, members: usize, settings: &Settings) -> Self {
        let now = Instant::from_micros(1_000_000_000);
        let addresses: Vec<_> = (0..servers).map(server_address).collect();
        let member = |index: usize| {
            // Each prefers another server.
            let mut servers = addresses.clone();
            servers.rotate_left(index % addresses.len());
            let settings = member_of_servers(index, &[GROUP], servers);
            Member::new(now, settings, Box::new(SeededRandom::new(1000 + index as u64)))
        };
        let mut cluster = Self {
            now,
            nodes: (0..servers).map(|_| None).collect(),
            leader: None,
            records: BTreeMap::new(),
            members: (0..members).map(member).collect(),
            wire: VecDeque::new(),
            lives: 0,
            sender_ids: Vec::new(),
            pushes: Vec::new(),
            answers: Vec::new(),
        };
        for index in 0..servers {
            cluster.start(index, settings);
        }
        cluster.elect(0);
        cluster
    }

    /// A server starts and reads the records.
    fn start(&mut self, index: usize, settings: &Settings) {
        self.lives += 1;
        let cooperation = Cooperation {
            name: format!("server-{index}").into(),
            incarnation: format!("server-{index}.{}", self.lives).into(),
        };
        let random = Box::new(SeededRandom::new(self.lives));
        let mut server = Server::cooperating(self.now, settings.clone(), random, cooperation);
        server.follow(self.now, &self.records()).unwrap();
        self.nodes[index] =
            Some(Node { server, connected: true, dropped: 0, pending: Vec::new(), unheard: None });
        self.settle();
    }

    fn elect(&mut self, index: usize) {
        self.leader = Some(index);
        self.nodes[index].as_mut().unwrap().server.lead(self.now);
        self.settle();
    }

    /// It loses the records; whoever led does not any more.
    fn cut_off(&mut self, index: usize) {
        let records = self.records();
        let node = self.nodes[index].as_mut().unwrap();
        node.connected = false;
        node.server.set_isolated(true);
        node.server.follow(self.now, &records).unwrap();
        self.leader = self.leader.filter(|leader| *leader != index);
        self.settle();
    }

    fn reconnect(&mut self, index: usize) {
        let mut records = self.records();
        let node = self.nodes[index].as_mut().unwrap();
        let record = |(written, change): &(Instant, Change)| {
            let content = change.content.clone()?;
            Some(Record { place: change.place.clone(), content, age: self.now - *written })
        };
        records.extend(node.pending.iter().filter_map(record));
        node.connected = true;
        node.server.set_isolated(false);
        node.server.follow(self.now, &records).unwrap();
        self.settle();
    }

    /// From now on it hears late.
    fn slow_down(&mut self, index: usize) {
        self.nodes[index].as_mut().unwrap().unheard = Some(Vec::new());
    }

    /// It hears what it has not heard.
    fn catch_up(&mut self, index: usize) {
        let node = self.nodes[index].as_mut().unwrap();
        let unheard = node.unheard.take().unwrap_or_default();
        node.server.hear(self.now, &unheard).unwrap();
        self.settle();
    }

    fn records(&self) -> Vec<Record> {
        let record = |(place, (written, content)): (&String, &(Instant, Secret))| Record {
            place: place.clone(),
            content: content.clone(),
            age: self.now - *written,
        };
        self.records.iter().map(record).collect()
    }

    fn server(&self, index: usize) -> &Server {
        &self.nodes[index].as_ref().unwrap().server
    }

    fn act<T>(&mut self, index: usize, act: impl FnOnce(&mut Server, Instant) -> T) -> T {
        let result = act(&mut self.nodes[index].as_mut().unwrap().server, self.now);
        self.settle();
        result
    }

    fn up(&mut self, member: usize) {
        self.members[member].interface_up(self.now, "vpn-1", None);
        self.settle();
    }

    fn spis(&self, index: usize) -> Vec<u32> {
        let groups = self.server(index).ipsec_security_associations(self.now);
        groups.iter().flat_map(|group| &group.security_associations).map(|sa| sa.spi.0).collect()
    }

    fn member_spis(&self, index: usize) -> Vec<u32> {
        let vpns = self.members[index].ipsec_security_associations(self.now);
        vpns.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.spi.0).collect()
    }

    fn kek(&self, index: usize) -> (control::Cookie, u32) {
        let keks = self.server(index).kek_security_associations(self.now);
        let newest = keks.last().expect("a KEK");
        (newest.initiator_cookie, newest.detail.as_ref().unwrap().sequence_number)
    }

    fn listed(&self, index: usize) -> usize {
        self.server(index).registered_members(self.now)[0].members.len()
    }

    fn run(&mut self, secs: u64) {
        let end = self.now + seconds(secs);
        loop {
            let servers = self.nodes.iter().flatten().filter_map(|node| node.server.poll_timeout());
            let members = self.members.iter().filter_map(|member| member.poll_timeout());
            let next = servers.chain(members).min().unwrap_or(end).max(self.now);
            if next > end {
                break;
            }
            self.now = next;
            for node in self.nodes.iter_mut().flatten() {
                node.server.handle_timeout(next);
            }
            for member in &mut self.members {
                member.handle_timeout(next);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Everything that follows at once.
    fn settle(&mut self) {
        loop {
            for index in 0..self.nodes.len() {
                self.drain_server(index);
            }
            for index in 0..self.members.len() {
                self.drain_member(index);
            }
            let Some((to_member, path, octets)) = self.wire.pop_front() else {
                // What one has heard another may have to answer, and the last one has heard something too.
                let more = self.nodes.iter().flatten().any(|node| node.server.has_changes());
                (0..self.nodes.len()).for_each(|index| self.drain_server(index));
                if more || !self.wire.is_empty() {
                    continue;
                }
                break;
            };
            match to_member {
                Some(member) => self.members[member].handle_datagram(self.now, path, &octets),
                None => {
                    let at = (0..self.nodes.len()).find(|index| server_address(*index) == path.local.ip());
                    if let Some(node) = at.and_then(|index| self.nodes[index].as_mut()) {
                        node.server.handle_datagram(self.now, path, &octets);
                    }
                }
            }
        }
    }

    fn drain_server(&mut self, index: usize) {
        let Some(node) = &mut self.nodes[index] else { return };
        let mut outputs = Vec::new();
        let mut buffer = Vec::new();
        let own = SocketAddr::new(server_address(index), 848);
        while let Some(path) = node.server.poll_transmit(&mut buffer) {
            outputs.push((path, buffer.clone(), false));
        }
        while let Some(batch) = node.server.poll_push() {
            let Recipients::Unicast(paths) = batch.to else { panic!("unicast only") };
            for path in paths {
                let bindable = path.local.ip().is_unspecified() || path.local.ip() == own.ip();
                assert!(bindable, "server {index} cannot send from {}", path.local);
                outputs.push((path, batch.datagram.to_vec(), true));
            }
        }
        while let Some(event) = node.server.poll_event() {
            if let server::Event::EvictionAnswered { number, outcome, .. } = event {
                self.answers.push((index, number, outcome.is_ok()));
            }
        }
        let fenced = node.server.standing() != Standing::Following;
        let changes = node.server.take_changes(self.now);
        node.pending.extend(changes.into_iter().map(|change| (self.now, change)));
        if node.connected {
            let changes = std::mem::take(&mut node.pending);
            if fenced && self.leader != Some(index) && !changes.is_empty() {
                node.dropped += outputs.len();
                let records = self.records();
                return self.nodes[index].as_mut().unwrap().server.follow(self.now, &records).unwrap();
            }
            if !changes.is_empty() {
                for (written, change) in &changes {
                    assert!(
                        fenced
                            || ["/news/", "/statistics/", "/cleared"]
                                .iter()
                                .any(|own| change.place.contains(own)),
                        "a follower writes {}",
                        change.place
                    );
                    match &change.content {
                        Some(content) => {
                            self.records.insert(change.place.clone(), (*written, content.clone()));
                        }
                        None => drop(self.records.remove(&change.place)),
                    }
                }
                let changes: Vec<_> = changes
                    .into_iter()
                    .map(|(written, change)| heard(change.place, change.content, self.now - written))
                    .collect();
                for (other, node) in self.nodes.iter_mut().enumerate() {
                    let Some(node) = node.as_mut().filter(|node| other != index && node.connected) else {
                        continue;
                    };
                    match &mut node.unheard {
                        Some(unheard) => unheard.extend(changes.iter().cloned()),
                        None => node.server.hear(self.now, &changes).unwrap(),
                    }
                }
            }
        }
        for (path, octets, push) in outputs {
            if push {
                self.pushes.push((index, octets.clone()));
            }
            let member = (0..self.members.len()).find(|member| member_address(*member) == path.remote.ip());
            let mut arriving = path.reversed();
            arriving.remote.set_ip(own.ip());
            if let Some(member) = member {
                self.wire.push_back((Some(member), arriving, octets));
            }
        }
    }

    fn drain_member(&mut self, index: usize) {
        let mut buffer = Vec::new();
        while let Some(path) = self.members[index].poll_transmit(&mut buffer) {
            let from = SocketAddr::new(member_address(index), path.local.port());
            self.wire.push_back((None, Path::new(path.remote, from), buffer.clone()));
        }
        while let Some(event) = self.members[index].poll_event() {
            if let Event::SenderIds { sender_ids, .. } = event {
                self.sender_ids.extend(sender_ids.ids);
            }
        }
    }

    fn refused_pushes(&self, member: usize) -> u64 {
        self.members[member].ipsec_security_associations(self.now)[0].counters.push_failed
    }

    fn pulls(&self, member: usize) -> u64 {
        self.members[member].ipsec_security_associations(self.now)[0].counters.pull_succeeded
    }
}
