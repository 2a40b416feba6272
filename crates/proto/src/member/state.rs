//! Where a VPN of the member stands with its registration. What it holds of keys is another matter ([`super::sa_set`]):
//! unexpired SAs keep working in every state but `Down`.

use std::time::Duration;

use wire::isakmp::MessageId;
use wire::registry::NotifyType;

use crate::phase1::AssociationId;
use crate::policy::Offer;
use crate::pull::OwnNonce;
use crate::time::Instant;

/// The states, without what belongs to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The external interface is down.
    Down,
    /// Phase 1 is being done.
    Connecting,
    /// GROUPKEY-PULL is being done.
    Pulling,
    /// Registered, and nothing to do.
    Registered,
    /// Waiting for the next try.
    Waiting,
}

/// What moves a VPN from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A try begins.
    Begin,
    /// There are keys of before the link was down, or of before a restart.
    Resumed,
    /// There is a phase 1 SA.
    Established,
    /// The keys have come.
    Completed,
    /// The try is over.
    Failed,
    /// The external interface went down, or the VPN is removed.
    InterfaceDown,
}

impl Phase {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Down, Self::Connecting, Self::Pulling, Self::Registered, Self::Waiting];

    /// The state after `trigger`; `None` where it cannot happen.
    pub fn next(self, trigger: Trigger) -> Option<Self> {
        match (self, trigger) {
            (_, Trigger::InterfaceDown) => Some(Self::Down),
            (Self::Down | Self::Registered | Self::Waiting, Trigger::Begin) => Some(Self::Connecting),
            (Self::Down, Trigger::Resumed) => Some(Self::Registered),
            (Self::Connecting, Trigger::Established) => Some(Self::Pulling),
            (Self::Pulling, Trigger::Completed) => Some(Self::Registered),
            (Self::Connecting | Self::Pulling, Trigger::Failed) => Some(Self::Waiting),
            (
                Self::Down | Self::Connecting | Self::Pulling | Self::Registered | Self::Waiting,
                Trigger::Begin
                | Trigger::Resumed
                | Trigger::Established
                | Trigger::Completed
                | Trigger::Failed,
            ) => None,
        }
    }
}

/// A state with what exists in it.
#[derive(Debug)]
pub(super) enum State {
    Down,
    /// `None` for the moment between the decision to begin and the answer of phase 1.
    Connecting(Option<AssociationId>),
    Pulling(Box<Pull>),
    Registered,
    Waiting(Instant),
}

/// A GROUPKEY-PULL in progress.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) association: AssociationId,
    pub(super) id: MessageId,
    /// The phase 1 SA was made for it.
    pub(super) fresh: bool,
    /// When message 1 was first sent: what the server says of times, it says later than this.
    pub(super) started: Instant,
    pub(super) ni: OwnNonce,
    pub(super) awaiting: Awaiting,
    /// A complaint of the server that may have to do with this exchange.
    pub(super) told: Option<NotifyType>,
    /// When the last message is sent again, and how long after that once more.
    pub(super) repeat_at: Instant,
    pub(super) repeat_after: Duration,
}

/// What a GROUPKEY-PULL waits for.
#[derive(Debug)]
pub(super) enum Awaiting {
    Message2,
    Message4 {
        nr: Vec<u8>,
        offer: Box<Offer>,
        /// When message 2 came: what the server says of times, it said before.
        heard: Instant,
    },
}

impl State {
    pub(super) fn phase(&self) -> Phase {
        match self {
            State::Down => Phase::Down,
            State::Connecting(_) => Phase::Connecting,
            State::Pulling(_) => Phase::Pulling,
            State::Registered => Phase::Registered,
            State::Waiting(_) => Phase::Waiting,
        }
    }

    /// Moves on. The table is the specification: a step that it does not have is a defect of ours.
    pub(super) fn step(&mut self, trigger: Trigger, to: State) -> State {
        let expected = self.phase().next(trigger);
        debug_assert_eq!(expected, Some(to.phase()), "{:?} {trigger:?}", self.phase());
        std::mem::replace(self, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_table_is_as_written_here() {
        let triggers = [
            Trigger::Begin,
            Trigger::Resumed,
            Trigger::Established,
            Trigger::Completed,
            Trigger::Failed,
            Trigger::InterfaceDown,
        ];
        let mut table = String::new();
        for from in Phase::ALL {
            for trigger in triggers {
                if let Some(to) = from.next(trigger) {
                    table += &format!("{from:?} --{trigger:?}--> {to:?}\n");
                }
            }
        }
        assert_eq!(
            table,
            "Down --Begin--> Connecting\n\
             Down --Resumed--> Registered\n\
             Down --InterfaceDown--> Down\n\
             Connecting --Established--> Pulling\n\
             Connecting --Failed--> Waiting\n\
             Connecting --InterfaceDown--> Down\n\
             Pulling --Completed--> Registered\n\
             Pulling --Failed--> Waiting\n\
             Pulling --InterfaceDown--> Down\n\
             Registered --Begin--> Connecting\n\
             Registered --InterfaceDown--> Down\n\
             Waiting --Begin--> Connecting\n\
             Waiting --InterfaceDown--> Down\n"
        );
    }
}
