//! A server between the network and the store, as the daemon drives one.

use std::collections::BTreeMap;

use crypto::{Secret, SeededRandom};
use proto::Role as _;
use proto::path::Path;
use proto::server::{Change, Cooperation, PushBatch, Recipients, Record, Server, heard};
use proto::time::Instant;

use crate::settings;
use crate::store::{Event, Request};

/// Something that a server sends.
pub enum Output {
    Datagram(Path, Vec<u8>),
    Push(PushBatch),
}

/// What waits for a commit.
struct InFlight {
    id: u64,
    changes: Vec<(Change, Instant)>,
    outputs: Vec<Output>,
}

/// A server, and what it knows of the store.
pub struct Driver {
    pub server: Server,
    pub connected: bool,
    term: Option<u64>,
    known: BTreeMap<String, (Instant, Secret)>,
    in_flight: Option<InFlight>,
    next: Vec<Output>,
    changes: BTreeMap<String, (Option<Secret>, Instant)>,
    /// What may leave.
    pub released: Vec<Output>,
    last_id: u64,
    /// When it last heard of the store.
    pub heard_at: Instant,
}

impl Driver {
    pub fn new(now: Instant, index: usize, life: u64, push: bool) -> Self {
        let cooperation = Cooperation {
            name: format!("server-{index}").into(),
            incarnation: format!("server-{index}.{life}").into(),
        };
        let random = Box::new(SeededRandom::new(life.wrapping_mul(7919)));
        Self {
            server: Server::cooperating(now, settings::server(push), random, cooperation),
            connected: false,
            term: None,
            known: BTreeMap::new(),
            in_flight: None,
            next: Vec::new(),
            changes: BTreeMap::new(),
            released: Vec::new(),
            last_id: 0,
            heard_at: now,
        }
    }

    pub fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// Whether the commit of this number is about keys.
    pub fn writes_keys(&self, id: u64) -> bool {
        let asked = self.in_flight.as_ref().filter(|asked| asked.id == id);
        asked.is_some_and(|asked| asked.changes.iter().any(|(change, _)| change.place.ends_with("/keys")))
    }

    /// Pushes that wait for the commit of this number.
    pub fn pushes_of(&self, id: u64) -> Vec<&PushBatch> {
        let asked = self.in_flight.as_ref().filter(|asked| asked.id == id);
        let outputs = asked.into_iter().flat_map(|asked| &asked.outputs);
        outputs
            .filter_map(|output| match output {
                Output::Push(batch) => Some(batch),
                Output::Datagram(..) => None,
            })
            .collect()
    }

    pub fn handle(&mut self, now: Instant, event: Event) {
        self.heard_at = now;
        match event {
            Event::Loaded(records) => {
                let known = |record: Record| (record.place, (now - record.age, record.content));
                self.known = records.into_iter().map(known).collect();
                self.connected = true;
                self.server.set_isolated(false);
                self.follow(now);
            }
            Event::Changed(changes) => {
                for (change, written) in &changes {
                    self.note(change, *written);
                }
                let changes: Vec<_> = changes
                    .into_iter()
                    .map(|(change, written)| heard(change.place, change.content, now - written))
                    .collect();
                self.server.hear(now, &changes).expect("the records are sound");
            }
            Event::Leading(term) => {
                self.term = Some(term);
                self.server.lead(now);
            }
            Event::Following => {
                if self.term.take().is_some() {
                    self.give_up(now);
                }
            }
            Event::Committed(id) => {
                if let Some(asked) = self.in_flight.take_if(|asked| asked.id == id) {
                    for (change, written) in &asked.changes {
                        self.note(change, *written);
                    }
                    self.released.extend(asked.outputs);
                }
            }
            Event::Refused(id) => {
                if self.in_flight.as_ref().is_some_and(|asked| asked.id == id) {
                    self.term = None;
                    self.give_up(now);
                }
            }
            Event::CutOff => {
                self.connected = false;
                self.server.set_isolated(true);
                if self.term.take().is_some() {
                    self.give_up(now);
                } else {
                    if let Some(asked) = self.in_flight.take() {
                        for (change, written) in asked.changes {
                            self.changes.entry(change.place).or_insert((change.content, written));
                        }
                    }
                    self.next.clear();
                    self.server.forget_unfinished();
                }
            }
        }
    }

    /// Takes everything out of the server. Returns what is asked of the store next.
    pub fn collect(&mut self, now: Instant) -> Option<Request> {
        let mut buffer = Vec::new();
        while let Some(path) = self.server.poll_transmit(&mut buffer) {
            self.next.push(Output::Datagram(path, buffer.clone()));
        }
        while let Some(batch) = self.server.poll_push() {
            assert!(matches!(batch.to, Recipients::Unicast(_)));
            self.next.push(Output::Push(batch));
        }
        while self.server.poll_event().is_some() {}
        let changes = self.server.take_changes(now);
        self.changes.extend(changes.into_iter().map(|change| (change.place, (change.content, now))));
        if self.in_flight.is_some() {
            return None;
        }
        let outputs = std::mem::take(&mut self.next);
        if !self.connected || self.changes.is_empty() {
            self.released.extend(outputs);
            return None;
        }
        let changes: Vec<_> = std::mem::take(&mut self.changes)
            .into_iter()
            .map(|(place, (content, written))| (Change { place, content }, written))
            .collect();
        self.last_id += 1;
        self.in_flight = Some(InFlight { id: self.last_id, changes: changes.clone(), outputs });
        Some(Request { id: self.last_id, changes, fence: self.term })
    }

    fn note(&mut self, change: &Change, written: Instant) {
        match &change.content {
            Some(content) => {
                self.known.insert(change.place.clone(), (written, content.clone()));
            }
            None => drop(self.known.remove(&change.place)),
        }
    }

    fn give_up(&mut self, now: Instant) {
        self.in_flight = None;
        self.next.clear();
        self.changes.clear();
        self.follow(now);
    }

    fn follow(&mut self, now: Instant) {
        let mut all: Vec<Record> = self
            .known
            .iter()
            .map(|(place, (written, content))| Record {
                place: place.clone(),
                content: content.clone(),
                age: now - *written,
            })
            .collect();
        all.extend(self.changes.iter().filter_map(|(place, (content, written))| {
            Some(Record { place: place.clone(), content: content.clone()?, age: now - *written })
        }));
        self.server.follow(now, &all).expect("the records are sound");
    }
}
