//! Data attributes (RFC 2408 section 3.3).
//!
//! ```text
//!       0                   1                   2                   3
//!       0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!      !A!       Attribute Type        !    AF=0  Attribute Length     !
//!      !F!                             !    AF=1  Attribute Value      !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!      .                   AF=0  Attribute Value                       .
//!      .                   AF=1  Not Transmitted                       .
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::borrow::Cow;

use crate::codec::{LengthWidth, Reader, Result, Violation, Writer};

const FORMAT_BIT: u16 = 0x8000;

/// Attributes in one list: a phase 1 transform has about ten at most and the largest key packet, a SID download, one
/// for each SID; 1024 lets a member ask for more SIDs than any machine has cores.
pub const MAXIMUM_ATTRIBUTES: usize = 1024;

/// Value of an attribute, with the format it has or shall have on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Type/value: two octets.
    Basic(u16),
    /// Type/length/value.
    Variable(Cow<'a, [u8]>),
}

/// One attribute. What `class` means depends on the payload that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Attribute type, below 0x8000.
    pub class: u16,
    /// Its value.
    pub value: AttributeValue<'a>,
}

impl<'a> Attribute<'a> {
    /// A type/value attribute.
    pub fn basic(class: impl Into<u16>, value: impl Into<u16>) -> Self {
        Self { class: class.into(), value: AttributeValue::Basic(value.into()) }
    }

    /// A type/length/value attribute.
    pub fn variable(class: impl Into<u16>, value: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { class: class.into(), value: AttributeValue::Variable(value.into()) }
    }

    /// A type/length/value attribute holding four octets.
    pub fn variable_u32(class: impl Into<u16>, value: u32) -> Self {
        Self::variable(class, value.to_be_bytes().to_vec())
    }

    /// The same attribute, owning its value.
    pub fn into_owned(self) -> Attribute<'static> {
        let value = match self.value {
            AttributeValue::Basic(value) => AttributeValue::Basic(value),
            AttributeValue::Variable(bytes) => AttributeValue::Variable(Cow::Owned(bytes.into_owned())),
        };
        Attribute { class: self.class, value }
    }

    /// The value as a number: basic, or variable of at most eight significant octets.
    ///
    /// A variable attribute whose value fits may come as a basic one (RFC 2409 appendix A), so readers of numbers use
    /// this and do not look at the format.
    pub fn number(&self) -> Option<u64> {
        match &self.value {
            AttributeValue::Basic(value) => Some((*value).into()),
            AttributeValue::Variable(bytes) => {
                let significant = match bytes.iter().position(|&octet| octet != 0) {
                    Some(first) => &bytes[first..],
                    None => &[],
                };
                if bytes.is_empty() || significant.len() > 8 {
                    return None;
                }
                Some(significant.iter().fold(0, |number, &octet| number << 8 | u64::from(octet)))
            }
        }
    }

    /// The value, if it has the basic format.
    pub fn as_basic(&self) -> Option<u16> {
        match self.value {
            AttributeValue::Basic(value) => Some(value),
            AttributeValue::Variable(_) => None,
        }
    }

    /// The value, if it has the variable format.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.value {
            AttributeValue::Basic(_) => None,
            AttributeValue::Variable(bytes) => Some(bytes),
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let kind = reader.u16("Attribute Type")?;
        let class = kind & !FORMAT_BIT;
        if kind & FORMAT_BIT != 0 {
            return Ok(Self::basic(class, reader.u16("Attribute Value")?));
        }
        let length = reader.u16("Attribute Length")?;
        Ok(Self::variable(class, reader.take(length.into(), "Attribute Value")?))
    }

    fn write(&self, writer: &mut Writer) {
        if self.class & FORMAT_BIT != 0 {
            writer.fail("Attribute Type");
        }
        match &self.value {
            AttributeValue::Basic(value) => {
                writer.u16(self.class | FORMAT_BIT);
                writer.u16(*value);
            }
            AttributeValue::Variable(bytes) => {
                writer.u16(self.class);
                writer.prefixed(LengthWidth::Two, bytes, "Attribute Length");
            }
        }
    }
}

/// Attributes in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a>(pub Vec<Attribute<'a>>);

impl<'a> Attributes<'a> {
    /// Reads attributes to the end of `reader`.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let mut list = Vec::new();
        while !reader.is_empty() {
            if list.len() == MAXIMUM_ATTRIBUTES {
                return Err(reader.error(Violation::TooMany, "Attribute"));
            }
            list.push(Attribute::read(reader)?);
        }
        Ok(Self(list))
    }

    /// Writes all attributes.
    pub fn write(&self, writer: &mut Writer) {
        for attribute in &self.0 {
            attribute.write(writer);
        }
    }

    /// The same attributes, owning their values.
    pub fn into_owned(self) -> Attributes<'static> {
        Attributes(self.0.into_iter().map(Attribute::into_owned).collect())
    }

    /// The first attribute of a class.
    pub fn find(&self, class: impl Into<u16>) -> Option<&Attribute<'a>> {
        let class = class.into();
        self.0.iter().find(|attribute| attribute.class == class)
    }

    /// The first attribute of a class, as a number; `None` also if it is not one.
    pub fn number(&self, class: impl Into<u16>) -> Option<u64> {
        self.find(class)?.number()
    }

    /// The first attribute of a class, as octets; `None` also if it has the basic format.
    pub fn bytes(&self, class: impl Into<u16>) -> Option<&[u8]> {
        self.find(class)?.as_bytes()
    }

    /// All attributes in the order of the wire.
    pub fn iter(&self) -> std::slice::Iter<'_, Attribute<'a>> {
        self.0.iter()
    }
}

impl<'a> FromIterator<Attribute<'a>> for Attributes<'a> {
    fn from_iter<I: IntoIterator<Item = Attribute<'a>>>(attributes: I) -> Self {
        Self(attributes.into_iter().collect())
    }
}

impl<'a, const N: usize> From<[Attribute<'a>; N]> for Attributes<'a> {
    fn from(attributes: [Attribute<'a>; N]) -> Self {
        Self(attributes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_both_formats() {
        assert_eq!(Attribute::basic(11_u16, 86_u16).number(), Some(86));
        assert_eq!(Attribute::variable_u32(12_u16, 86_400).number(), Some(86_400));
        assert_eq!(Attribute::variable(12_u16, [0; 9].to_vec()).number(), Some(0));
        assert_eq!(Attribute::variable(12_u16, [1; 9].to_vec()).number(), None);
        assert_eq!(Attribute::variable(12_u16, vec![]).number(), None);
    }

    #[test]
    fn a_class_above_15_bits_is_not_written() {
        let mut writer = Writer::new();
        Attributes::from([Attribute::basic(0x8001_u16, 1_u16)]).write(&mut writer);
        assert!(writer.finish().is_err());
    }
}
