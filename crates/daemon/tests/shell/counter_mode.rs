//! Two members in a group with AES-GCM: they reach each other, and a packet that is sent again is refused.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::host::{Host, skip, within};
use super::{MEMBER, SERVER};

const PATIENCE: Duration = Duration::from_secs(30);
const A: Ipv4Addr = Ipv4Addr::new(31, 1, 1, 1);
const B: Ipv4Addr = Ipv4Addr::new(41, 1, 1, 1);
const ESP: u8 = 50;

/// A key server in the middle, which forwards, and two members that protect an address of their own each.
pub fn triangle(name: &str) -> (Host, Host, Host) {
    let server = Host::new(&format!("{name}s"), "10.0.0.1/24");
    let a = Host::new(&format!("{name}a"), "10.0.0.2/24");
    let b = Host::new(&format!("{name}b"), "10.0.0.3/24");
    server.ip(&["link", "add", "br0", "type", "bridge"]);
    server.ip(&["address", "add", "10.0.0.1/24", "dev", "br0"]);
    server.ip(&["link", "set", "br0", "up"]);
    for (member, port, address, other, gateway) in
        [(&a, "porta", A, "41.1.1.0/24", "10.0.0.3"), (&b, "portb", B, "31.1.1.0/24", "10.0.0.2")]
    {
        super::host::plug(&server, "br0", port, member);
        member.ip(&["link", "add", "lan0", "type", "bridge"]);
        member.ip(&["address", "add", &format!("{address}/24"), "dev", "lan0"]);
        member.ip(&["link", "set", "lan0", "up"]);
        member.ip(&["route", "add", other, "via", gateway]);
    }
    server.ip(&["route", "add", "41.1.1.0/24", "via", "10.0.0.3"]);
    (server, a, b)
}

/// The ESP packets from one to the other that the server's bridge carries.
pub fn capture(host: &Host) -> Socket {
    host.inside(|| {
        let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol)).unwrap()
    })
}

pub fn captured(mut socket: &Socket) -> Vec<Vec<u8>> {
    let (mut packets, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length) = socket.read(&mut buffer) {
        if length > 34 && buffer[12..14] == [0x08, 0x00] {
            packets.push(buffer[14..length].to_vec());
        }
    }
    packets.retain(|packet| packet[12..16] == A.octets() && packet[16..20] == B.octets());
    packets
}

/// Sends a packet to B as it is.
pub fn send_again(host: &Host, packet: Vec<u8>) {
    host.inside(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        socket.set_header_included_v4(true).unwrap();
        socket.send_to(&packet, &std::net::SocketAddr::from((B, 0)).into()).unwrap();
    });
}

/// How often B refused a packet because it has seen its sequence number.
fn replays(host: &Host) -> u64 {
    refused(host, "replayed-sequence")
}

/// How often it refused one because its sequence number is behind the window.
fn too_old(host: &Host) -> u64 {
    refused(host, "sequence-too-old")
}

/// How often a member dropped a packet for this reason.
pub fn refused(host: &Host, reason: &str) -> u64 {
    let text = host.get("/v1/member/ipsec-statistics");
    let name = format!("\"{reason}\"");
    let count = text.split(&name).skip(1).filter_map(|rest| {
        let rest = &rest[rest.find("\"packets\":")? + 10..];
        rest[..rest.find(|letter: char| !letter.is_ascii_digit())?].parse::<u64>().ok()
    });
    count.sum()
}

/// A group with a counter mode and room for both members.
fn configuration(cipher: &str) -> String {
    let configuration =
        SERVER.replace("authentication-algorithm hmac-sha1-96;", "").replace("aes-128-cbc", cipher);
    with_two_members(&configuration, "sender-id-bits 12;")
}

/// The key server's configuration for both members, with further statements of the group.
pub fn with_two_members(configuration: &str, statements: &str) -> String {
    let group = format!("ike-gateway black; ike-gateway white; {statements}");
    let gateway = "gateway white { ike-policy ike_policy; address 10.0.0.3; }\n gateway black {";
    configuration.replace("ike-gateway black;", &group).replace("gateway black {", gateway)
}

fn check(name: &str, cipher: &str) {
    if skip() {
        return;
    }
    let (mut server, mut a, mut b) = triangle(name);
    server.start(&configuration(cipher), &[]);
    a.start(MEMBER, &[]);
    b.start(&MEMBER.replace("10.0.0.2", "10.0.0.3"), &[]);
    for member in [&a, &b] {
        within(PATIENCE, || member.get("/v1/member/ipsec-security-associations").contains("ESP:aes-gcm"));
    }
    let seen = capture(&server);
    let ping = || a.execute(&["ping", "-c", "5", "-i", "0.1", "-W", "2", "-I", "31.1.1.1", "41.1.1.1"]);
    ping();
    let packets = captured(&seen);
    assert!(packets.len() >= 5 && packets.iter().all(|packet| packet[9] == ESP), "only ESP between them");
    // The IV begins with the sender id, twelve bits of it.
    let ids: std::collections::BTreeSet<u16> =
        packets.iter().map(|packet| u16::from_be_bytes([packet[28], packet[29]]) >> 4).collect();
    assert_eq!(ids.len(), 1, "one lane, one sender id: {ids:?}");

    let before = replays(&b);
    send_again(&server, packets[0].clone());
    within(PATIENCE, || replays(&b) == before + 1);
    ping();

    // Keys forgotten and got again: the numbers go on, so nothing is refused.
    assert!(a.delete("/v1/member/group").contains('1'));
    within(PATIENCE, || a.get("/v1/member/ipsec-security-associations").contains("ESP:aes-gcm"));
    ping();
    assert_eq!(replays(&b), before + 1);
    assert!(a.stop() && b.stop() && server.stop());
}

#[test]
fn members_reach_each_other_with_aes_128_gcm_and_a_replayed_packet_is_refused() {
    check("shg", "aes-128-gcm");
}

#[test]
fn members_reach_each_other_with_aes_256_gcm_and_a_replayed_packet_is_refused() {
    check("shh", "aes-256-gcm");
}

#[test]
fn a_member_that_restarts_again_and_again_never_uses_a_nonce_twice_and_believes_nothing_twice() {
    if skip() {
        return;
    }
    let (mut server, mut a, mut b) = triangle("shgr");
    server.start(&configuration("aes-128-gcm"), &[]);
    a.start(MEMBER, &[]);
    b.start(&MEMBER.replace("10.0.0.2", "10.0.0.3"), &[]);
    for member in [&a, &b] {
        within(PATIENCE, || member.get("/v1/member/ipsec-security-associations").contains("ESP:aes-gcm"));
    }
    let seen = capture(&server);
    // A process without a spare id must first ask for others.
    let reaches =
        |a: &Host| a.succeeds(&["ping", "-c", "3", "-i", "0.1", "-W", "1", "-I", "31.1.1.1", "41.1.1.1"]);
    let ping = |a: &Host| within(PATIENCE, || reaches(a));
    ping(&a);
    let mut packets = captured(&seen);
    let replayed = packets[0].clone();
    for round in 0..6 {
        a.signal(if round % 2 == 0 { "TERM" } else { "KILL" });
        a.wait();
        a.start(MEMBER, &[]);
        within(PATIENCE, || a.get("/v1/member/ipsec-security-associations").contains("ESP:aes-gcm"));
        ping(&a);
        packets.extend(captured(&seen));
    }
    assert!(packets.len() >= 21 && packets.iter().all(|packet| packet[9] == ESP));
    let nonces: std::collections::BTreeSet<(&[u8], &[u8])> =
        packets.iter().map(|packet| (&packet[20..24], &packet[28..36])).collect();
    // The bridge carries each of them in by one port and out by another.
    let different: std::collections::BTreeSet<&Vec<u8>> = packets.iter().collect();
    assert_eq!(nonces.len(), different.len(), "an IV was used twice under a key");
    let ids: std::collections::BTreeSet<u16> =
        packets.iter().map(|packet| u16::from_be_bytes([packet[28], packet[29]]) >> 4).collect();
    assert!(ids.len() >= 7, "each process has one of its own: {ids:?}");

    // The receiver restarts in an orderly way: what it has heard is not heard again.
    assert!(b.stop());
    b.start(&MEMBER.replace("10.0.0.2", "10.0.0.3"), &[]);
    within(PATIENCE, || b.get("/v1/member/ipsec-security-associations").contains("ESP:aes-gcm"));
    let before = too_old(&b);
    for packet in [replayed, packets[packets.len() - 1].clone()] {
        send_again(&server, packet);
    }
    within(PATIENCE, || too_old(&b) == before + 2);
    ping(&a);
    assert_eq!((replays(&b), too_old(&b)), (0, before + 2));
    assert!(a.stop() && b.stop() && server.stop());
}
