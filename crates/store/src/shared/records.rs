//! Records as keys and values of etcd.

use std::collections::BTreeMap;

use crypto::{Random, SealingKey, Secret};
use etcd_client::{Client, Compare, CompareOp, EventType, GetOptions, KeyValue, Txn, TxnOp, WatchResponse};

use super::session::Failure;
use crate::{Change, SCHEMA};

/// Records in one answer: with those of a hundred thousand members, answers stay below gRPC's usual 4 MiB.
const PAGE: i64 = 4096;

const SEAL_CONTENT: &[u8] = b"groupvpn shared state";

/// Names of the keys of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    pub(super) fn all(&self) -> String {
        format!("{}/", self.prefix)
    }

    pub(super) fn leader(&self) -> String {
        format!("{}/leader", self.prefix)
    }

    /// What the server of this name says of itself.
    pub(super) fn server(&self, name: &str) -> String {
        format!("{}/server/{name}", self.prefix)
    }

    /// The name of a server, if the key is what one says of itself.
    pub(super) fn server_name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())?.strip_prefix("/server/")
    }

    fn schema(&self) -> String {
        format!("{}/about/schema", self.prefix)
    }

    fn seal(&self) -> String {
        format!("{}/about/seal", self.prefix)
    }

    fn record(&self, place: &str) -> String {
        format!("{}/record/{place}", self.prefix)
    }

    /// The place of a record, if the key is one of a record.
    fn place<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())?.strip_prefix("/record/")
    }
}

/// Reads what the cluster's keys say of themselves; writes it where nobody has yet.
pub(super) async fn recognize(
    client: &mut Client,
    keys: &Keys,
    key: &SealingKey,
    random: &mut (dyn Random + Send),
) -> Result<(), Failure> {
    let sealed = key.seal(b"seal", SEAL_CONTENT, random);
    let introduce = Txn::new().when([Compare::version(keys.seal(), CompareOp::Equal, 0)]).and_then([
        TxnOp::put(keys.schema(), SCHEMA.to_string(), None),
        TxnOp::put(keys.seal(), sealed, None),
    ]);
    client.txn(introduce).await?;
    let schema = client.get(keys.schema(), None).await?;
    match schema.kvs().first().and_then(|entry| entry.value_str().ok()?.parse::<u64>().ok()) {
        Some(SCHEMA) => {}
        Some(newer) => return Err(Failure::Unusable(format!("written by a newer gvpnd (layout {newer})"))),
        None => return Err(Failure::Unusable("the prefix belongs to another program".into())),
    }
    let seal = client.get(keys.seal(), None).await?;
    let opened = seal.kvs().first().and_then(|entry| key.open(b"seal", entry.value()).ok());
    if opened.is_some_and(|content| content.matches(SEAL_CONTENT)) {
        return Ok(());
    }
    Err(Failure::Unusable("sealed with another cluster key than ours".into()))
}

/// What a server says of itself, and which one it is:
///
/// ```text
///   layout 1 | length of the identity (1) | identity | about
/// ```
pub(super) struct Introduction {
    pub(super) identity: Vec<u8>,
    pub(super) about: Secret,
}

/// Layout of an introduction; what begins otherwise is all about.
const INTRODUCTION: u8 = 1;

impl Introduction {
    /// Sealed like a record, at a place where no record is.
    pub(super) fn seal(&self, keys: &Keys, key: &SealingKey, random: &mut dyn Random, name: &str) -> Vec<u8> {
        let length = self.identity.len().min(usize::from(u8::MAX));
        let mut octets = Vec::with_capacity(2 + length + self.about.len());
        octets.extend([INTRODUCTION, length as u8]);
        octets.extend(&self.identity[..length]);
        octets.extend(self.about.expose());
        let octets = Secret::new(octets);
        key.seal(keys.server(name).as_bytes(), octets.expose(), random)
    }

    /// What the server of this name says.
    pub(super) fn open(keys: &Keys, key: &SealingKey, name: &str, sealed: &[u8]) -> Result<Self, Failure> {
        let octets = key
            .open(keys.server(name).as_bytes(), sealed)
            .map_err(|error| Failure::Unusable(format!("server `{name}`: {error}")))?;
        let parts = match octets.expose() {
            [INTRODUCTION, length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
            _ => None,
        };
        let (identity, about) = parts.unwrap_or((&[], octets.expose()));
        Ok(Self { identity: identity.to_vec(), about: Secret::from_slice(about) })
    }
}

/// What all connected servers say of themselves.
pub(super) async fn servers(
    client: &mut Client,
    keys: &Keys,
    key: &SealingKey,
) -> Result<BTreeMap<String, Secret>, Failure> {
    let all = client.get(keys.server(""), Some(GetOptions::new().with_prefix())).await?;
    let mut servers = BTreeMap::new();
    for entry in all.kvs() {
        let Some(name) = entry.key_str().ok().and_then(|key| keys.server_name(key)) else { continue };
        servers.insert(name.to_owned(), Introduction::open(keys, key, name, entry.value())?.about);
    }
    Ok(servers)
}

/// All records and the leader's key as of one revision, which is returned too.
pub(super) async fn load(
    client: &mut Client,
    keys: &Keys,
    key: &SealingKey,
) -> Result<(Vec<(String, Secret)>, Option<KeyValue>, i64), Failure> {
    let leader = client.get(keys.leader(), None).await?;
    let revision = leader.header().map_or(0, |header| header.revision());
    let mut records = Vec::new();
    let mut from = keys.record("");
    // '0' follows '/': the end of everything that begins with "PREFIX/record/".
    let end = format!("{}0", from.trim_end_matches('/'));
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
        let page = client.get(from.clone(), Some(options)).await?;
        for entry in page.kvs() {
            let Some(place) = entry.key_str().ok().and_then(|name| keys.place(name)) else { continue };
            records.push((place.to_owned(), open(key, place, entry.value())?));
        }
        match page.kvs().last() {
            Some(last) if page.more() => {
                from = String::from_utf8_lossy(last.key()).into_owned();
                from.push('\0');
            }
            _ => break,
        }
    }
    let leader = leader.kvs().first().cloned();
    Ok((records, leader, revision))
}

/// The operations of `changes`.
pub(super) fn operations(
    keys: &Keys,
    key: &SealingKey,
    random: &mut dyn Random,
    changes: &[Change],
) -> Vec<TxnOp> {
    let operation = |change: &Change| {
        let name = keys.record(&change.place);
        match &change.content {
            Some(content) => {
                TxnOp::put(name, key.seal(change.place.as_bytes(), content.expose(), random), None)
            }
            None => TxnOp::delete(name, None),
        }
    };
    changes.iter().map(operation).collect()
}

/// Changes of records that a watch saw, apart from our own, which are recognized by their revisions.
pub(super) fn changes(
    keys: &Keys,
    key: &SealingKey,
    response: &WatchResponse,
    is_ours: impl Fn(i64) -> bool,
) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for event in response.events() {
        let Some(entry) = event.kv().filter(|entry| !is_ours(entry.mod_revision())) else { continue };
        let Some(place) = entry.key_str().ok().and_then(|name| keys.place(name)) else { continue };
        changes.push(match event.event_type() {
            EventType::Put => Change::set(place, open(key, place, entry.value())?),
            EventType::Delete => Change::remove(place),
        });
    }
    Ok(changes)
}

fn open(key: &SealingKey, place: &str, sealed: &[u8]) -> Result<Secret, Failure> {
    key.open(place.as_bytes(), sealed)
        .map_err(|error| Failure::Unusable(format!("record `{place}`: {error}")))
}
