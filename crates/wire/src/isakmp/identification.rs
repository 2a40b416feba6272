//! Identification payload (RFC 2407 section 4.6.2) and the identities in it, which SAK and SAT payloads hold as well.
//!
//! ```text
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !   ID Type     !  Protocol ID  !             Port              !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     ~                     Identification Data                       ~
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::codec::{Reader, Result, Writer};
use crate::registry::{IdType, PayloadType};
use crate::text::Hex;

use super::PayloadBody;

/// A type of identity and its data, unjudged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity<'a> {
    /// How `data` is to be read.
    pub kind: IdType,
    /// The identification data.
    pub data: Cow<'a, [u8]>,
}

/// An identity does not say what the caller needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The data has not the length that its type demands.
    #[error("identification data has the wrong length for {0}")]
    Length(IdType),
    /// The mask of a subnet has holes, or the range is not a prefix.
    #[error("{0} is not a prefix")]
    NotAPrefix(IdType),
    /// The type does not name addresses.
    #[error("{0} does not name addresses")]
    NotAddresses(IdType),
}

impl<'a> Identity<'a> {
    /// One address.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::new(IdType::IPV4_ADDR, address.octets().to_vec()),
            IpAddr::V6(address) => Self::new(IdType::IPV6_ADDR, address.octets().to_vec()),
        }
    }

    /// A subnet. Host bits are cleared.
    pub fn subnet(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(prefix) => Self::new(
                IdType::IPV4_ADDR_SUBNET,
                [prefix.network().octets(), prefix.netmask().octets()].concat(),
            ),
            IpNet::V6(prefix) => Self::new(
                IdType::IPV6_ADDR_SUBNET,
                [prefix.network().octets(), prefix.netmask().octets()].concat(),
            ),
        }
    }

    /// A group number (RFC 6407 section 5.1).
    pub fn key_id(group: u32) -> Self {
        Self::new(IdType::KEY_ID, group.to_be_bytes().to_vec())
    }

    /// A fully qualified domain name.
    pub fn fqdn(name: impl Into<String>) -> Self {
        Self::new(IdType::FQDN, name.into().into_bytes())
    }

    /// A user at a domain, such as `user@example.com`.
    pub fn user_fqdn(name: impl Into<String>) -> Self {
        Self::new(IdType::USER_FQDN, name.into().into_bytes())
    }

    /// Any identity.
    pub fn new(kind: IdType, data: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { kind, data: data.into() }
    }

    /// The same identity, owning its data.
    pub fn into_owned(self) -> Identity<'static> {
        Identity { kind: self.kind, data: Cow::Owned(self.data.into_owned()) }
    }

    /// The address, if the identity is a single one.
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.kind {
            IdType::IPV4_ADDR => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*self.data).ok()?).into()),
            IdType::IPV6_ADDR => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&*self.data).ok()?).into()),
            _ => None,
        }
    }

    /// The name, if the identity is a printable FQDN or user FQDN.
    pub fn as_name(&self) -> Option<&str> {
        match self.kind {
            IdType::FQDN | IdType::USER_FQDN => {
                let name = std::str::from_utf8(&self.data).ok()?;
                name.chars().all(|c| c.is_ascii_graphic()).then_some(name)
            }
            _ => None,
        }
    }

    /// The group number, if the identity is a key ID of four octets.
    pub fn as_group_number(&self) -> Option<u32> {
        match self.kind {
            IdType::KEY_ID => Some(u32::from_be_bytes((*self.data).try_into().ok()?)),
            _ => None,
        }
    }

    /// The object identifier and what it needs besides, both in DER (RFC 8052 section 2.1), if the identity is one.
    pub fn as_oid(&self) -> Option<(&[u8], &[u8])> {
        if self.kind != IdType::OID {
            return None;
        }
        let mut reader = Reader::new(&self.data);
        let oid_length = reader.u8("OID Length").ok()?;
        let oid = reader.take(oid_length.into(), "OID").ok()?;
        let payload_length = reader.u16("OID-Specific Payload Length").ok()?;
        let payload = reader.take(payload_length.into(), "OID-Specific Payload").ok()?;
        reader.is_empty().then_some((oid, payload))
    }

    /// The addresses as a prefix, with host bits cleared.
    ///
    /// No data at all is any address of the family: RFC 6407 section 5.5.1 lets a source be empty for groups with
    /// many senders.
    pub fn prefix(&self) -> std::result::Result<IpNet, IdentityError> {
        match self.kind {
            IdType::IPV4_ADDR | IdType::IPV4_ADDR_SUBNET if self.data.is_empty() => {
                Ok(Ipv4Net::default().into())
            }
            IdType::IPV6_ADDR | IdType::IPV6_ADDR_SUBNET if self.data.is_empty() => {
                Ok(Ipv6Net::default().into())
            }
            IdType::IPV4_ADDR | IdType::IPV6_ADDR => match self.as_address() {
                Some(address) => Ok(address.into()),
                None => Err(IdentityError::Length(self.kind)),
            },
            IdType::IPV4_ADDR_SUBNET => {
                let (address, mask) = self.halves::<4>()?;
                let prefix = Ipv4Net::with_netmask(address.into(), mask.into());
                prefix.map(|prefix| prefix.trunc().into()).map_err(|_| IdentityError::NotAPrefix(self.kind))
            }
            IdType::IPV6_ADDR_SUBNET => {
                let (address, mask) = self.halves::<16>()?;
                let prefix = Ipv6Net::with_netmask(address.into(), mask.into());
                prefix.map(|prefix| prefix.trunc().into()).map_err(|_| IdentityError::NotAPrefix(self.kind))
            }
            IdType::IPV4_ADDR_RANGE => {
                let (first, last) = self.halves::<4>()?;
                let (first, last) = (u32::from_be_bytes(first), u32::from_be_bytes(last));
                let length = (first ^ last).leading_zeros() as u8;
                let prefix = Ipv4Net::new_assert(first.into(), length);
                self.exact(
                    u32::from(prefix.network()) == first && u32::from(prefix.broadcast()) == last,
                    prefix,
                )
            }
            IdType::IPV6_ADDR_RANGE => {
                let (first, last) = self.halves::<16>()?;
                let (first, last) = (u128::from_be_bytes(first), u128::from_be_bytes(last));
                let length = (first ^ last).leading_zeros() as u8;
                let prefix = Ipv6Net::new_assert(first.into(), length);
                self.exact(
                    u128::from(prefix.network()) == first && u128::from(prefix.broadcast()) == last,
                    prefix,
                )
            }
            _ => Err(IdentityError::NotAddresses(self.kind)),
        }
    }

    /// Whether the data has a length that its type allows.
    pub fn has_plausible_length(&self) -> bool {
        match self.kind {
            IdType::IPV4_ADDR => self.data.len() == 4,
            IdType::IPV4_ADDR_SUBNET | IdType::IPV4_ADDR_RANGE => self.data.len() == 8,
            IdType::IPV6_ADDR => self.data.len() == 16,
            IdType::IPV6_ADDR_SUBNET | IdType::IPV6_ADDR_RANGE => self.data.len() == 32,
            _ => true,
        }
    }

    fn halves<const N: usize>(&self) -> std::result::Result<([u8; N], [u8; N]), IdentityError> {
        let (first, second) = self.data.split_at_checked(N).ok_or(IdentityError::Length(self.kind))?;
        match (first.try_into(), second.try_into()) {
            (Ok(first), Ok(second)) => Ok((first, second)),
            _ => Err(IdentityError::Length(self.kind)),
        }
    }

    fn exact(&self, exact: bool, prefix: impl Into<IpNet>) -> std::result::Result<IpNet, IdentityError> {
        if exact { Ok(prefix.into()) } else { Err(IdentityError::NotAPrefix(self.kind)) }
    }
}

/// The value alone where it has a customary form, else type and octets, or octets alone in the alternate form; never
/// more than a line.
impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.as_address() {
            return write!(f, "{address}");
        }
        if let Some(name) = self.as_name() {
            return write!(f, "{:.255}", name);
        }
        if let Some(group) = self.as_group_number() {
            return write!(f, "{group}");
        }
        if let Some((oid, payload)) = self.as_oid() {
            return write!(f, "{} with {}", Hex(oid), Hex(payload));
        }
        match (self.kind, self.prefix()) {
            (IdType::IPV4_ADDR_RANGE, _) if let Ok((first, last)) = self.halves::<4>() => {
                write!(f, "{}-{}", Ipv4Addr::from(first), Ipv4Addr::from(last))
            }
            (IdType::IPV6_ADDR_RANGE, _) if let Ok((first, last)) = self.halves::<16>() => {
                write!(f, "{}-{}", Ipv6Addr::from(first), Ipv6Addr::from(last))
            }
            (_, Ok(prefix)) => write!(f, "{prefix}"),
            (_, Err(_)) if f.alternate() => write!(f, "{}", Hex(&self.data)),
            (kind, Err(_)) => write!(f, "{kind} {}", Hex(&self.data)),
        }
    }
}

/// Identification payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification<'a> {
    /// Who.
    pub identity: Identity<'a>,
    /// IP protocol; 0 for any. In GDOI the DOI-specific data, which is 0.
    pub protocol: u8,
    /// Port; 0 for any.
    pub port: u16,
}

impl<'a> Identification<'a> {
    /// An identity for any protocol and port.
    pub fn new(identity: Identity<'a>) -> Self {
        Self { identity, protocol: 0, port: 0 }
    }
}

impl<'a> PayloadBody<'a> for Identification<'a> {
    const KIND: PayloadType = PayloadType::IDENTIFICATION;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let kind = IdType(reader.u8("ID Type")?);
        let protocol = reader.u8("Protocol ID")?;
        let port = reader.u16("Port")?;
        Ok(Self { identity: Identity::new(kind, reader.take_rest()), protocol, port })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.identity.kind.0);
        writer.u8(self.protocol);
        writer.u16(self.port);
        writer.bytes(&self.identity.data);
    }
}
