//! Numbers assigned by IANA, as newtypes in which unknown values survive.
//!
//! <https://www.iana.org/assignments/isakmp-registry>, <https://www.iana.org/assignments/ipsec-registry>,
//! <https://www.iana.org/assignments/gdoi-payloads>. Where a number has no reference beside it, the reference is the
//! one of the type.

/// Defines a newtype over an integer with a constant, and a name in the RFC's own words, for each known value.
macro_rules! registry {
    ($(#[$meta:meta])* $type:ident($integer:ty) { $($name:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $type(pub $integer);

        impl $type {
            $(
                #[doc = $text]
                pub const $name: Self = Self($value);
            )*

            /// Name in the registry, if the value is known.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl From<$type> for $integer {
            fn from(value: $type) -> $integer {
                value.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{name} ({})", self.0),
                    None => write!(f, "unknown ({})", self.0),
                }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}

mod gdoi;
mod ipsec;
mod isakmp;

pub use gdoi::*;
pub use ipsec::*;
pub use isakmp::*;
