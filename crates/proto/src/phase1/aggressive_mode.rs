//! Aggressive mode with a pre-shared key (RFC 2409 section 5.4), both sides.
//!
//! ```text
//!   Initiator                               Responder
//!   HDR, SA, KE, Ni, IDii, [ VID ]     -->
//!                                      <--  HDR, SA, KE, Nr, IDir, HASH_R, [ VID ]
//!   HDR*, HASH_I, [ N ]                -->
//! ```
//!
//! The group cannot be negotiated: the initiator offers only the proposals that have the group of its first one. The
//! key is chosen by the identity in message 1. We encrypt message 3 and take it encrypted or in clear; after a clear
//! one the first IVs of phase 2 come from hash(g^xi | g^xr) as if it were the last block.

use std::sync::Arc;

use crypto::DhSecret;
use wire::isakmp::{self, Identification, Identity, Message, MessageId, PayloadChain};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType};

use super::authentication::{
    announces_initial_contact, expect_identity, fresh, key_exchange_and_nonce, local_identification,
    peer_identity, required, security_association, shared_secret, verify_hash,
};
use super::exchange::{Context, State, Step};
use super::frame::{clear_payloads, known_payloads};
use super::negotiation::{self, Agreed};
use super::proof::{Nonces, Proof, Proven, decrypted};
use super::refusal::{Authenticated, Refusal};
use super::settings::{Gateway, Mode, Proposal};
use super::vendor::{PeerVendorIds, announce};

const EXCHANGE: ExchangeType = ExchangeType::AGGRESSIVE;

/// Initiator after message 1.
#[derive(Debug)]
pub(super) struct SentOffer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    sa_i_b: Vec<u8>,
    offered: Vec<Proposal>,
    ours: DhSecret,
    nonce_i: Vec<u8>,
    local_identity: Identity<'static>,
}

/// Responder after message 2.
#[derive(Debug)]
pub(super) struct SentHash {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    agreed: Agreed,
    proof: Proof,
    /// IDii_b as it came.
    id_ii_b: Vec<u8>,
    local_identity: Identity<'static>,
    peer_identity: Identity<'static>,
    vendor_ids: PeerVendorIds,
}

/// Message 1.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    doi: Doi,
    context: &mut Context<'_>,
) -> Result<(SentOffer, Vec<u8>), Refusal> {
    let Some(group) = gateway.proposals.first().map(|proposal| proposal.group) else {
        return Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no proposal is configured"));
    };
    //= https://www.rfc-editor.org/rfc/rfc2409#section-5
    //# Due
    //# to message construction requirements the group in which the Diffie-
    //# Hellman exchange is performed cannot be negotiated.
    let offered: Vec<Proposal> =
        gateway.proposals.iter().filter(|proposal| proposal.group == group).copied().collect();
    let sa_i_b = negotiation::offer(doi, offered.iter())?;
    let identification = local_identification(gateway, &context.path)?;
    let (ours, nonce_i) = fresh(context.random, group)?;
    let mut chain = first_payloads(&sa_i_b, &ours, &nonce_i)?;
    chain.push(&identification)?;
    announce(&mut chain, context.vendor_ids)?;
    let message = context.cookies.clear(EXCHANGE, MessageId::PHASE_ONE, &chain)?;
    let local_identity = identification.identity;
    let state = SentOffer { gateway: gateway.clone(), doi, sa_i_b, offered, ours, nonce_i, local_identity };
    Ok((state, message))
}

/// Takes message 1, answers with message 2.
pub(super) fn respond(context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
    let payloads = clear_payloads(message)?;
    let sa_i_b = security_association(&payloads)?;
    let offered = negotiation::parse(sa_i_b)?;
    let id_ii = required(&payloads, PayloadType::IDENTIFICATION, "no ID payload")?;
    let peer_identity = peer_identity(id_ii)?;
    let mut refusal =
        match context.directory.candidates(&context.path).any(|gateway| gateway.mode == Mode::Main) {
            true => Refusal::new(NotifyType::INVALID_EXCHANGE_TYPE, "the gateway expects main mode"),
            false => Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no gateway is configured for this peer"),
        };
    let mut chosen = None;
    for gateway in context.directory.identified(&context.path, Mode::Aggressive, &peer_identity) {
        match negotiation::choose(&offered, &gateway.proposals) {
            Ok((agreed, answer)) => {
                chosen = Some((gateway.clone(), agreed, answer));
                break;
            }
            Err(error) => refusal = error,
        }
    }
    let Some((gateway, agreed, answer)) = chosen else {
        return Err(refusal);
    };
    let (g_xi, nonce_i) = key_exchange_and_nonce(&payloads, agreed.suite.group.public_len())?;
    let (ours, nonce_r) = fresh(context.random, agreed.suite.group)?;
    let shared = shared_secret(&ours, g_xi)?;
    let nonces = Nonces { initiator: nonce_i, responder: &nonce_r };
    let public = [g_xi, ours.public()];
    let proof = Proof::new(&gateway, &agreed, context.cookies, nonces, &shared, public, sa_i_b)?;
    let identification = local_identification(&gateway, &context.path)?;
    let mut chain = first_payloads(&answer, &ours, &nonce_r)?;
    chain.append(&proof.identify_responder(&identification)?);
    announce(&mut chain, context.vendor_ids)?;
    let reply = context.cookies.clear(EXCHANGE, MessageId::PHASE_ONE, &chain)?;
    let state = SentHash {
        gateway,
        doi: offered.doi,
        agreed,
        proof,
        id_ii_b: id_ii.body().to_vec(),
        local_identity: identification.identity,
        peer_identity,
        vendor_ids: PeerVendorIds::default().with(&payloads),
    };
    Ok(Step::Next(State::AggressiveResponder2(Box::new(state)), reply))
}

impl SentOffer {
    /// Takes message 2, answers with message 3.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let payloads = clear_payloads(message)?;
        let answer = negotiation::parse(security_association(&payloads)?)?;
        let agreed = negotiation::verify_answer(&answer, &self.offered)?;
        let (g_xr, nonce_r) = key_exchange_and_nonce(&payloads, agreed.suite.group.public_len())?;
        let shared = shared_secret(&self.ours, g_xr)?;
        let nonces = Nonces { initiator: &self.nonce_i, responder: nonce_r };
        let public = [self.ours.public(), g_xr];
        let proof =
            Proof::new(&self.gateway, &agreed, context.cookies, nonces, &shared, public, &self.sa_i_b)?;
        let id_ir = required(&payloads, PayloadType::IDENTIFICATION, "no ID payload")?;
        verify_hash(&payloads, &proof.hash_r(id_ir.body()))?;
        let refuse = |refusal: Refusal| {
            let keys = proof.keys.clone();
            refusal.authenticated(Authenticated { keys, last_block: proof.first_iv(), delete: false })
        };
        let peer = peer_identity(id_ir).map_err(refuse)?;
        expect_identity(&self.gateway, context.path.remote.ip(), &peer).map_err(refuse)?;

        let id_ii_b = isakmp::PayloadBody::to_octets(&Identification::new(self.local_identity.clone()))?;
        let mut chain = PayloadChain::new();
        chain.push(&isakmp::Hash::from(proof.hash_i(&id_ii_b).expose()))?;
        if context.initial_contact {
            proof.push_initial_contact(&mut chain)?;
        }
        let (reply, last_block) = proof.seal(EXCHANGE, &proof.first_iv(), &chain)?;
        let proven = Proven {
            gateway: self.gateway.clone(),
            agreed,
            keys: proof.keys,
            last_block,
            doi: answer.doi,
            local_identity: self.local_identity.clone(),
            peer_identity: peer,
            vendor_ids: PeerVendorIds::default().with(&payloads),
            initial_contact: false,
        };
        Ok(Step::Done(Box::new(proven), Some(reply)))
    }
}

impl SentHash {
    /// Takes message 3.
    pub(super) fn handle(&self, _context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        //= https://www.rfc-editor.org/rfc/rfc2409#section-5
        //# The final message MAY
        //# NOT be sent under protection of the ISAKMP SA allowing each party to
        //# postpone exponentiation, if desired, until negotiation of this
        //# exchange is complete.
        let (last_block, initial_contact) = if message.is_encrypted() {
            let (clear, last_block) = self.proof.open(&self.proof.first_iv(), message)?;
            let payloads = decrypted(message, &clear)?;
            verify_hash(&payloads, &self.proof.hash_i(&self.id_ii_b))?;
            (last_block, announces_initial_contact(&payloads))
        } else {
            let payloads = message.payloads().map_err(Refusal::malformed)?;
            known_payloads(&payloads)?;
            verify_hash(&payloads, &self.proof.hash_i(&self.id_ii_b))?;
            // A notification in clear proves nothing.
            (self.proof.first_iv(), false)
        };
        let proven = Proven {
            gateway: self.gateway.clone(),
            agreed: self.agreed,
            keys: self.proof.keys.clone(),
            last_block,
            doi: self.doi,
            local_identity: self.local_identity.clone(),
            peer_identity: self.peer_identity.clone(),
            vendor_ids: self.vendor_ids,
            initial_contact,
        };
        Ok(Step::Done(Box::new(proven), None))
    }
}

/// SA, KE and Nonce.
fn first_payloads(sa: &[u8], ours: &DhSecret, nonce: &[u8]) -> wire::Result<PayloadChain> {
    let mut chain = PayloadChain::new();
    chain.push_raw(PayloadType::SECURITY_ASSOCIATION, sa)?;
    chain.push(&isakmp::KeyExchange::from(ours.public()))?.push(&isakmp::Nonce::from(nonce))?;
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use crypto::{CbcCipher, DhGroup, Hash, Secret, SeededRandom};
    use wire::isakmp::Cookie;

    use super::super::directory::Directory;
    use super::super::exchange;
    use super::super::frame::Cookies;
    use super::super::keys::Iv;
    use super::super::settings::{DoiChoice, Peer};
    use super::*;
    use crate::path::Path;

    fn gateway(peer: &str) -> Gateway {
        Gateway {
            name: "peer".to_owned(),
            peer: Peer::Addresses(vec![peer.parse().unwrap()]),
            local_address: None,
            mode: Mode::Aggressive,
            proposals: vec![Proposal {
                hash: Hash::Sha256,
                cipher: CbcCipher::Aes128,
                group: DhGroup::Ecp256,
                lifetime: std::time::Duration::from_secs(3600),
            }],
            pre_shared_key: Secret::from_slice(b"secret"),
            local_identity: None,
            remote_identity: None,
            doi: DoiChoice::GdoiThenIpsec,
            non_esp_marker: false,
            dead_peer_detection: None,
        }
    }

    /// What message 3 leads to at the responder, after `change`, and what the initiator ended with.
    fn third_message(change: impl Fn(&Proven, &Iv, Vec<u8>) -> Vec<u8>) -> (Result<Step, Refusal>, Proven) {
        let path = Path::new("192.0.2.2:848".parse().unwrap(), "192.0.2.1:848".parse().unwrap());
        let initiators = Directory::new(&[gateway("192.0.2.1")]);
        let responders = Directory::new(&[gateway("192.0.2.2")]);
        let mut random = SeededRandom::new(1);
        let cookies = Cookies { initiator: Cookie([1; 8]), responder: Cookie::ZERO };
        let mut context = Context {
            random: &mut random,
            directory: &initiators,
            vendor_ids: &[],
            path,
            cookies,
            initial_contact: true,
        };
        let named = initiators.named("peer").unwrap();
        let (state, first) = exchange::start(named, Doi::GDOI, &mut context).unwrap();
        let mut random = SeededRandom::new(2);
        let cookies = Cookies { responder: Cookie([2; 8]), ..cookies };
        let mut other = Context {
            random: &mut random,
            directory: &responders,
            vendor_ids: &[],
            path: path.reversed(),
            cookies,
            initial_contact: true,
        };
        let Step::Next(waiting, second) = respond(&mut other, &Message::parse(&first).unwrap()).unwrap()
        else {
            panic!("aggressive mode has three messages");
        };
        context.cookies = cookies;
        let Step::Done(proven, Some(third)) =
            state.handle(&mut context, &Message::parse(&second).unwrap()).unwrap()
        else {
            panic!("the initiator is done after message 2");
        };
        let public = |octets: &[u8]| {
            let payloads = Message::parse(octets).unwrap().payloads().unwrap();
            payloads.find(PayloadType::KEY_EXCHANGE).unwrap().body().to_vec()
        };
        let first_iv = proven.keys.protection.phase1_iv(&public(&first), &public(&second));
        let third = change(&proven, &first_iv, third);
        (waiting.handle(&mut other, &Message::parse(&third).unwrap()), *proven)
    }

    /// Message 3 in clear, with the payloads of the encrypted one.
    fn in_clear(proven: &Proven, third: Vec<u8>, first_iv: &Iv) -> Vec<u8> {
        let message = Message::parse(&third).unwrap();
        let (clear, _) = proven.keys.protection.open(first_iv, message.body()).unwrap();
        let payloads = decrypted(&message, &clear).unwrap();
        let header = isakmp::Header { flags: isakmp::Flags::NONE, ..message.header };
        header.message(payloads.chain()).unwrap()
    }

    #[test]
    fn the_last_message_is_taken_encrypted() {
        let (step, initiator) = third_message(|_, _, third| third);
        let Step::Done(responder, None) = step.unwrap() else {
            panic!("no answer to message 3");
        };
        assert_eq!(responder.last_block, initiator.last_block);
        assert!(responder.initial_contact);
    }

    #[test]
    fn the_last_message_is_taken_in_clear_and_phase_2_starts_from_the_first_iv() {
        let first_iv = std::cell::Cell::new(None);
        let (step, _) = third_message(|proven, iv, third| {
            first_iv.set(Some(*iv));
            in_clear(proven, third, iv)
        });
        let Step::Done(responder, None) = step.unwrap() else {
            panic!("no answer to message 3");
        };
        assert_eq!(Some(responder.last_block), first_iv.get());
        assert!(!responder.initial_contact, "nothing protects the notification");
    }
}
