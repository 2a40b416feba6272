//! The prf, hash and CBC of IKE on the phase 1 of a recorded session of the GDOI reference implementation.

use crypto::{CbcCipher, Hash};
use hex_literal::hex;

const INITIATOR_PUBLIC: &[u8] = &hex!(
    "dc3805d383333156c9377ebb9edcbf1ef47a356835f919a1c001bced4200a7f1ea7568426f179a39"
    "2bec73b5a5ab53a42e23f6f8d267445ee4162bdc0383bf9f413288a5ca001eb003f4ac016aca97bb"
    "b2141f25762db6bd4c2553a9a053dfa7a4f3ea2147859eba999122daa3959ff737b276fd1d610b88"
    "f073296d0899c928"
);
const RESPONDER_PUBLIC: &[u8] = &hex!(
    "a7af41117b9995e660aee99e47a6768e643adad7a97dcb1b702ce45215f17e6b965190a9992bcfaf"
    "4d60ec3dffa36cc666c47b8fc54057d363a9fdd3f21c6f2082e522652ffcc71d6831fd89406d3594"
    "d049da957bd84063e0b7e5abbe9521b8fe09fea9731031b8f6a47b645e820c6d139f6411369bcb52"
    "dab74e37aeacc2e1"
);
const SHARED: &[u8] = &hex!(
    "e78e53b2bb018782ec0d0626c4e31b2f261b235d897a76391f8017f73775f02049d794b8a8da3bd0"
    "6c7b0852dae2ed0c3dc639ca9d2608d0739606bce618a703bf40a86d7df260f5c1fb2bb64bb8a8a1"
    "6ea350d32dbcd2532e16799b1eaae30d30147fc249c131699f18f9cce0d441ace0067fb5e150c978"
    "96b1dd2f27023d7f"
);

#[test]
fn the_recorded_session_derives_the_same_keys_and_decrypts() {
    let (initiator_nonce, responder_nonce) =
        (hex!("8dabce1d9668bad7f285a0909fe43631"), hex!("f4eab493b1a925074050d5ba598f3613"));
    let cookies = hex!("a91b9d5035d8fc4f272325e695db688b");
    let hash = Hash::Sha1;

    let skeyid = hash.prf(b"mekmitasdigoat", &[&initiator_nonce, &responder_nonce]);
    assert_eq!(skeyid.expose(), hex!("0a1ce288962c79cef60cf60d5d446fd5aa233cce"));
    let skeyid_d = hash.prf(skeyid.expose(), &[SHARED, &cookies, &[0]]);
    assert_eq!(skeyid_d.expose(), hex!("a0196db2779136c544a59880acb75ed434bc82de"));
    let skeyid_a = hash.prf(skeyid.expose(), &[skeyid_d.expose(), SHARED, &cookies, &[1]]);
    assert_eq!(skeyid_a.expose(), hex!("83547d80355b03c1a3b332d80d6d60d8d0aedc49"));
    let skeyid_e = hash.prf(skeyid.expose(), &[skeyid_a.expose(), SHARED, &cookies, &[2]]);
    assert_eq!(skeyid_e.expose(), hex!("0ce6eb14700dc3b1030da7c712eb684e065f3b0c"));

    let first = hash.prf(skeyid_e.expose(), &[&[0]]);
    let second = hash.prf(skeyid_e.expose(), &[first.expose()]);
    let key = [first.expose(), &second.expose()[..4]].concat();
    assert_eq!(key, hex!("80cdab03c1105d2b48ab436dde73f5b1bbbe55449c1efe69"));

    let iv = hash.digest(&[INITIATOR_PUBLIC, RESPONDER_PUBLIC]);
    let ciphertext = hex!(
        "1dbe68d89cb1faddac9ce75592ebee8722241f8f0b3893fbd51cfa4a67bfc2d63387a344db9a05ab"
        "d81b2da07fde6d173fd77a41a3112203519c87574c1fe705"
    );
    let mut data = ciphertext;
    CbcCipher::TripleDes.decrypt_in_place(&key, &iv[..8], &mut data).unwrap();
    assert_eq!(
        data,
        hex!(
            "0800000c010000007f0000010b000018a9b2433162a99ee60736c4f5de6e1a591a415f5a0000001c"
            "0000000101106002a91b9d5035d8fc4f272325e695db688b"
        )
    );
    CbcCipher::TripleDes.encrypt_in_place(&key, &iv[..8], &mut data).unwrap();
    assert_eq!(data, ciphertext);
}
