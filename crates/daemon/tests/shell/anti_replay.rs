//! Time-based anti-replay: a packet that is sent again is accepted within the window, as with any suite that does not name
//! the sender, and refused after it.

use std::time::{Duration, Instant};

use super::counter_mode::{capture, captured, refused, send_again, triangle, with_two_members};
use super::host::{Host, skip, within};
use super::{MEMBER, SERVER};

const PATIENCE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(4);

fn decrypted(host: &Host) -> u64 {
    let text = host.get("/v1/member/ipsec-statistics");
    let text = &text[text.find("\"decrypted-packets\":").expect("it is shown") + 20..];
    text[..text.find(|letter: char| !letter.is_ascii_digit()).unwrap()].parse().unwrap()
}

fn ping(host: &Host) {
    host.execute(&["ping", "-c", "3", "-i", "0.1", "-W", "2", "-I", "31.1.1.1", "41.1.1.1"]);
}

#[test]
fn a_packet_sent_again_is_refused_once_it_is_older_than_the_window_and_a_change_takes_effect() {
    if skip() {
        return;
    }
    let (mut server, mut a, mut b) = triangle("sht");
    let push = "server-member-communication { communication-type unicast; encryption-algorithm aes-128-cbc; \
                sig-hash-algorithm sha-256; } activation-time-delay 10; signature-algorithm ecdsa-256;";
    let configuration = with_two_members(SERVER, &format!("anti-replay-time-window 4000ms; {push}"));
    server.start(&configuration, &[]);
    a.start(MEMBER, &[]);
    b.start(&MEMBER.replace("10.0.0.2", "10.0.0.3"), &[]);
    for member in [&a, &b] {
        within(PATIENCE, || {
            member.get("/v1/member/ipsec-security-associations?detail").contains("window-millis\":4000")
        });
    }
    let seen = capture(&server);
    ping(&a);
    let sent = Instant::now();
    let packets = captured(&seen);
    assert!(packets.len() >= 3 && packets.iter().all(|packet| packet[9] == 50), "only ESP between them");

    // Within the window nothing tells a copy from the packet: that is what the window is.
    let before = decrypted(&b);
    send_again(&server, packets[0].clone());
    if sent.elapsed() < WINDOW / 2 {
        within(PATIENCE, || decrypted(&b) > before);
        assert_eq!(refused(&b, "timestamp-too-old"), 0);
    }
    // Half the window beyond it, since clocks are told over a network.
    std::thread::sleep((WINDOW + WINDOW / 2).saturating_sub(sent.elapsed()));
    send_again(&server, packets[1].clone());
    within(PATIENCE, || refused(&b, "timestamp-too-old") == 1);
    ping(&a);

    // The clock goes on through a restart of the server.
    server.signal("KILL");
    server.wait();
    server.start(&configuration, &[]);
    assert!(a.delete("/v1/member/group").contains('1'));
    within(PATIENCE, || {
        a.get("/v1/member/ipsec-security-associations?detail").contains("window-millis\":4000")
    });
    ping(&a);
    assert_eq!(refused(&b, "timestamp-too-old"), 1);
    assert_eq!(refused(&b, "timestamp-too-new"), 0);

    // Switched off: packets without a time are neither refused nor lost.
    let quiet = with_two_members(SERVER, &format!("no-anti-replay; {push}"));
    server.rewrite(&quiet);
    assert!(server.post("/v1/commit", "").contains("\"success\":true"));
    for member in [&a, &b] {
        within(PATIENCE, || {
            member
                .get("/v1/member/ipsec-security-associations?detail")
                .contains("\"anti-replay\":\"disabled\"")
        });
    }
    ping(&a);
    assert!(a.stop() && b.stop() && server.stop());
}
