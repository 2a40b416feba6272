//! What an operator and a crash can do to the file of a store.

use std::fs;
use std::path::PathBuf;

use crypto::{SealingKey, Secret, SeededRandom};
use store::{Change, Embedded, LoadError, OpenError};

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("server.redb")
    }

    fn open(&self) -> Result<Embedded, OpenError> {
        self.open_with(1)
    }

    fn open_with(&self, key: u8) -> Result<Embedded, OpenError> {
        let key = SealingKey::new(&Secret::new(vec![key; 32])).unwrap();
        Embedded::open(&self.file(), key, Box::new(SeededRandom::new(7)))
    }
}

fn set(place: &str, content: &str) -> Change {
    Change::set(place, Secret::from_slice(content.as_bytes()))
}

fn content(store: &Embedded) -> Vec<(String, String)> {
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    store.load().unwrap().into_iter().map(|(place, secret)| (place, text(&secret))).collect()
}

#[test]
fn committed_records_are_there_after_a_restart_in_order() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.commit(&[set("group/2/keys", "b"), set("group/1/keys", "a"), set("group/3/keys", "c")]).unwrap();
    store
        .commit(&[Change::remove("group/3/keys"), set("group/2/keys", "B"), Change::remove("nowhere")])
        .unwrap();
    drop(store);
    let store = scratch.open().unwrap();
    assert_eq!(content(&store), [("group/1/keys".into(), "a".into()), ("group/2/keys".into(), "B".into())]);
}

#[test]
fn no_content_stands_in_the_file_in_clear_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.commit(&[set("group/1/keys", "a very secret traffic encryption key")]).unwrap();
    drop(store);
    let octets = fs::read(scratch.file()).unwrap();
    assert!(!octets.windows(11).any(|window| window == b"very secret"));
    assert!(
        octets.windows(12).any(|window| window == b"group/1/keys"),
        "the check can find what is in clear"
    );
    assert_eq!(fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_process_is_told_that_the_state_is_in_use() {
    let scratch = Scratch::new();
    let _store = scratch.open().unwrap();
    assert!(matches!(scratch.open(), Err(OpenError::InUse(_))));
}

#[test]
fn another_sealing_key_is_noticed_and_nothing_is_written() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.commit(&[set("group/1/keys", "a")]).unwrap();
    drop(store);
    assert!(matches!(scratch.open_with(2), Err(OpenError::WrongKey(_))));
    assert_eq!(content(&scratch.open().unwrap()).len(), 1);
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new();
    for foreign in [&b"#!/bin/sh\nexit 0\n"[..], &[0; 5000], &[0xff; 70_000]] {
        fs::write(scratch.file(), foreign).unwrap();
        let error = scratch.open().unwrap_err();
        assert!(matches!(error, OpenError::Foreign(..) | OpenError::Damaged(..)), "{error}");
        assert_eq!(fs::read(scratch.file()).unwrap(), foreign);
    }
}

#[test]
fn a_redb_file_of_another_program_is_refused() {
    let scratch = Scratch::new();
    let database = redb::Database::create(scratch.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(scratch.open(), Err(OpenError::Foreign(..))));
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.open().unwrap());
    let database = redb::Database::create(scratch.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let about: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("about");
    transaction.open_table(about).unwrap().insert("schema", 2_u64.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(scratch.open(), Err(OpenError::Newer(_, 2))));
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_and_never_a_wrong_record() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    store.commit(&[set("group/1/keys", "right"), set("group/2/keys", "right")]).unwrap();
    drop(store);
    let whole = fs::read(scratch.file()).unwrap();
    let (mut refused, mut opened) = (0, 0);
    // The interesting part is the pages that are in use: all of the first ones, samples of the rest.
    for position in (0..whole.len()).step_by(whole.len() / 997 + 1).chain(0..256) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x41;
        fs::write(scratch.file(), &damaged).unwrap();
        match scratch.open() {
            Err(_) => refused += 1,
            Ok(store) => match store.load() {
                Ok(records) => {
                    opened += 1;
                    assert_eq!(records.len(), 2, "octet {position}");
                    assert!(records.iter().all(|(_, content)| content.matches(b"right")), "octet {position}");
                }
                Err(LoadError::Record(..) | LoadError::Storage(..)) => refused += 1,
            },
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} refused, {opened} opened");
    for length in [1, 100, 512, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(scratch.file(), &whole[..length]).unwrap();
        let outcome = scratch.open().map(|store| store.load().map(|records| records.len()));
        assert!(
            !matches!(outcome, Ok(Ok(0 | 1))),
            "cut to {length} octets: records are missing, and nobody says so"
        );
    }
}

#[test]
fn a_place_that_is_too_long_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let mut store = scratch.open().unwrap();
    let long = "x".repeat(store::PLACE_MAX + 1);
    assert!(store.commit(&[set("group/1/keys", "a"), set(&long, "b")]).is_err());
    assert!(content(&store).is_empty());
}
