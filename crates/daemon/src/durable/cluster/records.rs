//! What is shared, as far as it is known here: every record, and how old it is by our own clock.
//!
//! Ages of records that another machine wrote depend on two clocks. One that is heard of as it is written is as old as a
//! commit may take, whatever its writer's clock says; only what is read at the start goes by wall clocks, which therefore
//! should agree within a second.

use std::collections::BTreeMap;
use std::time::Duration;

use crypto::Secret;
use proto::server::Record;

use super::super::stamp::Stamp;

/// A record.
struct Known {
    content: Secret,
    written: Stamp,
}

/// All records.
#[derive(Default)]
pub(super) struct Records {
    known: BTreeMap<String, Known>,
    /// How far the clock of another machine was ahead of ours, when it last wrote something, in milliseconds.
    pub(super) clock_ahead_millis: Option<i64>,
}

impl Records {
    /// Takes over everything that there is. Returns the place of a record that is none of ours.
    pub(super) fn load(&mut self, now: Stamp, records: Vec<(String, Secret)>) -> Result<(), String> {
        let mut before = std::mem::take(&mut self.known);
        for (place, octets) in records {
            let (written, content) = Stamp::split(&octets).ok_or_else(|| place.clone())?;
            // Of what did not change it is known how old it is.
            let known = before.remove(&place).filter(|known| known.content == content);
            let known =
                known.unwrap_or_else(|| Known { written: now.before_by(now.since(&written)), content });
            self.known.insert(place, known);
        }
        Ok(())
    }

    /// A record that another server has just written, or removed. `patience` is the longest that a commit takes.
    pub(super) fn hear(
        &mut self,
        now: Stamp,
        place: &str,
        octets: Option<&Secret>,
        patience: Duration,
    ) -> Result<Option<Record>, ()> {
        let Some(octets) = octets else {
            self.known.remove(place);
            return Ok(None);
        };
        let (written, content) = Stamp::split(octets).ok_or(())?;
        let mut age = now.since(&written);
        if let Some(ahead) = now.other_clock_ahead_millis(&written) {
            self.clock_ahead_millis = Some(ahead);
            age = age.min(patience);
        }
        self.known.insert(place.to_owned(), Known { content: content.clone(), written: now.before_by(age) });
        Ok(Some(Record { place: place.to_owned(), content, age }))
    }

    /// What we wrote ourselves.
    pub(super) fn wrote(&mut self, place: &str, octets: Option<&Secret>) {
        match octets.and_then(Stamp::split) {
            Some((written, content)) => {
                self.known.insert(place.to_owned(), Known { content, written });
            }
            None => drop(self.known.remove(place)),
        }
    }

    /// Everything, and what is yet to be written on top of it.
    pub(super) fn all<'a>(
        &self,
        now: Stamp,
        pending: impl Iterator<Item = (&'a String, &'a Option<Secret>)>,
    ) -> Vec<Record> {
        let record = |(place, known): (&String, &Known)| Record {
            place: place.clone(),
            content: known.content.clone(),
            age: now.since(&known.written),
        };
        let mut all: Vec<Record> = self.known.iter().map(record).collect();
        all.extend(pending.filter_map(|(place, octets)| {
            let (written, content) = Stamp::split(octets.as_ref()?)?;
            Some(Record { place: place.clone(), content, age: now.since(&written) })
        }));
        all
    }

    /// Whether there are keys of any group: then there is something to go on with.
    pub(super) fn has_keys(&self) -> bool {
        self.known.keys().any(|place| place.ends_with("/keys"))
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
