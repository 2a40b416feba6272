//! Two gateways with the same key: hosts reach each other, and the core sees nothing but ESP with their addresses.

mod gateway;
mod network;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use daemon::datapath::WireIo;
use gateway::{Vpn, gateway, gateway_with, publish};
use network::{Capture, Network, privileged};

const UDP: u8 = 17;
const ESP: u8 = 50;
const A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// All packets between the hosts are ESP; returns how many there were.
fn only_esp(capture: &mut Capture) -> usize {
    let packets = capture.packets();
    let between = packets.iter().filter(|(source, destination, _)| {
        (*source, *destination) == (A, B) || (*source, *destination) == (B, A)
    });
    between.inspect(|packet| assert_eq!(packet.2, ESP, "{packet:?} is in clear")).count()
}

/// Sends octets from host a to host b and back by TCP; returns the time it took.
fn echo_by_tcp(network: &Network, octets: usize) -> Duration {
    let (ready, listening) = std::sync::mpsc::channel();
    let server = network.inside("hb", move || {
        let listener = TcpListener::bind((B, 7)).expect("the address is there");
        ready.send(()).expect("the test waits");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the whole");
        stream.write_all(&received).expect("the whole");
    });
    listening.recv().expect("the server listens");
    let client = network.inside("ha", move || {
        let sent: Vec<u8> = (0..octets).map(|at| (at % 251) as u8).collect();
        let begin = Instant::now();
        let mut stream =
            TcpStream::connect_timeout(&(B, 7).into(), Duration::from_secs(5)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        stream.write_all(&sent).expect("the whole");
        stream.shutdown(Shutdown::Write).expect("open");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the whole");
        assert!(received == sent, "the octets come back as they were");
        begin.elapsed()
    });
    let time = client.join().expect("the client is content");
    server.join().expect("the server is content");
    time
}

#[test]
fn hosts_talk_and_only_esp_crosses_the_core() {
    if !privileged("hosts_talk_and_only_esp_crosses_the_core") {
        return;
    }
    let network = Network::new();
    let mut capture = Capture::start(&network, "core");
    let (a, b) = (Vpn::keyed(), Vpn::keyed());
    let key = a.key().clone();
    let ga = gateway(&network, "ga", a.tables());
    let gb = gateway(&network, "gb", b.tables());

    assert!(network.pings("ha", "10.2.0.2"));
    assert!(network.pings("hb", "10.1.0.2"));
    assert!(only_esp(&mut capture) >= 8);
    assert!(network.pings("ha", "-s 3000 10.2.0.2"), "fragments");
    assert!(network.pings("ha", "-s 65000 10.2.0.2"), "many fragments");
    assert!(network.pings("ha", "-f -c 200 10.2.0.2"), "a flood");
    assert!(network.pings("ga", "-I 10.1.0.1 10.2.0.2"), "a gateway's own packets");
    assert!(network.pings("ga", "-I 10.1.0.1 10.2.0.1"), "from gateway to gateway");
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "outside the policy, in clear");
    only_esp(&mut capture);

    let octets = 8 << 20;
    let time = echo_by_tcp(&network, octets);
    assert!(only_esp(&mut capture) > octets / 1500);
    eprintln!("TCP echo of {octets} octets at MTU 1500 took {time:?}");
    assert!(key.encrypted().packets() > 0 && key.decrypted().packets() > 0);

    for gateway in [&ga, &gb] {
        for interface in gateway.with(|datapath| datapath.statistics()) {
            eprintln!("{}: {:?}", interface.interface, interface.counters);
        }
    }
}

/// Value of a counter of a gateway's only external interface.
fn counter(gateway: &gateway::Running, name: &str) -> u64 {
    let counters = gateway.with(|datapath| datapath.statistics()).remove(0).counters;
    counters.iter().find(|(counter, _)| *counter == name).expect("a counter").1
}

#[test]
fn every_kind_of_wire_socket_carries_the_same() {
    if !privileged("every_kind_of_wire_socket_carries_the_same") {
        return;
    }
    for (a, b) in [
        (WireIo::Xdp, WireIo::Xdp),
        (WireIo::Packet, WireIo::Xdp),
        (WireIo::Xdp, WireIo::Packet),
        (WireIo::Packet, WireIo::Packet),
    ] {
        let network = Network::new();
        let mut capture = Capture::start(&network, "core");
        let ga = gateway_with(&network, "ga", a, Vpn::keyed().tables());
        let gb = gateway_with(&network, "gb", b, Vpn::keyed().tables());
        assert!(network.pings("ha", "10.2.0.2"), "{a:?} {b:?}");
        assert!(network.pings("ha", "-s 3000 10.2.0.2"), "fragments, {a:?} {b:?}");
        assert!(network.pings("ha", "-f -c 300 10.2.0.2"), "a flood, {a:?} {b:?}");
        assert!(network.pings("ga", "-I 10.1.0.1 10.2.0.1"), "from gateway to gateway, {a:?} {b:?}");
        assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "outside the policy, in clear");
        let octets = 4 << 20;
        let time = echo_by_tcp(&network, octets);
        eprintln!("{a:?} {b:?}: TCP echo of {octets} octets took {time:?}");
        assert!(only_esp(&mut capture) > octets / 1500);
        for (gateway, io) in [(&ga, a), (&gb, b)] {
            assert_eq!(counter(gateway, "foreign-frames"), 0);
            assert!(counter(gateway, "esp-to-engine") as usize > octets / 1500);
            assert_eq!(counter(gateway, "received-by-af-xdp") > 0, io == WireIo::Xdp, "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_queueing_discipline_that_comes_and_goes_is_honoured() {
    if !privileged("a_queueing_discipline_that_comes_and_goes_is_honoured") {
        return;
    }
    let network = Network::new();
    let tables = Vpn::keyed();
    let ga = gateway_with(&network, "ga", WireIo::Xdp, tables.clone().tables());
    let _gb = gateway_with(&network, "gb", WireIo::Xdp, Vpn::keyed().tables());
    assert!(network.pings("ha", "10.2.0.2"));
    network.run(
        "ga",
        &[
            "tc", "qdisc", "add", "dev", "wan", "root", "tbf", "rate", "2gbit", "burst", "256k", "latency",
            "50ms",
        ],
    );
    let again = tables.clone();
    ga.with(move |datapath| publish(datapath, &again.clone().tables()));
    assert!(network.pings("ha", "10.2.0.2"), "through the queueing discipline");
    let shown = network.run("ga", &["tc", "-s", "qdisc", "show", "dev", "wan", "root"]);
    assert!(!shown.contains("Sent 0 bytes"), "{shown}");
    network.run("ga", &["tc", "qdisc", "del", "dev", "wan", "root"]);
    ga.with(move |datapath| publish(datapath, &tables.clone().tables()));
    assert!(network.pings("ha", "10.2.0.2"), "past it again");
}

#[test]
fn a_host_learns_the_path_mtu_by_icmp() {
    if !privileged("a_host_learns_the_path_mtu_by_icmp") {
        return;
    }
    let network = Network::new();
    let _ga = gateway(&network, "ga", Vpn::keyed().tables());
    let _gb = gateway(&network, "gb", Vpn::keyed().tables());
    assert!(network.pings("ha", "-M do -s 1400 10.2.0.2"));
    assert!(network.is_closed("ha", "-M do -s 1450 10.2.0.2"));
    let route = network.ip("ha", "route get 10.2.0.2");
    assert!(route.contains("mtu 1438"), "AES-128-CBC with HMAC-SHA1-96 leaves 1438 of 1500: {route}");
}

#[test]
fn what_the_engine_finds_clear_crosses_both_gateways_in_super_frames() {
    if !privileged("what_the_engine_finds_clear_crosses_both_gateways_in_super_frames") {
        return;
    }
    let network = Network::new();
    let mut capture = Capture::start(&network, "core");
    // The tc programs compare addresses only, so that the engine has to find out that TCP is of no policy.
    let ga = gateway(&network, "ga", Vpn::keyed().only(UDP).tables());
    let _gb = gateway(&network, "gb", Vpn::keyed().only(UDP).tables());
    echo_by_tcp(&network, 8 << 20);
    let counters = ga.with(|datapath| datapath.statistics()).remove(0).counters;
    let counter = |name| counters.iter().find(|(counter, _)| *counter == name).expect("a counter").1;
    assert!(counter("leaving-to-engine") > 0 && counter("arriving-to-engine") > 0);
    assert!(counter("frames-to-wire") < (8 << 20) / 1500, "super-frames stay whole: {counters:?}");
    assert!(capture.packets().iter().all(|(.., protocol)| *protocol != ESP));

    // Through a queueing discipline they carry another mark.
    let tbf = ["rate", "2gbit", "burst", "256k", "latency", "50ms"];
    network.run("ga", &[&["tc", "qdisc", "add", "dev", "wan", "root", "tbf"], &tbf[..]].concat());
    ga.with(|datapath| publish(datapath, &Vpn::keyed().only(UDP).tables()));
    echo_by_tcp(&network, 1 << 20);
}

#[test]
fn datagrams_of_every_size_arrive_once_and_in_order() {
    if !privileged("datagrams_of_every_size_arrive_once_and_in_order") {
        return;
    }
    let network = Network::new();
    let mut capture = Capture::start(&network, "core");
    let _ga = gateway(&network, "ga", Vpn::keyed().tables());
    let _gb = gateway(&network, "gb", Vpn::keyed().tables());
    assert!(network.pings("ha", "10.2.0.2"), "neighbours are known");

    // Without path MTU discovery: the gateways have to fragment.
    network.run("ha", &["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
    let sizes = || (0..3000).step_by(7);
    let receiver = network.inside("hb", || UdpSocket::bind((B, 4000)).expect("free")).join().expect("bound");
    receiver.set_read_timeout(Some(Duration::from_secs(2))).expect("a time");
    let sender = network.inside("ha", move || {
        let socket = UdpSocket::bind((A, 0)).expect("free");
        for size in sizes() {
            socket.send_to(&vec![size as u8; size], (B, 4000)).expect("sent");
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let mut buffer = [0; 4096];
    for size in sizes() {
        let length = receiver.recv(&mut buffer).expect("arrives");
        assert_eq!(length, size);
        assert!(buffer[..length].iter().all(|octet| *octet == size as u8), "{size} octets as they were sent");
    }
    sender.join().expect("all sent");
    only_esp(&mut capture);
}
