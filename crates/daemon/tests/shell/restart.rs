//! A member that ends and goes on with what it kept, and what it does where it cannot.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::host::{Host, skip, within};
use super::push::{AT_MEMBER, AT_SERVER, PATIENCE, pushing, spis};
use super::{MEMBER, NO_ROLES, SERVER, pair};

fn sealed(member: &Host) -> PathBuf {
    member.folder().join("member.sealed")
}

fn have_the_same_keys(server: &Host, member: &Host) -> bool {
    let ours = spis(server, AT_SERVER);
    !ours.is_empty() && ours == spis(member, AT_MEMBER)
}

/// A server that pushes and a member that has registered.
fn registered(name: &str) -> (Host, Host, String) {
    let (mut server, mut member) = pair(name);
    let configuration = pushing("");
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    (server, member, configuration)
}

fn has_pulled(member: &Host, times: u32) -> bool {
    member.get(AT_MEMBER).contains(&format!("\"pull-succeeded\":{times},"))
}

/// What a machine that is suspended does to a process: it stands still, and the clock by which lives are counted goes on.
#[test]
fn who_slept_past_the_life_of_its_keys_has_none_of_them_and_goes_on() {
    if skip() {
        return;
    }
    let configuration = SERVER
        .replace("group-vpn {", "group-vpn { test-lifetimes;")
        .replace("lifetime-seconds 240;", "lifetime-seconds 60;");
    let (mut server, mut member) = pair("shrz");
    server.start(&configuration, &[]);
    member.start(&MEMBER.replace("group-vpn {", "group-vpn { test-lifetimes;"), &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    let life = Duration::from_secs(120);
    let gone = |keys: &[String], now: &[String]| now.iter().all(|spi| !keys.contains(spi));

    let keys = spis(&member, AT_MEMBER);
    member.signal("STOP");
    within(life, || gone(&keys, &spis(&server, AT_SERVER)));
    member.signal("CONT");
    within(PATIENCE, || have_the_same_keys(&server, &member) && gone(&keys, &spis(&member, AT_MEMBER)));

    let keys = spis(&server, AT_SERVER);
    server.signal("STOP");
    within(life, || gone(&keys, &spis(&member, AT_MEMBER)));
    server.signal("CONT");
    within(PATIENCE, || have_the_same_keys(&server, &member) && gone(&keys, &spis(&server, AT_SERVER)));
    for host in [&server, &member] {
        assert!(!host.log().contains("panicked"), "{}", host.log());
    }
    assert!(server.stop() && member.stop());
}

#[test]
fn a_member_that_was_stopped_or_killed_goes_on_without_a_registration() {
    if skip() {
        return;
    }
    let (mut server, mut member, mut configuration) = registered("shre");
    for (signal, from, to) in
        [("TERM", "31.1.0.0/16", "31.0.0.0/8"), ("KILL", "source 21.1.1.0/24", "source 21.1.0.0/16")]
    {
        let before = spis(&member, AT_MEMBER);
        member.signal(signal);
        member.wait();
        member.start(MEMBER, &[]);
        within(PATIENCE, || spis(&member, AT_MEMBER) == before);
        assert!(
            has_pulled(&member, 0) && member.log().contains("goes on with the keys of before the restart")
        );
        // It is told of what changes, and takes it.
        configuration = configuration.replace(from, to);
        server.rewrite(&configuration);
        assert!(server.post("/v1/commit", "").contains("\"success\":true"));
        within(PATIENCE, || {
            spis(&server, AT_SERVER).len() > before.len() && have_the_same_keys(&server, &member)
        });
        assert!(has_pulled(&member, 0));
    }
    assert!(server.get("/v1/server/statistics").contains("\"pull-succeeded\":1,"));
    let figures = fs::metadata(sealed(&member)).unwrap().len();
    eprintln!("{figures} octets for {} TEKs and a KEK", spis(&member, AT_MEMBER).len());
    assert!(server.stop() && member.stop());
}

#[test]
fn a_member_registers_where_what_it_kept_is_of_no_use() {
    if skip() {
        return;
    }
    let (mut server, mut member, _) = registered("shrn");
    let damage = |member: &Host| {
        let mut octets = fs::read(sealed(member)).unwrap();
        octets[99] ^= 1;
        fs::write(sealed(member), octets).unwrap();
    };
    let other_key =
        |member: &Host| fs::write(member.folder().join("state/member/state.key"), [7; 32]).unwrap();
    type Spoil<'a> = &'a dyn Fn(&Host);
    let causes: [(&str, Spoil<'_>); 2] = [("damaged", &damage), ("another key", &other_key)];
    for (count, (words, cause)) in causes.into_iter().enumerate() {
        assert!(member.stop());
        cause(&member);
        member.start(MEMBER, &[]);
        within(PATIENCE, || have_the_same_keys(&server, &member));
        assert!(has_pulled(&member, 1), "{words}");
        let told = member.log().matches("keys of before the restart are not used").count();
        assert_eq!(told, count + 1, "{words}: {}", member.log());
    }
    // A machine that slept for longer than the keys live: the clock that counts through it is an hour ahead.
    assert!(member.stop());
    let ahead = ["unshare", "--time", "--boottime", "4000", "--fork", "--kill-child=TERM"];
    member.launch_as(MEMBER, &ahead, &[], |_| {});
    let socket = member.folder().join("gvpnd.sock");
    within(PATIENCE, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    within(PATIENCE, || have_the_same_keys(&server, &member) && has_pulled(&member, 1));
    member.signal("KILL");
    member.wait();
    // `unshare` is gone first.
    within(PATIENCE, || std::os::unix::net::UnixStream::connect(&socket).is_err());
    // A configuration that opens the interfaces when it stops keeps nothing.
    let open = MEMBER.replace("member {", "member { stop-behaviour detach;");
    member.start(&open, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    assert!(sealed(&member).exists());
    assert!(member.stop() && !sealed(&member).exists());
    // Nor does one without VPNs.
    member.start(MEMBER, &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    member.rewrite(NO_ROLES);
    assert!(member.post("/v1/commit", "").contains("\"success\":true"));
    assert!(!sealed(&member).exists());
    assert!(server.stop() && member.stop());
}

#[test]
fn a_member_that_is_killed_again_and_again_has_the_servers_keys_each_time() {
    if skip() {
        return;
    }
    let (mut server, mut member, configuration) = registered("shrk");
    let mut random = 12_345_u32;
    for kill in 0..30 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if kill % 6 == 0 {
            // Some of them while a rekey arrives.
            let policy = format!("destination 31.1.{}.0/24;", kill + 1);
            server.rewrite(&configuration.replace("destination 31.1.0.0/16;", &policy));
            server.signal("HUP");
        }
        std::thread::sleep(Duration::from_millis(u64::from(random >> 25)));
        member.signal("KILL");
        member.wait();
        match kill % 3 {
            // One that has hardly begun.
            2 => member.launch(MEMBER, &[]),
            _ => member.start(MEMBER, &[]),
        }
    }
    member.signal("KILL");
    member.wait();
    member.start(MEMBER, &[]);
    within(Duration::from_secs(60), || have_the_same_keys(&server, &member));
    let log = member.log();
    assert!(!log.contains("are not used") && !log.to_lowercase().contains("panic"), "{log}");
    assert!(log.matches("goes on with the keys").count() > 10);
    assert!(server.stop() && member.stop());
}

#[test]
fn a_member_whose_address_is_replaced_registers_from_the_new_one_and_keeps_its_keys() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shra");
    let configuration = pushing("")
        .replace(
            "gateway black {",
            "gateway moved { ike-policy ike_policy; address 10.0.0.7; }\n gateway black {",
        )
        .replace("ike-gateway black;", "ike-gateway black; ike-gateway moved;");
    server.start(&configuration, &[]);
    member.start(&MEMBER.replace("local-address 10.0.0.2;", ""), &[]);
    within(PATIENCE, || have_the_same_keys(&server, &member));
    let before = spis(&member, AT_MEMBER);
    member.ip(&["address", "delete", "10.0.0.2/24", "dev", "wan0"]);
    member.ip(&["address", "add", "10.0.0.7/24", "dev", "wan0"]);
    within(Duration::from_secs(30), || {
        assert_eq!(spis(&member, AT_MEMBER), before);
        server.get("/v1/server/registered-members").contains("10.0.0.7")
    });
    assert!(member.log().contains("our address is gone"));
    assert!(server.stop() && member.stop());
}

#[test]
fn a_member_with_a_virtual_address_registers_while_it_has_it() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shrv");
    server.start(&pushing(""), &[]);
    member.ip(&["address", "delete", "10.0.0.2/24", "dev", "wan0"]);
    member.ip(&["address", "add", "10.0.0.9/24", "dev", "wan0"]);
    member.start(MEMBER, &[]);
    let waits = |member: &Host| {
        member.get("/v1/member/inactive-tunnels").contains("does not have the local-address 10.0.0.2")
    };
    within(PATIENCE, || waits(&member));
    for _ in 0..2 {
        member.ip(&["address", "add", "10.0.0.2/24", "dev", "wan0"]);
        within(PATIENCE, || have_the_same_keys(&server, &member));
        member.ip(&["address", "delete", "10.0.0.2/24", "dev", "wan0"]);
        within(PATIENCE, || waits(&member) && spis(&member, AT_MEMBER).is_empty());
    }
    assert!(server.stop() && member.stop());
}

#[test]
fn a_group_whose_address_is_elsewhere_rests_until_it_comes() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shrg");
    // The member asks an address that the server has, of a group that is bound to another.
    let configuration = pushing("")
        .replace("server-address 10.0.0.1;", "")
        .replace("group-id 1;", "group-id 1; server-address 10.0.0.8;");
    server.start(&configuration, &[]);
    within(PATIENCE, || server.log().contains("group rests"));
    assert!(server.log().contains("make keys of their own"), "{}", server.log());
    let commit = server.post("/v1/commit", "");
    assert!(commit.contains("does not have the server-address 10.0.0.8"), "{commit}");
    member.start(MEMBER, &[]);
    within(PATIENCE, || member.get("/v1/member/ike-security-associations").contains("UP"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(server.get("/v1/server/statistics").contains("\"pull-succeeded\":0,"));
    server.ip(&["address", "add", "10.0.0.8/24", "dev", "wan0"]);
    within(Duration::from_secs(40), || have_the_same_keys(&server, &member));
    assert!(server.log().contains("group served again"));
    assert!(server.stop() && member.stop());
}

#[test]
fn a_server_that_has_forgotten_a_phase_1_sa_says_so_and_the_member_asks_anew_at_once() {
    if skip() {
        return;
    }
    let (mut server, mut member, configuration) = registered("shrf");
    server.signal("KILL");
    server.wait();
    server.start(&configuration, &[]);
    assert!(member.delete("/v1/member/ipsec-security-associations").contains('1'));
    // Without the hint that takes two tries of ten seconds.
    within(Duration::from_secs(9), || has_pulled(&member, 2));
    assert!(member.log().contains("the server may have forgotten us"), "{}", member.log());
    assert!(server.stop() && member.stop());
}
