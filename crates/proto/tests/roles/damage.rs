//! Messages of a GROUPKEY-PULL cut and changed at every octet: nothing panics, nothing is installed or registered.

use std::cell::RefCell;
use std::rc::Rc;

use crate::world::*;

/// Replaces the first appearance of `label` by damaged copies of it, and loses its repetitions.
fn damaged(label: &'static str, damage: impl Fn(&[u8]) -> Vec<Vec<u8>> + 'static) -> World {
    let mut world = World::pair().with_network(move |seen| match (seen.label == label, seen.again) {
        (true, false) => Fate::Instead(damage(seen.bytes)),
        (true, true) => Fate::Lose,
        (false, _) => Fate::Deliver,
    });
    world.up();
    world.run(seconds(5));
    world
}

#[test]
fn cut_messages_change_nothing() {
    for label in ["pull (1)", "pull (2)", "pull (3)", "pull (4)"] {
        let world = damaged(label, |bytes| {
            (0..bytes.len())
                .map(|length| {
                    let mut cut = bytes[..length].to_vec();
                    // With a length that is believed, so that the cut is not all there is to find.
                    if length >= 28 {
                        cut[24..28].copy_from_slice(&(length as u32).to_be_bytes());
                    }
                    cut
                })
                .collect()
        });
        assert_eq!(world.registered(0), 0, "{label}");
        assert!(world.member_spis(0).is_empty());
        let registered = usize::from(label == "pull (4)");
        assert_eq!(world.statistics().pull_succeeded, registered as u64, "{label}");
    }
}

/// Every change of one bit that makes another message of it: the last block may be padding, which no hash covers.
/// 0x80 of the flags is not defined, so a message that has it is discarded (RFC 2408 section 5.2).
fn flips(length: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..length - 16).flat_map(|position| [0x01, 0x80].map(|bit| (position, bit)))
}

fn flipped(bytes: &[u8], (position, bit): (usize, u8)) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[position] ^= bit;
    changed
}

#[test]
fn changed_messages_before_the_good_one_do_not_get_in_its_way() {
    for label in ["pull (1)", "pull (2)", "pull (3)", "pull (4)"] {
        let world = damaged(label, |bytes| {
            let changed = flips(bytes.len()).map(|flip| flipped(bytes, flip));
            changed.chain([bytes.to_vec()]).collect()
        });
        assert_eq!(world.registered(0), 1, "{label} {:#?}", world.failures(0));
    }
}

#[test]
fn changed_messages_change_nothing() {
    for label in ["pull (1)", "pull (2)", "pull (3)", "pull (4)"] {
        let world = damaged(label, |bytes| flips(bytes.len()).map(|flip| flipped(bytes, flip)).collect());
        assert_eq!(world.registered(0), 0, "{label}");
        assert!(world.member_spis(0).is_empty());
        let registered = usize::from(label == "pull (4)");
        assert_eq!(world.statistics().pull_succeeded, registered as u64, "{label}");
    }
}

#[test]
fn messages_of_one_session_mean_nothing_in_another() {
    let recorded: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let recorder = Rc::clone(&recorded);
    let mut first = World::pair().with_network(move |seen| {
        recorder.borrow_mut().push(seen.bytes.to_vec());
        Fate::Deliver
    });
    first.up();
    first.run(seconds(2));
    // The same member registers again over a new phase 1 SA; everything recorded is thrown in with each message.
    first.act(|world, now| world.members[0].clear_ike(now, None, None));
    let old = recorded.borrow().clone();
    first.set_network(move |seen| {
        let mut all = old.clone();
        all.push(seen.bytes.to_vec());
        Fate::Instead(all)
    });
    first.act(|world, now| world.members[0].reregister(now, "vpn-1"));
    first.run(seconds(9));
    assert_eq!(first.registered(0), 2);
    assert_eq!(first.statistics().pull_succeeded, 2, "replayed registrations do not count");
    assert_eq!(first.statistics().pull_failed, 0);
}
