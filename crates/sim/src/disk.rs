//! What a server has kept.

use std::collections::BTreeMap;

use crypto::Secret;
use proto::server::{Change, Record};
use proto::time::Instant;

/// Records by their places, with the time of writing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(BTreeMap<String, (Instant, Secret)>);

impl Disk {
    pub(crate) fn apply(&mut self, now: Instant, changes: Vec<Change>) {
        for Change { place, content } in changes {
            match content {
                Some(content) => drop(self.0.insert(place, (now, content))),
                None => drop(self.0.remove(&place)),
            }
        }
    }

    pub(crate) fn records(&self, now: Instant) -> Vec<Record> {
        let record = |(place, (written, content)): (&String, &(Instant, Secret))| Record {
            place: place.clone(),
            content: content.clone(),
            age: now - *written,
        };
        self.0.iter().map(record).collect()
    }
}
