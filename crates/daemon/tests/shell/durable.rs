//! A key server that ends, however that comes about, and goes on from what it kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crypto::{OsRandom, Random as _, SealingKey, Secret};

use super::host::{Host, skip, within};
use super::push::{AT_MEMBER, AT_SERVER, PATIENCE, pushing, spis};
use super::{MEMBER, NO_ROLES, pair};

fn file(host: &Host, name: &str) -> PathBuf {
    host.folder().join("state/server").join(name)
}

/// The only value of a counter of the member.
fn counter(member: &Host, name: &str) -> u64 {
    let detail = member.get(AT_MEMBER);
    let after = detail.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("{name}: {detail}"));
    after.split(|character: char| !character.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn have_the_same_keys(server: &Host, member: &Host) -> bool {
    let ours = spis(server, AT_SERVER);
    !ours.is_empty() && ours == spis(member, AT_MEMBER)
}

#[test]
fn a_server_that_was_stopped_or_killed_goes_on_and_its_member_notices_nothing() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shdr");
    let mut configuration = pushing("");
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    let kek = |host: &Host| {
        let text = host.get("/v1/server/kek-security-associations");
        text.split("cookie\":\"").skip(1).map(|rest| rest[..16].to_owned()).collect::<Vec<_>>()
    };
    for (signal, from, to) in
        [("TERM", "31.1.0.0/16", "31.0.0.0/8"), ("KILL", "source 21.1.1.0/24", "source 21.1.0.0/16")]
    {
        let before = (spis(&server, AT_SERVER), kek(&server));
        server.signal(signal);
        server.wait();
        server.start(&configuration, &[]);
        assert_eq!((spis(&server, AT_SERVER), kek(&server)), before, "after SIG{signal}");
        assert!(server.get("/v1/server/registered-members").contains("10.0.0.2"));
        // A push of the new process is believed, and its acknowledgement too.
        configuration = configuration.replace(from, to);
        server.rewrite(&configuration);
        assert!(server.post("/v1/commit", "").contains("\"success\":true"));
        within(PATIENCE, || {
            spis(&server, AT_SERVER).len() > before.0.len() && have_the_same_keys(&server, &member)
        });
        within(PATIENCE, || !server.get("/v1/server/statistics").contains("\"push-acknowledged\":0,"));
    }
    assert_eq!((counter(&member, "pull-succeeded"), counter(&member, "push-failed")), (1, 0));
    // The role goes and comes back.
    let before = spis(&server, AT_SERVER);
    for (text, reply) in [(NO_ROLES, "no key server"), (&configuration, "10.0.0.2")] {
        server.rewrite(text);
        assert!(server.post("/v1/commit", "").contains("\"success\":true"));
        assert!(server.get("/v1/server/registered-members").contains(reply));
    }
    assert_eq!(spis(&server, AT_SERVER), before);
    assert!(server.stop() && member.stop());
}

#[test]
fn a_state_that_cannot_be_used_is_told_and_stays_as_it_is() {
    if skip() {
        return;
    }
    let mut server = Host::new("shds", "10.0.0.1/24");
    server.start(&pushing(""), &[]);
    let before = spis(&server, AT_SERVER);
    assert!(server.stop());
    let (state, key) = (file(&server, "state.redb"), file(&server, "state.key"));
    let (whole_state, whole_key) = (fs::read(&state).unwrap(), fs::read(&key).unwrap());
    let refused = |told: &[&str]| {
        let run = server.run(&[]);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{error}");
        assert!(told.iter().all(|words| error.contains(words)), "{error}");
    };
    for (content, told) in [
        (b"#!/bin/sh\nexit 0\n".to_vec(), "not a state file"),
        (vec![0xff; 70_000], "state.redb"),
        (whole_state[..whole_state.len() / 2].to_vec(), "state.redb"),
    ] {
        fs::write(&state, &content).unwrap();
        refused(&["state.redb", told]);
        assert!(fs::read(&state).unwrap() == content, "{told}: the file was touched");
    }
    fs::write(&state, &whole_state).unwrap();
    fs::write(&key, [7; 32]).unwrap();
    refused(&["state.redb", "another key"]);
    fs::write(&key, "short").unwrap();
    refused(&["state.key", "32 octets"]);
    fs::remove_file(&key).unwrap();
    refused(&["state.key", "missing"]);
    assert!(!key.exists());

    // The key may as well come from elsewhere.
    let elsewhere = server.folder().join("elsewhere");
    let digits: String = whole_key.iter().map(|octet| format!("{octet:02x}")).collect();
    fs::write(&elsewhere, digits).unwrap();
    fs::set_permissions(&elsewhere, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    server.start(&pushing(""), &["--state-key", elsewhere.to_str().unwrap()]);
    assert_eq!(spis(&server, AT_SERVER), before);
    assert!(server.stop() && !key.exists());
}

/// A small file system over the state directory of a host.
struct Disk(PathBuf);

impl Disk {
    fn mount(host: &Host, options: &str) -> Disk {
        let folder = host.folder().join("state");
        fs::create_dir_all(&folder).unwrap();
        let disk = Disk(folder);
        disk.run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        assert!(Command::new(program).args(arguments).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_silences_the_server_until_there_is_room_again() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shdf");
    let disk = Disk::mount(&server, "size=12m");
    let configuration = pushing("");
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    let before = spis(&member, AT_MEMBER);
    // Even what the file holds already is written to other pages first.
    let filler = disk.0.join("filler");
    let mut octets = vec![0; 1 << 16];
    while !octets.is_empty() {
        use std::io::Write as _;
        let mut file = fs::File::options().create(true).append(true).open(&filler).unwrap();
        if file.write_all(&octets).is_err() {
            octets.truncate(octets.len() / 2);
        }
    }
    let silent = |server: &Host| server.get("/v1/status").contains("the key server is silent");
    let mut change = 0;
    // Free pages inside the file serve for some time.
    within(Duration::from_secs(60), || {
        change += 1;
        let policy = format!("destination 31.1.{}.0/24;", change % 200);
        server.rewrite(&configuration.replace("destination 31.1.0.0/16;", &policy));
        assert!(server.post("/v1/commit", "").contains("\"success\":true"));
        std::thread::sleep(Duration::from_millis(20));
        silent(&server)
    });
    let log = server.log();
    assert_eq!(log.matches("state not written").count(), 1, "{log}");
    assert!(server.delete("/v1/server/group?group=g1").contains("silent"));
    std::thread::sleep(Duration::from_secs(1));
    let missing = |server: &Host, member: &Host| {
        let theirs = spis(member, AT_MEMBER);
        spis(server, AT_SERVER).iter().any(|spi| !theirs.contains(spi))
    };
    assert!(missing(&server, &member), "what is not on the disk was told");
    assert!(before.iter().all(|spi| spis(&member, AT_MEMBER).contains(spi)), "the member goes on");

    fs::remove_file(&filler).unwrap();
    within(PATIENCE, || !silent(&server));
    assert!(server.log().contains("state written again"));
    // The next round tells what was not sent.
    within(Duration::from_secs(40), || have_the_same_keys(&server, &member));
    let keys = spis(&server, AT_SERVER);
    assert!(server.stop());
    server.start(&fs::read_to_string(server.folder().join("gvpnd.conf")).unwrap(), &[]);
    assert_eq!(spis(&server, AT_SERVER), keys);
    assert_eq!((counter(&member, "pull-succeeded"), counter(&member, "push-failed")), (1, 0));

    // A disk that refuses from the start.
    assert!(server.stop());
    disk.run("mount", &["-o", "remount,ro"]);
    let run = server.run(&[]);
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1));
    assert!(error.contains("state") && error.contains("Read-only"), "{error}");
    assert!(member.stop());
}

/// The keys of each SPI in the records of a state: AES-128 with HMAC-SHA1, as the configuration says.
fn keys_on_disk(server: &Host) -> BTreeMap<u32, Secret> {
    let key = SealingKey::new(&Secret::new(fs::read(file(server, "state.key")).unwrap())).unwrap();
    let random = Box::new(OsRandom::new().unwrap());
    let store = store::Embedded::open(&file(server, "state.redb"), key, random).expect("whole");
    let mut keys = BTreeMap::new();
    for (_, content) in store.load().expect("whole") {
        for window in content.expose().windows(4 + 4 + 16 + 4 + 20) {
            let (spi, rest) = window.split_first_chunk().unwrap();
            if rest[..4] == 16_u32.to_be_bytes() && rest[20..24] == 20_u32.to_be_bytes() {
                keys.insert(u32::from_be_bytes(*spi), Secret::from_slice(rest));
            }
        }
    }
    keys
}

#[test]
fn a_server_that_is_killed_again_and_again_at_any_moment_confuses_nobody() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shdk");
    let configuration = pushing("");
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    let mut random = OsRandom::new().unwrap();
    let mut known: BTreeMap<u32, Secret> = BTreeMap::new();
    let (started, mut kills) = (Instant::now(), 0);
    while kills < 200 || started.elapsed() < Duration::from_secs(10) {
        let mut octets = [0; 2];
        random.fill(&mut octets);
        match kills % 20 {
            // A change that is pushed, a registration, a server that does nothing, and one that has hardly begun.
            0 | 4 | 8 | 12 | 16 => {
                let policy = format!("destination 31.1.{}.0/24;", octets[1]);
                server.rewrite(&configuration.replace("destination 31.1.0.0/16;", &policy));
                server.signal("HUP");
            }
            1 => drop(member.delete("/v1/member/group")),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(u64::from(octets[0]) / 4));
        server.signal("KILL");
        server.wait();
        kills += 1;
        if kills % 10 == 0 {
            for (spi, keys) in keys_on_disk(&server) {
                let before = known.entry(spi).or_insert_with(|| keys.clone());
                assert_eq!(before.expose(), keys.expose(), "two keys with the SPI {spi:08x}");
            }
        }
        let configuration = fs::read_to_string(server.folder().join("gvpnd.conf")).unwrap();
        match kills % 4 {
            3 => server.launch(&configuration, &[]),
            _ => server.start(&configuration, &[]),
        }
    }
    eprintln!("{kills} kills in {:?}, {} keys", started.elapsed(), known.len());
    server.signal("KILL");
    server.wait();
    server.start(&fs::read_to_string(server.folder().join("gvpnd.conf")).unwrap(), &[]);
    within(Duration::from_secs(60), || have_the_same_keys(&server, &member));
    let detail = member.get(AT_MEMBER);
    // A member that was told to forget its keys knows no KEK until it has registered; everything else would be a fault.
    assert_eq!(counter(&member, "push-failed"), counter(&member, "unknown-kek"), "{detail}");
    assert!(counter(&member, "push-succeeded") > 0, "{detail}");
    assert!(!known.is_empty());
    assert!(server.stop() && member.stop());
}

#[test]
#[ignore = "prints figures; takes a minute"]
fn how_long_a_server_with_a_hundred_thousand_members_takes_to_start() {
    const MEMBERS: u32 = 100_000;
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shdn");
    server.start(&pushing(""), &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    assert!(member.stop() && server.stop());
    let path = file(&server, "state.redb");
    let before = fs::metadata(&path).unwrap().len();
    let key = SealingKey::new(&Secret::new(fs::read(file(&server, "state.key")).unwrap())).unwrap();
    let mut store = store::Embedded::open(&path, key, Box::new(OsRandom::new().unwrap())).unwrap();
    let records = store.load().unwrap();
    for (place, content) in &records {
        eprintln!("{place}: {} octets", content.len());
    }
    let (place, one) = records.iter().find(|(place, _)| place.contains("member")).unwrap();
    // The same member at other addresses.
    let at = one.expose().windows(4).rposition(|window| window == [10, 0, 0, 2]).unwrap();
    let folder = place.rsplit_once('/').unwrap().0;
    let copy = |number: u32| {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number);
        let mut octets = one.expose().to_vec();
        octets[at..at + 4].copy_from_slice(&address.octets());
        store::Change::set(format!("{folder}/{address}:848"), Secret::new(octets))
    };
    let changes: Vec<_> = (0..MEMBERS).map(copy).collect();
    let started = Instant::now();
    for some in changes.chunks(1024) {
        store.commit(some).unwrap();
    }
    eprintln!("written in {:?}, a thousand at a time", started.elapsed());
    let mut took = Vec::new();
    for change in &changes[..200] {
        let started = Instant::now();
        store.commit(std::slice::from_ref(change)).unwrap();
        took.push(started.elapsed());
    }
    took.sort();
    eprintln!("one commit: median {:?}, slowest of 200 {:?}", took[100], took[199]);
    drop(store);
    let octets = fs::metadata(&path).unwrap().len() - before;
    eprintln!("{} octets a member in the file", octets / u64::from(MEMBERS));
    let started = Instant::now();
    server.launch(&pushing(""), &[]);
    let socket = server.folder().join("gvpnd.sock");
    within(Duration::from_secs(120), || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    eprintln!("started in {:?}", started.elapsed());
    assert!(server.log().contains("100001"), "{}", server.log());
    assert!(server.stop());
}
