//! What the endpoint does with established SAs: informational messages, dead peers, the end.

use crypto::Digest;
use wire::isakmp::{Delete, Message, MessageId, Notification, PayloadChain, Payloads};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType, ProtocolId};

use super::endpoint::Endpoint;
use super::event::{AssociationId, CloseReason, Event, Outcome, Phase2Error};
use super::frame::{Cookies, has_correct_flags};
use super::liveness::{Due, Question};
use super::phase2::Place;
use super::refusal::bare_notification;
use super::settings::Mode;
use crate::log::{Entry, Facility, Level};
use crate::path::Path;
use crate::time::Instant;

impl Endpoint {
    /// Takes a message of an established SA.
    pub(super) fn handle_established(
        &mut self,
        now: Instant,
        id: AssociationId,
        path: Path,
        message: &Message<'_>,
        digest: Digest,
    ) -> Outcome {
        let Some(sa) = self.associations.get_mut(&id) else {
            return Outcome::Handled;
        };
        let header = &message.header;
        if sa.path.remote != path.remote {
            self.drop_message(now, path, "it comes from another address than its SA");
            return Outcome::Handled;
        }
        if Mode::of(header.exchange).is_some() {
            if let Some(answer) = sa.last_answer(now, &digest).map(<[u8]>::to_vec) {
                let marker = sa.non_esp_marker();
                self.transmit(path, marker, &answer);
            }
            return Outcome::Handled;
        }
        if !message.is_encrypted() || header.message_id == MessageId::PHASE_ONE {
            if is_invalid_cookie(message) {
                self.push(Event::PerhapsForgotten { association: id });
            }
            self.drop_message(now, path, "it is not protected by its SA");
            return Outcome::Handled;
        }
        if !has_correct_flags(header) {
            self.drop_message(now, path, "its flags mean nothing here");
            return Outcome::Handled;
        }
        match header.exchange {
            ExchangeType::INFORMATIONAL => self.handle_informational(now, id, message),
            // Also Quick Mode, which has the same number.
            ExchangeType::GROUPKEY_PULL => match sa.exchanges.place(header.message_id, &digest) {
                Place::Next => match sa.open_phase2(message, digest) {
                    Some(opened) => return Outcome::Phase2(opened),
                    None => self.drop_message(now, path, "it does not decrypt"),
                },
                Place::Repeated(answer) => {
                    let answer = answer.to_vec();
                    self.send_protected(now, id, answer);
                }
                Place::Unwanted => self.drop_message(now, path, "its message id is used up"),
            },
            _ => {
                self.drop_message(now, path, "its exchange type is unknown");
                if self.may_refuse(now) {
                    let doi = self.associations.get(&id).map_or(Doi::ISAKMP, |sa| sa.doi());
                    let chain = bare_notification(doi, NotifyType::INVALID_EXCHANGE_TYPE);
                    let _ = self.send_informational(now, id, &chain);
                }
            }
        }
        Outcome::Handled
    }

    /// Sends HASH(1) and `payloads` under an SA, once.
    pub(super) fn send_informational(
        &mut self,
        now: Instant,
        id: AssociationId,
        payloads: &PayloadChain,
    ) -> Result<(), Phase2Error> {
        let sa = self.associations.get_mut(&id).ok_or(Phase2Error::NoAssociation)?;
        let message = sa.seal_informational(payloads).map_err(|_| Phase2Error::TooLong)?;
        self.send_protected(now, id, message);
        Ok(())
    }

    /// Queues an encrypted message; the SA ends if it has protected as much as it may.
    pub(super) fn send_protected(&mut self, now: Instant, id: AssociationId, message: Vec<u8>) {
        let Some(sa) = self.associations.get_mut(&id) else {
            return;
        };
        let (path, marker) = (sa.path, sa.non_esp_marker());
        let lives = sa.spend(message.len());
        self.transmit(path, marker, &message);
        if lives {
            self.schedule(id);
        } else {
            self.close(now, id, CloseReason::LifetimeExpired);
        }
    }

    fn handle_informational(&mut self, now: Instant, id: AssociationId, message: &Message<'_>) {
        let Some(sa) = self.associations.get_mut(&id) else {
            return;
        };
        let path = sa.path;
        let Some(clear) = sa.open_informational(message) else {
            return self.drop_message(now, path, "its hash does not verify");
        };
        let Ok(payloads) = Payloads::parse_decrypted(message.header.next_payload, &clear) else {
            return;
        };
        if !sa.spend(clear.len()) {
            return self.close(now, id, CloseReason::LifetimeExpired);
        }
        let new = sa.is_notice_new(message.header.message_id);
        for payload in payloads.iter() {
            match payload.kind {
                PayloadType::NOTIFICATION => match payload.parse::<Notification<'_>>() {
                    // Questions for life have numbers of their own, and may be repeated as they are.
                    Ok(notification) if !new && notification.kind != NotifyType::R_U_THERE => {}
                    Ok(notification) => self.handle_notification(now, id, notification),
                    Err(_) => self.drop_message(now, path, "malformed notification"),
                },
                PayloadType::DELETE => match payload.parse::<Delete<'_>>() {
                    Ok(deletion) => self.handle_deletion(now, id, &deletion),
                    Err(_) => self.drop_message(now, path, "malformed deletion"),
                },
                _ => {}
            }
        }
        self.schedule(id);
    }

    fn handle_notification(&mut self, now: Instant, id: AssociationId, notification: Notification<'_>) {
        let Some(sa) = self.associations.get_mut(&id) else {
            return;
        };
        let (path, spi) = (sa.path, sa.cookies().spi());
        let data = notification.data.first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets));
        //= https://www.rfc-editor.org/rfc/rfc3706#section-6.1
        //# Additionally, both the receiver of the R-U-THERE and the R-U-THERE-
        //# ACK message SHOULD check the validity of the Initiator and Responder
        //# cookies presented in the SPI field of the payload.
        let ours = notification.spi.is_empty() || *notification.spi == spi;
        match (notification.kind, data) {
            (NotifyType::R_U_THERE, Some(sequence)) if ours && notification.data.len() == 4 => {
                match sa.liveness.judge_question(sequence) {
                    Question::New => sa.liveness.heard(now),
                    Question::Repeated => {}
                    Question::Old => return self.drop_message(now, path, "R-U-THERE goes back"),
                }
                //= https://www.rfc-editor.org/rfc/rfc3706#section-5.2
                //# An entity that has sent the DPD Vendor ID MUST respond to an R-U-
                //# THERE query.
                let chain = liveness_notification(NotifyType::R_U_THERE_ACK, spi, sequence);
                let _ = self.send_informational(now, id, &chain);
            }
            (NotifyType::R_U_THERE_ACK, Some(sequence)) if ours => {
                if sa.liveness.is_answer(sequence) {
                    sa.liveness.heard(now);
                }
            }
            (NotifyType::R_U_THERE | NotifyType::R_U_THERE_ACK, _) => {
                self.drop_message(now, path, "malformed dead peer detection");
            }
            _ => {
                let entry = Entry::new(Level::Debug, Facility::Ike, "notified by the peer");
                self.log(now, entry.with("peer", path.remote).with("notify", notification.kind));
                let notification = Notification {
                    spi: notification.spi.into_owned().into(),
                    data: notification.data.into_owned().into(),
                    ..notification
                };
                self.push(Event::Notified { association: id, notification });
            }
        }
    }

    fn handle_deletion(&mut self, now: Instant, id: AssociationId, deletion: &Delete<'_>) {
        if deletion.protocol != ProtocolId::ISAKMP.0 || deletion.spi_size != 16 {
            return self.push(Event::Deleted { association: id, deletion: deletion.clone().into_owned() });
        }
        let Some(gateway) = self.associations.get(&id).map(|sa| sa.gateway().to_owned()) else {
            return;
        };
        let named: Vec<AssociationId> = deletion
            .spis()
            .filter_map(Cookies::from_spi)
            .filter_map(|cookies| self.lookup(cookies))
            .collect();
        for named in named {
            // A peer may delete its older SAs under its newest one, but nobody else's.
            if self.associations.get(&named).is_some_and(|sa| sa.gateway() == gateway) {
                self.close(now, named, CloseReason::DeletedByPeer);
            }
        }
    }

    pub(super) fn time_out_established(&mut self, now: Instant, id: AssociationId) {
        let Some(sa) = self.associations.get_mut(&id) else {
            return;
        };
        if now >= sa.expires_at() {
            return self.close(now, id, CloseReason::LifetimeExpired);
        }
        sa.exchanges.forget(now);
        let spi = sa.cookies().spi();
        match sa.liveness.handle_timeout(now) {
            Due::Nothing => {}
            Due::Ask(sequence) => {
                let chain = liveness_notification(NotifyType::R_U_THERE, spi, sequence);
                let _ = self.send_informational(now, id, &chain);
            }
            Due::Dead => self.close(now, id, CloseReason::PeerDead),
        }
    }

    /// Ends an SA; does nothing if there is none of that name. The peer is told unless it knows or cannot hear.
    pub(super) fn close(&mut self, now: Instant, id: AssociationId, reason: CloseReason) {
        let Some(mut sa) = self.associations.remove(&id) else {
            return;
        };
        let (path, gateway) = (sa.path, sa.gateway().to_owned());
        let tell = match reason {
            CloseReason::LifetimeExpired
            | CloseReason::Deleted
            | CloseReason::Reconfigured
            | CloseReason::Exhausted => true,
            CloseReason::DeletedByPeer
            | CloseReason::PeerDead
            | CloseReason::Superseded
            | CloseReason::AddressGone => false,
        };
        if tell && let Ok(message) = sa.seal_informational(&deletion(sa.cookies())) {
            self.transmit(path, sa.non_esp_marker(), &message);
        }
        self.unindex(sa.cookies(), path.remote, id);
        self.by_peer.remove(&(gateway.clone(), path.remote.ip(), id));
        self.schedule(id);
        let level = if reason == CloseReason::PeerDead { Level::Warn } else { Level::Info };
        let entry = Entry::new(level, Facility::Ike, "phase 1 closed");
        self.log(now, entry.with("gateway", &gateway).with("peer", path.remote).with("reason", reason));
        self.push(Event::Closed { association: id, gateway, reason });
    }

    fn drop_message(&mut self, now: Instant, path: Path, reason: &'static str) {
        let entry = Entry::new(Level::Debug, Facility::Ike, "message dropped");
        self.log(now, entry.with("peer", path.remote).with("reason", reason));
    }
}

/// Whether somebody says, in clear, that he does not know our SA.
fn is_invalid_cookie(message: &Message<'_>) -> bool {
    let is_it = |payloads: Payloads<'_>| {
        payloads.iter().any(|payload| {
            payload.kind == PayloadType::NOTIFICATION
                && payload.parse::<Notification<'_>>().is_ok_and(|it| it.kind == NotifyType::INVALID_COOKIE)
        })
    };
    message.header.exchange == ExchangeType::INFORMATIONAL && message.payloads().is_ok_and(is_it)
}

/// The Delete payload for a phase 1 SA.
pub(super) fn deletion(cookies: Cookies) -> PayloadChain {
    let deletion = Delete::new(Doi::ISAKMP, ProtocolId::ISAKMP, 16).with_spi(&cookies.spi());
    let mut chain = PayloadChain::new();
    chain.push(&deletion).expect("24 octets fit a payload");
    chain
}

//= https://www.rfc-editor.org/rfc/rfc3706#section-5.3
//# -  Domain of Interpretation (4 octets) - SHOULD be set to IPSEC-DOI.
fn liveness_notification(kind: NotifyType, spi: [u8; 16], sequence: u32) -> PayloadChain {
    let notification = Notification {
        doi: Doi::IPSEC,
        protocol: ProtocolId::ISAKMP,
        spi: spi.to_vec().into(),
        kind,
        data: sequence.to_be_bytes().to_vec().into(),
    };
    let mut chain = PayloadChain::new();
    chain.push(&notification).expect("32 octets fit a payload");
    chain
}
