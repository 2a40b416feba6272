//! GROUPKEY-PUSH-ACK against the words of RFC 8263.

use crypto::{CbcCipher, Hash};
use proto::push::{
    Acknowledgement, AcknowledgementError, AcknowledgementKeys, AcknowledgementLength, AcknowledgementPrf,
    Kek, acknowledged_kek_spi_of,
};
use wire::isakmp::Identity;

use super::support::{kek, push};

fn keys(kek: &Kek) -> AcknowledgementKeys {
    kek.acknowledgement_keys().expect("the KEK asks for acknowledgements")
}

fn member() -> Identity<'static> {
    Identity::address([192, 0, 2, 7].into())
}

/// The message written octet by octet, with the hash computed from the text of RFC 8263 section 3.2.
fn by_hand(kek: &Kek, hash: Hash, length: u16, sequence: u32) -> Vec<u8> {
    let seq_and_id =
        [&[5, 0, 0, 8][..], &sequence.to_be_bytes(), &[0, 0, 0, 12, 1, 0, 0, 0, 192, 0, 2, 7]].concat();
    let mut base_key = kek.key.expose().to_vec();
    //= https://www.rfc-editor.org/rfc/rfc8263#section-3.2
    //= type=test
    //# If the base_key is smaller
    //# than the prf block size (i.e., 512 bits for PRF-HMAC-SHA-256),
    //# then it is zero-filled to the right, as specified in Section 2.1.2
    //# of [RFC4868].
    base_key.resize(hash.block_len(), 0);
    let ack_key = hash.prf(&base_key, &[b"GROUPKEY-PUSH ACK\0", &kek.spi.0, &length.to_be_bytes()]);
    let tag = hash.prf(ack_key.expose(), &[&seq_and_id]);
    let hash_payload = [&[18, 0, 0, 4 + tag.len() as u8], tag.expose()].concat();
    let total = (28 + hash_payload.len() + seq_and_id.len()) as u32;
    [&kek.spi.0[..], &[8, 0x10, 35, 0, 0, 0, 0, 0], &total.to_be_bytes(), &hash_payload, &seq_and_id].concat()
}

#[test]
fn an_acknowledgement_is_what_rfc_8263_says_octet_by_octet() {
    for (prf, hash, length) in
        [(AcknowledgementPrf::Sha256, Hash::Sha256, 512), (AcknowledgementPrf::Sha512, Hash::Sha512, 1024)]
    {
        let mut kek = kek(8, CbcCipher::Aes128);
        kek.acknowledgement = Some(prf);
        let datagram = keys(&kek).seal(kek.spi, 0x0102_0304, &member()).unwrap();
        assert_eq!(datagram, by_hand(&kek, hash, length, 0x0102_0304));
        assert_eq!(acknowledged_kek_spi_of(&datagram), Some(kek.spi));
        let read = Acknowledgement::parse(&datagram).unwrap();
        assert_eq!((read.spi, read.sequence, &read.member), (kek.spi, 0x0102_0304, &member()));
        assert_eq!(read.verify(&keys(&kek)), Ok(AcknowledgementLength::PrfBlock));
    }
}

#[test]
fn the_other_reading_of_the_length_is_accepted_and_told_apart() {
    for (prf, hash, length) in
        [(AcknowledgementPrf::Sha256, Hash::Sha256, 256), (AcknowledgementPrf::Sha512, Hash::Sha512, 512)]
    {
        let mut kek = kek(9, CbcCipher::TripleDes);
        kek.acknowledgement = Some(prf);
        let datagram = by_hand(&kek, hash, length, 3);
        let read = Acknowledgement::parse(&datagram).unwrap();
        assert_eq!(read.verify(&keys(&kek)), Ok(AcknowledgementLength::PrfOutput));
    }
}

#[test]
fn an_acknowledgement_under_another_kek_does_not_verify() {
    let (first, second) = (kek(10, CbcCipher::Aes128), kek(11, CbcCipher::Aes128));
    let datagram = keys(&first).seal(second.spi, 1, &member()).unwrap();
    assert_eq!(
        Acknowledgement::parse(&datagram).unwrap().verify(&keys(&second)),
        Err(AcknowledgementError::Hash)
    );
}

#[test]
fn a_changed_or_cut_acknowledgement_does_not_verify() {
    let kek = kek(12, CbcCipher::Aes128);
    let keys = keys(&kek);
    let datagram = keys.seal(kek.spi, 1, &Identity::address([0x20; 16].into())).unwrap();
    for length in 0..datagram.len() {
        assert_eq!(Acknowledgement::parse(&datagram[..length]), Err(AcknowledgementError::Truncated));
    }
    let longer = [&datagram[..], &[0]].concat();
    assert_eq!(Acknowledgement::parse(&longer), Err(AcknowledgementError::Truncated));
    for bit in 16 * 8..datagram.len() * 8 {
        let mut changed = datagram.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = Acknowledgement::parse(&changed) {
            assert_eq!(read.verify(&keys), Err(AcknowledgementError::Hash), "bit {bit}");
        }
    }
}

#[test]
fn a_push_is_not_an_acknowledgement_of_itself() {
    let datagram = push(&kek(13, CbcCipher::Aes128), 1);
    assert_eq!(acknowledged_kek_spi_of(&datagram), None);
    assert_eq!(Acknowledgement::parse(&datagram), Err(AcknowledgementError::Header("exchange type")));
}
