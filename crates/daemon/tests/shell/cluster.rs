//! Two key servers that share their group through a real etcd (Debian `etcd-server`): either answers, one makes the keys,
//! and the other goes on when that one dies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::MEMBER;
use super::host::{Host, plug, skip, within};
use super::push::{AT_MEMBER, AT_SERVER, pushing, spis};

const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: &str = "/v1/server/server-cluster?detail";

/// One etcd on a host of its own.
struct Etcd {
    process: Child,
    directory: PathBuf,
}

impl Etcd {
    fn start(host: &Host) -> Self {
        let directory = host.folder().join("etcd");
        let process = host.spawn(&[
            "etcd",
            "--data-dir",
            directory.to_str().unwrap(),
            "--listen-client-urls",
            "http://10.0.0.9:2379",
            "--advertise-client-urls",
            "http://10.0.0.9:2379",
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
        ]);
        Self { process, directory }
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A switch with etcd on it, two servers and two members.
struct Site {
    etcd: Etcd,
    servers: [Host; 2],
    members: [Host; 2],
    _switch: Host,
}

impl Site {
    fn new(name: &str) -> Self {
        let host = |role: &str, address: &str| Host::new(&format!("{name}{role}"), address);
        let switch = host("x", "10.0.0.9/24");
        switch.ip(&["link", "add", "br0", "type", "bridge"]);
        switch.ip(&["link", "set", "br0", "up"]);
        switch.ip(&["address", "add", "10.0.0.9/24", "dev", "br0"]);
        let servers = [host("a", "10.0.0.1/24"), host("b", "10.0.0.11/24")];
        let members = [host("m", "10.0.0.2/24"), host("n", "10.0.0.3/24")];
        for (host, port) in servers.iter().chain(&members).zip(["p1", "p2", "p3", "p4"]) {
            plug(&switch, "br0", port, host);
        }
        let etcd = Etcd::start(&switch);
        for server in &servers {
            let key = server.folder().join("cluster.key");
            fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { etcd, servers, members, _switch: switch }
    }

    fn configuration(&self, server: usize, policy: &str) -> String {
        let key = self.servers[server].folder().join("cluster.key");
        let store = format!(
            "cluster-store etcd {{ endpoint http://10.0.0.9:2379; lease-seconds 2; server-name server-{server}; \
             cluster-key \"{}\"; }}",
            key.display()
        );
        let gateways = "gateway white { ike-policy ike_policy; address 10.0.0.3; } \
                        gateway first { ike-policy ike_policy; address 10.0.0.1; } \
                        gateway second { ike-policy ike_policy; address 10.0.0.11; } gateway black {";
        let other = ["second", "first"][server];
        let address = ["10.0.0.1", "10.0.0.11"][server];
        pushing("")
            .replace("gateway black {", gateways)
            .replace("group g1 {", &format!("{store} group g1 {{"))
            .replace(
                "ike-gateway black;",
                &format!(
                    "ike-gateway black; ike-gateway white; \
                     server-cluster {{ server-role root-server; ike-gateway {other}; }}"
                ),
            )
            .replace("server-address 10.0.0.1;", &format!("server-address {address};"))
            .replace("destination 31.1.0.0/16;", &format!("destination {policy};"))
    }

    fn start(&mut self, server: usize, policy: &str) {
        let configuration = self.configuration(server, policy);
        self.servers[server].start(&configuration, &[]);
    }

    /// Commits a policy at the servers that run, so that whoever leads makes a key for it.
    fn commit(&self, servers: &[usize], policy: &str) {
        for &server in servers {
            self.servers[server].rewrite(&self.configuration(server, policy));
            let committed = self.servers[server].post("/v1/commit", "");
            assert!(committed.contains("\"success\":true"), "{committed}");
        }
    }

    fn leads(&self, server: usize) -> bool {
        self.servers[server].get(CLUSTER).contains("\"state\":\"leading\"")
    }

    fn kek(&self, server: usize) -> (String, u64) {
        let text = self.servers[server].get("/v1/server/kek-security-associations?detail");
        let field = |name: &str| {
            let rest = text.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("{name}: {text}"));
            rest.split([',', '}']).next().unwrap().trim_matches('"').to_owned()
        };
        (field("initiator-cookie"), field("sequence-number").parse().unwrap())
    }
}

fn member_of(address: &str, servers: &str) -> String {
    MEMBER
        .replace("address 10.0.0.1;", &format!("server-address [ {servers} ];"))
        .replace("local-address 10.0.0.2;", &format!("local-address {address};"))
}

fn agree(server: &Host, member: &Host) -> bool {
    let ours = spis(server, AT_SERVER);
    !ours.is_empty() && ours == spis(member, AT_MEMBER)
}

#[test]
fn either_server_answers_and_when_the_leader_is_killed_the_other_goes_on() {
    if skip() {
        return;
    }
    let mut site = Site::new("shk");
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    site.start(1, "31.1.0.0/16");
    within(PATIENCE, || site.servers[1].get(CLUSTER).contains("\"leader\":\"server-0\""));
    let told = site.servers[1].get(CLUSTER);
    assert!(told.contains("\"state\":\"following\"") && told.contains("\"gateway\":\"first\""), "{told}");
    assert!(spis(&site.servers[1], AT_SERVER) == spis(&site.servers[0], AT_SERVER));

    // A member registers at A; A makes a new key; right after that another one registers at B, which it finds there.
    site.members[0].start(&member_of("10.0.0.2", "10.0.0.1 10.0.0.11"), &[]);
    within(PATIENCE, || agree(&site.servers[0], &site.members[0]));
    let before = spis(&site.servers[0], AT_SERVER);
    site.commit(&[1, 0], "31.0.0.0/8");
    within(PATIENCE, || {
        spis(&site.members[0], AT_MEMBER).len() > before.len() && agree(&site.servers[0], &site.members[0])
    });
    site.members[1].start(&member_of("10.0.0.3", "10.0.0.11"), &[]);
    within(PATIENCE, || spis(&site.members[1], AT_MEMBER).len() > before.len());
    assert!(agree(&site.servers[0], &site.members[1]), "the member of B has the key that A made");
    for server in &site.servers {
        let members = server.get("/v1/server/registered-members");
        within(PATIENCE, || {
            let members = server.get("/v1/server/registered-members");
            members.contains("10.0.0.2") && members.contains("10.0.0.3")
        });
        drop(members);
    }

    // A dies. B leads, with the same KEK, and its next push goes on with the count.
    let (cookie, sequence) = site.kek(0);
    let mut seen = spis(&site.servers[0], AT_SERVER);
    site.servers[0].signal("KILL");
    site.servers[0].wait();
    let died = Instant::now();
    within(PATIENCE, || site.leads(1));
    eprintln!("another server led {:?} after the first was killed, the lease being 2 s", died.elapsed());
    assert_eq!(site.kek(1).0, cookie);
    assert!(seen.iter().all(|spi| spis(&site.servers[1], AT_SERVER).contains(spi)), "the keys go on");
    site.commit(&[1], "31.1.128.0/17");
    within(PATIENCE, || {
        let now = spis(&site.servers[1], AT_SERVER);
        now.iter().any(|spi| !seen.contains(spi))
            && site.members.iter().all(|member| agree(&site.servers[1], member))
    });
    eprintln!("every member had a key of the other server {:?} after the first was killed", died.elapsed());
    let (same, next) = site.kek(1);
    assert!(same == cookie && next > sequence, "{next} after {sequence}");
    for member in &site.members {
        let detail = member.get(AT_MEMBER);
        assert!(detail.contains("\"pull-succeeded\":1,"), "nobody pulled: {detail}");
        assert!(detail.contains("\"push-failed\":0,"), "no number was used twice: {detail}");
    }

    // The first one comes back and follows.
    site.start(0, "31.1.128.0/17");
    within(PATIENCE, || site.servers[0].get(CLUSTER).contains("\"leader\":\"server-1\""));
    within(PATIENCE, || spis(&site.servers[0], AT_SERVER) == spis(&site.servers[1], AT_SERVER));
    seen = spis(&site.servers[1], AT_SERVER);

    // It is asked to end: the other need not wait for the lease.
    assert!(site.servers[1].stop());
    within(PATIENCE, || site.leads(0));
    assert!(seen.iter().all(|spi| spis(&site.servers[0], AT_SERVER).contains(spi)));
    assert!(site.servers[0].stop() && site.members[0].stop() && site.members[1].stop());
}

#[test]
fn without_etcd_the_keys_are_served_and_none_are_made_and_show_says_so() {
    if skip() {
        return;
    }
    let mut site = Site::new("shq");
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    site.start(1, "31.1.0.0/16");
    site.members[0].start(&member_of("10.0.0.2", "10.0.0.1"), &[]);
    within(PATIENCE, || agree(&site.servers[0], &site.members[0]));
    let keys = spis(&site.servers[0], AT_SERVER);
    within(PATIENCE, || spis(&site.servers[1], AT_SERVER) == keys);

    site.etcd.signal("-STOP");
    for server in &site.servers {
        within(PATIENCE, || server.get(CLUSTER).contains("\"state\":\"cut-off\""));
        assert!(server.get("/v1/status").contains("cut off from the others"));
        assert!(server.log().contains("cut off from the other key servers"));
    }
    // What is committed meanwhile makes no key, and who registers gets those that there are.
    site.commit(&[0, 1], "31.0.0.0/8");
    site.members[1].start(&member_of("10.0.0.3", "10.0.0.11"), &[]);
    within(PATIENCE, || spis(&site.members[1], AT_MEMBER) == keys);
    for server in &site.servers {
        assert_eq!(spis(server, AT_SERVER), keys);
    }

    site.etcd.signal("-CONT");
    within(PATIENCE, || site.leads(0) || site.leads(1));
    let leader = usize::from(site.leads(1));
    // The commit of before is done now, and told to the member that nobody knew of.
    within(PATIENCE, || {
        spis(&site.servers[leader], AT_SERVER).len() > keys.len()
            && site.members.iter().all(|member| agree(&site.servers[leader], member))
    });
    within(PATIENCE, || spis(&site.servers[0], AT_SERVER) == spis(&site.servers[1], AT_SERVER));
    assert!(site.servers.iter_mut().all(Host::stop) && site.members.iter_mut().all(Host::stop));
}

#[test]
fn an_eviction_can_be_asked_for_at_any_server_and_its_outcome_is_told() {
    if skip() {
        return;
    }
    const GROUP: &str = "/v1/server/group?group=g1";
    let mut site = Site::new("she");
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    site.start(1, "31.1.0.0/16");
    site.members[0].start(&member_of("10.0.0.2", "10.0.0.1"), &[]);
    within(PATIENCE, || agree(&site.servers[0], &site.members[0]));
    within(PATIENCE, || site.servers[1].get("/v1/server/registered-members").contains("10.0.0.2"));
    let (kek, keys) = (site.kek(0).0, spis(&site.servers[0], AT_SERVER));

    let done = site.servers[1].delete(GROUP);
    assert!(done.contains("\"by\":\"server-0\"") && done.contains("\"done-in-millis\":"), "{done}");
    assert_ne!(site.kek(0).0, kek, "the leader has revoked the KEK");
    within(PATIENCE, || {
        let now = spis(&site.servers[0], AT_SERVER);
        !now.iter().any(|spi| keys.contains(spi)) && agree(&site.servers[0], &site.members[0])
    });
    assert!(site.servers[0].log().contains("eviction asked for at another server"));
    assert!(site.servers[1].delete("/v1/server/group?group=other").contains("there is no group other"));

    // Without etcd nobody hears of it: first it is waited for, then it is known.
    site.etcd.signal("-STOP");
    let silent = site.servers[1].delete(GROUP);
    assert!(
        silent.contains("no answer from the server that makes the keys") || silent.contains("cut off"),
        "{silent}"
    );
    within(PATIENCE, || site.servers[1].get(CLUSTER).contains("\"state\":\"cut-off\""));
    let refused = site.servers[1].delete(GROUP);
    assert!(refused.contains("this server is cut off from the others"), "{refused}");
    site.etcd.signal("-CONT");
    within(PATIENCE, || site.leads(0) || site.leads(1));
    assert!(site.servers.iter_mut().all(Host::stop) && site.members[0].stop());
}

#[test]
fn servers_that_are_configured_differently_say_so_until_they_are_alike() {
    if skip() {
        return;
    }
    let mut site = Site::new("shd");
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    site.start(1, "31.0.0.0/8");
    let differs = |server: usize| {
        let shown = site.servers[server].get(CLUSTER).contains("\"differs\":\"ipsec-sa\"");
        let status = site.servers[server].get("/v1/status");
        (shown, status.contains("is configured differently (ipsec-sa)"), status)
    };
    within(PATIENCE, || (0..2).all(|server| differs(server).0 && differs(server).1));
    let (_, _, status) = differs(1);
    assert!(
        status
            .contains("group g1: key server server-0 is configured differently (ipsec-sa); that one counts"),
        "{status}"
    );
    assert!(differs(0).2.contains("ours counts while this server makes the keys"));
    for server in &site.servers {
        assert!(server.log().contains("key servers are configured differently"));
    }
    // What members get is what the leader's configuration says.
    let policies = site.servers[1].get("/v1/server/ipsec-security-associations?detail");
    assert!(policies.contains("31.1.0.0/16") && !policies.contains("31.0.0.0/8"), "{policies}");

    site.commit(&[1], "31.1.0.0/16");
    within(PATIENCE, || (0..2).all(|server| !differs(server).0 && !differs(server).1));
    assert!(site.servers[0].log().contains("configured alike again"));
    assert!(site.servers.iter_mut().all(Host::stop));
}

#[test]
fn a_second_server_of_the_same_name_does_nothing_and_says_why() {
    if skip() {
        return;
    }
    let mut site = Site::new("shz");
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    let keys = spis(&site.servers[0], AT_SERVER);
    let twin = site.configuration(1, "31.1.0.0/16").replace("server-name server-1;", "server-name server-0;");
    site.servers[1].start(&twin, &[]);
    let words = "another server named `server-0` is connected";
    within(PATIENCE, || site.servers[1].get("/v1/status").contains(words));
    let shown = site.servers[1].get(CLUSTER);
    assert!(shown.contains("\"state\":\"starting\"") && shown.contains(words), "{shown}");
    assert!(site.servers[1].log().contains(words));
    site.members[0].start(&member_of("10.0.0.2", "10.0.0.11"), &[]);
    within(PATIENCE, || site.servers[1].log().contains("registration refused"));
    assert!(spis(&site.servers[1], AT_SERVER).is_empty() && spis(&site.members[0], AT_MEMBER).is_empty());
    assert!(site.leads(0) && spis(&site.servers[0], AT_SERVER) == keys);

    // One that was killed comes back under its own name at once.
    site.servers[0].signal("KILL");
    site.servers[0].wait();
    site.servers[1].stop();
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    assert!(!site.servers[0].log().contains(words), "{}", site.servers[0].log());
    assert_eq!(spis(&site.servers[0], AT_SERVER), keys);
    assert!(site.servers[0].stop() && site.members[0].stop());
}

#[test]
fn a_cluster_store_that_cannot_be_used_is_an_error_of_the_commit() {
    if skip() {
        return;
    }
    let site = Site::new("shj");
    let good = site.configuration(0, "31.1.0.0/16");
    let refused = |text: &str, words: &str| {
        site.servers[0].rewrite(text);
        let run = site.servers[0].run(&[]);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(1) && error.contains(words), "{words}: {error}");
    };
    refused(&good.replace("cluster.key", "missing.key"), "missing.key: No such file");
    refused(&good.replace("http://10.0.0.9:2379", "10.0.0.9:2379"), "begins with neither");
    let key = good.split("cluster-key \"").nth(1).unwrap().split('"').next().unwrap();
    refused(&good.replace(&format!("cluster-key \"{key}\";"), ""), "gvpn-cluster-key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&good, "others may read this key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();

    // Nor is what the server kept before passed over in silence.
    let directory = site.servers[0].folder().join("state/server");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("state.redb"), "something else").unwrap();
    fs::write(directory.join("state.key"), [7; 32]).unwrap();
    fs::set_permissions(directory.join("state.key"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(&good, "state.redb: this is not a state file of gvpnd");
    assert_eq!(fs::read(directory.join("state.redb")).unwrap(), b"something else");
}

/// Of the files that a server's own state may be in, those that are there.
fn state_files(server: &Host) -> Vec<&'static str> {
    let exists = |name: &&str| server.folder().join("state/server").join(name).exists();
    ["state.redb", "state.moving.redb", "state.moved.redb"].into_iter().filter(exists).collect()
}

#[test]
fn a_server_that_was_alone_brings_its_keys_into_an_empty_cluster_once() {
    if skip() {
        return;
    }
    const CLUSTER_POLICY: &str = "31.0.0.0/8";
    let mut site = Site::new("shv");
    let commit = |server: &Host, text: &str| {
        server.rewrite(text);
        let committed = server.post("/v1/commit", "");
        assert!(committed.contains("\"success\":true"), "{committed}");
    };
    let alone = pushing("").replace("31.1.0.0/16", CLUSTER_POLICY);
    site.servers[0].start(&pushing(""), &[]);
    assert_eq!(site.servers[0].get(CLUSTER).trim(), "[]");
    site.members[0].start(&member_of("10.0.0.2", "10.0.0.1 10.0.0.11"), &[]);
    within(PATIENCE, || agree(&site.servers[0], &site.members[0]));
    commit(&site.servers[0], &alone);
    within(PATIENCE, || {
        spis(&site.servers[0], AT_SERVER).len() > 1 && agree(&site.servers[0], &site.members[0])
    });
    let (keys, kek) = (spis(&site.servers[0], AT_SERVER), site.kek(0));
    assert_eq!(state_files(&site.servers[0]), ["state.redb"]);

    // It begins to share: the same keys, KEK, count and members, and the file is nobody's any more.
    commit(&site.servers[0], &site.configuration(0, CLUSTER_POLICY));
    within(PATIENCE, || site.leads(0));
    within(PATIENCE, || state_files(&site.servers[0]) == ["state.moved.redb"]);
    assert_eq!(spis(&site.servers[0], AT_SERVER), keys);
    assert!(site.kek(0).0 == kek.0 && site.kek(0).1 >= kek.1, "{:?} after {kek:?}", site.kek(0));
    site.start(1, CLUSTER_POLICY);
    within(PATIENCE, || spis(&site.servers[1], AT_SERVER) == keys);
    assert!(site.servers[1].get("/v1/server/registered-members").contains("10.0.0.2"));
    site.commit(&[1, 0], "31.1.128.0/17");
    within(PATIENCE, || {
        spis(&site.servers[0], AT_SERVER).iter().any(|spi| !keys.contains(spi))
            && agree(&site.servers[0], &site.members[0])
    });
    let detail = site.members[0].get(AT_MEMBER);
    assert!(detail.contains("\"pull-succeeded\":1,") && detail.contains("\"push-failed\":0,"), "{detail}");

    // Alone again it has nothing of that: others go on with it.
    let shared = spis(&site.servers[1], AT_SERVER);
    commit(&site.servers[0], &alone);
    within(PATIENCE, || site.leads(1));
    assert!(spis(&site.servers[0], AT_SERVER).iter().all(|spi| !shared.contains(spi)));
    assert_ne!(site.kek(0).0, kek.0);
    assert!(site.servers[0].log().contains("it begins with new keys"));
    assert!(shared.iter().all(|spi| spis(&site.servers[1], AT_SERVER).contains(spi)));

    // And what it has made now is not used where something is shared already; it stays.
    commit(&site.servers[0], &site.configuration(0, "31.1.128.0/17"));
    within(PATIENCE, || spis(&site.servers[0], AT_SERVER) == spis(&site.servers[1], AT_SERVER));
    assert!(site.servers[0].log().contains("the servers share keys already"));
    assert_eq!(state_files(&site.servers[0]), ["state.redb", "state.moved.redb"]);
    assert!(site.servers.iter_mut().all(Host::stop) && site.members[0].stop());
}

#[test]
fn a_move_that_was_broken_off_goes_on_if_nothing_is_shared_and_is_over_if_something_is() {
    if skip() {
        return;
    }
    let mut site = Site::new("shu");
    site.servers[0].start(&pushing(""), &[]);
    let keys = spis(&site.servers[0], AT_SERVER);
    assert!(site.servers[0].stop());
    // As after a crash between the renaming and the commit.
    let directory = site.servers[0].folder().join("state/server");
    fs::rename(directory.join("state.redb"), directory.join("state.moving.redb")).unwrap();
    // Alone nobody goes on with it.
    site.servers[0].start(&pushing(""), &[]);
    assert!(spis(&site.servers[0], AT_SERVER).iter().all(|spi| !keys.contains(spi)));
    assert!(site.servers[0].stop());
    fs::remove_file(directory.join("state.redb")).unwrap();

    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    within(PATIENCE, || state_files(&site.servers[0]) == ["state.moved.redb"]);
    assert_eq!(spis(&site.servers[0], AT_SERVER), keys);
    site.servers[0].signal("KILL");
    site.servers[0].wait();

    // As after a crash between the commit and the second renaming.
    fs::rename(directory.join("state.moved.redb"), directory.join("state.moving.redb")).unwrap();
    site.start(0, "31.1.0.0/16");
    within(PATIENCE, || site.leads(0));
    assert_eq!(spis(&site.servers[0], AT_SERVER), keys);
    assert_eq!(state_files(&site.servers[0]), ["state.moved.redb"]);
    assert!(site.servers[0].stop());
}
