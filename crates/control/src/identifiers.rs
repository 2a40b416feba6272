//! Numbers that operators read in hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An ISAKMP cookie: of a phase 1 SA, or half of a KEK's SPI. Sixteen hexadecimal digits in text and JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub [u8; 8]);

impl fmt::Display for Cookie {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{:016x}", u64::from_be_bytes(self.0)))
    }
}

impl FromStr for Cookie {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(|value| Cookie(value.to_be_bytes()))
    }
}

impl From<[u8; 8]> for Cookie {
    fn from(octets: [u8; 8]) -> Self {
        Cookie(octets)
    }
}

/// The SPI of a TEK. Hexadecimal without leading zeros in text and JSON, as the seed prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(pub u32);

impl fmt::Display for Spi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{:x}", self.0))
    }
}

impl FromStr for Spi {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text.trim_start_matches("0x"), 16).map(Spi)
    }
}

impl From<u32> for Spi {
    fn from(value: u32) -> Self {
        Spi(value)
    }
}

macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}
serde_as_text!(Cookie);
serde_as_text!(Spi);

/// A group by both of its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupReference {
    /// Name of the group in the configuration.
    pub group: String,
    /// The number on the wire.
    pub group_id: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_keeps_its_leading_zeros_and_survives_json() {
        let cookie = Cookie([0, 0x91, 0x9f, 0x73, 0x4a, 0xbc, 0x97, 0xec]);
        assert_eq!(cookie.to_string(), "00919f734abc97ec");
        assert_eq!(serde_json::from_str::<Cookie>(&serde_json::to_string(&cookie).unwrap()).unwrap(), cookie);
    }

    #[test]
    fn an_spi_is_printed_as_the_seed_does_and_survives_json() {
        assert_eq!(Spi(0x0992_cb0e).to_string(), "992cb0e");
        assert_eq!(serde_json::from_str::<Spi>("\"992cb0e\"").unwrap(), Spi(0x0992_cb0e));
    }
}
