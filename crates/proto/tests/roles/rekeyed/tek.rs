//! TEKs by push: what activates when, what ends when, what is left alone.

use proto::member::Event;

use super::scripted::*;

#[test]
fn a_successor_encrypts_after_its_delay_and_the_old_key_stays_until_its_end() {
    let mut scripted = Scripted::ours().registered();
    let end = scripted.after(3600);
    scripted.run(secs(3240));
    let switch = scripted.after(330);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(switch);
    let old = Tek::new(0x1000, end, &[1]);
    scripted.push(1, 1, &Push { teks: vec![old, new], ..Push::default() });
    assert_eq!(scripted.spis(), [0x1000, 0x1001]);
    let (old, new) = (scripted.installed_sa(0x1000), scripted.installed_sa(0x1001));
    assert!(old.activate_at <= scripted.now && old.hard_expiry == end);
    assert_eq!((new.activate_at, new.hard_expiry), (switch, scripted.after(3600)));
    assert_eq!(scripted.counters().push_succeeded, 1);
    // With a successor there is nothing to ask for until that one needs its own.
    assert_eq!(scripted.asks_within(secs(3200)), None);
    assert_eq!(scripted.spis(), [0x1001]);
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.4.1
//= type=test
//# The ATD
//# defines how long after receiving new SAs that they are to be
//# activated by the GM.
#[test]
fn the_delays_of_a_server_of_another_make_are_taken_literally() {
    let mut scripted = Scripted::foreign().registered();
    let now = scripted.now;
    let new = Tek::new(0x1001, scripted.after(3600), &[1]);
    let gap = Some((scripted.after(15), scripted.after(45)));
    scripted.push(1, 1, &Push { teks: vec![new], gap, ..Push::default() });
    assert_eq!(scripted.installed_sa(0x1001).activate_at, now + secs(15));
    // Its predecessor was not named, and is what the rekey destroys.
    assert_eq!(scripted.installed_sa(0x1000).hard_expiry, now + secs(45));
    scripted.run(secs(45));
    assert_eq!(scripted.spis(), [0x1001]);
}

#[test]
fn a_later_round_changes_nothing_and_one_that_was_held_up_extends_nothing() {
    let mut scripted = Scripted::ours().registered();
    let old = Tek::new(0x1000, scripted.after(3600), &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(60));
    let push = Push { teks: vec![old, new], ..Push::default() };
    scripted.push(1, 1, &push);
    let first = scripted.installed();
    scripted.run(secs(10));
    let late = scripted.seal(1, 3, &push);
    scripted.push(1, 2, &push);
    assert_eq!(scripted.installed(), first);
    scripted.run(secs(30));
    scripted.deliver(&late);
    assert_eq!(scripted.counters().push_succeeded, 3);
    assert_eq!(scripted.installed(), first);
}

#[test]
fn a_key_that_is_not_named_is_left_alone() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    let one = Tek::new(0x1000, scripted.after(3600), &[1]);
    let two = Tek::new(0x2000, scripted.after(3600), &[2]);
    scripted.register(Some(kek), Some(0), &[one.clone(), two.clone()]);
    let before = scripted.installed_sa(0x2000);
    let next = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(30));
    let gap = Some((scripted.after(30), scripted.after(60)));
    scripted.push(1, 1, &Push { teks: vec![one, next], gap, ..Push::default() });
    // In the order of the policies, and the other ipsec-sa as it was.
    assert_eq!(scripted.spis(), [0x1000, 0x1001, 0x2000]);
    assert_eq!(scripted.installed_sa(0x2000), before);
    scripted.run(secs(100));
    assert!(scripted.spis().contains(&0x2000));
}

#[test]
fn a_life_that_a_push_cuts_ends_at_its_new_end() {
    let mut scripted = Scripted::ours().registered();
    let end = scripted.after(90);
    let old = Tek::new(0x1000, end, &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(60));
    scripted.push(1, 1, &Push { teks: vec![old, new], ..Push::default() });
    assert_eq!(scripted.installed_sa(0x1000).hard_expiry, end);
    scripted.run(secs(89));
    assert_eq!(scripted.spis(), [0x1000, 0x1001]);
    scripted.run(secs(1));
    assert_eq!(scripted.spis(), [0x1001]);
}

#[test]
fn a_policy_that_a_push_replaces_is_gone_with_the_key_that_had_it() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    scripted.register(Some(kek), Some(0), &[Tek::new(0x1000, scripted.after(3600), &[1, 2])]);
    let (end, switch) = (scripted.after(90), scripted.after(60));
    let old = Tek::new(0x1000, end, &[1, 2]);
    let new = Tek::new(0x1001, scripted.after(3600), &[3]).from(switch);
    scripted.push(1, 1, &Push { teks: vec![old, new], ..Push::default() });
    assert_eq!(scripted.installed_sa(0x1001).activate_at, switch, "the push says whose successor it is");
    assert_eq!(scripted.asks_within(secs(100)), None, "it has one");
    let installed = scripted.installed();
    assert_eq!(installed.iter().map(|sa| sa.spi).collect::<Vec<_>>(), [0x1001]);
    assert_eq!(scripted.closed(), []);
}

#[test]
fn a_sign_of_life_that_names_all_keys_makes_none_the_successor_of_another() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 20_000);
    let one = Tek::new(0x1000, scripted.after(3600), &[1]);
    let two = Tek::new(0x2000, scripted.after(7200), &[2]);
    scripted.register(Some(kek), Some(0), &[one.clone(), two.clone()]);
    let before = scripted.installed();
    scripted.push(1, 1, &Push { teks: vec![one, two], ..Push::default() });
    assert_eq!(scripted.installed(), before);
    let asked = scripted.asks_within(secs(3600)).unwrap();
    assert!((secs(3348)..=secs(3420)).contains(&asked), "{asked:?}");
}

#[test]
fn a_first_key_for_a_policy_is_active_at_once() {
    let mut scripted = Scripted::foreign().registered();
    let fresh = Tek::new(0x2000, scripted.after(3600), &[2]);
    let gap = Some((scripted.after(15), scripted.after(45)));
    scripted.push(1, 1, &Push { teks: vec![fresh], gap, ..Push::default() });
    assert_eq!(scripted.installed_sa(0x2000).activate_at, scripted.now);
    assert_eq!(scripted.spis(), [0x1000, 0x2000]);
}

#[test]
fn the_same_spi_with_another_key_is_another_key() {
    let mut scripted = Scripted::ours().registered();
    let other = Tek::new(0x1000, scripted.after(3600), &[1]).with_another_key();
    scripted.push(1, 1, &Push { teks: vec![other], ..Push::default() });
    assert!(
        matches!(&scripted.events[..], [Event::RemoveSas { spis, .. }, Event::InstallSas { .. }] if spis == &[0x1000])
    );
    assert_eq!(scripted.installed_sa(0x1000).activate_at, scripted.now);
}

#[test]
fn a_key_in_its_last_second_does_not_spoil_the_push() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    let old = Tek::new(0x1000, scripted.after(61), &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(58));
    scripted.register(Some(kek), Some(0), &[old.clone(), new.clone()]);
    scripted.run(std::time::Duration::from_millis(60_500));
    scripted.push(1, 1, &Push { teks: vec![old, new], ..Push::default() });
    assert_eq!(scripted.counters().push_succeeded, 1);
    assert_eq!(scripted.spis(), [0x1000, 0x1001]);
}

#[test]
fn a_push_that_was_held_up_does_not_bring_back_a_key_that_has_ended() {
    let mut scripted = Scripted::ours().registered();
    let (old, end) = (Tek::new(0x1000, scripted.after(3600), &[1]), scripted.after(3600));
    let new = Tek::new(0x1001, scripted.after(7200), &[1]).from(scripted.after(60));
    scripted.push(1, 1, &Push { teks: vec![old.clone(), new.clone()], ..Push::default() });
    let late = scripted.seal(1, 2, &Push { teks: vec![old, new.clone()], ..Push::default() });
    scripted.run(end - scripted.now);
    scripted.deliver(&late);
    assert_eq!(scripted.counters().push_succeeded, 2);
    assert_eq!(scripted.spis(), [0x1001]);
    // A PULL is fresh: what it says holds.
    scripted.member.reregister(scripted.now, "vpn-1");
    let again = Tek::new(0x1000, scripted.after(600), &[1]);
    let kek = scripted.rekey(1, 3600);
    scripted.register(Some(kek), Some(2), &[again, new]);
    assert_eq!(scripted.spis(), [0x1000, 0x1001]);
}

#[test]
fn without_a_push_the_member_asks_in_its_window_and_then_takes_what_it_missed() {
    let mut scripted = Scripted::ours().registered();
    let asked = scripted.asks_within(secs(3600)).unwrap();
    assert!((secs(3348)..=secs(3420)).contains(&asked), "{asked:?}");
    let end = scripted.now + (secs(3600) - asked);
    let old = Tek::new(0x1000, end, &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(end - secs(30));
    let kek = scripted.rekey(2, 3600);
    scripted.register(Some(kek), Some(7), &[old, new]);
    assert_eq!(scripted.spis(), [0x1000, 0x1001]);
    assert_eq!(scripted.keks(), [1, 2]);
}

#[test]
fn two_vpns_in_one_group_both_take_a_push_and_one_acknowledgement_is_sent() {
    let mut scripted = Scripted::new(true, |settings| {
        let mut second = settings.vpns[0].clone();
        second.name = "vpn-2".to_owned();
        settings.vpns.push(second);
    });
    let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), std::slice::from_ref(&tek));
    scripted.member.interface_up(scripted.now, "vpn-2", None);
    scripted.register(Some(kek), Some(0), std::slice::from_ref(&tek));
    assert_eq!(scripted.spis(), [0x1000, 0x1000]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(10));
    scripted.push(1, 1, &Push { teks: vec![tek, new], ..Push::default() });
    assert_eq!(scripted.spis(), [0x1000, 0x1001, 0x1000, 0x1001]);
    assert_eq!(scripted.acknowledgements.len(), 1);
}

#[test]
fn an_answer_that_crosses_a_push_on_the_way_takes_nothing_back() {
    let mut scripted = Scripted::ours().registered();
    let old = Tek::new(0x1000, scripted.after(3600), &[1]);
    let new = Tek::new(0x1001, scripted.after(7000), &[1]).from(scripted.after(60));
    let (known, kek) = (scripted.rekey(1, 20_000), scripted.rekey(2, 20_000));
    scripted.member.reregister(scripted.now, "vpn-1");
    scripted.run(secs(0));
    // Composed before the push, and arrives after it.
    scripted.push(1, 7, &Push { teks: vec![old.clone(), new], kek: Some(kek), ..Push::default() });
    scripted.register(Some(known), Some(3), std::slice::from_ref(&old));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1000, 0x1001], vec![1, 2]));
    assert_eq!(scripted.installed_sa(0x1001).activate_at, scripted.after(60));
    assert_eq!(scripted.asks_within(secs(3600)), None, "it has what it would ask for");
    // Nor is a message let in again that it had before.
    scripted.push(1, 6, &Push::default());
    assert_eq!(scripted.counters().push_rejected.old_sequence, 1);
}

#[test]
fn a_key_that_comes_in_its_last_seconds_does_not_take_over_from_its_successor() {
    for by_push in [false, true] {
        let mut scripted = Scripted::ours();
        let (kek, new) = (scripted.rekey(1, 20_000), Tek::new(0x1001, scripted.after(3600), &[1]));
        scripted.register(Some(kek), Some(0), std::slice::from_ref(&new));
        let in_use = scripted.installed_sa(0x1001).activate_at;
        scripted.run(secs(1));
        let dying = Tek::new(0x1000, scripted.after(2), &[1]);
        if by_push {
            scripted.push(1, 1, &Push { teks: vec![dying, new], ..Push::default() });
        } else {
            scripted.member.reregister(scripted.now, "vpn-1");
            scripted.register(Some(kek), Some(0), &[dying, new]);
        }
        assert_eq!(scripted.installed_sa(0x1001).activate_at, in_use);
        assert!(scripted.installed_sa(0x1000).activate_at < in_use, "of two in use the later one encrypts");
    }
}

#[test]
fn a_deactivation_delay_that_comes_late_does_not_destroy_what_came_before_it() {
    let mut scripted = Scripted::ours().registered();
    let old = Tek::new(0x1000, scripted.after(60), &[1]);
    let new = Tek::new(0x1001, scripted.after(300), &[1]).from(scripted.after(50));
    let newest = Tek::new(0x1002, scripted.after(3600), &[1]).from(scripted.after(290));
    let gap = Some((scripted.after(50), scripted.after(60)));
    let kek = Some(scripted.rekey(2, 3600));
    scripted.push(1, 1, &Push { teks: vec![old.clone(), new.clone()], kek, gap, ..Push::default() });
    scripted.run(secs(1));
    scripted.push(2, 1, &Push { teks: vec![old.clone(), new.clone(), newest], ..Push::default() });
    // Composed before that, under the other KEK: no number tells.
    scripted.push(1, 2, &Push { teks: vec![old, new], gap, ..Push::default() });
    assert_eq!(scripted.installed_sa(0x1002).hard_expiry, scripted.after(3599));
}

#[test]
fn a_successor_that_waits_and_that_the_server_names_no_more_does_not_take_over() {
    let mut scripted = Scripted::ours().registered();
    let old = Tek::new(0x1000, scripted.after(3600), &[1]);
    let waiting = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(60));
    scripted.push(1, 1, &Push { teks: vec![old, waiting], ..Push::default() });
    scripted.run(secs(1));
    let (kek, only) = (scripted.rekey(1, 20_000), Tek::new(0x1002, scripted.after(3600), &[1]));
    scripted.member.reregister(scripted.now, "vpn-1");
    scripted.register(Some(kek), Some(1), &[only]);
    let activation = |spi| scripted.installed_sa(spi).activate_at;
    assert!(activation(0x1001) < activation(0x1002), "{:?} {:?}", activation(0x1001), activation(0x1002));
}
