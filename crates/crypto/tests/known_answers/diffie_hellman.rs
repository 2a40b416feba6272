//! Diffie-Hellman: RFC 5903 section 8, RFC 5114 appendix A.3, and MODP values made with Python's integers on primes
//! recomputed from the formulas of RFC 2409 and 3526.

use crypto::{DhError, DhGroup, DhSecret, Hash, Random, Secret, SeededRandom};
use hex_literal::hex;

struct Case {
    group: DhGroup,
    initiator: &'static [u8],
    initiator_public: &'static [u8],
    responder: &'static [u8],
    responder_public: &'static [u8],
    shared: &'static [u8],
}

fn check(cases: &[Case]) {
    for case in cases {
        let initiator = DhSecret::from_private(case.group, Secret::from_slice(case.initiator)).unwrap();
        let responder = DhSecret::from_private(case.group, Secret::from_slice(case.responder)).unwrap();
        assert_eq!(initiator.public(), case.initiator_public, "{:?}", case.group);
        assert_eq!(responder.public(), case.responder_public, "{:?}", case.group);
        assert_eq!(initiator.shared(responder.public()).unwrap().expose(), case.shared, "{:?}", case.group);
        assert_eq!(responder.shared(initiator.public()).unwrap().expose(), case.shared, "{:?}", case.group);
    }
}

#[test]
fn curves_match_rfc_5903() {
    check(&[
        Case {
            group: DhGroup::Ecp256,
            initiator: &hex!("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433"),
            initiator_public: &hex!(
                "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252"
                "d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3"
            ),
            responder: &hex!("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53"),
            responder_public: &hex!(
                "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e"
                "8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
            ),
            shared: &hex!("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"),
        },
        Case {
            group: DhGroup::Ecp384,
            initiator: &hex!(
                "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee"
                "3faef896783ab194"
            ),
            initiator_public: &hex!(
                "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4"
                "c88732aee95f41aa9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38e"
                "eb9fcff3c2c947dae69b4c634573a81c"
            ),
            responder: &hex!(
                "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2"
                "960e4bd55a7448fc"
            ),
            responder_public: &hex!(
                "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def9"
                "6fda41d0774a3571dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1ff"
                "f83fa40142209dff5eaad96db9e6386c"
            ),
            shared: &hex!(
                "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d0"
                "9cf5d4a270f59746"
            ),
        },
        Case {
            group: DhGroup::Ecp521,
            initiator: &hex!(
                "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c295"
                "2c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52"
            ),
            initiator_public: &hex!(
                "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e38"
                "0aeae57c2d107564941885942af5a7f4601723c4195d176ced3e017cae20b6641d2eeb695786d8c9"
                "46146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f15"
                "07438bf01beb6ca3926f9582"
            ),
            responder: &hex!(
                "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757"
                "a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9"
            ),
            responder_public: &hex!(
                "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e"
                "95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f015c68226383956e3bd066e797b6"
                "23c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb57091f47"
                "32296579ab44fcd17f0fc56a"
            ),
            shared: &hex!(
                "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa24"
                "0a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea"
            ),
        },
    ]);
}

#[test]
fn group_24_matches_rfc_5114() {
    check(&[Case {
        group: DhGroup::Modp2048_256,
        initiator: &hex!("0881382cdb87660c6dc13e614938d5b9c8b2f248581cc5e31b35454397fce50e"),
        initiator_public: &hex!(
            "2e9380c8323af97545bc4941deb0ec3742c62fe0ece824a6abdbe66c59bee0242911bfb967235ceb"
            "a35ae13e4ec752be630b92dc4bde2847a9c62cb8152745421fb7eb60a63c0fe9159fcce726ce7cd8"
            "523d7450667ef840e4919121eb5f01c8c9b0d3d648a93bfb75689e8244ac134af544711ce79a02dc"
            "c34226684780dddcb498594106c37f5bc79856487af5ab022a2e5e42f09897c1a85a11ea0212af04"
            "d9b4cebc937c3c1a3e15a8a0342e337615c84e7fe3b8b9b87fb1e73a15af12a30d746e06dfc34f29"
            "0d797ce51aa13aa785bf6658aff5e4b093003cbeaf665b3c2e113a3a4e905269341dc0711426685f"
            "4ef37e868a8126ff3f2279b57ca67e29"
        ),
        responder: &hex!("7d62a7e3ef36de617b13d1afb82c780d83a23bd4ee6705645121f371f546a53d"),
        responder_public: &hex!(
            "575f0351bd2b1b817448bdf87a6c362c1e289d3903a30b9832c5741fa250363e7acbc7f77f3dacbc"
            "1f131add8e03367eff8fbbb3e1c5784424809b25afe4d2262a1a6fd2fab64105ca30a674e07f7809"
            "852088632fc049233791ad4edd083a978b883ee618bc5e0dd047415f2d95e683cf14826b5fbe10d3"
            "ce41c6c120c78ab20008c698bf7f0bcab9d7f407bed0f43afb2970f57f8d12043963e66ddd320d59"
            "9ad9936c8f44137c08b180ec5e985cebe186f3d549677e80607331ee17af3380a725b0782317d7dd"
            "43f59d7af9568a9bb63a84d365f92244ed120988219302f42924c7ca90b89d24f71b0ab697823d7d"
            "eb1aff5b0e8e4a45d49f7f53757e1913"
        ),
        shared: &hex!(
            "86c70bf8d0bb81bb01078a17219cb7d27203db2a19c877f1d1f19fd7d77ef22546a68f005ad52dc8"
            "4553b78fc60330be51ea7c0672cac1515e4b35c047b9a551b88f39dc26da14a09ef74774d47c762d"
            "d177f9ed5bc2f11e52c879bd95098504cd9eecd8a8f9b3efbd1f008ac5853097d9d1837f2b18f77c"
            "d7be01af80a7c7b5ea3ca54cc02d0c116fee3f95bb87399385875d7e86747e676e728938acbff709"
            "8e05be4dcfb24052b83aeffb14783f029adbde7f53fae92084224090e007cee94d4bf2bace9ffd4b"
            "57d2af7c724d0caa19bf0501f6f17b4aa10f425e3ea76080b4b9d6b3cefea115b2ceb8789bb8a3b0"
            "ea87febe63b6c8f846ec6db0c26c5d7c"
        ),
    }]);
}

/// Every shared value here begins with a zero octet, which must stay.
#[test]
fn modp_groups_match_an_independent_computation_and_keep_leading_zeros() {
    let cases = [
        (
            DhGroup::Modp768,
            hex!("5c050206f7f8ad76c192eca49422dd320a0876466a9066df4a2c20140653991e"),
            hex!("6e5f71bf7e44c4a5d1a7c42fd378748e667a662257923f92bce211d3ae6323d5"),
            hex!("244758878aa4e2ab3723c2a91da84449e4cfd2ce582ff5d8141f67ed9195c2a4"),
            hex!("8961b46fdd58dc77cf4204dab0eaa37cdc9a2ee29a82c44a6bc8cdc09b3ff727"),
        ),
        (
            DhGroup::Modp1024,
            hex!("c46cc2b95111a98f5eaf728882d45094165c3578091d2d4c8181d2c915221fd9"),
            hex!("367b1a990905377a8315b20b1eb4c57ccb90164f5880e52a02e50638e2bbd66c"),
            hex!("d604c2aa988c39c2b163bc52667ebb1a68d3b686265983222ccce90df52cdd52"),
            hex!("d7b05d0bcf3f4012c688260304a94b5deff92de919b02ad438e2d838d1f010e9"),
        ),
        (
            DhGroup::Modp1536,
            hex!("a752f965a55180eb94b730b6186b6997d765504d8d65f26e9d3b4aa93204003c"),
            hex!("1279c47f198405b01cfd430780c8081313c5252c6d0c0f389610518511237df0"),
            hex!("77998273066fe600e516cb952d10d16da7e062b0539863bf0731c3708dd751f1"),
            hex!("37ce7b302bb17a23fed86634941db8512d874f0b255c932c8839f7e52d7c2103"),
        ),
        (
            DhGroup::Modp2048,
            hex!("80cd3fa2571cf826c88c5bf3d18b5b9457342e3054dc9b808faf2e727da2039f"),
            hex!("77d1deb8fc285365f88c75255284fbbc3d41bd6439123f7072e1e73cd0da1bdd"),
            hex!("bebeac62db6e441984da45a30e5cb0458acc3eb8cbb855fe1e130e38d639f6a2"),
            hex!("8f94944184418b6a712572e18f0329b008ba4e69f694e25e0c2aa8f95810a27c"),
        ),
        (
            DhGroup::Modp3072,
            hex!("023429971821e30db54ede2d4da68dffd98e45bcacecda6f245503eb58f10fd1"),
            hex!("5a144799c4cfd76dff41762ee2b8b858cc8f532c1e19110a562542673442e719"),
            hex!("9ccf2a8c48ab063457007f4e018358977295f5fbf7dac61c828f39c955e69b4d"),
            hex!("98e51af3320e7218d330d15421bb899ed9b818360f105ad699479aa3d221a505"),
        ),
        (
            DhGroup::Modp4096,
            hex!("ad469c310700b688cdc57324f40cb880e955a4196967f42f4bb240a1dcf6e801"),
            hex!("840dfd8c00263e06f748fb4df5385ad64ebc3661e0a58775358894eafd230d81"),
            hex!("189ba8635b4f7d5d23754ef55adbd680fe478fb49e18830cc232998b738ad44e"),
            hex!("0cbf1df7f108bd3c82db9d17fcd18123f799eaae3f3b46cb8c4a0b8d98f077f4"),
        ),
    ];
    for (group, initiator, responder, public_hash, shared_hash) in cases {
        let initiator = DhSecret::from_private(group, Secret::from_slice(&initiator)).unwrap();
        let responder = DhSecret::from_private(group, Secret::from_slice(&responder)).unwrap();
        assert_eq!(*Hash::Sha256.digest(&[initiator.public()]), public_hash, "{group:?}");
        let shared = initiator.shared(responder.public()).unwrap();
        assert_eq!((shared.len(), shared.expose()[0]), (group.shared_len(), 0), "{group:?}");
        assert_eq!(*Hash::Sha256.digest(&[shared.expose()]), shared_hash, "{group:?}");
        assert_eq!(responder.shared(initiator.public()).unwrap(), shared, "{group:?}");
    }
}

#[test]
fn a_coordinate_keeps_its_leading_zero() {
    let initiator = hex!("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
    let responder = hex!("d022a818c130d79297ce26d5946bb39c481d31c402a4ebfc9a94e8cb0bc2a67c");
    let initiator = DhSecret::from_private(DhGroup::Ecp256, Secret::from_slice(&initiator)).unwrap();
    let responder = DhSecret::from_private(DhGroup::Ecp256, Secret::from_slice(&responder)).unwrap();
    let shared = initiator.shared(responder.public()).unwrap();
    assert_eq!(shared.expose(), hex!("00aab63f981cc40e2a3502a39a1c7dc232fb6b0e3cf458aaf6f8afd5a97e6d5f"));
    assert_eq!(shared, responder.shared(initiator.public()).unwrap());
}

#[test]
fn both_sides_agree_in_every_group() {
    let mut random = SeededRandom::new(1);
    for group in DhGroup::ALL {
        let initiator = DhSecret::generate(group, &mut random).unwrap();
        let responder = DhSecret::generate(group, &mut random).unwrap();
        assert_eq!(initiator.group(), group);
        assert_eq!(initiator.public().len(), group.public_len());
        assert_ne!(initiator.public(), responder.public());
        let shared = initiator.shared(responder.public()).unwrap();
        assert_eq!(shared.len(), group.shared_len());
        assert_eq!(shared, responder.shared(initiator.public()).unwrap());
    }
}

#[test]
fn group_numbers_are_those_of_iana() {
    for group in DhGroup::ALL {
        assert_eq!(DhGroup::from_iana(group.iana()), Some(group));
    }
    assert_eq!(DhGroup::ALL.map(DhGroup::iana), [1, 2, 5, 14, 15, 16, 19, 20, 21, 24]);
    for unknown in [0, 3, 4, 6, 13, 17, 18, 22, 23, 25, 31, 0xffff] {
        assert_eq!(DhGroup::from_iana(unknown), None);
    }
}

#[test]
fn degenerate_public_values_are_refused_in_every_modp_group() {
    let mut random = SeededRandom::new(2);
    for group in DhGroup::ALL {
        if group.shared_len() != group.public_len() {
            continue;
        }
        let secret = DhSecret::generate(group, &mut random).unwrap();
        let mut value = vec![0; group.public_len()];
        assert_eq!(secret.shared(&value), Err(DhError::OutOfRange), "{group:?}: 0");
        *value.last_mut().unwrap() = 1;
        assert_eq!(secret.shared(&value), Err(DhError::OutOfRange), "{group:?}: 1");
        value.fill(0xff);
        assert_eq!(secret.shared(&value), Err(DhError::OutOfRange), "{group:?}: above p");
        let expected = group.public_len();
        assert_eq!(secret.shared(&value[1..]), Err(DhError::Length { expected, actual: expected - 1 }));
        value.push(0);
        assert_eq!(secret.shared(&value), Err(DhError::Length { expected, actual: expected + 1 }));
        assert_eq!(secret.shared(&[]), Err(DhError::Length { expected, actual: 0 }));
    }
}

#[test]
fn the_border_of_the_range_is_exact() {
    let secret = DhSecret::generate(DhGroup::Modp1024, &mut SeededRandom::new(3)).unwrap();
    let mut value = hex!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22"
        "514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6"
        "f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece65382"
        "0000000000000000"
    );
    // From p + 1 down: p + 1, p and p - 1 are refused, p - 2 is a value like others.
    for _ in 0..3 {
        assert_eq!(secret.shared(&value), Err(DhError::OutOfRange));
        decrement(&mut value);
    }
    assert!(secret.shared(&value).is_ok());
    let mut two = [0; 128];
    two[127] = 2;
    assert_eq!(secret.shared(&two).unwrap().expose(), secret.public());
}

fn decrement(number: &mut [u8]) {
    for octet in number.iter_mut().rev() {
        let (less, borrow) = octet.overflowing_sub(1);
        *octet = less;
        if !borrow {
            return;
        }
    }
}

#[test]
fn group_24_refuses_values_outside_its_subgroup() {
    let secret = DhSecret::generate(DhGroup::Modp2048_256, &mut SeededRandom::new(4)).unwrap();
    let mut refused = 0;
    for small in 2..=20 {
        let mut value = [0; 256];
        value[255] = small;
        refused += usize::from(secret.shared(&value) == Err(DhError::NotInSubgroup));
    }
    assert_eq!(refused, 19, "a value of the subgroup is one in 2^1792");
}

#[test]
fn points_that_are_not_on_the_curve_are_refused() {
    let mut random = SeededRandom::new(5);
    for group in [DhGroup::Ecp256, DhGroup::Ecp384, DhGroup::Ecp521] {
        let secret = DhSecret::generate(group, &mut random).unwrap();
        let peer = DhSecret::generate(group, &mut random).unwrap();
        let len = group.public_len();

        let mut changed = peer.public().to_vec();
        changed[len - 1] ^= 1;
        assert_eq!(secret.shared(&changed), Err(DhError::NotOnCurve), "{group:?}: y changed");
        assert_eq!(secret.shared(&vec![0; len]), Err(DhError::NotOnCurve), "{group:?}: zeros");
        assert_eq!(secret.shared(&vec![0xff; len]), Err(DhError::OutOfRange), "{group:?}: above the prime");
        let (expected, actual) = (len, len / 2);
        assert_eq!(secret.shared(&peer.public()[..len / 2]), Err(DhError::Length { expected, actual }));
        assert!(secret.shared(peer.public()).is_ok(), "errors of the library do not linger");
    }
}

#[test]
fn private_values_out_of_range_are_refused() {
    for group in DhGroup::ALL {
        let zero = DhSecret::from_private(group, Secret::from_slice(&[0; 16]));
        assert_eq!(zero.unwrap_err(), DhError::OutOfRange, "{group:?}: zero");
        let large = DhSecret::from_private(group, Secret::new(vec![0xff; group.public_len()]));
        assert_eq!(large.unwrap_err(), DhError::OutOfRange, "{group:?}: too large");
    }
}

/// A source whose first values are out of range for the curve's order.
struct Ones(SeededRandom, u8);

impl Random for Ones {
    fn fill(&mut self, bytes: &mut [u8]) {
        if self.1 > 0 {
            self.1 -= 1;
            bytes.fill(0xff);
        } else {
            self.0.fill(bytes);
        }
    }
}

#[test]
fn private_values_are_drawn_again_until_they_are_in_range() {
    for group in [DhGroup::Ecp256, DhGroup::Ecp384, DhGroup::Ecp521, DhGroup::Modp2048_256] {
        let secret = DhSecret::generate(group, &mut Ones(SeededRandom::new(6), 3)).unwrap();
        assert_eq!(secret.public(), DhSecret::generate(group, &mut SeededRandom::new(6)).unwrap().public());
    }
}
