//! Several servers that share their groups: one makes the keys, every one hands them out.
//!
//! What is shared is a map of records here, changed at once; `sim` and `store` have what takes time and fails.

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

#[test]
fn a_follower_answers_from_the_records_and_the_leader_pushes_to_its_member() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    let keys = cluster.spis(0);
    assert_eq!(cluster.spis(1), keys, "it has them by the records");
    cluster.up(0);
    cluster.up(1);
    assert_eq!((cluster.member_spis(0), cluster.member_spis(1)), (keys.clone(), keys.clone()));
    assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2), "the list is the cluster's");
    let servers: Vec<_> =
        (0..2).map(|member| cluster.members[member].ike_security_associations(cluster.now)).collect();
    assert_ne!(servers[0][0].remote_address, servers[1][0].remote_address);

    // The successor comes by push, to the member of the follower too, and both acknowledge.
    cluster.run(3600);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(0));
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
    assert_eq!(cluster.spis(0), cluster.spis(1));
    let statistics = cluster.server(1).statistics(cluster.now).swap_remove(0);
    assert_eq!((statistics.pull_succeeded, statistics.push_acknowledged), (2, 2), "{statistics:?}");
    assert!(cluster.pushes.iter().all(|(server, _)| *server == 0));
}

#[test]
fn a_registration_at_a_follower_right_after_a_rekey_gives_the_new_key() {
    for push in [None, Some(unicast())] {
        let settings = settings(1, push);
        let mut cluster = Cluster::new(2, 1, &settings);
        cluster.nodes[0].as_mut().unwrap().server.handle_timeout(cluster.now);
        cluster.run(3300);
        // Member 0 prefers server 0, which is not to be reached now.
        let before = cluster.spis(1);
        cluster.run(seconds(3600 - 3300 - 60).as_secs());
        assert_eq!(cluster.spis(0), cluster.spis(1));
        assert!(cluster.spis(1).iter().any(|spi| !before.contains(spi)) || before.len() == 2);
        let node = cluster.nodes[0].take();
        cluster.up(0);
        cluster.run(60);
        assert_eq!(cluster.member_spis(0), cluster.spis(1));
        cluster.nodes[0] = node;
    }
}

#[test]
fn a_follower_makes_no_keys_even_when_they_are_due_and_the_next_leader_goes_on_at_once() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    cluster.run(100);
    let (keys, kek) = (cluster.spis(1), cluster.kek(1));
    // The leader dies and nobody is elected for long.
    cluster.nodes[0] = None;
    cluster.leader = None;
    cluster.run(3400);
    assert_eq!(cluster.spis(1), keys);
    assert_eq!(cluster.kek(1), kek);
    cluster.elect(1);
    assert_eq!(cluster.kek(1).0, kek.0, "the KEK goes on");
    let sequence = cluster.kek(1).1;
    assert!(sequence > kek.1, "the push left under the next number");
    assert_eq!(cluster.spis(1).len(), 2);
    cluster.run(200);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
        assert_eq!(cluster.refused_pushes(member), 0);
    }
}

#[test]
fn sequence_numbers_go_on_from_leader_to_leader_and_no_push_is_refused() {
    let mut push = unicast();
    push.heartbeat = Some(seconds(60));
    let settings = settings(2, Some(push));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let kek = cluster.kek(0).0;
    let mut last = 0;
    for round in 0..20 {
        cluster.run(61);
        let (spi, sequence) = cluster.kek(round % 2);
        assert_eq!(spi, kek);
        assert!(sequence > last, "{sequence} after {last}");
        assert_eq!(cluster.kek(1 - round % 2).1, sequence, "the other can tell it");
        last = sequence;
        // The one that leads starts anew, and the other goes on.
        cluster.nodes[round % 2] = None;
        cluster.elect((round + 1) % 2);
        cluster.start(round % 2, &settings);
    }
    for member in 0..2 {
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
    assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2));
    let distinct: BTreeSet<_> = cluster.pushes.iter().map(|(_, octets)| octets).collect();
    assert!(distinct.len() >= 20);
}

#[test]
fn what_a_leader_made_that_was_replaced_is_forgotten_and_leaves_it_never() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    cluster.run(100);
    // Server 0 sleeps; server 1 is elected, and evicts.
    let mut frozen = cluster.nodes[0].take();
    cluster.elect(1);
    cluster.act(1, |server, now| server.evict(now, None, Eviction::Graceful)).unwrap();
    cluster.run(200);
    let (keys, pushes) = (cluster.spis(1), cluster.pushes.len());
    // It wakes and does what it thinks is due, before it hears anything.
    let node = frozen.as_mut().unwrap();
    node.server.evict(cluster.now, None, Eviction::Graceful).unwrap();
    node.server.handle_timeout(cluster.now);
    assert_ne!(
        node.server.ipsec_security_associations(cluster.now),
        cluster.server(1).ipsec_security_associations(cluster.now)
    );
    cluster.nodes[0] = frozen;
    cluster.settle();
    assert!(cluster.nodes[0].as_ref().unwrap().dropped > 0, "it had something to send");
    assert_eq!(cluster.pushes.len(), pushes, "and it did not leave");
    assert_eq!(cluster.server(0).standing(), Standing::Following);
    assert_eq!((cluster.spis(0), cluster.spis(1)), (keys.clone(), keys));
    cluster.run(60);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
    }
}

#[test]
fn a_server_that_is_cut_off_gives_what_it_has_until_it_ends_and_tells_the_rest_later() {
    for push in [None, Some(unicast())] {
        let settings = settings(2, push.clone());
        let mut cluster = Cluster::new(2, 2, &settings);
        cluster.up(0);
        let keys = cluster.spis(1);
        cluster.cut_off(1);
        cluster.up(1);
        assert_eq!(cluster.member_spis(1), keys, "registered at the server that is cut off");
        assert_eq!((cluster.listed(0), cluster.listed(1)), (1, 2));
        cluster.run(600);
        cluster.reconnect(1);
        assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2));
        cluster.run(2900);
        assert_eq!(cluster.member_spis(1), cluster.spis(0));
        if push.is_some() {
            assert_eq!(cluster.pulls(1), 1, "it was pushed to");
        }
        // Cut off for longer than its keys live, it has none, and makes none.
        cluster.cut_off(1);
        cluster.run(7300);
        assert!(cluster.spis(1).is_empty());
        assert_eq!(cluster.member_spis(1), cluster.spis(0), "it went to the other server");
    }
}

#[test]
fn sender_ids_are_given_once_whoever_gives_them() {
    for push in [None, Some(unicast())] {
        let mut settings = settings(6, push);
        for bits in [8, 16] {
            settings.groups[0].sender_id_bits = bits;
            settings.groups[0].ipsec_sas[0].suite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
            let mut cluster = Cluster::new(3, 6, &settings);
            (0..6).for_each(|member| cluster.up(member));
            for round in 0..6 {
                let leader = round % 3;
                cluster.elect(leader);
                cluster.run(20);
                for member in 0..6 {
                    cluster.members[member].reregister(cluster.now, "vpn-1");
                    cluster.settle();
                }
                cluster.run(20);
                // A server of another name now: what it had left is given by nobody.
                cluster.nodes[leader] = None;
                cluster.elect((leader + 1) % 3);
                cluster.start(leader, &settings);
            }
            let given = cluster.sender_ids.len();
            let distinct: BTreeSet<_> = cluster.sender_ids.iter().collect();
            let restarted = cluster.member_spis(0);
            assert!(given > 6 * 4, "{given}");
            // With 8 bits the group may have had to start over, which gives them again with other keys.
            if bits == 16 {
                assert_eq!(distinct.len(), given, "{restarted:x?}");
            }
        }
    }
}

#[test]
fn a_threshold_is_the_clusters_however_many_servers_are_asked_at_once() {
    for push in [None, Some(unicast())] {
        let mut settings = settings(6, push);
        settings.groups[0].member_threshold = Some(3);
        let mut cluster = Cluster::new(3, 6, &settings);
        let registered = |cluster: &Cluster| -> Vec<usize> {
            (0..6).filter(|member| !cluster.member_spis(*member).is_empty()).collect()
        };
        cluster.up(0);
        assert_eq!(registered(&cluster), [0]);
        // Members 1 and 4 come to server 1, 2 and 5 to server 2, and neither server hears of the other in time.
        cluster.slow_down(1);
        cluster.slow_down(2);
        for member in [1, 2, 4, 5] {
            cluster.up(member);
        }
        assert_eq!(registered(&cluster), [0], "nobody is let in before the leader has said so");
        cluster.catch_up(1);
        cluster.catch_up(2);
        assert_eq!(registered(&cluster), [0, 1, 2], "who asked first");
        assert_eq!((0..3).map(|server| cluster.listed(server)).collect::<Vec<_>>(), [3, 3, 3]);
        assert_eq!((cluster.pulls(1), cluster.pulls(2)), (1, 1));
        let statistics = |cluster: &Cluster, server: usize| {
            let statistics = cluster.server(server).statistics(cluster.now).swap_remove(0);
            (statistics.pull_succeeded, statistics.pull_exceed_member_threshold)
        };
        cluster.run(5);
        assert_eq!(statistics(&cluster, 0).0, 3);
        assert!(statistics(&cluster, 0).1 >= 2, "{:?}", statistics(&cluster, 0));
        // Who is on the list comes back at any server, and who is not does not get in at any.
        cluster.members[2].reregister(cluster.now, "vpn-1");
        cluster.settle();
        cluster.run(120);
        assert_eq!(cluster.pulls(2), 2);
        assert_eq!(registered(&cluster), [0, 1, 2]);

        // A server that is cut off goes by what it knows, which is that the group is full.
        cluster.cut_off(2);
        cluster.run(60);
        assert_eq!(registered(&cluster), [0, 1, 2]);
    }
}

#[test]
fn who_waits_for_room_gets_in_when_the_next_leader_knows_that_there_is_some() {
    let mut settings = settings(2, Some(unicast()));
    settings.groups[0].member_threshold = Some(1);
    let mut cluster = Cluster::new(2, 2, &settings);
    // The leader is dead, and nobody has been elected yet.
    cluster.nodes[0] = None;
    cluster.leader = None;
    cluster.up(1);
    assert!(cluster.member_spis(1).is_empty());
    cluster.run(2);
    assert!(cluster.member_spis(1).is_empty());
    cluster.elect(1);
    assert_eq!(cluster.member_spis(1), cluster.spis(1), "at once, by the message that waited");
    assert_eq!((cluster.pulls(1), cluster.listed(1)), (1, 1));
    cluster.up(0);
    cluster.run(60);
    assert!(cluster.member_spis(0).is_empty());
}

#[test]
fn what_a_server_kept_while_it_was_alone_is_what_all_go_on_with() {
    for push in [None, Some(unicast())] {
        let settings = settings(2, push.clone());
        let mut cluster = Cluster::new(2, 2, &settings);
        // One server that shares nothing: what the harness keeps is its file.
        cluster.records.clear();
        cluster.nodes[1] = None;
        let alone = Server::new(cluster.now, settings.clone(), Box::new(SeededRandom::new(99)));
        cluster.nodes[0].as_mut().unwrap().server = alone;
        cluster.up(0);
        cluster.up(1);
        cluster.run(3560);
        let keys = cluster.spis(0);
        let kek = push.is_some().then(|| cluster.kek(0));
        assert_eq!((cluster.member_spis(0), cluster.member_spis(1)), (keys.clone(), keys.clone()));
        let file = cluster.records();
        let pulls = [cluster.pulls(0), cluster.pulls(1)];

        cluster.records.clear();
        cluster.leader = None;
        cluster.start(0, &settings);
        cluster.start(1, &settings);
        assert!(cluster.spis(0).is_empty() && cluster.spis(1).is_empty());
        assert!(Server::understand(&settings, &file).is_ok());
        cluster.leader = Some(0);
        cluster.act(0, |server, now| server.adopt(now, &file)).unwrap();
        assert_eq!((cluster.spis(0), cluster.spis(1)), (keys.clone(), keys));
        assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2), "its members are the cluster's");
        if let Some((spi, sequence)) = kek {
            assert_eq!(cluster.kek(1).0, spi);
            assert!(cluster.kek(1).1 >= sequence, "{:?} after {sequence}", cluster.kek(1));
        }
        cluster.run(1000);
        cluster.nodes[0] = None;
        cluster.elect(1);
        cluster.run(3000);
        for (member, pulls) in pulls.into_iter().enumerate() {
            assert_eq!(cluster.member_spis(member), cluster.spis(1));
            if push.is_some() {
                assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, pulls));
            }
        }
    }
}

#[test]
fn acknowledgements_and_commands_at_a_follower_do_what_they_should() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    assert_eq!(
        cluster.act(1, |server, now| server.evict(now, None, Eviction::Now)),
        Err(EvictionError::Follows)
    );
    // Server 0 pushes; before the members answer, their way leads to server 1.
    let end = cluster.now + seconds(3300);
    while cluster.now < end && cluster.pushes.is_empty() {
        let next = cluster.server(0).poll_timeout().unwrap().max(cluster.now);
        cluster.now = next;
        cluster.nodes[0].as_mut().unwrap().server.handle_timeout(next);
        cluster.drain_server(0);
    }
    let pushed: Vec<_> = cluster.wire.drain(..).collect();
    assert!(!pushed.is_empty());
    for (member, mut path, octets) in pushed {
        path.remote.set_ip(server_address(1));
        let index = member.unwrap();
        cluster.members[index].handle_datagram(cluster.now, path, &octets);
    }
    cluster.settle();
    let statistics = |cluster: &Cluster, server: usize| {
        cluster.server(server).statistics(cluster.now)[0].push_acknowledged
    };
    assert_eq!(statistics(&cluster, 1), 2);
    cluster.run(120);
    assert_eq!(statistics(&cluster, 0), 2, "the counters are the cluster's");
    assert_eq!(cluster.pushes.len(), 2, "nobody owes anything, so there is no further round");
    // The counters are set to zero everywhere.
    assert_eq!(cluster.act(1, |server, _| server.clear_statistics(None)), 1);
    cluster.run(10);
    assert_eq!((statistics(&cluster, 0), statistics(&cluster, 1)), (0, 0));
}

#[test]
fn an_eviction_asked_for_at_a_follower_is_done_by_the_leader_or_by_the_next_one_and_once() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(3, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let forward = |cluster: &mut Cluster, server: usize, eviction| {
        cluster.act(server, |server, _| server.forward_eviction(Some(GROUP_NAME), eviction))
    };
    let kek = cluster.kek(0).0;
    let asked = forward(&mut cluster, 1, Eviction::Graceful).unwrap();
    assert_eq!((asked.number, asked.groups.as_slice()), (1, &[GROUP_NAME.to_owned()][..]));
    assert_eq!(cluster.answers, [(1, 1, true)]);
    assert_ne!(cluster.kek(1).0, kek, "another KEK");
    cluster.run(400);
    assert!(!cluster.records.keys().any(|place| place.contains("/news/")));

    // The leader is dead: the answer comes from the next one, be it the asker itself.
    cluster.nodes[0] = None;
    cluster.leader = None;
    let kek = cluster.kek(1).0;
    forward(&mut cluster, 1, Eviction::Now).unwrap();
    forward(&mut cluster, 2, Eviction::Graceful).unwrap();
    cluster.run(5);
    assert_eq!((cluster.answers.len(), cluster.kek(1).0), (1, kek));
    cluster.elect(2);
    assert_eq!(cluster.answers[1..], [(2, 1, true), (1, 2, true)]);
    let kek = cluster.kek(1).0;
    // A server that loads all records hears nothing twice, nor does the next leader do anything again.
    cluster.start(0, &settings);
    cluster.cut_off(1);
    cluster.reconnect(1);
    cluster.elect(1);
    cluster.run(100);
    assert_eq!((cluster.answers.len(), cluster.kek(0).0), (3, kek));
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
    }

    let refused = cluster.act(0, |server, _| server.forward_eviction(Some("other"), Eviction::Now));
    assert_eq!(refused, Err(EvictionError::UnknownGroup("other".into())));
    cluster.cut_off(0);
    assert_eq!(forward(&mut cluster, 0, Eviction::Graceful), Err(EvictionError::CutOff));
}

#[test]
fn an_eviction_that_the_leader_refuses_is_told_to_who_asked() {
    let pushing = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &pushing);
    // The leader's configuration is another one, in which members pull.
    cluster.nodes[0] = None;
    cluster.start(0, &settings(2, None));
    cluster.elect(0);
    cluster.act(1, |server, _| server.forward_eviction(None, Eviction::Now)).unwrap();
    assert_eq!(cluster.answers, [(1, 1, false)]);
    let refused = cluster.act(0, |server, now| server.evict(now, None, Eviction::Now));
    assert!(matches!(refused, Err(EvictionError::Pulls(_))));
}

#[test]
fn a_gateway_that_leaves_is_evicted_even_if_nobody_knows_that_it_registered() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.cut_off(1);
    cluster.up(1);
    let before = cluster.spis(0);
    let mut without = settings.clone();
    without.groups[0].gateways.retain(|name| *name != gateway_name(1));
    cluster.act(0, |server, now| server.configure(now, without.clone()));
    cluster.run(300);
    assert!(cluster.spis(0).iter().all(|spi| !before.contains(spi)), "all keys were replaced");
    assert_eq!(cluster.member_spis(0), cluster.spis(0));
}

#[test]
fn a_leader_of_other_settings_takes_them_for_a_commit_and_keeps_the_key_that_signs() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let kek = cluster.kek(0).0;
    // Another key pair, as each server has its own.
    let mut other = settings.clone();
    let kind = crypto::signature::SigningKeyKind::EcdsaP256;
    other.groups[0].push.as_mut().unwrap().signing_key =
        crypto::signature::SigningKey::generate(kind).unwrap();
    cluster.nodes[0] = None;
    cluster.start(1, &other);
    cluster.elect(1);
    cluster.act(1, |server, now| server.configure(now, other.clone()));
    assert_eq!(cluster.kek(1).0, kek);
    other.groups[0].ipsec_sas[0].policies = vec![policy(2)];
    cluster.act(1, |server, now| server.configure(now, other.clone()));
    cluster.run(60);
    assert_eq!(cluster.kek(1).0, kek);
    assert_eq!(cluster.spis(1).len(), 2);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
}
