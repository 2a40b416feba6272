//! `clear security group-vpn server [group G] [now]`: done here, or by the server of the cluster that makes the keys.

use std::collections::BTreeSet;
use std::time::Duration;

use control::{EvictedGroup, EvictionReply, Filter};
use proto::server::{Eviction, EvictionError, Standing};
use proto::time::Instant;
use tokio::sync::oneshot;

use super::Daemon;
use super::show::NO_SERVER;
use crate::control_socket::{Refusal, Reply, reply};

/// How long an operator waits for the answer of another server: by then a dead leader has mostly been replaced.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command that another server was asked to do.
pub(super) struct Forwarded {
    number: u64,
    ends: Instant,
    /// Groups of which nothing was heard yet.
    open: BTreeSet<String>,
    outcome: EvictionReply,
    refused: Vec<String>,
    asker: oneshot::Sender<Reply>,
}

impl Daemon {
    /// Replaces the keys of a group, or of all, and tells who asked for it in how long that is done.
    pub(super) fn evict(&mut self, filter: &Filter, asker: oneshot::Sender<Reply>) {
        let now = self.clock.now();
        let follows = self.server.as_ref().is_some_and(|server| server.standing() == Standing::Following);
        let outcome = match follows {
            false => self.evict_here(now, filter),
            true => match self.ask_leader(filter) {
                Ok((_, groups)) if groups.is_empty() => {
                    reply(&EvictionReply { now: filter.now, ..Default::default() })
                }
                Ok((number, groups)) => {
                    let outcome = EvictionReply { now: filter.now, by: None, groups: Vec::new() };
                    let open = groups.into_iter().collect();
                    let ends = now + PATIENCE;
                    let refused = Vec::new();
                    return self.forwarded.push(Forwarded { number, ends, open, outcome, refused, asker });
                }
                Err(refusal) => Err(refusal),
            },
        };
        // The asker may have gone away, here as below.
        let _ = asker.send(outcome);
    }

    /// The server that makes the keys has answered.
    pub(super) fn handle_eviction_answered(
        &mut self,
        number: u64,
        group: String,
        outcome: Result<Duration, EvictionError>,
    ) {
        let Some(position) = self.forwarded.iter().position(|it| it.number == number) else { return };
        let forwarded = &mut self.forwarded[position];
        forwarded.open.remove(&group);
        match outcome {
            Ok(done_in) => forwarded.outcome.groups.push(evicted(group, done_in)),
            Err(error) => forwarded.refused.push(error.to_string()),
        }
        if forwarded.open.is_empty() {
            let mut forwarded = self.forwarded.remove(position);
            forwarded.outcome.by = self.durable.as_ref().and_then(|durable| durable.cluster()?.leader());
            forwarded.answer(None);
        }
    }

    /// Another server takes the place of the one that asked: it would not know the answer for one of its own questions.
    pub(super) fn abandon_evictions(&mut self) {
        for forwarded in self.forwarded.drain(..) {
            forwarded.answer(Some("the key server was configured anew before an answer came".to_owned()));
        }
    }

    /// Answers who has waited for long enough.
    pub(super) fn give_up_evictions(&mut self, now: Instant) {
        for forwarded in self.forwarded.extract_if(.., |it| it.ends <= now) {
            let groups: Vec<&str> = forwarded.open.iter().map(String::as_str).collect();
            let problem = format!(
                "group {}: no answer from the server that makes the keys within {} s; it is on record among the servers \
                 unless this one was cut off meanwhile, and whoever makes the keys next does it: see `show security \
                 group-vpn server server-cluster`, and `statistics` for how far it is",
                groups.join(" "),
                PATIENCE.as_secs()
            );
            forwarded.answer(Some(problem));
        }
    }

    fn evict_here(&mut self, now: Instant, filter: &Filter) -> Reply {
        let silent = self.durable.as_ref().filter(|durable| !durable.lets_in());
        if let Some(durable) = silent {
            let busy = || "the state of the key server waits for the disk; try again".to_owned();
            return Err(Refusal::internal(durable.warnings(now).into_iter().next().unwrap_or_else(busy)));
        }
        let named = self.named_group(filter)?;
        let server = self.server.as_mut().ok_or_else(|| Refusal::not_found(NO_SERVER))?;
        let notices =
            server.evict(now, named.as_deref(), eviction(filter)).map_err(|error| refusal(&error))?;
        let groups = notices.into_iter().map(|notice| evicted(notice.group, notice.done_in)).collect();
        reply(&EvictionReply { now: filter.now, by: None, groups })
    }

    /// Returns the number of the question, and the groups that it is about.
    fn ask_leader(&mut self, filter: &Filter) -> Result<(u64, Vec<String>), Refusal> {
        let named = self.named_group(filter)?;
        let server = self.server.as_mut().ok_or_else(|| Refusal::not_found(NO_SERVER))?;
        let asked = server.forward_eviction(named.as_deref(), eviction(filter));
        let asked = asked.map_err(|error| refusal(&error))?;
        Ok((asked.number, asked.groups))
    }

    /// The group that a filter names, by name or number.
    fn named_group(&self, filter: &Filter) -> Result<Option<String>, Refusal> {
        let Some(id) = filter.group_id else { return Ok(filter.group.clone()) };
        let group = self.active.model.server.as_ref().and_then(|server| server.group_by_id(id));
        let group = group.ok_or_else(|| Refusal::not_found(format!("no group has the number {id}")))?;
        if filter.group.as_ref().is_some_and(|name| *name != group.name) {
            return Err(Refusal::bad_request(format!("group {} has the number {id}", group.name)));
        }
        Ok(Some(group.name.clone()))
    }
}

impl Forwarded {
    /// When the answer is waited for no longer.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    fn answer(mut self, problem: Option<String>) {
        let problems: Vec<String> = self.refused.drain(..).chain(problem).collect();
        let answer = if problems.is_empty() {
            reply(&self.outcome)
        } else {
            let done = self.outcome.groups.iter().map(|group| format!("group {}: done", group.group));
            let all: Vec<String> = problems.into_iter().chain(done).collect();
            Err(Refusal::internal(all.join("; ")))
        };
        let _ = self.asker.send(answer);
    }
}

fn eviction(filter: &Filter) -> Eviction {
    if filter.now { Eviction::Now } else { Eviction::Graceful }
}

fn evicted(group: String, done_in: Duration) -> EvictedGroup {
    EvictedGroup { group, done_in_millis: u64::try_from(done_in.as_millis()).unwrap_or(u64::MAX) }
}

fn refusal(error: &EvictionError) -> Refusal {
    match error {
        EvictionError::UnknownGroup(_) => Refusal::not_found(error.to_string()),
        EvictionError::Pulls(_) => Refusal::bad_request(error.to_string()),
        EvictionError::Follows | EvictionError::CutOff => Refusal::internal(error.to_string()),
    }
}
