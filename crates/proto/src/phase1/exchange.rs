//! The unfinished phase 1 exchange: which states there are and what a step leads to.

use std::sync::Arc;

use crypto::Random;
use wire::isakmp::Message;
use wire::registry::{Doi, ExchangeType};

use super::association::Side;
use super::directory::Directory;
use super::event::Failure;
use super::frame::Cookies;
use super::keys::{Iv, Keys};
use super::proof::Proven;
use super::refusal::Refusal;
use super::settings::{Gateway, Mode};
use super::{aggressive_mode, main_mode};
use crate::path::Path;

/// What a state may use besides itself and the message.
pub(super) struct Context<'a> {
    pub(super) random: &'a mut dyn Random,
    pub(super) directory: &'a Directory,
    /// The configured vendor ids.
    pub(super) vendor_ids: &'a [Vec<u8>],
    pub(super) path: Path,
    /// The cookies of the exchange, the responder's included.
    pub(super) cookies: Cookies,
    /// Whether we know no other SA with this peer.
    pub(super) initial_contact: bool,
}

/// An unfinished exchange, named after the last message that was sent.
#[derive(Debug)]
pub(super) enum State {
    MainInitiator1(main_mode::SentOffer),
    MainInitiator3(Box<main_mode::SentKeyExchange>),
    MainInitiator5(Box<main_mode::SentHash>),
    MainResponder2(main_mode::SentChoice),
    MainResponder4(Box<main_mode::AnsweredKeyExchange>),
    AggressiveInitiator1(Box<aggressive_mode::SentOffer>),
    AggressiveResponder2(Box<aggressive_mode::SentHash>),
}

/// What a message leads to.
#[derive(Debug)]
pub(super) enum Step {
    /// To the next state, and this message to send.
    Next(State, Vec<u8>),
    /// To an SA; the last message is still to be sent where it is ours.
    Done(Box<Proven>, Option<Vec<u8>>),
}

/// Starts an exchange with `gateway`; returns its first message.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    doi: Doi,
    context: &mut Context<'_>,
) -> Result<(State, Vec<u8>), Refusal> {
    match gateway.mode {
        Mode::Main => {
            let (state, message) = main_mode::start(gateway, doi, context)?;
            Ok((State::MainInitiator1(state), message))
        }
        Mode::Aggressive => {
            let (state, message) = aggressive_mode::start(gateway, doi, context)?;
            Ok((State::AggressiveInitiator1(Box::new(state)), message))
        }
    }
}

/// Takes the first message of a peer.
pub(super) fn respond(context: &mut Context<'_>, mode: Mode, message: &Message<'_>) -> Result<Step, Refusal> {
    match mode {
        Mode::Main => main_mode::respond(context, message),
        Mode::Aggressive => aggressive_mode::respond(context, message),
    }
}

impl State {
    /// Takes the next message of the exchange. A message that is refused changes nothing.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        match self {
            Self::MainInitiator1(state) => state.handle(context, message),
            Self::MainInitiator3(state) => state.handle(context, message),
            Self::MainInitiator5(state) => state.handle(context, message),
            Self::MainResponder2(state) => state.handle(context, message),
            Self::MainResponder4(state) => state.handle(context, message),
            Self::AggressiveInitiator1(state) => state.handle(context, message),
            Self::AggressiveResponder2(state) => state.handle(context, message),
        }
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        match self {
            Self::MainInitiator1(state) => &state.gateway,
            Self::MainInitiator3(state) => &state.gateway,
            Self::MainInitiator5(state) => &state.gateway,
            Self::MainResponder2(state) => &state.gateway,
            Self::MainResponder4(state) => &state.gateway,
            Self::AggressiveInitiator1(state) => &state.gateway,
            Self::AggressiveResponder2(state) => &state.gateway,
        }
    }

    pub(super) fn doi(&self) -> Doi {
        match self {
            Self::MainInitiator1(state) => state.doi,
            Self::MainInitiator3(state) => state.doi,
            Self::MainInitiator5(state) => state.doi,
            Self::MainResponder2(state) => state.doi,
            Self::MainResponder4(state) => state.doi,
            Self::AggressiveInitiator1(state) => state.doi,
            Self::AggressiveResponder2(state) => state.doi,
        }
    }

    pub(super) fn side(&self) -> Side {
        match self {
            Self::MainInitiator1(_)
            | Self::MainInitiator3(_)
            | Self::MainInitiator5(_)
            | Self::AggressiveInitiator1(_) => Side::Initiator,
            Self::MainResponder2(_) | Self::MainResponder4(_) | Self::AggressiveResponder2(_) => {
                Side::Responder
            }
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::MainInitiator1(_)
            | Self::MainInitiator3(_)
            | Self::MainInitiator5(_)
            | Self::MainResponder2(_)
            | Self::MainResponder4(_) => Mode::Main,
            Self::AggressiveInitiator1(_) | Self::AggressiveResponder2(_) => Mode::Aggressive,
        }
    }

    /// Whether nothing has been received in this exchange yet.
    pub(super) fn is_first(&self) -> bool {
        matches!(self, Self::MainInitiator1(_) | Self::AggressiveInitiator1(_))
    }

    /// Whether we are the one who sends again when nothing comes.
    ///
    /// In main mode the initiator does: every message of the responder is an answer, and is repeated when the question
    /// is. In aggressive mode the last message has no answer, so the responder repeats its own until it arrives.
    pub(super) fn repeats(&self) -> bool {
        self.side() == Side::Initiator || matches!(self, Self::AggressiveResponder2(_))
    }

    /// What it means if nothing more comes.
    pub(super) fn silence(&self) -> Failure {
        if self.is_first() { Failure::NoAnswer } else { Failure::TimedOut }
    }

    /// Keys and IV chain of an exchange that waits for the last message: an informational message may come instead.
    pub(super) fn keys(&self) -> Option<(&Keys, &Iv)> {
        match self {
            Self::MainInitiator5(state) => Some((&state.proof.keys, &state.iv)),
            _ => None,
        }
    }
}

impl Mode {
    pub(super) fn exchange(self) -> ExchangeType {
        match self {
            Self::Main => ExchangeType::IDENTITY_PROTECTION,
            Self::Aggressive => ExchangeType::AGGRESSIVE,
        }
    }

    pub(super) fn of(exchange: ExchangeType) -> Option<Self> {
        match exchange {
            ExchangeType::IDENTITY_PROTECTION => Some(Self::Main),
            ExchangeType::AGGRESSIVE => Some(Self::Aggressive),
            _ => None,
        }
    }
}
