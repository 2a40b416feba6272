//! Groups modulo a prime.

use std::cmp::Ordering;
use std::sync::OnceLock;

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::{DhError, DhGroup};
use crate::{Random, Secret};

pub(super) struct Parameters {
    modulus: BigNum,
    modulus_minus_one: BigNum,
    generator: BigNum,
    /// Order of the generator's subgroup, where the modulus is not a safe prime and public values can lie outside it.
    subgroup: Option<BigNum>,
    modulus_len: usize,
    private_len: usize,
}

impl Parameters {
    pub(super) fn of(group: DhGroup) -> &'static Self {
        static CACHE: [OnceLock<Parameters>; 7] = [const { OnceLock::new() }; 7];
        // Octets of a private value: at least twice the strength of the modulus in bits (RFC 3526 section 8).
        let (slot, private_len) = match group {
            DhGroup::Modp768 => (0, 32),
            DhGroup::Modp1024 => (1, 32),
            DhGroup::Modp1536 => (2, 32),
            DhGroup::Modp2048 => (3, 40),
            DhGroup::Modp3072 => (4, 48),
            DhGroup::Modp4096 => (5, 56),
            DhGroup::Modp2048_256 => (6, 32),
            DhGroup::Ecp256 | DhGroup::Ecp384 | DhGroup::Ecp521 => {
                unreachable!("a curve has no modulus here")
            }
        };
        CACHE[slot].get_or_init(|| {
            Self::load(group, private_len).expect("constants of the library and of this file are numbers")
        })
    }

    fn load(group: DhGroup, private_len: usize) -> Result<Self, ErrorStack> {
        let two = || BigNum::from_u32(2);
        let (modulus, generator, subgroup) = match group {
            DhGroup::Modp768 => (BigNum::get_rfc2409_prime_768()?, two()?, None),
            DhGroup::Modp1024 => (BigNum::get_rfc2409_prime_1024()?, two()?, None),
            DhGroup::Modp1536 => (BigNum::get_rfc3526_prime_1536()?, two()?, None),
            DhGroup::Modp2048 => (BigNum::get_rfc3526_prime_2048()?, two()?, None),
            DhGroup::Modp3072 => (BigNum::get_rfc3526_prime_3072()?, two()?, None),
            DhGroup::Modp4096 => (BigNum::get_rfc3526_prime_4096()?, two()?, None),
            DhGroup::Modp2048_256 => {
                let group24 = Dh::get_2048_256()?;
                let subgroup = group24.prime_q().map(BigNumRef::to_owned).transpose()?;
                (group24.prime_p().to_owned()?, group24.generator().to_owned()?, subgroup)
            }
            DhGroup::Ecp256 | DhGroup::Ecp384 | DhGroup::Ecp521 => {
                unreachable!("a curve has no modulus here")
            }
        };
        let mut modulus_minus_one = modulus.to_owned()?;
        modulus_minus_one.sub_word(1)?;
        let modulus_len = group.public_len();
        Ok(Self { modulus, modulus_minus_one, generator, subgroup, modulus_len, private_len })
    }

    pub(super) fn draw_private(&self, random: &mut dyn Random) -> Result<Secret, DhError> {
        let mut bytes = Zeroizing::new(vec![0; self.private_len]);
        loop {
            random.fill(&mut bytes);
            let private = Secret::from_slice(&bytes);
            match self.exponent(&private) {
                Ok(_) => return Ok(private),
                Err(DhError::OutOfRange) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn public(&self, private: &Secret) -> Result<Vec<u8>, DhError> {
        let exponent = self.exponent(private)?;
        let power = self.power(&self.generator, &exponent.0)?;
        Ok(power.to_vec_padded(self.modulus_len as i32)?)
    }

    pub(super) fn shared(&self, private: &Secret, peer: &[u8]) -> Result<Secret, DhError> {
        let peer = BigNum::from_slice(peer)?;
        let one = BigNum::from_u32(1)?;
        if peer.ucmp(&one) != Ordering::Greater || peer.ucmp(&self.modulus_minus_one) != Ordering::Less {
            return Err(DhError::OutOfRange);
        }
        if let Some(order) = &self.subgroup
            && self.power(&peer, order)?.ucmp(&one) != Ordering::Equal
        {
            return Err(DhError::NotInSubgroup);
        }
        let exponent = self.exponent(private)?;
        let power = Wiped(self.power(&peer, &exponent.0)?);
        Ok(Secret::new(power.0.to_vec_padded(self.modulus_len as i32)?))
    }

    /// The private value as a number, marked so that the library exponentiates in constant time.
    fn exponent(&self, private: &Secret) -> Result<Wiped, DhError> {
        let mut exponent = Wiped(BigNum::new_secure()?);
        exponent.0.copy_from_slice(private.expose())?;
        exponent.0.set_const_time();
        // Exponents count modulo the order of the subgroup; one that is zero there would make the public value 1.
        let order = self.subgroup.as_ref().unwrap_or(&self.modulus_minus_one);
        if exponent.0.num_bits() == 0 || exponent.0.ucmp(order) != Ordering::Less {
            return Err(DhError::OutOfRange);
        }
        Ok(exponent)
    }

    fn power(&self, base: &BigNumRef, exponent: &BigNumRef) -> Result<BigNum, ErrorStack> {
        let mut power = BigNum::new()?;
        power.mod_exp(base, exponent, &self.modulus, &mut *BigNumContext::new()?)?;
        Ok(power)
    }
}

/// A number that is overwritten before its memory is given back.
pub(super) struct Wiped(pub(super) BigNum);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.clear();
    }
}
