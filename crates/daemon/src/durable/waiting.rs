//! What the server sends, while it waits for what it depends on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crypto::Secret;
use proto::Role as _;
use proto::path::Path;
use proto::server::{PushBatch, Server};
use proto::time::Instant;
use store::Change;

use super::stamp::Stamp;

/// What waited longer is not sent any more, as if the network had lost it: it tells times that count from when it was made.
const OUTDATED: Duration = Duration::from_secs(3);

/// Datagrams that may wait. A server that answers 10,000 of them in a second has so many while a disk takes more than one;
/// what comes beyond that is not heard.
pub(super) const MOST_WAITING: usize = 16_384;

/// Something that the server sends.
#[derive(Debug)]
pub enum Output {
    /// To one peer.
    Datagram(Path, Vec<u8>),
    /// To many.
    Push(PushBatch),
}

/// Outputs, and when the first of them was made.
#[derive(Default)]
pub(super) struct Waiting {
    outputs: VecDeque<Output>,
    since: Option<Instant>,
}

impl Waiting {
    /// Takes everything that the server has to send.
    fn collect(&mut self, now: Instant, server: &mut Server, buffer: &mut Vec<u8>) {
        let before = self.outputs.len();
        while let Some(path) = server.poll_transmit(buffer) {
            self.outputs.push_back(Output::Datagram(path, buffer.clone()));
        }
        while let Some(batch) = server.poll_push() {
            self.outputs.push_back(Output::Push(batch));
        }
        if self.outputs.len() > before {
            self.since.get_or_insert(now);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Puts what was made later behind.
    pub(super) fn append(&mut self, mut later: Waiting) {
        self.outputs.append(&mut later.outputs);
        self.since = self.since.or(later.since);
    }

    /// Lets everything go, unless it waited for too long. Returns how much that was.
    pub(super) fn release(mut self, now: Instant, released: &mut VecDeque<Output>) -> usize {
        if self.since.is_some_and(|since| now - since > OUTDATED) {
            return self.outputs.len();
        }
        released.append(&mut self.outputs);
        0
    }
}

/// What is gathered for the next commit: what is to be kept, and what waits for that.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) waiting: Waiting,
    /// Contents by place; `None` removes a record.
    pub(super) changes: BTreeMap<String, Option<Secret>>,
}

impl Gathered {
    /// Takes everything that the server has to send and to keep. `boot` is the present run of the kernel.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        boot: Option<[u8; 16]>,
        server: &mut Server,
        buffer: &mut Vec<u8>,
    ) {
        self.waiting.collect(now, server, buffer);
        let changes = server.take_changes(now);
        if !changes.is_empty() {
            Stamp::now(boot).gather(changes, &mut self.changes);
        }
    }

    /// What the next commit is to write.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let changes = std::mem::take(&mut self.changes).into_iter();
        changes.map(|(place, content)| Change { place, content }).collect()
    }

    /// What waits for the next commit.
    pub(super) fn take_waiting(&mut self) -> Waiting {
        std::mem::take(&mut self.waiting)
    }

    /// Takes back what was not written. What came later is newer.
    pub(super) fn put_back(&mut self, changes: Vec<Change>) {
        for Change { place, content } in changes {
            self.changes.entry(place).or_insert(content);
        }
    }
}
