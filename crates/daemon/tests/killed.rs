//! A data path in a process of its own is killed: nothing leaks, and its successor serves at once.

mod gateway;
mod network;

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::datapath::{DataPath, Options, WireIo};
use gateway::{Vpn, gateway, publish};
use network::{Capture, Network, enter, privileged};

const NAMESPACE: &str = "GVPN_TEST_NAMESPACE";

/// Runs [`child`] in a process inside a node; returns when its interfaces are attached.
fn spawn(network: &Network, node: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(NAMESPACE, network.namespace(node))
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let ready = output.lines().map_while(Result::ok).any(|line| line.contains("attached"));
    assert!(ready, "the child ended");
    child
}

#[test]
#[ignore = "the process that the other test starts and kills"]
fn child() {
    let Ok(namespace) = std::env::var(NAMESPACE) else { return };
    enter(&namespace);
    // With the XDP program, which must not outlive the process.
    let options = Options { wire_io: WireIo::Xdp, ..Options::at(daemon::clock::Clock::start()) };
    let mut datapath = DataPath::start(options).expect("can start");
    publish(&mut datapath, &Vpn::keyed().tables());
    println!("attached");
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn killed_and_restarted_under_load_it_leaks_nothing() {
    if !privileged("killed_and_restarted_under_load_it_leaks_nothing") {
        return;
    }
    let network = Network::new();
    let _gb = gateway(&network, "gb", Vpn::keyed().tables());
    let mut first = spawn(&network, "ga");
    let mut capture = Capture::start(&network, "core");
    assert!(network.pings("ha", "10.2.0.2"));

    let mut load = network.command("ha", &["ping", "-n", "-q", "-i", "0.002", "10.2.0.2"]);
    let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        // Child::kill is SIGKILL.
        first.kill().expect("it lived");
        first.wait().expect("it is dead");
        assert!(network.is_closed("ha", "10.2.0.2"), "closed");
        assert!(network.is_closed("ga", "-I 10.1.0.1 10.2.0.2"), "closed for its own packets");
        assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "what is none of the policy's flows on");
        first = spawn(&network, "ga");
        assert!(network.pings("ha", "10.2.0.2"), "open for ESP again");
    }
    load.kill().expect("it pings on");
    load.wait().expect("ends");
    first.kill().expect("it lived");
    first.wait().expect("it is dead");

    let inside = |address: Ipv4Addr| address.octets()[0] == 10;
    let packets = capture.packets();
    let leaked =
        packets.iter().filter(|(from, to, protocol)| inside(*from) && inside(*to) && *protocol != 50);
    assert_eq!(leaked.collect::<Vec<_>>(), Vec::<&(Ipv4Addr, Ipv4Addr, u8)>::new());
    assert!(packets.iter().any(|(.., protocol)| *protocol == 50), "the capture works");
}
