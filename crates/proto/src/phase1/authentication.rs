//! What both modes do with the payloads of a message: key exchange, nonce, identity, hash.

use std::net::IpAddr;

use crypto::{DhError, DhGroup, DhSecret, Random, Secret};
use wire::isakmp::{Identification, Identity, Notification, Payload, Payloads};
use wire::registry::{NotifyType, PayloadType};

use super::event::Failure;
use super::refusal::Refusal;
use super::settings::Gateway;
use crate::path::Path;

/// Octets of our nonces: as long as the longest key, well inside what any peer must accept.
const NONCE_LENGTH: usize = 32;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// A private value of `group` and a nonce, both new.
pub(super) fn fresh(random: &mut dyn Random, group: DhGroup) -> Result<(DhSecret, Vec<u8>), Refusal> {
    let ours = DhSecret::generate(group, random).map_err(|_: DhError| {
        Refusal::new(NotifyType::INVALID_KEY_INFORMATION, "key generation failed")
            .because(Failure::UnusableKeys)
    })?;
    let mut nonce = vec![0; NONCE_LENGTH];
    random.fill(&mut nonce);
    Ok((ours, nonce))
}

/// The body of the SA payload, which comes first.
//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# The SA payload MUST precede all other payloads in a phase 1 exchange.
pub(super) fn security_association<'a>(payloads: &Payloads<'a>) -> Result<&'a [u8], Refusal> {
    let payload = required(payloads, PayloadType::SECURITY_ASSOCIATION, "no SA payload")?;
    if payloads.as_slice().first() != Some(payload) {
        return Err(Refusal::new(NotifyType::INVALID_PAYLOAD_TYPE, "the SA payload does not come first"));
    }
    Ok(payload.body())
}

/// The bodies of KE and Nonce of a message in clear, their lengths checked.
pub(super) fn key_exchange_and_nonce<'a>(
    payloads: &Payloads<'a>,
    public_len: usize,
) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    let public = required(payloads, PayloadType::KEY_EXCHANGE, "no KE payload")?.body();
    //= https://www.rfc-editor.org/rfc/rfc2409#section-5
    //# The Diffie-Hellman public value passed in a KE payload, in either a
    //# phase 1 or phase 2 exchange, MUST be the length of the negotiated
    //# Diffie-Hellman group enforced, if necessary, by pre-pending the value
    //# with zeros.
    if public.len() != public_len {
        return Err(Refusal::new(NotifyType::INVALID_KEY_INFORMATION, "KE is not as long as the group asks"));
    }
    let nonce = required(payloads, PayloadType::NONCE, "no Nonce payload")?.body();
    //= https://www.rfc-editor.org/rfc/rfc2409#section-5
    //# The length of nonce payload MUST be between 8 and 256 bytes
    //# inclusive.
    if !(8..=256).contains(&nonce.len()) {
        return Err(Refusal::new(
            NotifyType::PAYLOAD_MALFORMED,
            "nonce shorter than 8 or longer than 256 octets",
        ));
    }
    Ok((public, nonce))
}

/// `g^xy` of our secret and a peer's public value.
pub(super) fn shared_secret(ours: &DhSecret, public: &[u8]) -> Result<Secret, Refusal> {
    ours.shared(public).map_err(|_| {
        Refusal::new(NotifyType::INVALID_KEY_INFORMATION, "the public value is not one of the group")
    })
}

/// The one payload of a type that a message must have.
pub(super) fn required<'a, 'b>(
    payloads: &'b Payloads<'a>,
    kind: PayloadType,
    reason: &'static str,
) -> Result<&'b Payload<'a>, Refusal> {
    payloads
        .at_most_one(kind)
        .map_err(Refusal::malformed)?
        .ok_or_else(|| Refusal::new(NotifyType::PAYLOAD_MALFORMED, reason))
}

/// The identity we claim on `path`.
pub(super) fn local_identification(
    gateway: &Gateway,
    path: &Path,
) -> Result<Identification<'static>, Refusal> {
    let identity = match &gateway.local_identity {
        Some(identity) => identity.clone(),
        None if path.local.ip().is_unspecified() => {
            return Err(Refusal::new(NotifyType::INVALID_ID_INFORMATION, "our own address is not known")
                .because(Failure::LocalAddressUnknown));
        }
        None => Identity::address(path.local.ip().to_canonical()),
    };
    Ok(Identification::new(identity))
}

/// Reads the identity in an ID payload.
pub(super) fn peer_identity(payload: &Payload<'_>) -> Result<Identity<'static>, Refusal> {
    let identification: Identification<'_> = payload.parse().map_err(Refusal::malformed)?;
    //= https://www.rfc-editor.org/rfc/rfc2407#section-4.6.2
    //# During Phase I negotiations, the ID port and protocol fields MUST be
    //# set to zero or to UDP port 500.  If an implementation receives any
    //# other values, this MUST be treated as an error and the security
    //# association setup MUST be aborted.
    //
    // Port 848 is what GDOI has instead of 500.
    match (identification.protocol, identification.port) {
        (0, 0) | (UDP, 0 | 500 | 848) => {}
        _ => return Err(Refusal::new(NotifyType::INVALID_ID_INFORMATION, "ID for another protocol or port")),
    }
    if !identification.identity.has_plausible_length() {
        return Err(Refusal::new(NotifyType::INVALID_ID_INFORMATION, "ID data does not fit the ID type"));
    }
    Ok(identification.identity.into_owned())
}

/// Checks that the peer at `address` proved the identity that `gateway` asks for.
pub(super) fn expect_identity(
    gateway: &Gateway,
    address: IpAddr,
    claimed: &Identity<'static>,
) -> Result<(), Refusal> {
    let expected = gateway.expected_identity(address);
    if *claimed == expected {
        return Ok(());
    }
    Err(wrong_identity(claimed, expected))
}

pub(super) fn wrong_identity(claimed: &Identity<'static>, expected: Identity<'static>) -> Refusal {
    Refusal::new(NotifyType::INVALID_ID_INFORMATION, "the identity is not the one configured")
        .because(Failure::WrongIdentity { claimed: claimed.clone(), expected })
}

/// The HASH payload of a message, compared with the expected value in constant time.
pub(super) fn verify_hash(payloads: &Payloads<'_>, expected: &Secret) -> Result<(), Refusal> {
    let hash = required(payloads, PayloadType::HASH, "no HASH payload")?;
    if expected.matches(hash.body()) {
        return Ok(());
    }
    Err(Refusal::new(NotifyType::AUTHENTICATION_FAILED, "HASH does not verify")
        .because(Failure::PreSharedKeysDiffer))
}

/// Whether an encrypted message says that its sender knows no other SA with us.
pub(super) fn announces_initial_contact(payloads: &Payloads<'_>) -> bool {
    payloads
        .all(PayloadType::NOTIFICATION)
        .filter_map(|payload| payload.parse::<Notification<'_>>().ok())
        .any(|notification| notification.kind == NotifyType::INITIAL_CONTACT)
}

#[cfg(test)]
mod tests {
    use wire::isakmp::{KeyExchange, Nonce, PayloadChain};
    use wire::registry::IdType;

    use super::*;

    fn judged(public: usize, nonce: usize) -> Result<(), NotifyType> {
        let mut chain = PayloadChain::new();
        chain.push(&KeyExchange::from(vec![2; public])).unwrap().push(&Nonce::from(vec![3; nonce])).unwrap();
        let payloads = Payloads::parse(chain.first(), chain.bytes()).unwrap();
        key_exchange_and_nonce(&payloads, 128).map(|_| ()).map_err(|refusal| refusal.notify)
    }

    #[test]
    fn a_nonce_has_8_to_256_octets() {
        assert_eq!(judged(128, 7), Err(NotifyType::PAYLOAD_MALFORMED));
        assert_eq!(judged(128, 8), Ok(()));
        assert_eq!(judged(128, 256), Ok(()));
        assert_eq!(judged(128, 257), Err(NotifyType::PAYLOAD_MALFORMED));
    }

    #[test]
    fn a_public_value_is_as_long_as_its_group() {
        assert_eq!(judged(127, 16), Err(NotifyType::INVALID_KEY_INFORMATION));
        assert_eq!(judged(129, 16), Err(NotifyType::INVALID_KEY_INFORMATION));
        assert_eq!(judged(0, 16), Err(NotifyType::INVALID_KEY_INFORMATION));
    }

    #[test]
    fn a_public_value_that_is_not_one_of_the_group_is_refused() {
        let ours = DhSecret::from_private(DhGroup::Modp1024, Secret::new(vec![5; 128])).unwrap();
        for public in [
            [0; 128],
            {
                let mut one = [0; 128];
                one[127] = 1;
                one
            },
            [0xff; 128],
        ] {
            let refusal = shared_secret(&ours, &public).unwrap_err();
            assert_eq!(refusal.notify, NotifyType::INVALID_KEY_INFORMATION);
        }
    }

    #[test]
    fn two_key_exchange_payloads_are_one_too_many() {
        let mut chain = PayloadChain::new();
        for _ in 0..2 {
            chain.push(&KeyExchange::from(vec![2; 128])).unwrap();
        }
        chain.push(&Nonce::from(vec![3; 16])).unwrap();
        let payloads = Payloads::parse(chain.first(), chain.bytes()).unwrap();
        assert!(key_exchange_and_nonce(&payloads, 128).is_err());
    }

    #[test]
    fn protocol_and_port_of_an_identity_are_zero_or_those_of_isakmp() {
        let judged = |protocol, port, data: &[u8]| {
            let identity = Identity::new(IdType::IPV4_ADDR, data.to_vec());
            let mut chain = PayloadChain::new();
            chain.push(&Identification { identity, protocol, port }).unwrap();
            let payloads = Payloads::parse(chain.first(), chain.bytes()).unwrap();
            peer_identity(&payloads.as_slice()[0]).is_ok()
        };
        let address = [192, 0, 2, 1];
        assert!(judged(0, 0, &address));
        assert!(judged(17, 500, &address));
        assert!(judged(17, 848, &address));
        assert!(judged(17, 0, &address));
        assert!(!judged(17, 4500, &address));
        assert!(!judged(6, 500, &address));
        assert!(!judged(0, 0, &address[..3]));
    }
}
