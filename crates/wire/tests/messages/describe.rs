//! What `gvpn decode` prints, as golden text.

use std::fmt::Write;

use crate::support::{self, datagrams, hex, json, packets};
use wire::codec::Reader;
use wire::describe;
use wire::isakmp::Header;

#[test]
fn the_reference_session() {
    let session = &json("gdoi-pull.json")["loopback"];
    let mut text = String::new();
    for (index, message) in session["phase1_messages"].as_array().unwrap().iter().enumerate() {
        text += &describe::message(&hex(message));
        if let Some(plaintext) = index.checked_sub(4) {
            let header = Header::read(&mut Reader::new(&hex(message))).unwrap().0;
            text += &describe::plaintext(&header, &hex(&session["phase1_plaintexts"][plaintext]));
        }
    }
    for step in session["pull"].as_array().unwrap() {
        let header = Header::read(&mut Reader::new(&hex(&step["wire"]))).unwrap().0;
        text += &describe::message(&hex(&step["wire"]));
        text += &describe::plaintext(&header, &hex(&step["plaintext"]));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_trustcore_session() {
    let mut text = String::new();
    for packet in packets("trustcore-gdoi-pull.pcap") {
        text += &describe::packet(&packet);
    }
    for message in json("trustcore-gdoi-pull.plaintexts.json")["plaintexts"].as_array().unwrap() {
        writeln!(text, "--- plaintext of packet {}", message["packet"]).unwrap();
        let header = Header::read(&mut Reader::new(&hex(&message["header"]))).unwrap().0;
        text += &describe::plaintext(&header, &hex(&message["plaintext"]));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn certificates_in_phase_one() {
    let text =
        datagrams("ikev1-certs.pcap").into_iter().map(|datagram| describe::datagram(500, 500, &datagram));
    insta::assert_snapshot!(text.collect::<String>());
}

#[test]
fn esp_packets() {
    let text = packets("02-sunrise-sunset-esp.pcap")
        .iter()
        .map(|packet| describe::packet(packet))
        .collect::<String>();
    insta::assert_snapshot!(text);
}

/// Captures that made other parsers read out of bounds, loop or crash. Each is shown as far as it goes, with an error.
#[test]
fn malformed_captures() {
    let mut names = std::fs::read_dir(support::path("malformed-ike")).unwrap();
    let mut text = String::new();
    let mut sorted = Vec::new();
    while let Some(Ok(entry)) = names.next() {
        sorted.push(entry.file_name().into_string().unwrap());
    }
    sorted.sort();
    for name in sorted {
        writeln!(text, "=== {name}").unwrap();
        for packet in packets(&format!("malformed-ike/{name}")) {
            text += &describe::packet(&packet);
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn octets_that_are_nothing() {
    insta::assert_snapshot!(
        describe::message(&[]) + &describe::packet(&[]) + &describe::datagram(848, 848, &[0; 4])
    );
}
