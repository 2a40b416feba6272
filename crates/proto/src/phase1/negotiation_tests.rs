use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash};
use wire::isakmp::{self, PayloadBody, SecurityAssociation, Transform};
use wire::registry::{Doi, LifeType, NotifyType, PhaseOneAttribute, ProtocolId, TransformId};
use wire::{Attribute, AttributeValue};

use super::*;

fn ours() -> Proposal {
    Proposal {
        hash: Hash::Sha256,
        cipher: CbcCipher::Aes256,
        group: DhGroup::Modp2048,
        lifetime: Duration::from_secs(3600),
    }
}

/// An offer of one transform, changed by `change`.
fn offer_with(change: impl FnOnce(&mut Transform<'static>)) -> SecurityAssociation<'static> {
    let body = offer(Doi::GDOI, [ours()].iter()).unwrap();
    let mut sa = SecurityAssociation::parse(&body).unwrap().into_owned();
    change(&mut sa.proposals[0].transforms[0]);
    sa
}

fn refusal(sa: &SecurityAssociation<'_>) -> NotifyType {
    choose(sa, &[ours()]).expect_err("nothing is acceptable").notify
}

#[test]
fn the_answer_is_the_chosen_transform_octet_for_octet() {
    let sa = offer_with(|transform| {
        transform.number = 9;
        let duration = transform.attributes.0.last_mut().unwrap();
        // 3600 with leading zeros, as a variable attribute.
        duration.value = AttributeValue::Variable(vec![0, 0, 0, 0, 0, 0, 14, 16].into());
    });
    let (agreed, answer) = choose(&sa, &[ours()]).unwrap();
    assert_eq!(agreed.lifetime, Duration::from_secs(3600));
    assert_eq!(answer, sa.to_octets().unwrap());
    assert!(verify_answer(&parse(&answer).unwrap(), &[ours()]).is_ok());
}

#[test]
fn the_shorter_lifetime_counts_and_kilobytes_are_kept() {
    let lifetime = |seconds: u32| {
        let sa = offer_with(|transform| {
            *transform.attributes.0.last_mut().unwrap() =
                Attribute::variable_u32(PhaseOneAttribute::LIFE_DURATION, seconds);
            transform.attributes.0.push(Attribute::basic(PhaseOneAttribute::LIFE_TYPE, LifeType::KILOBYTES));
            transform.attributes.0.push(Attribute::basic(PhaseOneAttribute::LIFE_DURATION, 100_u16));
        });
        choose(&sa, &[ours()]).unwrap().0
    };
    assert_eq!(lifetime(60).lifetime, Duration::from_secs(60));
    assert_eq!(lifetime(86_400).lifetime, Duration::from_secs(3600));
    assert_eq!(lifetime(60).kilobytes, Some(100));
}

#[test]
fn an_offer_without_lifetime_gets_ours() {
    let sa = offer_with(|transform| {
        let kept = transform.attributes.0.len() - 2;
        transform.attributes.0.truncate(kept);
    });
    assert_eq!(choose(&sa, &[ours()]).unwrap().0.lifetime, Duration::from_secs(3600));
}

#[test]
fn transforms_that_do_not_make_sense_are_not_chosen() {
    type Change = fn(&mut Transform<'static>);
    let changes: [(&str, Change); 9] = [
        ("twice the same attribute", |transform| {
            let first = transform.attributes.0[0].clone();
            transform.attributes.0.push(first);
        }),
        ("a basic attribute in the variable format", |transform| {
            transform.attributes.0[0] =
                Attribute::variable(PhaseOneAttribute::ENCRYPTION_ALGORITHM, vec![0, 7]);
        }),
        ("an unknown attribute", |transform| {
            transform.attributes.0.push(Attribute::basic(16_500_u16, 1_u16));
        }),
        ("a negotiated prf", |transform| {
            transform.attributes.0.push(Attribute::basic(PhaseOneAttribute::PRF, 1_u16));
        }),
        ("no hash", |transform| {
            transform.attributes.0.retain(|attribute| attribute.class != 2);
        }),
        ("no key length", |transform| {
            transform.attributes.0.retain(|attribute| attribute.class != 14);
        }),
        ("a lifetime of zero", |transform| {
            *transform.attributes.0.last_mut().unwrap() =
                Attribute::basic(PhaseOneAttribute::LIFE_DURATION, 0_u16);
        }),
        ("a life type without duration", |transform| {
            transform.attributes.0.pop();
        }),
        ("another transform id", |transform| transform.id = TransformId(2)),
    ];
    for (what, change) in changes {
        assert_eq!(refusal(&offer_with(change)), NotifyType::NO_PROPOSAL_CHOSEN, "{what}");
    }
}

#[test]
fn a_group_type_must_fit_its_group() {
    let with_type = |kind: u16| {
        offer_with(|transform| {
            transform.attributes.0.push(Attribute::basic(PhaseOneAttribute::GROUP_TYPE, kind));
        })
    };
    assert!(choose(&with_type(1), &[ours()]).is_ok());
    assert_eq!(refusal(&with_type(2)), NotifyType::NO_PROPOSAL_CHOSEN);
}

#[test]
fn triple_des_takes_no_key_length() {
    let triple_des = Proposal { cipher: CbcCipher::TripleDes, ..ours() };
    let body = offer(Doi::IPSEC, [triple_des].iter()).unwrap();
    let mut sa = parse(&body).unwrap().into_owned();
    assert!(choose(&sa, &[triple_des]).is_ok());
    let key_length = Attribute::basic(PhaseOneAttribute::KEY_LENGTH, 192_u16);
    sa.proposals[0].transforms[0].attributes.0.push(key_length);
    assert!(choose(&sa, &[triple_des]).is_err());
}

#[test]
fn more_or_less_than_one_proposal_is_refused() {
    let mut sa = offer_with(|_| {});
    let second = isakmp::Proposal { number: 2, ..sa.proposals[0].clone() };
    sa.proposals.push(second);
    assert_eq!(refusal(&sa), NotifyType::BAD_PROPOSAL_SYNTAX);
    sa.proposals.clear();
    assert_eq!(refusal(&sa), NotifyType::BAD_PROPOSAL_SYNTAX);
}

#[test]
fn a_proposal_for_another_protocol_is_refused_and_its_spi_ignored() {
    let mut sa = offer_with(|_| {});
    sa.proposals[0].spi = vec![7; 16].into();
    let (_, answer) = choose(&sa, &[ours()]).unwrap();
    assert!(parse(&answer).unwrap().proposals[0].spi.is_empty());
    sa.proposals[0].protocol = ProtocolId::ESP;
    assert_eq!(refusal(&sa), NotifyType::INVALID_PROTOCOL_ID);
}

#[test]
fn an_unknown_doi_or_situation_is_named() {
    let body = |doi: u32, situation: u32| {
        let mut body = offer(Doi::GDOI, [ours()].iter()).unwrap();
        body[..4].copy_from_slice(&doi.to_be_bytes());
        body[4..8].copy_from_slice(&situation.to_be_bytes());
        body
    };
    assert_eq!(parse(&body(3, 0)).unwrap_err().notify, NotifyType::DOI_NOT_SUPPORTED);
    assert_eq!(parse(&body(0, 0)).unwrap_err().notify, NotifyType::DOI_NOT_SUPPORTED);
    assert_eq!(parse(&body(1, 2)).unwrap_err().notify, NotifyType::SITUATION_NOT_SUPPORTED);
    assert!(parse(&body(2, 1)).is_ok(), "identity only under GDOI is seen and harmless");
    assert_eq!(parse(&[0, 0]).unwrap_err().notify, NotifyType::PAYLOAD_MALFORMED);
}

#[test]
fn an_answer_that_changes_the_offer_is_rejected() {
    let answer = offer_with(|transform| {
        *transform.attributes.0.last_mut().unwrap() =
            Attribute::basic(PhaseOneAttribute::LIFE_DURATION, 1800_u16);
    });
    let refusal = verify_answer(&answer, &[ours()]).unwrap_err();
    assert_eq!(refusal.failure.as_deref(), Some(&Failure::ProposalNotOffered));
    let mut two = offer_with(|_| {});
    let again = two.proposals[0].transforms[0].clone();
    two.proposals[0].transforms.push(again);
    assert!(verify_answer(&two, &[ours()]).is_err());
}
