//! The shipped `gvpnd`, driven over its sockets in network namespaces of its own: start, register, show, reload, stop.
//!
//! Needs root; without it every test says so and passes.

mod anti_replay;
mod cluster;
mod counter_mode;
mod durable;
mod host;
mod push;
mod restart;
mod service;

use std::time::Duration;

use host::{Host, skip, within};
use push::{AT_MEMBER, spis};

const SERVER: &str = include_str!("server.conf");
const MEMBER: &str = include_str!("member.conf");
const NO_ROLES: &str = "security { group-vpn; }";

/// A key server and a member on one wire.
fn pair(name: &str) -> (Host, Host) {
    let (server, member) =
        (Host::new(&format!("{name}s"), "10.0.0.1/24"), Host::new(&format!("{name}m"), "10.0.0.2/24"));
    host::wire(&server, &member);
    (server, member)
}

#[test]
fn a_member_registers_and_both_ends_show_it() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shr");
    server.start(SERVER, &[]);
    member.start(MEMBER, &[]);
    within(Duration::from_secs(20), || {
        member.get("/v1/member/ipsec-security-associations").contains("ESP:aes-128/sha1")
    });
    let members = server.get("/v1/server/registered-members");
    assert!(members.contains("\"gateway\":\"black\"") && members.contains("10.0.0.2"), "{members}");
    assert!(
        server.get("/v1/server/ike-security-associations?peer-address=10.0.0.2").contains("\"state\":\"UP\"")
    );
    assert_eq!(server.get("/v1/server/ike-security-associations?peer-address=10.0.0.9").trim(), "[]");
    // What the wire cannot carry is refused, and the configuration in force stays.
    member.rewrite(&MEMBER.replace("group 1;", "group 1; tunnel-mtu 1501;"));
    let refused = member.post("/v1/commit", "");
    assert!(
        refused.contains("\"success\":false") && refused.contains("wan0 carries, 1500 octets"),
        "{refused}"
    );
    member.rewrite(MEMBER);
    assert!(member.get("/v1/dynamic-policies").contains("\"state\":\"enabled\""));
    assert!(member.get("/v1/member/policy").contains("\"type\":\"Secure\""));
    // The SA's own tunnel session; nothing has crossed it.
    let sessions = member.get("/v1/flow-session");
    assert!(sessions.contains("\"kind\":\"tunnel\"") && !sessions.contains("plain-text"), "{sessions}");
    assert!(member.get("/v1/server/statistics").contains("no key server"));
    // The registration is on disk, so a crash does not open the member.
    let record = std::fs::read_to_string(member.folder().join("state/member/gvpn.json")).unwrap();
    assert!(record.contains("31.1.1.0/24"), "{record}");

    // The link goes down: nothing can be sent, and the keys are held. It comes back: the same keys, and nobody was asked.
    let keys = spis(&member, AT_MEMBER);
    for _ in 0..3 {
        member.ip(&["link", "set", "wan0", "down"]);
        within(Duration::from_secs(10), || {
            member.get("/v1/member/inactive-tunnels").contains("wan0 is down")
                && member.get("/v1/status").contains("wan0 is down")
        });
        assert_eq!(spis(&member, AT_MEMBER), keys);
        member.ip(&["link", "set", "wan0", "up"]);
        within(Duration::from_secs(20), || member.get("/v1/member/inactive-tunnels").trim() == "[]");
        assert_eq!(spis(&member, AT_MEMBER), keys);
    }
    assert!(member.get(AT_MEMBER).contains("\"pull-succeeded\":1,"), "{}", member.get(AT_MEMBER));
    // The interface is gone: so are the keys; there is another one of its name: registered again.
    member.ip(&["link", "set", "wan0", "down"]);
    member.ip(&["link", "set", "wan0", "name", "old0"]);
    within(Duration::from_secs(10), || member.get("/v1/member/inactive-tunnels").contains("no such device"));
    assert!(spis(&member, AT_MEMBER).is_empty());
    member.ip(&["link", "set", "old0", "name", "wan0"]);
    member.ip(&["link", "set", "wan0", "up"]);
    within(Duration::from_secs(20), || spis(&member, AT_MEMBER) == keys);
    assert!(member.get(AT_MEMBER).contains("\"pull-succeeded\":2,"), "{}", member.get(AT_MEMBER));

    assert!(server.stop() && member.stop());
    assert!(!member.folder().join("gvpnd.sock").exists());
    assert!(member.log().contains("behaviour=Closed"), "{}", member.log());
}

#[test]
fn refusals_are_told_at_both_ends() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shw");
    server.start(SERVER, &[]);
    member.start(&MEMBER.replace("a lab secret of some length", "another secret of some length"), &[]);
    within(Duration::from_secs(40), || {
        let reason = member.get("/v1/member/inactive-tunnels");
        reason.contains("\"pull-failed\"") && member.log().to_lowercase().contains("fail")
    });
    within(Duration::from_secs(20), || server.log().to_lowercase().contains("pre-shared key"));

    // An unknown group: said by the server, shown by the member.
    member.rewrite(&MEMBER.replace("group 1;", "group 7;"));
    assert!(member.post("/v1/commit", "").contains("\"success\":true"));
    within(Duration::from_secs(20), || {
        member.get("/v1/member/inactive-tunnels").contains("no group with this number")
    });
    assert!(server.stop() && member.stop());
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shl");
    server.start(SERVER, &[]);
    member.start(MEMBER, &[]);
    within(Duration::from_secs(20), || member.get("/v1/member/ipsec-security-associations").contains("ESP:"));
    let keys = || server.get("/v1/server/ipsec-security-associations");
    let spi =
        |text: &str| text.split("\"spi\":\"").nth(1).map(|rest| rest[..rest.find('"').unwrap()].to_owned());
    let before = spi(&keys());
    assert!(before.is_some());

    // A broken file changes nothing, and everything that is wrong is told at once.
    server.rewrite("security { group-vpn { server { ike { propsal x { } } group g { group-id 0; } } } }");
    let refused = server.post("/v1/commit", "");
    assert!(
        refused.contains("\"success\":false") && refused.contains("propsal") && refused.contains("group-id"),
        "{refused}"
    );
    assert_eq!(spi(&keys()), before);

    // Another gateway: the group and its keys stay.
    server.rewrite(&SERVER.replace(
        "gateway black {",
        "gateway white { ike-policy ike_policy; address 10.0.0.4; }\n gateway black {",
    ));
    let committed = server.post("/v1/commit", "");
    assert!(committed.contains("\"success\":true") && committed.contains("gateway white"), "{committed}");
    assert_eq!(spi(&keys()), before);
    assert!(server.get("/v1/server/registered-members").contains("black"));
    assert!(server.get("/v1/configuration?format=set").contains("gateway white"));
    assert!(!server.get("/v1/configuration").contains("lab secret"), "secrets are obfuscated");

    // SIGHUP does the same; a load changes the file only.
    server.signal("HUP");
    within(Duration::from_secs(10), || server.log().matches("configuration in force").count() == 2);
    let load = r#"{"text":"set security group-vpn server group g1 description hello"}"#;
    assert!(server.post("/v1/load", load).contains("\"success\":true"));
    assert!(!server.get("/v1/configuration").contains("hello"));
    assert!(std::fs::read_to_string(server.folder().join("gvpnd.conf")).unwrap().contains("hello"));
    assert!(server.post("/v1/commit", "").contains("\"success\":true"));
    assert!(server.get("/v1/configuration").contains("hello"));
    assert_eq!(spi(&keys()), before);
    assert!(server.stop() && member.stop());
}

#[test]
fn two_daemons_collide_cleanly_and_a_crash_is_no_obstacle() {
    if skip() {
        return;
    }
    let mut server = Host::new("shc", "10.0.0.1/24");
    server.start(SERVER, &[]);
    let second = server.run(&[]);
    assert!(!second.status.success());
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("another gvpnd (process"), "{error}");
    assert!(server.get("/v1/status").contains("\"roles\":[\"server\"]"), "the first one goes on");
    server.signal("KILL");
    server.wait();
    server.start(SERVER, &[]);
    assert!(server.get("/v1/status").contains("0.0.0.0:848"));
    assert!(server.stop());
}

#[test]
fn a_bad_configuration_is_told_whole_and_nothing_is_touched() {
    if skip() {
        return;
    }
    let server = Host::new("shb", "10.0.0.1/24");
    server.rewrite("security {\n group-vpn {\n  server {\n   group g1 {\n    group-id 0;\n    sever-address 1.2.3.4;\n   }\n  }\n }\n}\n");
    let run = server.run(&[]);
    assert_eq!(run.status.code(), Some(1));
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(
        error.contains("gvpnd.conf:5:")
            && error.contains("gvpnd.conf:6:")
            && error.contains("server-address"),
        "{error}"
    );
    assert!(error.contains("nothing was touched"), "{error}");
    assert!(!server.folder().join("state").exists() && !server.folder().join("gvpnd.sock").exists());
}

/// What a crash, a full disk or a slip leaves in the place of the configuration opens nothing, with the daemon and without it.
#[test]
fn a_configuration_that_is_gone_opens_nothing() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("gone");
    server.start(SERVER, &[]);
    member.start(MEMBER, &[]);
    within(Duration::from_secs(20), || spis(&member, AT_MEMBER).len() == 1);
    let file = member.folder().join("gvpnd.conf");
    let at = file.to_str().unwrap();
    let make: [(&[&str], &str); 6] = [
        (&["truncate", "--size", "0", at], "no statement"),
        (&["sh", "-c", &format!("echo '# nothing' > {at}")], "no statement"),
        (&["rm", at], "no such file"),
        (&["mkdir", at], "not a regular file"),
        (&["mkfifo", at], "not a regular file"),
        (&["ln", "-s", "/dev/zero", at], "not a regular file"),
    ];
    for (command, message) in make {
        if command[0] != "truncate" && command[0] != "rm" {
            member.execute(&["rm", "-rf", at]);
        }
        member.execute(command);
        let reply = member.post("/v1/commit", "");
        assert!(reply.contains("\"success\":false") && reply.contains(message), "{command:?}: {reply}");
        assert!(member.is_attached() && spis(&member, AT_MEMBER).len() == 1, "{command:?}");
    }
    member.signal("KILL");
    member.wait();
    member.execute(&["rm", at]);
    member.rewrite("");
    let output = member.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no statement"), "{said}");
    assert!(member.is_attached());
    // One who means it can say so.
    member.start(NO_ROLES, &[]);
    assert!(!member.is_attached());
    assert!(member.stop() && server.stop());
}

/// A full disk takes neither warnings at the start nor the log.
#[test]
fn a_log_that_nobody_takes_ends_nothing() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("full");
    server.start(SERVER, &[]);
    member.rewrite(MEMBER);
    let output = member.run(&["--check"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("weak"), "there is something to be said");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    member.launch_as(MEMBER, &[], &["--log-level", "trace"], |command| _ = command.stderr(full));
    within(Duration::from_secs(20), || member.is_listening() && spis(&member, AT_MEMBER).len() == 1);
    assert!(member.post("/v1/commit", "").contains("\"success\":true"));
    assert!(member.stop() && server.stop());
}

/// An interface without a TAP: what the policies match is dropped, whether an earlier daemon has left it closed or not.
#[test]
fn an_interface_that_cannot_be_attached_to_is_closed() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("tap");
    for (host, own, other, by) in [
        (&server, "41.1.1.1/24", "31.1.1.0/24", "10.0.0.2"),
        (&member, "31.1.1.1/24", "41.1.1.0/24", "10.0.0.1"),
    ] {
        host.ip(&["address", "add", own, "dev", "lo"]);
        host.ip(&["route", "add", other, "via", by]);
    }
    let pings = |member: &Host, from: &str, to: &str| {
        member.succeeds(&["ping", "-c", "2", "-i", "0.1", "-W", "0.3", "-I", from, to])
    };
    assert!(pings(&member, "31.1.1.1", "41.1.1.1"), "in clear");
    server.start(SERVER, &[]);
    member.start(MEMBER, &[]);
    within(Duration::from_secs(20), || spis(&member, AT_MEMBER).len() == 1);
    assert!(!pings(&member, "31.1.1.1", "41.1.1.1"), "the server has no keys for what it receives");

    let without_tap =
        ["unshare", "--mount", "sh", "-c", "mount --bind /dev/null /dev/net/tun && exec \"$@\"", "sh"];
    for was_closed_before in [true, false] {
        member.signal("KILL");
        member.wait();
        if !was_closed_before {
            assert!(member.run(&["--detach"]).status.success());
            assert!(pings(&member, "31.1.1.1", "41.1.1.1"), "in clear again");
        }
        std::fs::remove_file(member.folder().join("gvpnd.sock")).unwrap();
        member.launch_as(MEMBER, &without_tap, &[], |_| ());
        within(Duration::from_secs(20), || member.is_listening());
        within(Duration::from_secs(20), || {
            member.get("/v1/status").contains("what its policies match is dropped")
        });
        // The registration goes on, and with it more policies may come.
        within(Duration::from_secs(20), || spis(&member, AT_MEMBER).len() == 1);
        std::thread::sleep(Duration::from_secs(3));
        assert!(!pings(&member, "31.1.1.1", "41.1.1.1"), "closed, {was_closed_before}");
        assert!(pings(&member, "10.0.0.2", "10.0.0.1"), "of no policy");
    }
    assert!(!member.log().contains("what an earlier daemon left"), "{}", member.log());
    assert!(member.stop());
    // The same for the time before a daemon runs.
    assert!(member.run(&["--detach"]).status.success());
    assert!(pings(&member, "31.1.1.1", "41.1.1.1"));
    member.launch_as(MEMBER, &without_tap, &["--close"], |_| ());
    assert!(member.wait() && !pings(&member, "31.1.1.1", "41.1.1.1"));
    member.start(MEMBER, &[]);
    within(Duration::from_secs(20), || spis(&member, AT_MEMBER).len() == 1);
    assert!(!member.get("/v1/status").contains("cannot attach"));
    assert!(member.stop() && server.stop());
}

/// The namespace of a routing instance comes while the daemon is short of files.
#[test]
fn a_routing_instance_that_cannot_be_protected_is_tried_again() {
    if skip() {
        return;
    }
    let mut member = Host::new("inst", "10.0.0.2/24");
    let namespace = format!("late{}", std::process::id());
    let configuration = format!(
        "{} routing-instances {{ red {{ interface ge-0/0/1.0; linux-namespace {namespace}; }} }}
         interfaces {{ ge-0/0/1 {{ linux-device wan0; }} }}",
        MEMBER
            .replace("wan0", "ge-0/0/1.0")
            .replace("local-address 10.0.0.2;", "local-address 10.0.0.2 routing-instance red;")
    );
    member.start(&configuration, &[]);
    within(Duration::from_secs(5), || member.log().contains("routing instance is absent"));
    member.leave_files(12);
    let late = Host::new("late", "10.0.0.2/24");
    late.ip(&["link", "add", "wan0", "type", "veth", "peer", "name", "peer0"]);
    late.ip(&["link", "set", "peer0", "up"]);
    late.ip(&["address", "add", "10.0.0.2/24", "dev", "wan0"]);
    late.ip(&["link", "set", "wan0", "up"]);
    within(Duration::from_secs(10), || {
        member.log().contains("data path of routing instance red")
            && member.log().contains("Too many open files")
    });
    std::thread::sleep(Duration::from_secs(3));
    assert!(!late.is_attached());
    let said = member.log().matches("data path of routing instance red").count();
    assert!(said < 3, "said {said} times");
    member.limit_files(1024);
    within(Duration::from_secs(5), || late.is_attached());
    within(Duration::from_secs(5), || !member.get("/v1/status").contains("data path of routing instance"));
    assert!(member.stop());
}
