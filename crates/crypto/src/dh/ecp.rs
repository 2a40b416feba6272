//! Elliptic curves over a prime field.

use std::cmp::Ordering;
use std::sync::OnceLock;

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcPoint, EcPointRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use zeroize::Zeroizing;

use super::modp::Wiped;
use super::{DhError, DhGroup};
use crate::{Random, Secret};

pub(super) struct Curve {
    group: EcGroup,
    order: BigNum,
    prime: BigNum,
    coordinate_len: usize,
}

impl Curve {
    pub(super) fn of(group: DhGroup) -> &'static Self {
        static CACHE: [OnceLock<Curve>; 3] = [const { OnceLock::new() }; 3];
        let (slot, name) = match group {
            DhGroup::Ecp256 => (0, Nid::X9_62_PRIME256V1),
            DhGroup::Ecp384 => (1, Nid::SECP384R1),
            DhGroup::Ecp521 => (2, Nid::SECP521R1),
            _ => unreachable!("only curves come here"),
        };
        CACHE[slot]
            .get_or_init(|| Self::load(name, group.shared_len()).expect("the library knows the NIST curves"))
    }

    fn load(name: Nid, coordinate_len: usize) -> Result<Self, ErrorStack> {
        let group = EcGroup::from_curve_name(name)?;
        let mut context = BigNumContext::new()?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut context)?;
        let (mut prime, mut a, mut b) = (BigNum::new()?, BigNum::new()?, BigNum::new()?);
        group.components_gfp(&mut prime, &mut a, &mut b, &mut context)?;
        Ok(Self { group, order, prime, coordinate_len })
    }

    /// Draws until the value is below the order: at most every second try fails, and no value is likelier than another.
    pub(super) fn draw_private(&self, random: &mut dyn Random) -> Result<Secret, DhError> {
        let mut bytes = Zeroizing::new(vec![0; self.coordinate_len]);
        let excess_bits = self.coordinate_len * 8 - self.order.num_bits() as usize;
        loop {
            random.fill(&mut bytes);
            bytes[0] &= 0xff >> excess_bits;
            let private = Secret::from_slice(&bytes);
            match self.scalar(&private) {
                Ok(_) => return Ok(private),
                Err(DhError::OutOfRange) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn public(&self, private: &Secret) -> Result<Vec<u8>, DhError> {
        let scalar = self.scalar(private)?;
        let mut point = EcPoint::new(&self.group)?;
        point.mul_generator2(&self.group, &scalar.0, &mut *BigNumContext::new()?)?;
        let (x, y) = self.coordinates(&point)?;
        let mut public = self.padded(&x.0)?;
        public.extend_from_slice(&self.padded(&y.0)?);
        Ok(public)
    }

    pub(super) fn shared(&self, private: &Secret, peer: &[u8]) -> Result<Secret, DhError> {
        let (x, y) = peer.split_at(self.coordinate_len);
        let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
        if x.ucmp(&self.prime) != Ordering::Less || y.ucmp(&self.prime) != Ordering::Less {
            return Err(DhError::OutOfRange);
        }
        let mut context = BigNumContext::new()?;
        let mut peer = EcPoint::new(&self.group)?;
        // The library refuses coordinates that are not on the curve, and leaves errors in its queue when it does.
        if peer.set_affine_coordinates_gfp(&self.group, &x, &y, &mut context).is_err()
            || !peer.is_on_curve(&self.group, &mut context)?
            || peer.is_infinity(&self.group)
        {
            return Err(DhError::NotOnCurve);
        }
        let scalar = self.scalar(private)?;
        let mut product = EcPoint::new(&self.group)?;
        product.mul2(&self.group, &peer, &scalar.0, &mut context)?;
        // The order is prime and the scalar below it, so the product is never the point at infinity.
        //= https://www.rfc-editor.org/rfc/rfc5903#section-7
        //# The Diffie-Hellman shared secret value consists of the x value of the
        //# Diffie-Hellman common value.
        let (x, _y) = self.coordinates(&product)?;
        Ok(Secret::new(self.padded(&x.0)?))
    }

    fn scalar(&self, private: &Secret) -> Result<Wiped, DhError> {
        let mut scalar = Wiped(BigNum::new_secure()?);
        scalar.0.copy_from_slice(private.expose())?;
        scalar.0.set_const_time();
        if scalar.0.num_bits() == 0 || scalar.0.ucmp(&self.order) != Ordering::Less {
            return Err(DhError::OutOfRange);
        }
        Ok(scalar)
    }

    fn coordinates(&self, point: &EcPointRef) -> Result<(Wiped, Wiped), ErrorStack> {
        let (mut x, mut y) = (Wiped(BigNum::new()?), Wiped(BigNum::new()?));
        point.affine_coordinates_gfp(&self.group, &mut x.0, &mut y.0, &mut *BigNumContext::new()?)?;
        Ok((x, y))
    }

    fn padded(&self, number: &BigNum) -> Result<Vec<u8>, ErrorStack> {
        number.to_vec_padded(self.coordinate_len as i32)
    }
}
