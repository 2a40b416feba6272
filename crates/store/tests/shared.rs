//! Cooperating servers on a real etcd (Debian `etcd-server`): one member of it, on loopback ports of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crypto::{SealingKey, Secret, SeededRandom};
use store::{Change, Epoch, Preference, Shared, SharedEvent, SharedSettings, Term, Tls};

const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// A running etcd, ended and removed when it is dropped.
struct Etcd {
    process: Child,
    directory: PathBuf,
    url: String,
}

impl Etcd {
    fn start(name: &str) -> Self {
        Self::start_with(name, "http", &[])
    }

    fn start_with(name: &str, scheme: &str, options: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("gvpn-etcd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let (client, peer) = (free_url(scheme), free_url("http"));
        let process = Command::new("etcd")
            .args(["--data-dir", directory.to_str().unwrap(), "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd runs: scripts/prepare installs Debian's etcd-server");
        Self { process, directory, url: client }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_url(scheme: &str) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("{scheme}://127.0.0.1:{port}")
}

fn settings(etcd: &Etcd, name: &str, preference: Preference, key: u8) -> SharedSettings {
    settings_at(etcd.url.clone(), name, preference, key)
}

fn settings_at(url: String, name: &str, preference: Preference, key: u8) -> SharedSettings {
    SharedSettings {
        endpoints: vec![url],
        prefix: "/groupvpn/test".into(),
        name: name.into(),
        preference,
        identity: Some(format!("machine of {name}").into_bytes()),
        about: Secret::from_slice(format!("about {name}").as_bytes()),
        lease: LEASE,
        longest_wait: LEASE,
        tls: None,
        user: None,
        key: SealingKey::new(&Secret::new(vec![key; 32])).unwrap(),
    }
}

/// A server's end of the store, and what it was told.
struct Server {
    shared: Shared,
    epoch: Epoch,
    term: Option<Term>,
    records: Vec<(String, String)>,
    servers: Vec<(String, String)>,
}

impl Server {
    fn start(etcd: &Etcd, name: &str, preference: Preference) -> Self {
        Self::with_key(etcd, name, preference, 1)
    }

    fn with_key(etcd: &Etcd, name: &str, preference: Preference, key: u8) -> Self {
        Self::with(settings(etcd, name, preference, key))
    }

    fn with(settings: SharedSettings) -> Self {
        let random = Box::new(SeededRandom::new(settings.name.len() as u64));
        let shared = Shared::start(settings, random);
        Self { shared, epoch: Epoch::default(), term: None, records: Vec::new(), servers: Vec::new() }
    }

    async fn event(&mut self) -> SharedEvent {
        let event =
            tokio::time::timeout(PATIENCE, self.shared.event()).await.expect("an event in time").unwrap();
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
        match &event {
            SharedEvent::Loaded { epoch, records } => {
                self.epoch = *epoch;
                self.records =
                    records.iter().map(|(place, content)| (place.clone(), text(content))).collect();
            }
            SharedEvent::Changed(changes) => {
                for change in changes {
                    self.records.retain(|(place, _)| *place != change.place);
                    self.records
                        .extend(change.content.as_ref().map(|content| (change.place.clone(), text(content))));
                }
            }
            SharedEvent::Leading(term) => self.term = Some(*term),
            SharedEvent::Following(_) | SharedEvent::CutOff(_) => self.term = None,
            SharedEvent::Servers(servers) => {
                self.servers = servers.iter().map(|(name, about)| (name.clone(), text(about))).collect();
            }
            SharedEvent::Committed(_) | SharedEvent::Refused(_) => {}
        }
        event
    }

    async fn until(&mut self, mut condition: impl FnMut(&SharedEvent) -> bool) -> SharedEvent {
        loop {
            let event = self.event().await;
            if condition(&event) {
                return event;
            }
        }
    }

    async fn commit(&mut self, id: u64, fence: Option<Term>, place: &str, content: &str) -> SharedEvent {
        let change = Change::set(place, Secret::from_slice(content.as_bytes()));
        self.shared.commit(self.epoch, id, vec![change], fence).unwrap();
        let decided = |event: &SharedEvent| match event {
            SharedEvent::Committed(decided) | SharedEvent::Refused(decided) => *decided == id,
            _ => false,
        };
        self.until(decided).await
    }
}

fn leads(event: &SharedEvent) -> bool {
    matches!(event, SharedEvent::Leading(_))
}

fn record(place: &str, content: &str) -> (String, String) {
    (place.into(), content.into())
}

#[tokio::test]
async fn one_leads_the_others_see_its_changes_and_a_newcomer_loads_them() {
    let etcd = Etcd::start("changes");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let mut second = Server::start(&etcd, "second", Preference::Root);
    let following = second.until(|event| matches!(event, SharedEvent::Following(_))).await;
    assert!(matches!(following, SharedEvent::Following(Some(name)) if name == "first"));

    let term = first.term;
    assert!(matches!(first.commit(1, term, "group/1/keys", "one").await, SharedEvent::Committed(1)));
    second.until(|event| matches!(event, SharedEvent::Changed(_))).await;
    assert_eq!(second.records, [record("group/1/keys", "one")]);

    // A follower writes what needs no leader, and the leader sees it; its own change does not come back to it.
    assert!(matches!(second.commit(7, None, "group/1/member/a", "here").await, SharedEvent::Committed(7)));
    let change = first.until(|event| matches!(event, SharedEvent::Changed(_))).await;
    let SharedEvent::Changed(changes) = change else { unreachable!("just matched") };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].place, "group/1/member/a");

    let mut third = Server::start(&etcd, "third", Preference::Root);
    third.until(|event| matches!(event, SharedEvent::Loaded { .. })).await;
    assert_eq!(third.records, [record("group/1/keys", "one"), record("group/1/member/a", "here")]);
}

#[tokio::test]
async fn a_leader_that_lost_its_election_is_refused_and_the_other_goes_on() {
    let etcd = Etcd::start("fence");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let mut second = Server::start(&etcd, "second", Preference::Root);
    second.until(|event| matches!(event, SharedEvent::Following(Some(_)))).await;
    let stale = first.term;
    assert!(matches!(first.commit(1, stale, "group/1/keys", "one").await, SharedEvent::Committed(1)));

    // What a leader frozen past its lease finds: its key is gone and the other has been elected.
    let mut raw = etcd_client::Client::connect([&etcd.url], None).await.unwrap();
    raw.delete("/groupvpn/test/leader", None).await.unwrap();
    let elected = tokio::select! {
        event = second.until(leads) => event,
        event = first.until(leads) => event,
    };
    assert!(leads(&elected));
    let refused = first.commit(2, stale, "group/1/keys", "stale").await;
    assert!(matches!(refused, SharedEvent::Refused(2)), "{refused:?}");
    let mut third = Server::start(&etcd, "third", Preference::Root);
    third.until(|event| matches!(event, SharedEvent::Loaded { .. })).await;
    assert_eq!(third.records, [record("group/1/keys", "one")]);
}

#[tokio::test]
async fn another_leads_when_the_leader_goes_at_once_and_a_root_goes_before_a_sub() {
    let etcd = Etcd::start("roles");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let mut sub = Server::start(&etcd, "sub", Preference::Sub);
    sub.until(|event| matches!(event, SharedEvent::Following(Some(_)))).await;
    let mut root = Server::start(&etcd, "root", Preference::Root);
    root.until(|event| matches!(event, SharedEvent::Following(Some(_)))).await;
    drop(first);
    let began = std::time::Instant::now();
    root.until(leads).await;
    assert!(began.elapsed() < LEASE, "an orderly end gives the lease back");
    drop(root);
    sub.until(leads).await;
}

#[tokio::test]
async fn servers_that_are_connected_know_of_each_other() {
    let etcd = Etcd::start("servers");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    assert_eq!(first.servers, [record("first", "about first")]);
    let second = Server::start(&etcd, "second", Preference::Root);
    first.until(|event| matches!(event, SharedEvent::Servers(all) if all.len() == 2)).await;
    assert_eq!(first.servers[1], record("second", "about second"));
    drop(second);
    first.until(|event| matches!(event, SharedEvent::Servers(all) if all.len() == 1)).await;
}

#[tokio::test]
async fn what_a_server_says_of_itself_may_change() {
    let etcd = Etcd::start("introduction");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let mut second = Server::start(&etcd, "second", Preference::Root);
    second.until(|event| matches!(event, SharedEvent::Following(Some(_)))).await;
    first.shared.introduce(Secret::from_slice(b"something else"));
    let changed = |servers: &[(String, String)]| servers.contains(&record("first", "something else"));
    while !changed(&second.servers) {
        second.event().await;
    }
    // It is what it says after the next connection too.
    drop(second);
    etcd.signal("-STOP");
    first.until(|event| matches!(event, SharedEvent::CutOff(_))).await;
    etcd.signal("-CONT");
    first.until(leads).await;
    assert!(changed(&first.servers), "{:?}", first.servers);
}

#[tokio::test]
async fn a_second_server_of_the_same_name_stays_outside_until_the_first_has_gone() {
    let etcd = Etcd::start("names");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    for identity in [Some(b"another machine".to_vec()), None] {
        let settings = SharedSettings { identity, ..settings(&etcd, "first", Preference::Root, 1) };
        let mut second = Server::with(settings);
        // It comes again and again, and never in.
        for _ in 0..3 {
            let event = second.event().await;
            let refused = matches!(&event, SharedEvent::CutOff(reason) if reason.contains("another server named `first`"));
            assert!(refused, "{event:?}");
        }
    }
    let term = first.term;
    assert!(matches!(first.commit(1, term, "group/1/keys", "one").await, SharedEvent::Committed(1)));
    let mut second =
        Server::with(SharedSettings { identity: None, ..settings(&etcd, "first", Preference::Root, 1) });
    second.until(|event| matches!(event, SharedEvent::CutOff(_))).await;
    drop(first);
    second.until(leads).await;
}

#[tokio::test]
async fn a_new_life_of_a_server_need_not_wait_for_the_lease_of_the_one_before() {
    let etcd = Etcd::start("lives");
    // It ends without a word, and its lease holds.
    let url = etcd.url.clone();
    let crash = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime.block_on(async {
            let mut first = Server::with(settings_at(url, "first", Preference::Root, 1));
            first.until(leads).await;
            first
        });
        drop(runtime);
        drop(first);
    };
    std::thread::spawn(crash).join().unwrap();
    let began = std::time::Instant::now();
    let mut second = Server::start(&etcd, "first", Preference::Root);
    let event = second.event().await;
    assert!(matches!(event, SharedEvent::Loaded { .. }), "{event:?}");
    second.until(leads).await;
    eprintln!("it led after {:?}, the lease being {LEASE:?}", began.elapsed());
}

#[tokio::test]
async fn without_etcd_a_server_is_told_that_it_is_cut_off_and_later_what_is() {
    let etcd = Etcd::start("cut-off");
    let mut server = Server::start(&etcd, "first", Preference::Root);
    server.until(leads).await;
    let term = server.term;
    assert!(matches!(server.commit(1, term, "group/1/keys", "one").await, SharedEvent::Committed(1)));
    etcd.signal("-STOP");
    server.until(|event| matches!(event, SharedEvent::CutOff(_))).await;
    let old = server.epoch;
    etcd.signal("-CONT");
    server.until(|event| matches!(event, SharedEvent::Loaded { .. })).await;
    assert_eq!(server.records, [record("group/1/keys", "one")]);
    server.until(leads).await;
    // What was asked for under the old connection is not done under the new one.
    let late = vec![Change::set("group/1/keys", Secret::from_slice(b"late"))];
    server.shared.commit(old, 2, late, server.term).unwrap();
    let term = server.term;
    assert!(matches!(server.commit(3, term, "group/2/keys", "two").await, SharedEvent::Committed(3)));
    let mut other = Server::start(&etcd, "other", Preference::Root);
    other.until(|event| matches!(event, SharedEvent::Loaded { .. })).await;
    assert_eq!(other.records, [record("group/1/keys", "one"), record("group/2/keys", "two")]);
}

#[tokio::test]
async fn another_cluster_key_is_told_and_changes_nothing() {
    let etcd = Etcd::start("key");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let term = first.term;
    first.commit(1, term, "group/1/keys", "one").await;
    let mut stranger = Server::with_key(&etcd, "stranger", Preference::Root, 2);
    let event = stranger.event().await;
    assert!(
        matches!(&event, SharedEvent::CutOff(reason) if reason.contains("another cluster key")),
        "{event:?}"
    );
}

/// Certificates of an authority of the test's own: one for etcd at 127.0.0.1, one for its clients.
fn certificates(directory: &std::path::Path) {
    std::fs::create_dir_all(directory).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let ca = ["req", "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&ca[..], &key[..]].concat());
    for name in ["etcd", "client"] {
        let (subject, pem, private) = (format!("/CN={name}"), format!("{name}.pem"), format!("{name}.key"));
        let request =
            ["req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"];
        let rest = [
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-subj",
            &subject,
            "-keyout",
            &private,
            "-out",
            &pem,
        ];
        openssl(&[&request[..], &rest[..], &key[..]].concat());
    }
}

#[tokio::test]
async fn over_tls_both_ends_show_certificates_and_a_stranger_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    certificates(directory);
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (certificate, key, ca) = (file("etcd.pem"), file("etcd.key"), file("ca.pem"));
    let tls =
        ["--client-cert-auth", "--cert-file", &certificate, "--key-file", &key, "--trusted-ca-file", &ca];
    let etcd = Etcd::start_with("tls", "https", &tls);
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let settings = |name: &str, own: bool| {
        let own = own.then(|| (read("client.pem"), Secret::new(read("client.key"))));
        SharedSettings {
            tls: Some(Tls { authorities: read("ca.pem"), own }),
            ..settings(&etcd, name, Preference::Root, 1)
        }
    };
    let mut server = Server::with(settings("server", true));
    server.until(leads).await;
    let term = server.term;
    assert!(matches!(server.commit(1, term, "group/1/keys", "one").await, SharedEvent::Committed(1)));
    let mut stranger = Server::with(settings("stranger", false));
    let event = stranger.event().await;
    assert!(matches!(event, SharedEvent::CutOff(_)), "{event:?}");
}

#[tokio::test]
async fn ten_thousand_records_are_committed_and_loaded() {
    let etcd = Etcd::start("many");
    let mut first = Server::start(&etcd, "first", Preference::Root);
    first.until(leads).await;
    let member = |number: u32| Change::set(format!("group/1/member/{number:06}"), Secret::new(vec![7; 200]));
    let changes: Vec<_> = (0..10_000).map(member).collect();
    first.shared.commit(first.epoch, 1, changes, None).unwrap();
    first.until(|event| matches!(event, SharedEvent::Committed(1))).await;
    let mut second = Server::start(&etcd, "second", Preference::Root);
    second.until(|event| matches!(event, SharedEvent::Loaded { .. })).await;
    assert_eq!(second.records.len(), 10_000);
}
