//! Main mode.

use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash};

use crate::peers::{World, proposal};

#[test]
fn both_peers_establish_with_every_suite_that_seeds_name() {
    for cipher in CbcCipher::ALL {
        for hash in [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let mut world = World::with(|gateway| {
                gateway.proposals = vec![proposal(cipher, hash, DhGroup::Ecp256)];
            });
            let (member, server) = world.establish();
            let member = world.member.endpoint.association(member).unwrap();
            let server = world.server.endpoint.association(server).unwrap();
            assert_eq!(member.skeyid_d(), server.skeyid_d());
            assert_eq!(member.prf_a(&[b"x"]), server.prf_a(&[b"x"]));
            assert_eq!(member.suite(), server.suite());
            assert_eq!(member.peer_identity(), server.local_identity());
            assert_eq!(world.sent.len(), 6);
        }
    }
}

#[test]
fn a_lost_message_is_sent_again() {
    for lost in 0..6 {
        let mut world = World::with(|_| {});
        world.fate =
            Box::new(move |number, datagram| if number == lost { vec![] } else { vec![datagram.clone()] });
        world.establish();
        assert_eq!(world.member.told().len(), 1, "message {lost}");
        assert_eq!(world.server.told().len(), 1, "message {lost}");
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.member.told().len(), 1, "message {lost}");
    }
}
