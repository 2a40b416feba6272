//! What must hold for every suite, every length and every backend.

use std::sync::Arc;

use crypto::esp::{MAX_FRAME_LEN, open_each, seal_each};
use crypto::{
    Backend, EspKey, EspKeyError, EspOpener, EspSealer, EspSuite, Frame, Integrity, PrfKey, Random,
    SeededRandom, Verdict,
};
use proptest::prelude::*;

fn key(backend: Backend, suite: EspSuite, seed: u64) -> Arc<EspKey> {
    let mut random = SeededRandom::new(seed);
    let (mut cipher_key, mut integrity_key) =
        (vec![0; suite.cipher_key_len()], vec![0; suite.integrity_key_len()]);
    random.fill(&mut cipher_key);
    random.fill(&mut integrity_key);
    EspKey::with_backend(backend, suite, &cipher_key, &integrity_key).unwrap()
}

fn packet(suite: EspSuite, payload_len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; suite.frame_len(payload_len)];
    SeededRandom::new(seed).fill(&mut bytes);
    bytes
}

fn seal(key: &Arc<EspKey>, packets: &mut [Vec<u8>]) -> Vec<Verdict> {
    let mut frames: Vec<_> = packets.iter_mut().map(|bytes| Frame::new(bytes)).collect();
    EspSealer::from_key(key.clone()).unwrap().seal(&mut frames);
    frames.iter().map(|frame| frame.verdict).collect()
}

fn open(key: &Arc<EspKey>, packets: &mut [Vec<u8>]) -> Vec<Verdict> {
    let mut frames: Vec<_> = packets.iter_mut().map(|bytes| Frame::new(bytes)).collect();
    EspOpener::from_key(key.clone()).unwrap().open(&mut frames);
    frames.iter().map(|frame| frame.verdict).collect()
}

fn all_ok(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| *verdict == Verdict::Ok)
}

fn without_icv(suite: EspSuite, packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets.iter().map(|bytes| &bytes[..bytes.len() - suite.icv_len()]).collect()
}

#[test]
fn the_portable_backend_always_exists_and_the_best_comes_first() {
    assert!(Backend::available().contains(&Backend::Portable));
    assert_eq!(Backend::best(), Backend::available()[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn opening_undoes_sealing_in_batches_of_mixed_sizes(
        seed: u64,
        payload_lens in prop_oneof![
            prop::collection::vec(0usize..2000, 1..7),
            prop::collection::vec(0usize..2000, 1..150),
        ],
    ) {
        for suite in EspSuite::all() {
            let lens = payload_lens.iter().enumerate();
            let plain: Vec<_> = lens.map(|(index, len)| packet(suite, *len, seed ^ index as u64)).collect();
            let mut sealed_first: Option<Vec<Vec<u8>>> = None;
            for backend in Backend::available() {
                let key = key(*backend, suite, seed);
                let mut packets = plain.clone();
                prop_assert!(all_ok(&seal(&key, &mut packets)), "{suite:?} {backend:?}");
                match &sealed_first {
                    None => sealed_first = Some(packets.clone()),
                    Some(first) => prop_assert_eq!(first, &packets, "{:?}: backends differ", suite),
                }
                prop_assert!(all_ok(&open(&key, &mut packets)), "{suite:?} {backend:?}");
                prop_assert_eq!(without_icv(suite, &packets), without_icv(suite, &plain), "{:?} {:?}", suite, backend);
            }
        }
    }

    #[test]
    fn forged_packets_fail_alone_whatever_surrounds_them(
        seed: u64,
        payload_lens in prop_oneof![
            prop::collection::vec((0usize..300, any::<bool>()), 1..7),
            prop::collection::vec((0usize..300, any::<bool>()), 1..80),
        ],
    ) {
        for suite in EspSuite::all() {
            for backend in Backend::available() {
                let key = key(*backend, suite, seed);
                let lens = payload_lens.iter().enumerate();
                let mut packets: Vec<_> = lens.map(|(index, (len, _))| packet(suite, *len, seed ^ index as u64)).collect();
                prop_assert!(all_ok(&seal(&key, &mut packets)));
                for (index, (_, forged)) in payload_lens.iter().enumerate() {
                    let position = (seed as usize).wrapping_add(index) % packets[index].len();
                    packets[index][position] ^= u8::from(*forged);
                }
                for (verdict, (_, forged)) in open(&key, &mut packets).iter().zip(&payload_lens) {
                    let expected = if *forged { Verdict::BadIcv } else { Verdict::Ok };
                    prop_assert_eq!(*verdict, expected, "{:?} {:?}", suite, backend);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn packets_of_several_keys_in_a_batch_come_out_as_under_each_key_alone(
        seed: u64,
        packets in prop::collection::vec((0usize..300, 0u64..5, any::<bool>()), 0..150),
    ) {
        for suite in EspSuite::all().filter(|suite| suite.is_batched()) {
            for backend in Backend::available() {
                let keys: Vec<_> = (0..5).map(|index| key(*backend, suite, seed ^ index)).collect();
                let of_each: Vec<&EspKey> = packets.iter().map(|(_, at, _)| &*keys[*at as usize]).collect();
                let mut alone: Vec<_> = packets.iter().map(|(len, at, _)| packet(suite, *len, *at)).collect();
                let mut together = alone.clone();
                for (bytes, (_, at, _)) in alone.iter_mut().zip(&packets) {
                    let verdict = EspSealer::from_key(keys[*at as usize].clone()).unwrap().seal_one(bytes);
                    prop_assert_eq!(verdict, Verdict::Ok);
                }
                let mut frames: Vec<_> = together.iter_mut().map(|bytes| Frame::new(bytes)).collect();
                seal_each(&of_each, &mut frames);
                prop_assert!(frames.iter().all(|frame| frame.verdict == Verdict::Ok));
                prop_assert_eq!(&alone, &together, "{:?} {:?}", suite, backend);
                for (bytes, (_, _, forged)) in together.iter_mut().zip(&packets) {
                    bytes[9] ^= u8::from(*forged);
                }
                let mut frames: Vec<_> = together.iter_mut().map(|bytes| Frame::new(bytes)).collect();
                open_each(&of_each, &mut frames);
                for (frame, (len, at, forged)) in frames.iter().zip(&packets) {
                    let expected = if *forged { Verdict::BadIcv } else { Verdict::Ok };
                    prop_assert_eq!(frame.verdict, expected, "{:?} {:?}", suite, backend);
                    let range = suite.encrypted_range(frame.bytes.len()).unwrap();
                    let plain = &packet(suite, *len, *at)[range.clone()];
                    prop_assert!(*forged || frame.bytes[range] == *plain);
                }
            }
        }
    }
}

#[test]
fn one_packet_at_a_time_comes_out_as_in_a_batch() {
    for suite in EspSuite::all() {
        for backend in Backend::available() {
            let key = key(*backend, suite, 3);
            let mut sealer = EspSealer::from_key(key.clone()).unwrap();
            let mut opener = EspOpener::from_key(key.clone()).unwrap();
            for len in [0, 1, 14, 15, 16, 63, 64, 255, 1400, 9000] {
                let plain = packet(suite, len, len as u64);
                let mut batch = [plain.clone()];
                assert!(all_ok(&seal(&key, &mut batch)));
                let [sealed] = batch;
                let mut one = plain.clone();
                assert_eq!(sealer.seal_one(&mut one), Verdict::Ok);
                assert_eq!(one, sealed, "{suite:?} {backend:?} {len}");
                let (range, mut copy) = (suite.encrypted_range(sealed.len()).unwrap(), vec![7; sealed.len()]);
                assert_eq!(opener.open_copy(&sealed, &mut copy), Verdict::Ok);
                assert_eq!(copy[..range.end], plain[..range.end], "{suite:?} {backend:?} {len}");
                one[range.start] ^= 1;
                let untouched = one.clone();
                assert_eq!(opener.open_copy(&one, &mut copy), Verdict::BadIcv);
                assert_eq!(one, untouched);
                // Forgeries leave nothing that could be taken for plaintext.
                assert_ne!(copy[range.clone()], plain[range], "{suite:?} {backend:?} {len}");
            }
            let mut short = vec![0; suite.frame_len(0) - 1];
            assert_eq!(sealer.seal_one(&mut short), Verdict::BadLength);
            assert_eq!(opener.open_copy(&short.clone(), &mut short), Verdict::BadLength);
        }
    }
}

#[test]
#[should_panic(expected = "keys of one batched suite and backend")]
fn keys_of_different_suites_do_not_share_a_batch() {
    let suites: Vec<_> = EspSuite::all().filter(|suite| suite.is_batched()).take(2).collect();
    let keys = [key(Backend::best(), suites[0], 1), key(Backend::best(), suites[1], 1)];
    let mut packets = [packet(suites[0], 10, 1), packet(suites[1], 10, 1)];
    let mut frames: Vec<_> = packets.iter_mut().map(|bytes| Frame::new(bytes)).collect();
    seal_each(&[&keys[0], &keys[1]], &mut frames);
}

#[test]
fn every_length_up_to_several_blocks_survives() {
    for suite in EspSuite::all() {
        let plain: Vec<_> = (0..=160).map(|len| packet(suite, len, len as u64)).collect();
        for backend in Backend::available() {
            let key = key(*backend, suite, 1);
            let mut packets = plain.clone();
            assert!(all_ok(&seal(&key, &mut packets)), "{suite:?} {backend:?}");
            assert!(all_ok(&open(&key, &mut packets)), "{suite:?} {backend:?}");
            assert_eq!(without_icv(suite, &packets), without_icv(suite, &plain), "{suite:?} {backend:?}");
        }
    }
}

#[test]
fn the_icv_is_the_truncated_hmac_of_everything_before_it() {
    for suite in EspSuite::all() {
        let EspSuite::Cbc { integrity, .. } = suite else { continue };
        let (cipher_key, integrity_key) =
            (vec![0x42; suite.cipher_key_len()], vec![0x17; suite.integrity_key_len()]);
        for backend in Backend::available() {
            let key = EspKey::with_backend(*backend, suite, &cipher_key, &integrity_key).unwrap();
            let mut packets = [packet(suite, 100, 1)];
            assert!(all_ok(&seal(&key, &mut packets)));
            let (covered, icv) = packets[0].split_at(packets[0].len() - integrity.icv_len());
            let tag = PrfKey::new(integrity.hash(), &integrity_key).tag(&[covered]);
            assert_eq!(*icv, tag[..icv.len()], "{suite:?} {backend:?}");
        }
    }
}

#[test]
fn every_single_flipped_bit_is_noticed() {
    for suite in EspSuite::all() {
        for backend in Backend::available() {
            let key = key(*backend, suite, 2);
            let mut sealed = [packet(suite, 40, 3)];
            let plain = sealed[0].clone();
            assert!(all_ok(&seal(&key, &mut sealed)));
            let flipped: Vec<_> = (0..sealed[0].len() * 8)
                .map(|bit| {
                    let mut bytes = sealed[0].clone();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    bytes
                })
                .collect();
            let mut opened = flipped.clone();
            let verdicts = open(&key, &mut opened);
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::BadIcv), "{suite:?} {backend:?}");
            let range = suite.encrypted_range(plain.len()).unwrap();
            for (after, before) in opened.iter().zip(&flipped) {
                // An unauthentic packet shows no plaintext: untouched in CBC, wiped in GCM.
                let untouched = after == before;
                let wiped = after[range.clone()].iter().all(|octet| *octet == 0);
                assert!(if suite.wants_random_iv() { untouched } else { wiped }, "{suite:?} {backend:?}");
            }
        }
    }
}

#[test]
fn another_key_does_not_open() {
    for suite in EspSuite::all() {
        for backend in Backend::available() {
            let mut packets = [packet(suite, 64, 1)];
            assert!(all_ok(&seal(&key(*backend, suite, 1), &mut packets)));
            assert_eq!(
                open(&key(*backend, suite, 2), &mut packets),
                [Verdict::BadIcv],
                "{suite:?} {backend:?}"
            );
        }
    }
}

#[test]
fn lengths_that_are_no_frame_are_told_and_left_alone() {
    for suite in EspSuite::all() {
        let lens = (0..200).chain(MAX_FRAME_LEN - 40..MAX_FRAME_LEN + 40).chain([100_000]);
        let wrong: Vec<_> =
            lens.filter(|len| suite.encrypted_range(*len).is_none()).map(|len| vec![7; len]).collect();
        let shortest = suite.frame_len(0);
        assert_eq!(wrong.iter().filter(|bytes| bytes.len() < shortest).count(), shortest, "{suite:?}");
        for backend in Backend::available() {
            let key = key(*backend, suite, 1);
            let mut packets = wrong.clone();
            assert!(
                seal(&key, &mut packets).iter().all(|verdict| *verdict == Verdict::BadLength),
                "{suite:?}"
            );
            assert!(
                open(&key, &mut packets).iter().all(|verdict| *verdict == Verdict::BadLength),
                "{suite:?}"
            );
            assert_eq!(packets, wrong, "{suite:?} {backend:?}");
        }
    }
}

#[test]
fn the_longest_frame_survives() {
    for suite in EspSuite::all() {
        let len = (0..=MAX_FRAME_LEN).rev().find(|len| suite.encrypted_range(*len).is_some()).unwrap();
        assert!(len > MAX_FRAME_LEN - 16);
        for backend in Backend::available() {
            let key = key(*backend, suite, 1);
            let mut packets = [vec![9; len], packet(suite, 10, 1)];
            assert!(all_ok(&seal(&key, &mut packets)), "{suite:?} {backend:?}");
            assert!(all_ok(&open(&key, &mut packets)), "{suite:?} {backend:?}");
            assert_eq!(
                packets[0][..len - suite.icv_len()],
                vec![9; len - suite.icv_len()],
                "{suite:?} {backend:?}"
            );
        }
    }
}

#[test]
fn an_empty_batch_is_nothing() {
    for backend in Backend::available() {
        for suite in EspSuite::all() {
            assert!(seal(&key(*backend, suite, 1), &mut []).is_empty());
            assert!(open(&key(*backend, suite, 1), &mut []).is_empty());
        }
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for suite in EspSuite::all() {
        let (cipher_key, integrity_key) =
            (vec![1; suite.cipher_key_len()], vec![1; suite.integrity_key_len()]);
        for backend in Backend::available() {
            let error = EspKey::with_backend(*backend, suite, &cipher_key[1..], &integrity_key).unwrap_err();
            let (expected, actual) = (cipher_key.len(), cipher_key.len() - 1);
            assert_eq!(error, EspKeyError::CipherKeyLength { expected, actual });
            let longer = vec![1; integrity_key.len() + 1];
            let error = EspKey::with_backend(*backend, suite, &cipher_key, &longer).unwrap_err();
            let (expected, actual) = (integrity_key.len(), integrity_key.len() + 1);
            assert_eq!(error, EspKeyError::IntegrityKeyLength { expected, actual });
        }
    }
}

/// Lanes are threads that share a key; a handle may be made in one and used in another.
#[test]
fn lanes_in_several_threads_share_a_key() {
    for suite in EspSuite::all() {
        for backend in Backend::available() {
            let key = key(*backend, suite, 5);
            let plain: Vec<_> = (0..100).map(|len| packet(suite, len, 1)).collect();
            let mut expected = plain.clone();
            assert!(all_ok(&seal(&key, &mut expected)));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let mut sealer = EspSealer::from_key(key.clone()).unwrap();
                    let (plain, expected) = (&plain, &expected);
                    scope.spawn(move || {
                        for _ in 0..5 {
                            let mut packets = plain.clone();
                            let mut frames: Vec<_> =
                                packets.iter_mut().map(|bytes| Frame::new(bytes)).collect();
                            sealer.seal(&mut frames);
                            assert_eq!(&packets, expected);
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn a_suite_tells_its_lengths() {
    let suites: Vec<_> = EspSuite::all().collect();
    assert_eq!(suites.len(), 28);
    for suite in suites {
        match suite {
            EspSuite::Cbc { cipher, integrity } => {
                assert_eq!((suite.iv_len(), suite.alignment()), (cipher.block_len(), cipher.block_len()));
                assert_eq!((suite.icv_len(), suite.salt_len()), (integrity.icv_len(), 0));
                assert!(Integrity::ALL.contains(&integrity));
            }
            EspSuite::Gcm { key } => {
                assert_eq!((suite.iv_len(), suite.alignment(), suite.icv_len()), (8, 4, 16));
                assert_eq!(suite.cipher_key_len(), key.key_len() + 4);
            }
        }
    }
}
