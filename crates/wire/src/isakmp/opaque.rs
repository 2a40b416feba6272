//! Payloads whose body is one string of octets (RFC 2408 sections 3.7, 3.11, 3.12, 3.13 and 3.16, RFC 3947).

use std::borrow::Cow;

use crate::codec::{Reader, Result, Writer};
use crate::registry::PayloadType;

use super::PayloadBody;

macro_rules! opaque {
    ($(#[$meta:meta])* $type:ident, $kind:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $type<'a>(pub Cow<'a, [u8]>);

        impl $type<'_> {
            /// The body.
            pub fn octets(&self) -> &[u8] {
                &self.0
            }

            /// The same payload, owning its octets.
            pub fn into_owned(self) -> $type<'static> {
                $type(Cow::Owned(self.0.into_owned()))
            }
        }

        impl<'a> From<&'a [u8]> for $type<'a> {
            fn from(octets: &'a [u8]) -> Self {
                Self(Cow::Borrowed(octets))
            }
        }

        impl<'a, const N: usize> From<&'a [u8; N]> for $type<'a> {
            fn from(octets: &'a [u8; N]) -> Self {
                Self(Cow::Borrowed(octets))
            }
        }

        impl From<Vec<u8>> for $type<'_> {
            fn from(octets: Vec<u8>) -> Self {
                Self(Cow::Owned(octets))
            }
        }

        impl<'a> PayloadBody<'a> for $type<'a> {
            const KIND: PayloadType = PayloadType::$kind;

            fn read(reader: &mut Reader<'a>) -> Result<Self> {
                Ok(Self(Cow::Borrowed(reader.take_rest())))
            }

            fn write(&self, writer: &mut Writer) {
                writer.bytes(&self.0);
            }
        }
    };
}

opaque! {
    /// A public value of a Diffie-Hellman exchange.
    KeyExchange, KEY_EXCHANGE
}
opaque! {
    /// A hash.
    Hash, HASH
}
opaque! {
    /// A signature.
    Signature, SIGNATURE
}
opaque! {
    /// A nonce.
    Nonce, NONCE
}
opaque! {
    /// A vendor ID.
    VendorId, VENDOR_ID
}
opaque! {
    /// A NAT discovery hash.
    NatDiscovery, NAT_DISCOVERY
}
