//! Records shared by cooperating servers through etcd: every server reads all, one at a time leads.
//!
//! ```text
//!   PREFIX/about/schema      number of the layout, in clear
//!   PREFIX/about/seal        a sealed constant: a wrong cluster key is recognized before any record is touched
//!   PREFIX/leader            name of the leader; bound to its lease, so it goes when the leader falls silent
//!   PREFIX/server/NAME       what a server says of itself, sealed; bound to its lease too, and there once: a second server of
//!                            that name is told so and stays outside
//!   PREFIX/record/PLACE      sealed content
//! ```
//!
//! [`Shared`] is the near end of a task that talks with one etcd endpoint at a time and goes on to the next when that one
//! fails or has no majority behind it. What it tells, in this order within one connection:
//!
//! ```text
//!   Loaded ──▶ Changed, Leading, Following, Committed, Refused ... ──▶ CutOff ──▶ Loaded ...
//! ```
//!
//! A change of the leader is fenced: etcd takes it only while the leader's key is still the one of its election. A leader
//! that slept past its lease finds its changes refused, whatever its own clock says. After `CutOff` nobody knows whether
//! the last commits were taken; whatever waits for one must be given up, and `Loaded` tells what is.

mod election;
mod records;
mod session;

use std::time::Duration;

use crypto::{Random, SealingKey, Secret};
use tokio::sync::{mpsc, watch};

use crate::Change;

/// Changes that may wait for etcd; a daemon that has more is told to wait.
const REQUESTS: usize = 1024;

/// Events that may wait for the daemon.
const EVENTS: usize = 1024;

/// How to reach the shared store, and as whom.
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// URLs of etcd's members, asked in this order.
    pub endpoints: Vec<String>,
    /// First part of every key. Clusters with different prefixes do not see each other.
    pub prefix: String,
    /// This server's name, unique in the cluster, as the others show it.
    pub name: String,
    /// Whether this server would rather lead.
    pub preference: Preference,
    /// What no other server has and every life of this one: its new life need not wait for the lease of one that was killed.
    /// `None`: it waits. At most 255 octets count.
    pub identity: Option<Vec<u8>>,
    /// What this server tells the others of itself at first.
    pub about: Secret,
    /// How long the others wait for a silent leader; whole seconds, at least two.
    pub lease: Duration,
    /// Longest wait between two attempts to connect.
    pub longest_wait: Duration,
    /// TLS to etcd; `None` speaks in clear (records are sealed all the same).
    pub tls: Option<Tls>,
    /// User and password at etcd.
    pub user: Option<(String, Secret)>,
    /// The cluster key.
    pub key: SealingKey,
}

/// Who leads if several could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// `root-server`: stands for election at once.
    #[default]
    Root,
    /// `sub-server`: leaves the roots half a lease of time to be elected first.
    Sub,
}

/// Certificates, PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities that sign etcd's certificates; empty: those of the system.
    pub authorities: Vec<u8>,
    /// Our own certificate and its private key, where etcd asks for one.
    pub own: Option<(Vec<u8>, Secret)>,
}

/// An election that was won: its number at etcd. No two elections have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub(crate) i64);

/// A connection: changes that were asked for under an earlier one are not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch(pub(crate) u64);

/// What the store tells.
#[derive(Debug)]
pub enum SharedEvent {
    /// Connected. These are all records; whatever was known before is void.
    Loaded {
        /// Names this connection in [`Shared::commit`].
        epoch: Epoch,
        /// Places and contents, in order.
        records: Vec<(String, Secret)>,
    },
    /// Another server changed records, in this order.
    Changed(Vec<Change>),
    /// The servers that are connected, with what each says of itself: all of them, and ourselves, by name.
    Servers(Vec<(String, Secret)>),
    /// We lead, and know everything that was committed before: only our fenced changes are taken, until [`SharedEvent::Following`] or [`SharedEvent::CutOff`].
    Leading(Term),
    /// We do not lead; the name is the leader's, if there is one.
    Following(Option<String>),
    /// A commit is durable at etcd's majority.
    Committed(u64),
    /// A fenced commit came too late: another leads. Nothing of it was taken.
    Refused(u64),
    /// The connection is gone, or etcd has no majority. Nothing is known of the commits under way.
    CutOff(String),
}

/// The near end of the shared store.
#[derive(Debug)]
pub struct Shared {
    requests: mpsc::Sender<Request>,
    events: mpsc::Receiver<SharedEvent>,
    about: watch::Sender<Secret>,
}

#[derive(Debug)]
struct Request {
    epoch: Epoch,
    id: u64,
    changes: Vec<Change>,
    fence: Option<Term>,
}

/// There are more changes waiting for etcd than it is given at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared store takes no more changes at the moment")]
pub struct Busy;

impl Shared {
    /// Starts to connect, on the present tokio runtime. Ends when it is dropped; the lease is then given back.
    pub fn start(settings: SharedSettings, random: Box<dyn Random + Send>) -> Self {
        let (shared, far_end) = Self::new(settings, random);
        tokio::spawn(far_end);
        shared
    }

    /// The near end, and what must run on a tokio runtime, be it another one. That ends when the near end is dropped.
    pub fn new(
        settings: SharedSettings,
        random: Box<dyn Random + Send>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (tell, events) = mpsc::channel(EVENTS);
        let (about, said) = watch::channel(settings.about.clone());
        (Self { requests, events, about }, session::run(settings, random, asked, tell, said))
    }

    /// From now on this server says `about` of itself.
    pub fn introduce(&self, about: Secret) {
        self.about.send_replace(about);
    }

    /// Asks for `changes` under `id`, which comes back in [`SharedEvent::Committed`] or [`SharedEvent::Refused`], or never
    /// if the connection of `epoch` is over. With `fence`, only while that election stands.
    ///
    /// Up to 100 changes are taken as a whole or not at all; more are taken in such parts, in order.
    pub fn commit(
        &self,
        epoch: Epoch,
        id: u64,
        changes: Vec<Change>,
        fence: Option<Term>,
    ) -> Result<(), Busy> {
        self.requests.try_send(Request { epoch, id, changes, fence }).map_err(|_| Busy)
    }

    /// The next event, if there is one already.
    pub fn try_event(&mut self) -> Option<SharedEvent> {
        self.events.try_recv().ok()
    }

    /// The next event; `None` never comes while this end exists, unless the runtime shuts down. Cancel-safe.
    pub async fn event(&mut self) -> Option<SharedEvent> {
        self.events.recv().await
    }
}
