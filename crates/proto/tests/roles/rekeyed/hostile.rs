//! Pushes that change nothing: each is counted by its reason, and none reaches the signature check that does not decrypt to
//! something well-formed and new.

use proto::push::{Body, Deletion, seal};
use wire::attribute::Attribute;
use wire::gdoi::{GroupAssociatedPolicy, SaTek};
use wire::registry::{GapAttribute, IpsecAttribute, KekAttribute};

use super::scripted::*;

fn everything() -> Push {
    Push { deletions: vec![Deletion::EveryTek, Deletion::EveryKek], ..Push::default() }
}

fn unchanged(scripted: &Scripted) {
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1000], vec![1]));
    assert_eq!(scripted.events, []);
    assert_eq!(scripted.acknowledgements, []);
    assert_eq!(scripted.counters().push_succeeded, 0);
}

#[test]
fn an_unknown_kek_a_cut_a_changed_octet_and_a_wrong_signature_change_nothing() {
    let mut scripted = Scripted::ours().registered();
    let good = scripted.seal(1, 1, &everything());
    scripted.push(7, 1, &everything());
    for length in 28..good.len() {
        scripted.deliver(&good[..length]);
    }
    for position in 19..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x40;
        scripted.deliver(&bad);
    }
    let other = crypto::SigningKey::generate(crypto::SigningKeyKind::EcdsaP256).unwrap();
    let body = Body { deletions: &[Deletion::EveryTek], sa: None, kd: None };
    scripted.deliver(&seal(&kek(1), &other, 1, &body).unwrap());
    unchanged(&scripted);
    let rejected = scripted.counters().push_rejected;
    assert_eq!(rejected.unknown_kek, 1);
    assert_eq!(rejected.truncated as usize, good.len() - 28 + 4, "cuts, and four octets of length");
    assert!(rejected.bad_header > 0 && rejected.malformed > 0 && rejected.bad_signature > 1);
    scripted.deliver(&good);
    assert!(scripted.spis().is_empty());
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-7.3.4
//= type=test
//# A
//# group member will discard sequence numbers associated with the
//# current KEK SPI that have the same or lower value as the most
//# recently received replay number.
#[test]
fn copies_and_old_numbers_change_nothing() {
    let mut scripted = Scripted::ours().registered();
    let first = scripted.seal(1, 3, &Push::default());
    scripted.deliver(&first);
    scripted.acknowledgements.clear();
    scripted.deliver(&first);
    scripted.push(1, 2, &everything());
    scripted.push(1, 3, &everything());
    let rejected = scripted.counters().push_rejected;
    assert_eq!((rejected.duplicate, rejected.old_sequence), (1, 2));
    assert_eq!(scripted.spis(), [0x1000]);
    assert_eq!(scripted.acknowledgements, []);
}

#[test]
fn a_signed_push_that_we_do_not_understand_changes_nothing_and_uses_its_number_up() {
    type Change = fn(&mut wire::gdoi::GroupSecurityAssociation<'_>);
    let cases: [(&str, Change, bool); 6] = [
        (
            "GAP attribute",
            |sa| {
                let attribute = Attribute::basic(GapAttribute(77).0, 1_u16);
                sa.policy = Some(GroupAssociatedPolicy { attributes: [attribute].into() });
            },
            true,
        ),
        (
            "KEK attribute",
            |sa| {
                sa.kek.as_mut().unwrap().attributes.0.push(Attribute::basic(KekAttribute(77).0, 1_u16));
            },
            true,
        ),
        (
            "SAT attribute",
            |sa| {
                let SaTek::Esp(tek) = &mut sa.teks[0] else { unreachable!() };
                tek.attributes.0.push(Attribute::basic(IpsecAttribute(77).0, 1_u16));
            },
            true,
        ),
        (
            "transform",
            |sa| {
                let SaTek::Esp(tek) = &mut sa.teks[0] else { unreachable!() };
                tek.transform = 11;
            },
            false,
        ),
        (
            "protocol",
            |sa| {
                let SaTek::Esp(tek) = sa.teks.remove(0) else { unreachable!() };
                sa.teks.push(SaTek::Ah(tek));
            },
            false,
        ),
        (
            "key for another SPI",
            |sa| {
                let SaTek::Esp(tek) = &mut sa.teks[0] else { unreachable!() };
                tek.spi = 0x5555;
            },
            false,
        ),
    ];
    for (name, change, attribute) in cases {
        let mut scripted = Scripted::foreign().registered();
        let push = Push {
            deletions: vec![Deletion::EveryTek],
            teks: vec![Tek::new(0x1001, scripted.after(3600), &[1])],
            kek: Some(scripted.rekey(2, 3600)),
            gap: None,
        };
        let bad = scripted.seal_with(1, 5, &push, change);
        scripted.deliver(&bad);
        unchanged(&scripted);
        let rejected = scripted.counters().push_rejected;
        let counted = (rejected.unknown_attribute, rejected.bad_policy);
        assert_eq!(counted, if attribute { (1, 0) } else { (0, 1) }, "{name}");
        scripted.push(1, 5, &everything());
        assert_eq!(scripted.counters().push_rejected.old_sequence, 1, "{name}");
    }
}
