//! Rekeys by push between two daemons: what a commit or an eviction does at once. What rolls with time is for the lab.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use super::host::{Host, skip, within};
use super::{MEMBER, SERVER, pair};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// The server with a push statement; ECDSA, so that a key is made in no time.
pub fn pushing(statements: &str) -> String {
    SERVER.replace(
        "group-id 1;",
        &format!(
            "group-id 1; signature-algorithm ecdsa-256; no-anti-replay; \
             server-member-communication {{ encryption-algorithm aes-256-cbc; {statements} }}"
        ),
    )
}

/// SPIs of all SAs that a reply lists.
pub fn spis(host: &Host, path: &str) -> Vec<String> {
    let text = host.get(path);
    let mut spis: Vec<String> =
        text.split("\"spi\":\"").skip(1).map(|rest| rest[..rest.find('"').unwrap()].to_owned()).collect();
    spis.sort();
    spis.dedup();
    spis
}

pub const AT_SERVER: &str = "/v1/server/ipsec-security-associations";
pub const AT_MEMBER: &str = "/v1/member/ipsec-security-associations?detail";

/// Changes a policy at the server, and waits until the member has the new key because the server said so.
fn change_policy(server: &Host, member: &Host, configuration: &str, accepted: u32) {
    let before = spis(server, AT_SERVER);
    server.rewrite(&configuration.replace("destination 31.1.0.0/16;", "destination 31.0.0.0/8;"));
    let committed = server.post("/v1/commit", "");
    assert!(committed.contains("\"success\":true"), "{committed}");
    within(PATIENCE, || {
        let (ours, theirs) = (spis(server, AT_SERVER), spis(member, AT_MEMBER));
        ours.len() > before.len() && ours == theirs
    });
    let detail = member.get(AT_MEMBER);
    assert!(detail.contains("31.0.0.0/8"), "{detail}");
    assert!(detail.contains("\"pull-succeeded\":1,"), "nobody pulled: {detail}");
    assert!(detail.contains(&format!("\"push-succeeded\":{accepted},")), "{detail}");
}

#[test]
fn a_policy_change_is_pushed_and_acknowledged_at_once_and_an_eviction_brings_new_keys() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shpu");
    let configuration = pushing("");
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || spis(&member, AT_MEMBER).len() == 1);
    for (host, role) in [(&server, "server"), (&member, "member")] {
        let kek = host.get(&format!("/v1/{role}/kek-security-associations?detail"));
        assert!(kek.contains("\"communication\":\"Unicast\"") && kek.contains("aes-256-cbc"), "{kek}");
    }
    change_policy(&server, &member, &configuration, 1);
    within(PATIENCE, || server.get("/v1/server/statistics").contains("\"push-acknowledged\":1,"));
    let status = server.get("/v1/status");
    assert!(status.contains("\"rekey-messages\":{\"sent\":1,\"refused\":0,"), "{status}");

    // All keys die; the member comes for others.
    let before = spis(&member, AT_MEMBER);
    assert!(server.delete("/v1/server/group?group=g9&now").contains("no group"));
    let reply = server.delete("/v1/server/group?group=g1&now");
    assert!(reply.contains("\"now\":true") && reply.contains("done-in-millis"), "{reply}");
    within(PATIENCE, || {
        let after = spis(&member, AT_MEMBER);
        !after.is_empty() && after.iter().all(|spi| !before.contains(spi))
    });

    // The key that signs survives a restart: the member believes the new process.
    let file = server.folder().join("state/server/g1.ecdsa-256.pkcs8");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let key = std::fs::read(&file).unwrap();
    assert!(server.stop());
    server.start(&configuration, &[]);
    assert_eq!(std::fs::read(&file).unwrap(), key);
    assert!(server.stop() && member.stop());
}

#[test]
fn a_policy_change_is_heard_by_multicast_on_an_interface_that_was_made_again() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shmc");
    // The loopback lends its address; the route to the group says where it leaves.
    server.ip(&["address", "add", "100.0.0.100/32", "dev", "lo"]);
    server.ip(&["route", "add", "224.0.0.0/4", "dev", "wan0"]);
    let configuration = pushing(
        "communication-type multicast; multicast-group 226.1.1.1; multicast-outgoing-interface lo0.0;",
    );
    server.start(&configuration, &[]);
    member.start(MEMBER, &[]);
    let joined = |member: &Host| member.ip_output(&["maddress", "show", "dev", "wan0"]).contains("226.1.1.1");
    within(PATIENCE, || joined(&member));
    change_policy(&server, &member, &configuration, 1);
    let kek = member.get("/v1/member/kek-security-associations?detail");
    assert!(kek.contains("\"communication\":\"Multicast\""), "{kek}");
    assert!(server.get("/v1/server/statistics").contains("\"push-acknowledged\":0"));

    // The cable is replaced: another interface of the same name.
    server.ip(&["link", "delete", "wan0"]);
    within(PATIENCE, || member.get("/v1/member/inactive-tunnels").contains("no such device"));
    super::host::wire(&server, &member);
    server.ip(&["route", "add", "224.0.0.0/4", "dev", "wan0"]);
    within(PATIENCE, || joined(&member));

    // Without its VPN the member has no business in the group.
    member.rewrite(&MEMBER.replace("group 1;", "group 7;"));
    assert!(member.post("/v1/commit", "").contains("\"success\":true"));
    within(PATIENCE, || !joined(&member));
    assert!(server.stop() && member.stop());
}

#[test]
fn a_machine_that_is_both_hears_its_own_rekeys() {
    if skip() {
        return;
    }
    for (name, statements) in [
        ("shbu", ""),
        (
            "shbm",
            "communication-type multicast; multicast-group 226.1.1.1; multicast-outgoing-interface wan0;",
        ),
    ] {
        let (mut both, other) = pair(name);
        let server = pushing(statements)
            .replace("server {", "co-location { server {")
            .replace("address 10.0.0.2;", "address 10.0.0.1;");
        // Two closing braces of the server's file belong to `security group-vpn`.
        let server =
            server.trim_end().strip_suffix('}').unwrap().trim_end().strip_suffix('}').unwrap().to_owned()
                + "} } }\n";
        let member = MEMBER
            .replace("member {", "co-location { member {")
            .replacen("    policies {", "    } policies {", 1)
            .replace("local-address 10.0.0.2;", "local-address 10.0.0.1;");
        let configuration = format!("{server}{member}");
        both.start(&configuration, &[]);
        within(PATIENCE, || spis(&both, AT_MEMBER).len() == 1);
        change_policy(&both, &both, &configuration, 1);
        let detail = both.get(AT_MEMBER);
        assert!(detail.contains("\"push-failed\":0,"), "it hears each once: {detail}");
        assert!(both.stop());
        drop(other);
    }
}

#[test]
fn a_key_file_that_cannot_be_used_is_told_and_stays_as_it_is() {
    if skip() {
        return;
    }
    let mut server = Host::new("shkf", "10.0.0.1/24");
    // The address that the group is bound to.
    server.ip(&["address", "add", "10.0.0.1/24", "dev", "lo"]);
    let folder = server.folder().join("state/server");
    std::fs::create_dir_all(&folder).unwrap();
    let damaged = folder.join("g1.ecdsa-256.pkcs8");
    std::fs::write(&damaged, "not a key").unwrap();
    std::fs::set_permissions(&damaged, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    server.rewrite(&pushing(""));
    let run = server.run(&[]);
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1));
    assert!(error.contains("g1.ecdsa-256.pkcs8") && error.contains("cannot be read"), "{error}");

    // A commit that needs it is refused, and the daemon goes on; with another kind it is made, beside it.
    server.start(SERVER, &[]);
    server.rewrite(&pushing(""));
    let refused = server.post("/v1/commit", "");
    assert!(refused.contains("\"success\":false") && refused.contains("g1.ecdsa-256.pkcs8"), "{refused}");
    server.rewrite(&pushing("").replace("ecdsa-256", "ecdsa-384"));
    let committed = server.post("/v1/commit", "");
    assert!(committed.contains("\"success\":true"), "{committed}");
    assert!(server.get("/v1/server/kek-security-associations").contains("g1"));
    assert_eq!(std::fs::read_to_string(&damaged).unwrap(), "not a key");
    server.rewrite(SERVER);
    server.signal("HUP");
    within(PATIENCE, || server.log().matches("configuration in force").count() == 2);
    assert!(server.get("/v1/server/kek-security-associations").trim() == "[]");
    assert!(server.stop());
}

/// Sends an ESP packet with this SPI and nothing in it, from and to protected addresses.
fn send_esp(host: &Host, spi: u32) {
    host.inside(move || {
        let (raw, esp) = (socket2::Type::from(libc::SOCK_RAW), socket2::Protocol::from(libc::IPPROTO_RAW));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, raw, Some(esp)).unwrap();
        // Version and header length, total length 52, TTL 64, protocol 50; the kernel adds the checksum.
        let mut packet = vec![0x45, 0, 0, 52, 0, 0, 0, 0, 64, 50, 0, 0, 41, 1, 1, 1, 31, 1, 1, 7];
        packet.extend(spi.to_be_bytes());
        packet.resize(52, 7);
        let to: std::net::SocketAddr = "31.1.1.7:0".parse().unwrap();
        socket.send_to(&packet, &to.into()).unwrap();
    });
}

#[test]
fn esp_under_an_unknown_key_makes_a_member_ask_for_it() {
    if skip() {
        return;
    }
    let (mut server, mut member) = pair("shre");
    server.ip(&["route", "add", "31.1.1.0/24", "via", "10.0.0.2"]);
    member.ip(&["link", "add", "lan0", "type", "veth", "peer", "name", "host0"]);
    member.ip(&["link", "set", "host0", "up"]);
    member.ip(&["address", "add", "31.1.1.1/24", "dev", "lan0"]);
    member.ip(&["link", "set", "lan0", "up"]);
    member.execute(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    server.start(&pushing(""), &[]);
    member.start(MEMBER, &[]);
    within(PATIENCE, || spis(&member, AT_MEMBER).len() == 1);
    let dropped = |member: &Host| {
        let statistics = member.get("/v1/member/ipsec-statistics");
        let after = statistics.split("\"unknown-spi-protected\"").nth(1).unwrap().to_owned();
        let packets = after.split("\"packets\":").nth(1).unwrap().to_owned();
        packets.split('}').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(dropped(&member), 0);
    for _ in 0..5 {
        send_esp(&server, 0xdead_beef);
    }
    within(PATIENCE, || member.get(AT_MEMBER).contains("\"pull-succeeded\":2,"));
    assert_eq!(dropped(&member), 5);
    // Whoever can send us datagrams cannot make us ask all the time.
    for _ in 0..20 {
        send_esp(&server, 0xdead_beef);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(member.get(AT_MEMBER).contains("\"pull-succeeded\":2,"), "{}", member.log());
    assert!(server.stop() && member.stop());
}
