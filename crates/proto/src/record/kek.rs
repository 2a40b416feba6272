//! What both ends of a push keep of a KEK.

use crypto::Secret;
use wire::codec::Result;

use super::names::{read_cipher, read_hash, read_prf, write_cipher, write_hash, write_prf};
use super::octets::{Input, Output};
use crate::push::{Kek, KekSpi};

pub(crate) fn write_kek(output: &mut Output, kek: &Kek) {
    output.raw(&kek.spi.0);
    write_cipher(output, kek.cipher);
    output.counted(kek.key.expose());
    output.counted(kek.iv.expose());
    write_hash(output, kek.hash);
    write_prf(output, kek.acknowledgement);
}

pub(crate) fn read_kek(input: &mut Input<'_>) -> Result<Kek> {
    let spi = KekSpi(input.array("KEK SPI")?);
    let cipher = read_cipher(input)?;
    let key = Secret::from_slice(input.counted("KEK")?);
    let iv = Secret::from_slice(input.counted("IV")?);
    if (key.len(), iv.len()) != (cipher.key_len(), cipher.block_len()) {
        return Err(input.error("KEK"));
    }
    Ok(Kek { spi, cipher, key, iv, hash: read_hash(input)?, acknowledgement: read_prf(input)? })
}
