//! Diffie-Hellman groups of IKE: MODP by RFC 2409, 3526 and 5114, elliptic curves by RFC 5903.

mod ecp;
mod modp;

use std::fmt;

use openssl::error::ErrorStack;

use crate::{Random, Secret};

/// A Diffie-Hellman group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DhGroup {
    /// Group 1 (RFC 2409 6.1).
    Modp768,
    /// Group 2 (RFC 2409 6.2).
    Modp1024,
    /// Group 5 (RFC 3526 2).
    Modp1536,
    /// Group 14 (RFC 3526 3).
    Modp2048,
    /// Group 15 (RFC 3526 4).
    Modp3072,
    /// Group 16 (RFC 3526 5).
    Modp4096,
    /// Group 24 (RFC 5114 2.3): 2048-bit modulus, subgroup of 256-bit prime order.
    Modp2048_256,
    /// Group 19 (RFC 5903 3.1).
    Ecp256,
    /// Group 20 (RFC 5903 3.2).
    Ecp384,
    /// Group 21 (RFC 5903 3.3).
    Ecp521,
}

/// Why a key agreement failed. All but `Library` are the fault of who chose the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DhError {
    /// A public value has another length than the group asks for.
    #[error("public value of {actual} octets where {expected} are needed")]
    Length {
        /// Octets of a public value of the group.
        expected: usize,
        /// Octets given.
        actual: usize,
    },
    /// A public value y without 1 < y < p-1, or a private value that is zero or too large.
    #[error("value outside the range of the group")]
    OutOfRange,
    /// A public value outside the subgroup of prime order: it would leak bits of the private value.
    #[error("public value outside the subgroup")]
    NotInSubgroup,
    /// Coordinates that solve another equation than the curve's.
    #[error("point not on the curve")]
    NotOnCurve,
    /// The arithmetic library failed: out of memory.
    #[error("big number arithmetic failed")]
    Library,
}

/// An ephemeral private value with its public value. Wiped on drop.
pub struct DhSecret {
    group: DhGroup,
    private: Secret,
    public: Vec<u8>,
}

impl DhGroup {
    /// Every group, in the order of IANA's numbers.
    pub const ALL: [Self; 10] = [
        Self::Modp768,
        Self::Modp1024,
        Self::Modp1536,
        Self::Modp2048,
        Self::Modp3072,
        Self::Modp4096,
        Self::Ecp256,
        Self::Ecp384,
        Self::Ecp521,
        Self::Modp2048_256,
    ];

    /// The group of IANA's "Group Description" number, which phase 1 negotiates.
    pub fn from_iana(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.iana() == number)
    }

    /// IANA's "Group Description" number.
    pub const fn iana(self) -> u16 {
        match self {
            Self::Modp768 => 1,
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::Ecp256 => 19,
            Self::Ecp384 => 20,
            Self::Ecp521 => 21,
            Self::Modp2048_256 => 24,
        }
    }

    /// Octets of a public value: the modulus, or both coordinates of a point.
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp768 => 96,
            Self::Modp1024 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 | Self::Modp2048_256 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
        }
    }

    /// Octets of the shared secret: the modulus, or one coordinate.
    pub const fn shared_len(self) -> usize {
        match self {
            Self::Ecp256 | Self::Ecp384 | Self::Ecp521 => self.public_len() / 2,
            _ => self.public_len(),
        }
    }

    fn arithmetic(self) -> Arithmetic {
        match self {
            Self::Modp768
            | Self::Modp1024
            | Self::Modp1536
            | Self::Modp2048
            | Self::Modp3072
            | Self::Modp4096
            | Self::Modp2048_256 => Arithmetic::Modp(modp::Parameters::of(self)),
            Self::Ecp256 | Self::Ecp384 | Self::Ecp521 => Arithmetic::Ecp(ecp::Curve::of(self)),
        }
    }
}

enum Arithmetic {
    Modp(&'static modp::Parameters),
    Ecp(&'static ecp::Curve),
}

impl DhSecret {
    /// Draws a private value and computes its public value.
    pub fn generate(group: DhGroup, random: &mut dyn Random) -> Result<Self, DhError> {
        let private = match group.arithmetic() {
            Arithmetic::Modp(parameters) => parameters.draw_private(random)?,
            Arithmetic::Ecp(curve) => curve.draw_private(random)?,
        };
        Self::from_private(group, private)
    }

    /// The pair that belongs to a given private value (big-endian), for known-answer tests and recorded sessions.
    pub fn from_private(group: DhGroup, private: Secret) -> Result<Self, DhError> {
        let public = match group.arithmetic() {
            Arithmetic::Modp(parameters) => parameters.public(&private)?,
            Arithmetic::Ecp(curve) => curve.public(&private)?,
        };
        Ok(Self { group, private, public })
    }

    /// The group this value belongs to.
    pub fn group(&self) -> DhGroup {
        self.group
    }

    /// The public value to send, always [`DhGroup::public_len`] octets; of a curve point x followed by y.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret shared with the peer whose public value is given, always [`DhGroup::shared_len`] octets
    /// (leading zeros kept); of a curve point only x.
    ///
    /// The peer's value is checked first: length, 1 < y < p-1 and, where the group has one, the subgroup; or
    /// coordinates below the field's prime and a point on the curve.
    pub fn shared(&self, peer: &[u8]) -> Result<Secret, DhError> {
        let expected = self.group.public_len();
        if peer.len() != expected {
            return Err(DhError::Length { expected, actual: peer.len() });
        }
        match self.group.arithmetic() {
            Arithmetic::Modp(parameters) => parameters.shared(&self.private, peer),
            Arithmetic::Ecp(curve) => curve.shared(&self.private, peer),
        }
    }
}

impl fmt::Debug for DhSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DhSecret").field("group", &self.group).finish_non_exhaustive()
    }
}

impl From<ErrorStack> for DhError {
    fn from(_: ErrorStack) -> Self {
        Self::Library
    }
}
