//! Network namespaces that the daemon enters, on the real kernel.

#[allow(dead_code)] // it is for tests with packets, too
mod network;

use daemon::namespace::Namespace;
use daemon::netlink::Links;
use network::{Network, privileged};

#[test]
fn work_is_done_in_the_namespace_and_the_thread_is_back_afterwards() {
    if !privileged("namespaces") {
        return;
    }
    let network = Network::new();
    let [here, there] = ["ga", "gb"].map(|node| network.namespace(node));
    let namespace = Namespace::open(&there).unwrap();
    let addresses = || Links::read().unwrap().by_name("wan").map(|link| link.addresses.clone());
    let before = addresses();
    let inside = namespace.within(addresses).unwrap().expect("the gateway's interface");
    assert_eq!(inside[0].to_string(), "12.1.2.1/30");
    assert_eq!(addresses(), before, "back where it was");
    // Also after a panic.
    let panics = std::panic::catch_unwind(|| namespace.within(|| panic!("on purpose")));
    assert!(panics.is_err());
    assert_eq!(addresses(), before);
    assert!(namespace.is_called(&there) && !namespace.is_called(&here));
}

#[test]
fn a_namespace_that_was_made_anew_is_another_one() {
    if !privileged("namespaces") {
        return;
    }
    let name = format!("gvt{}again", std::process::id());
    let ip = |what: &str| {
        let status = std::process::Command::new("ip").args(["netns", what, &name]).status();
        assert!(status.unwrap().success());
    };
    ip("add");
    let first = Namespace::open(&name).unwrap();
    assert!(first.is_called(&name));
    ip("delete");
    assert!(!first.is_called(&name));
    ip("add");
    assert!(!first.is_called(&name), "its name is that of another");
    assert!(Namespace::open(&name).unwrap().is_called(&name));
    ip("delete");
}
