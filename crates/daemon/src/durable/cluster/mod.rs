//! What several servers share: nothing of this server leaves before the others could know it, and what another server
//! wrote is known here as soon as it is told.
//!
//! ```text
//!              ┌── Loaded: follow ──▶ following ── Leading: lead ──▶ leading
//!   cut off ◀──┤                          ◀── Following, Refused: follow ──┘
//!              └── CutOff: the server goes on with what it knows, makes nothing, and waits for nothing
//! ```
//!
//! While this server leads, its commits are fenced: the store takes them only as long as its election stands. What waits
//! for a commit that was refused, or of which nobody knows what became, is dropped, and the server forgets what led to
//! it by reading the records again: nobody has seen it. While it follows, what waits is the answer to a registration;
//! when the store is lost it is dropped too, because a server that slept may have missed a key, and the member asks again.
//! From then on nothing waits: the server gives what it has, and tells later whom.

mod differences;
mod identity;
mod moving;
mod open;
mod records;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crypto::Secret;
use proto::server::{Cooperation, Server};
use proto::time::Instant;
use store::{Change, Epoch, SharedEvent, Term};

use super::stamp::{self, Stamp};
use super::waiting::{Gathered, MOST_WAITING, Output, Waiting};
use super::{LAST_COMMIT, LocalState, OpenError};
use open::{About, Connected};
use records::Records;

use crate::agreement::Agreement;

pub use differences::ServerDifference;
pub use identity::Identity;
pub use open::{ClusterSettings, TlsFiles};

/// How often the log says that the store is still out of reach.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What is wrong with a record that another version of gvpnd wrote.
const OTHER_VERSION: &str = "it is of another version of gvpnd";

/// Clocks of servers that differ by more than this are worth a warning.
const CLOCKS_DIFFER_MILLIS: i64 = 1000;

/// How it stands with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It was not read yet: this server has no keys.
    Starting(String),
    /// It is out of reach, or has no majority.
    CutOff(String),
    /// This server makes the keys.
    Leading,
    /// The server of this name does, if there is one.
    Following(Option<String>),
}

/// Another server, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub about: About,
}

/// How it stands with the other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// Name of this server.
    pub name: String,
    /// Where what is shared is kept, in words.
    pub store: String,
    /// How it stands with that.
    pub connection: Connection,
    /// Since when.
    pub since: Instant,
    /// The servers that are connected, this one among them, as of when it was told last.
    pub servers: Vec<ServerInfo>,
    /// What those have configured otherwise than this one.
    pub differences: Vec<ServerDifference>,
    /// Elections that this server has won.
    pub elections_won: u64,
    /// Commits that were refused because another server had been elected.
    pub commits_refused: u64,
    /// How often the store was lost.
    pub cut_offs: u64,
    /// Datagrams that were made and not sent, because what they depended on was not taken.
    pub dropped: u64,
}

impl ClusterState {
    /// The other server that makes the keys, if one does.
    pub fn leader(&self) -> Option<String> {
        match &self.connection {
            Connection::Following(leader) => leader.clone(),
            Connection::Leading | Connection::Starting(_) | Connection::CutOff(_) => None,
        }
    }
}

/// What is asked of the store.
struct InFlight {
    id: u64,
    changes: Vec<Change>,
    waiting: Waiting,
}

/// The state of a server that shares it.
pub struct Cluster {
    connected: Connected,
    /// What the others are told of us.
    about: About,
    boot: Option<[u8; 16]>,
    lease: Duration,
    epoch: Option<Epoch>,
    term: Option<Term>,
    records: Records,
    last_id: u64,
    in_flight: Option<InFlight>,
    next: Gathered,
    /// What this server kept while it was alone, as long as it may have to be shared.
    local: Option<LocalState>,
    /// It is what the server leads with, and not committed yet.
    adopted: bool,
    released: VecDeque<Output>,
    state: ClusterState,
    said_at: Option<Instant>,
}

impl Cluster {
    pub(super) fn open(
        settings: &ClusterSettings,
        agreement: Agreement,
        identity: &Identity,
        credentials: Option<&std::path::Path>,
    ) -> Result<(Self, Cooperation), OpenError> {
        let about =
            About { sub_server: settings.is_sub_server, addresses: settings.addresses.clone(), agreement };
        let (connected, cooperation) = open::open(settings, &about, identity, credentials)?;
        let cluster = Self {
            connected,
            about,
            boot: stamp::boot_id(),
            lease: settings.lease,
            epoch: None,
            term: None,
            records: Records::default(),
            last_id: 0,
            in_flight: None,
            next: Gathered::default(),
            local: None,
            adopted: false,
            released: VecDeque::new(),
            state: ClusterState {
                name: cooperation.name.to_string(),
                store: format!("etcd {} {}", settings.endpoints.join(" "), settings.prefix),
                connection: Connection::Starting("no answer yet".into()),
                since: Instant::ORIGIN,
                servers: Vec::new(),
                differences: Vec::new(),
                elections_won: 0,
                commits_refused: 0,
                cut_offs: 0,
                dropped: 0,
            },
            said_at: None,
        };
        Ok((cluster, cooperation))
    }

    pub(super) fn state(&self) -> &ClusterState {
        &self.state
    }

    pub(super) fn collect(&mut self, now: Instant, server: &mut Server, buffer: &mut Vec<u8>) {
        self.next.collect(now, self.boot, server, buffer);
        self.advance(now);
    }

    pub(super) fn poll_released(&mut self) -> Option<Output> {
        self.released.pop_front()
    }

    pub(super) async fn event(&mut self) -> SharedEvent {
        let event = match &mut self.connected.shared {
            Some(shared) => shared.event().await,
            None => None,
        };
        match event {
            Some(event) => event,
            // The thread has ended, which it does only when the process does.
            None => std::future::pending().await,
        }
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: SharedEvent, server: &mut Server) {
        match event {
            SharedEvent::Loaded { epoch, records } => self.loaded(now, epoch, records, server),
            SharedEvent::Changed(changes) => self.changed(now, &changes, server),
            SharedEvent::Servers(servers) => {
                let info = |(name, about): (String, Secret)| ServerInfo { name, about: About::read(&about) };
                self.state.servers = servers.into_iter().map(info).collect();
                self.compare();
            }
            SharedEvent::Leading(term) => {
                self.term = Some(term);
                self.state.elections_won += 1;
                self.enter(now, Connection::Leading);
                self.compare();
                self.lead(now, server);
            }
            SharedEvent::Following(leader) => {
                if self.term.take().is_some() {
                    self.give_up(now, server);
                }
                tracing::info!(target: "high-availability", leader = leader.as_deref().unwrap_or("nobody"), "another server makes the keys");
                self.enter(now, Connection::Following(leader));
                self.compare();
            }
            SharedEvent::Committed(id) => self.committed(now, id),
            SharedEvent::Refused(id) => {
                if self.in_flight.as_ref().is_some_and(|asked| asked.id == id) {
                    self.state.commits_refused += 1;
                    tracing::warn!(target: "high-availability", "another server was elected meanwhile: what this one made is dropped");
                    self.term = None;
                    self.give_up(now, server);
                    self.enter(now, Connection::Following(None));
                }
            }
            SharedEvent::CutOff(reason) => self.cut_off(now, reason, server),
        }
        self.advance(now);
    }

    /// The server was given other settings, and forgot the keys if it does not make them.
    pub(super) fn handle_configured(&mut self, now: Instant, agreement: Agreement, server: &mut Server) {
        if self.about.agreement != agreement {
            self.about.agreement = agreement;
            if let Some(shared) = self.connected.shared() {
                shared.introduce(self.about.write());
            }
            self.compare();
        }
        if self.term.is_none() {
            self.follow(now, server);
        }
    }

    pub(super) fn lets_in(&self) -> bool {
        let in_flight = self.in_flight.as_ref().map_or(0, |asked| asked.waiting.len());
        in_flight + self.next.waiting.len() < MOST_WAITING
    }

    pub(super) fn warnings(&self, now: Instant) -> Vec<String> {
        let mut warnings = Vec::new();
        let seconds = (now - self.state.since).as_secs();
        match &self.state.connection {
            Connection::Starting(why) => {
                warnings.push(format!("the key server has no keys: what it shares with others was not read yet: {why}"));
            }
            Connection::CutOff(why) => warnings.push(format!(
                "the key server is cut off from the others for {seconds} s: it gives the keys it has and makes none: {why}"
            )),
            Connection::Following(None) if seconds > 2 * self.lease.as_secs() => {
                warnings.push(format!("no key server makes keys for {seconds} s"));
            }
            Connection::Leading | Connection::Following(_) => {}
        }
        warnings.extend(self.difference_warnings());
        if let Some(ahead) = self.records.clock_ahead_millis.filter(|it| it.abs() > CLOCKS_DIFFER_MILLIS) {
            warnings.push(format!(
                "the clock of another key server is {:.1} s {} ours: one that starts will tell wrong lifetimes",
                ahead.abs() as f64 / 1000.0,
                if ahead > 0 { "ahead of" } else { "behind" }
            ));
        }
        warnings
    }

    /// Waits for the commits that are under way, but not forever.
    pub(super) fn flush(&mut self, now: Instant, server: &mut Server) -> bool {
        let deadline = std::time::Instant::now() + LAST_COMMIT.min(self.lease);
        while self.in_flight.is_some() && std::time::Instant::now() < deadline {
            let event = self.connected.shared.as_mut().and_then(|shared| shared.try_event());
            match event {
                Some(event) => self.handle_event(now, event, server),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        self.in_flight.is_none() && self.epoch.is_some()
    }

    fn loaded(&mut self, now: Instant, epoch: Epoch, records: Vec<(String, Secret)>, server: &mut Server) {
        if let Err(place) = self.records.load(Stamp::now(self.boot), records) {
            return self.part(now, &place, OTHER_VERSION, server);
        }
        self.epoch = Some(epoch);
        self.said_at = None;
        server.set_isolated(false);
        self.enter(now, Connection::Following(None));
        self.look_at_local();
        self.follow(now, server);
        tracing::info!(target: "high-availability", records = self.records.len(), store = self.state.store, "what the servers share was read");
    }

    fn changed(&mut self, now: Instant, changes: &[Change], server: &mut Server) {
        let stamp = Stamp::now(self.boot);
        let mut heard = Vec::with_capacity(changes.len());
        for change in changes {
            match self.records.hear(stamp, &change.place, change.content.as_ref(), self.lease) {
                Ok(record) => heard.push((change.place.clone(), record)),
                Err(()) => return self.part(now, &change.place, OTHER_VERSION, server),
            }
        }
        self.look_at_local();
        if let Err(error) = server.hear(now, &heard) {
            self.part(now, &error.place, &error.error.to_string(), server);
        }
    }

    fn committed(&mut self, now: Instant, id: u64) {
        let Some(asked) = self.in_flight.take_if(|asked| asked.id == id) else { return };
        for change in &asked.changes {
            self.records.wrote(&change.place, change.content.as_ref());
        }
        if self.adopted && self.records.has_keys() {
            self.adopted = false;
            self.local_is_shared();
        }
        self.release(now, asked.waiting);
    }

    fn cut_off(&mut self, now: Instant, reason: String, server: &mut Server) {
        let was_connected = self.epoch.take().is_some();
        server.set_isolated(true);
        if self.term.take().is_some() {
            self.give_up(now, server);
        } else {
            let mut dropped = self.next.take_waiting().len();
            if let Some(asked) = self.in_flight.take() {
                self.next.put_back(asked.changes);
                dropped += asked.waiting.len();
            }
            // It was made by a server that did not know yet how much it had missed.
            if dropped > 0 {
                self.state.dropped += dropped as u64;
                server.forget_unfinished();
            }
        }
        if self.said_at.is_none_or(|said| now - said >= SAY_AGAIN) {
            self.said_at = Some(now);
            tracing::error!(target: "high-availability", %reason, "cut off from the other key servers: this one gives the keys it has and makes none");
        }
        let starting = matches!(self.state.connection, Connection::Starting(_));
        match was_connected || !starting {
            true => {
                self.state.cut_offs += u64::from(was_connected);
                self.enter(now, Connection::CutOff(reason));
            }
            false => self.enter(now, Connection::Starting(reason)),
        }
    }

    /// This server led, and what it has not heard of as taken is as if it had never been.
    fn give_up(&mut self, now: Instant, server: &mut Server) {
        let asked = self.in_flight.take().map(|asked| asked.waiting.len()).unwrap_or_default();
        let next = std::mem::take(&mut self.next).waiting.len();
        let dropped = asked + next;
        self.state.dropped += dropped as u64;
        self.adopted = false;
        if dropped > 0 {
            tracing::warn!(target: "high-availability", datagrams = dropped, "not sent: another server may have gone on without them");
        }
        self.follow(now, server);
    }

    /// The server is what the records say, and what is yet to be written on top of them.
    fn follow(&mut self, now: Instant, server: &mut Server) {
        let in_flight = self.in_flight.iter().flat_map(|asked| &asked.changes);
        let pending: BTreeMap<String, Option<Secret>> =
            in_flight.map(|change| (change.place.clone(), change.content.clone())).collect();
        let pending = pending.iter().chain(&self.next.changes);
        let all = self.records.all(Stamp::now(self.boot), pending);
        if let Err(error) = server.follow(now, &all) {
            self.part(now, &error.place, &error.error.to_string(), server);
        }
    }

    /// A record cannot be understood: this server must not lead, since it does not know what it would go on with. It gives
    /// the keys that it has until it is started anew.
    fn part(&mut self, now: Instant, place: &str, problem: &str, server: &mut Server) {
        if self.connected.shared.take().is_none() {
            return;
        }
        let problem = format!("the shared record `{place}` cannot be used: {problem}");
        tracing::error!(target: "high-availability", problem, "this server leaves the others; it must be upgraded and started anew");
        self.cut_off(now, problem, server);
    }

    /// Asks for the next commit if there is something to write and nothing under way.
    fn advance(&mut self, now: Instant) {
        if self.in_flight.is_some() {
            return;
        }
        let Some(epoch) = self.epoch.filter(|_| !self.next.changes.is_empty()) else {
            let waiting = self.next.take_waiting();
            return self.release(now, waiting);
        };
        let mut changes = self.next.take_changes();
        // What is too much for one transaction is taken in parts: without its keys nobody goes on with a group, while
        // members come again.
        changes.sort_by_key(|change| !change.place.ends_with("/keys"));
        self.last_id += 1;
        let asked = self
            .connected
            .shared()
            .map(|shared| shared.commit(epoch, self.last_id, changes.clone(), self.term));
        if asked != Some(Ok(())) {
            // One commit is asked for at a time, so there is room; without a far end nothing is ever taken.
            return self.next.put_back(changes);
        }
        let waiting = self.next.take_waiting();
        self.in_flight = Some(InFlight { id: self.last_id, changes, waiting });
    }

    fn release(&mut self, now: Instant, waiting: Waiting) {
        let datagrams = waiting.release(now, &mut self.released);
        if datagrams > 0 {
            self.state.dropped += datagrams as u64;
            tracing::warn!(target: "high-availability", datagrams, "not sent: what the servers share took too long");
        }
    }

    fn enter(&mut self, now: Instant, connection: Connection) {
        let same = std::mem::discriminant(&self.state.connection) == std::mem::discriminant(&connection);
        if !same || self.state.since == Instant::ORIGIN {
            self.state.since = now;
        }
        self.state.connection = connection;
    }
}
