//! GROUPKEY-PULL messages that no member or server of ours sends.

use crypto::{Hash, PrfKey};
use proto::pull::{self, MessageError, Prf, Received};
use wire::attribute::{Attribute, Attributes};
use wire::gdoi::GroupAssociatedPolicy;
use wire::isakmp::{self, Identity, MessageId, PayloadBody, PayloadChain};
use wire::registry::{GapAttribute, NotifyType, PayloadType};

const ID: MessageId = MessageId(0x0102_0304);
const NI: [u8; 16] = [1; 16];
const NR: [u8; 16] = [2; 16];

fn prf() -> PrfKey {
    PrfKey::new(Hash::Sha1, b"SKEYID_a")
}

/// HASH over these nonces and payloads, and the payloads.
fn authentic(nonces: &[&[u8]], payloads: &PayloadChain) -> PayloadChain {
    let id = ID.0.to_be_bytes();
    let parts = [&[&id[..]], nonces, &[payloads.bytes()]].concat();
    let mut chain = PayloadChain::new();
    chain.push(&isakmp::Hash::from(&*prf().prf_a(&parts))).unwrap().append(payloads);
    chain
}

fn received(chain: &PayloadChain) -> Received<'_> {
    Received { id: ID, first: chain.first(), octets: chain.bytes() }
}

fn request(attribute: Attribute<'_>) -> PayloadChain {
    let gap = GroupAssociatedPolicy { attributes: Attributes::from([attribute]) };
    let mut payloads = PayloadChain::new();
    payloads.push_raw(PayloadType::GROUP_ASSOCIATED_POLICY, &gap.to_octets().unwrap()).unwrap();
    authentic(&[&NI, &NR], &payloads)
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.4
//= type=test
//# A GDOI implementation MUST abort if it encounters an attribute or
//# capability that it does not understand.
#[test]
fn a_request_that_the_server_does_not_understand_ends_the_exchange() {
    let sender_ids = request(Attribute::basic(GapAttribute::SENDER_ID_REQUEST, 2_u16));
    assert!(matches!(pull::read_message_3(&prf(), received(&sender_ids), &NI, &NR), Ok(Some(_))));
    for class in [0_u16, 4, 127, 128, 300] {
        let unknown = request(Attribute::basic(class, 1_u16));
        let error = pull::read_message_3(&prf(), received(&unknown), &NI, &NR).unwrap_err();
        assert_eq!(error, MessageError::UnknownAttribute(GapAttribute(class)));
        assert!(error.is_authentic());
        let told = pull::Refusal::Message(error).notify_type(false);
        assert_eq!(told, Some(NotifyType::ATTRIBUTES_NOT_SUPPORTED));
    }
}

//= https://www.rfc-editor.org/rfc/rfc2408#section-3.9
//= type=test
//# The
//# Certificate payload MUST be accepted at any point during an exchange.
#[test]
fn a_certificate_or_a_request_for_one_is_accepted_in_any_message() {
    for kind in [PayloadType::CERTIFICATE, PayloadType::CERTIFICATE_REQUEST] {
        let group = isakmp::Identification::new(Identity::key_id(7));
        let mut payloads = PayloadChain::new();
        payloads.push(&isakmp::Nonce::from(&NI)).unwrap().push(&group).unwrap().push_raw(kind, &[4]).unwrap();
        let chain = authentic(&[], &payloads);
        let message = pull::read_message_1(&prf(), received(&chain)).unwrap();
        assert_eq!(message.group, Identity::key_id(7));
        let mut payloads = PayloadChain::new();
        payloads.push_raw(kind, &[4]).unwrap();
        let chain = authentic(&[&NI, &NR], &payloads);
        assert_eq!(pull::read_message_3(&prf(), received(&chain), &NI, &NR), Ok(None));
    }
}
