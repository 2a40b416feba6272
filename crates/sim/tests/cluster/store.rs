//! What the servers share: records, one election at a time, and everybody told of every change in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crypto::Secret;
use proto::server::{Change, Record};
use proto::time::Instant;

/// How long others wait for a silent leader.
pub const LEASE: Duration = Duration::from_secs(3);

/// What a server is told.
#[derive(Clone)]
pub enum Event {
    Loaded(Vec<Record>),
    Changed(Vec<(Change, Instant)>),
    Leading(u64),
    Following,
    Committed(u64),
    Refused(u64),
    CutOff,
}

/// What a server asks for.
pub struct Request {
    pub id: u64,
    pub changes: Vec<(Change, Instant)>,
    pub fence: Option<u64>,
}

/// One server's connection: what is on its way to it and from it.
#[derive(Default)]
pub struct Connection {
    pub connected: bool,
    pub events: VecDeque<Event>,
    pub requests: VecDeque<Request>,
    /// When its lease ends unless it is renewed.
    pub lease_until: Option<Instant>,
}

/// The store.
#[derive(Default)]
pub struct Store {
    pub records: BTreeMap<String, (Instant, Secret)>,
    /// Who leads, and the number of the election.
    pub leader: Option<(usize, u64)>,
    elections: u64,
}

impl Store {
    pub fn all(&self, now: Instant) -> Vec<Record> {
        let record = |(place, (written, content)): (&String, &(Instant, Secret))| Record {
            place: place.clone(),
            content: content.clone(),
            age: now - *written,
        };
        self.records.iter().map(record).collect()
    }

    /// Does what a server asks for, in one moment. Returns whether it was taken.
    pub fn commit(&mut self, connections: &mut [Connection], server: usize, request: Request) -> bool {
        let stands = request.fence.is_none_or(|term| self.leader == Some((server, term)));
        let answer = if stands { Event::Committed(request.id) } else { Event::Refused(request.id) };
        connections[server].events.push_back(answer);
        if !stands {
            return false;
        }
        for (change, written) in &request.changes {
            match &change.content {
                Some(content) => {
                    self.records.insert(change.place.clone(), (*written, content.clone()));
                }
                None => drop(self.records.remove(&change.place)),
            }
        }
        for (other, connection) in connections.iter_mut().enumerate() {
            if other != server && connection.connected {
                connection.events.push_back(Event::Changed(request.changes.clone()));
            }
        }
        true
    }

    /// Leases that are over end elections; then a connected server may be elected.
    pub fn elect(&mut self, now: Instant, connections: &mut [Connection], candidate: usize) {
        if let Some((leader, _)) = self.leader
            && connections[leader].lease_until.is_none_or(|until| until <= now)
        {
            self.leader = None;
        }
        let alive = |connection: &Connection| {
            connection.connected && connection.lease_until.is_some_and(|until| until > now)
        };
        if self.leader.is_none() && alive(&connections[candidate]) {
            self.elections += 1;
            self.leader = Some((candidate, self.elections));
            for (index, connection) in connections.iter_mut().enumerate().filter(|(_, it)| it.connected) {
                let event =
                    if index == candidate { Event::Leading(self.elections) } else { Event::Following };
                connection.events.push_back(event);
            }
        }
    }
}
