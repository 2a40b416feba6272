//! Replays the corpora of the fuzz targets, and writes their first entries.

use std::path::{Path, PathBuf};

use hex_literal::hex;
use wire::registry::PayloadType;

use crate::{fuzz_bodies, push_bodies};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn replay(target: &str, body: fn(&[u8]) -> u64) {
    let mut count = 0;
    for entry in std::fs::read_dir(folder(target)).expect("the corpus is committed") {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        let reached =
            std::panic::catch_unwind(|| body(&octets)).unwrap_or_else(|_| panic!("{} fails", path.display()));
        assert!(
            reached > 0 || !["registration", "rekey"].iter().any(|name| path.ends_with(name)),
            "{} reaches the end",
            path.display()
        );
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}

#[test]
fn pull_server_holds_for_its_corpus() {
    replay("pull_server", fuzz_bodies::pull_server);
}

#[test]
fn pull_member_holds_for_its_corpus() {
    replay("pull_member", fuzz_bodies::pull_member);
}

#[test]
fn push_member_holds_for_its_corpus() {
    replay("push_member", push_bodies::push_member);
}

#[test]
fn push_server_holds_for_its_corpus() {
    replay("push_server", push_bodies::push_server);
}

fn step(kind: u8, octets: &[u8]) -> Vec<u8> {
    let mut step = vec![kind];
    step.extend_from_slice(&(octets.len() as u16).to_be_bytes());
    step.extend_from_slice(octets);
    step
}

/// Run with `--ignored` after the form of the steps has changed.
#[test]
#[ignore = "writes the first entries of the corpora"]
fn write_corpora() {
    let request = [
        &[PayloadType::NONCE.0][..],
        &hex!("05000014 000102030405060708090a0b0c0d0e0f 0000000c 0b000000 00000001"),
    ]
    .concat();
    let by_address = [
        &[PayloadType::NONCE.0][..],
        &hex!("05000014 000102030405060708090a0b0c0d0e0f 0000000c 01000000 e2010101"),
    ]
    .concat();
    let quick_mode = [
        &[PayloadType::SECURITY_ASSOCIATION.0][..],
        &hex!("0a000014 00000001 00000001 00000000 00000000 0000000c 0001020304050607"),
    ]
    .concat();
    let gap = [&[PayloadType::GROUP_ASSOCIATED_POLICY.0][..], &hex!("00000008 80030002")].concat();
    let policy = [
        &[PayloadType::SECURITY_ASSOCIATION.0][..],
        &hex!("00000047 00000002 00000000 00100000"),
        &hex!("00000037 01 00 04 0000 08 0a000000 ff000000 04 0000 08 14000000 ff000000 0c 00001000"),
        &hex!("80010001 80020e10 80040001 80050002 80060080"),
    ]
    .concat();
    let long_lengths = [
        &[PayloadType::SECURITY_ASSOCIATION.0][..],
        &hex!("00000045 00000002 00000000 00100000 00000035 01 00 04 0000 0008 00000000ffffffff"),
        &hex!("01 0000 0004 e2010101 0c 0992cb0e 80050002 80060080 80010001 800200f0 80040001"),
    ]
    .concat();
    let keys = [
        &[PayloadType::KEY_DOWNLOAD.0][..],
        &hex!("0000003d 0001 0000 0100 0035 04 00001000 0001 0010 000102030405060708090a0b0c0d0e0f"),
        &hex!("0002 0014 000102030405060708090a0b0c0d0e0f10111213"),
    ]
    .concat();
    let successor = [
        &hex!("00000002 00000000 0016 0000 10 00 000c 8001 000f 8002 002d")[..],
        &hex!("00 00 0037 01 00 04 0000 08 0a000000 ff000000 04 0000 08 14000000 ff000000 0c 00002000"),
        &hex!("8001 0001 8002 0e10 8004 0001 8005 0002 8006 0080"),
    ]
    .concat();
    let successor_keys = [
        &hex!("0001 0000 01 00 0035 04 00002000 0001 0010 101112131415161718191a1b1c1d1e1f")[..],
        &hex!("0002 0014 202122232425262728292a2b2c2d2e2f30313233"),
    ]
    .concat();
    let push = [&[0][..], &(successor.len() as u16).to_be_bytes(), &successor, &successor_keys].concat();
    let raw_push = [
        &[PayloadType::SECURITY_ASSOCIATION.0][..],
        &[PayloadType::KEY_DOWNLOAD.0, 0, 0, 4 + successor.len() as u8],
        &successor,
        &[PayloadType::SIGNATURE.0, 0, 0, 4 + successor_keys.len() as u8],
        &successor_keys,
    ]
    .concat();
    let delete_one = hex!("01 00001000");
    let delete_all = hex!("02 00000000 00000001");
    let rekey = step(4, &[0; 3250]);
    let fellow = [&[18][..], &hex!("05000008 00000001 0000000c 01000000 e2010102")].concat();
    let foreign = hex!("00000001 e2010199");
    let entries = [
        ("push_server", "rekey", [rekey.clone(), step(2, b""), step(2, b"")].concat()),
        ("push_server", "fellow", [rekey.clone(), step(1, &fellow), step(3, &foreign)].concat()),
        (
            "push_server",
            "silence",
            [rekey.clone(), step(4, &[0; 10]), step(4, &[0; 340]), step(2, b"")].concat(),
        ),
        (
            "push_server",
            "evictions",
            [rekey, step(6, b""), step(2, b""), step(4, &[0; 60]), step(6, b"\0")].concat(),
        ),
        ("push_server", "foreign-push", [step(5, &[7; 40]), step(0, &[7; 40])].concat()),
        ("push_member", "rekey", [step(3, &push), step(5, &[0; 20]), step(4, &push)].concat()),
        ("push_member", "raw", [step(2, &raw_push), step(1, &raw_push)].concat()),
        ("push_member", "deletes", [step(3, &push), step(3, &delete_one), step(3, &delete_all)].concat()),
        ("push_member", "expiry", [step(3, &push), step(5, &[0; 3590]), step(5, &[0; 60])].concat()),
        (
            "push_member",
            "stranger",
            step(
                0,
                &[&hex!("000102030405060708090a0b0c0d0e0f 12102101 00000000 0000002c")[..], &[7; 16]]
                    .concat(),
            ),
        ),
        ("pull_server", "registration", [step(2, b""), step(3, b"\0")].concat()),
        ("pull_server", "requests", [step(2, b""), step(3, &gap), step(1, &request)].concat()),
        (
            "pull_server",
            "named-by-address",
            [step(1, &by_address), step(4, &[0; 56]), step(1, &request)].concat(),
        ),
        ("pull_server", "quick-mode", step(1, &quick_mode)),
        (
            "pull_server",
            "raw",
            step(
                0,
                &hex!(
                    "0011223344556677 8899aabbccddeeff 08 10 20 01 00000001 0000002c 00000000 00000000 00000000 00000000"
                ),
            ),
        ),
        ("pull_member", "registration", [step(1, &policy), step(2, &keys), step(3, &[0; 3500])].concat()),
        ("pull_member", "two-octet-lengths", [step(1, &long_lengths), step(2, &keys)].concat()),
        ("pull_member", "silence", step(3, &[0; 60])),
    ];
    for (target, name, octets) in entries {
        std::fs::create_dir_all(folder(target)).unwrap();
        std::fs::write(folder(target).join(name), octets).unwrap();
    }
}
