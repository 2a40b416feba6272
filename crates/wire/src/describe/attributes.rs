//! Attributes, whose meaning depends on the payload that carries them.

use crate::attribute::{Attribute, AttributeValue, Attributes};
use crate::gdoi::{LkhDownloadArray, LkhKey, LkhUpdateArray};
use crate::registry::*;
use crate::text::Hex;

use super::Text;

/// Which registry the classes of a list are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registry {
    PhaseOne,
    Ipsec,
    Kek,
    Gap,
    TekKey,
    KekKey,
    LkhKey,
    SidKey,
    Iec61850,
    Unknown,
}

pub(super) fn write_attributes(text: &mut Text, registry: Registry, attributes: &Attributes<'_>) {
    for attribute in attributes.iter() {
        write_attribute(text, registry, attribute);
    }
}

fn write_attribute(text: &mut Text, registry: Registry, attribute: &Attribute<'_>) {
    let class = class(registry, attribute.class);
    match &attribute.value {
        AttributeValue::Basic(number) => match value(registry, attribute.class, *number) {
            Some(value) => text.line(format_args!("{class}: {value}")),
            None => text.line(format_args!("{class}: {number}")),
        },
        AttributeValue::Variable(octets) if is_secret(registry, attribute.class) => {
            text.line(format_args!("{class}: {} octets, not shown", octets.len()));
            if registry == Registry::LkhKey {
                write_lkh(text, LkhKeyAttribute(attribute.class), octets);
            }
        }
        AttributeValue::Variable(octets) => match attribute.number() {
            Some(number) if octets.len() <= 8 && is_number(registry, attribute.class) => {
                text.line(format_args!("{class}: {number}"));
            }
            _ => text.line(format_args!("{class}: {}", Hex(octets))),
        },
    }
}

fn write_lkh(text: &mut Text, class: LkhKeyAttribute, octets: &[u8]) {
    text.indented(|text| match class {
        LkhKeyAttribute::DOWNLOAD_ARRAY => match LkhDownloadArray::parse(octets) {
            Ok(array) => write_lkh_keys(text, &array.keys),
            Err(error) => text.malformed(error),
        },
        LkhKeyAttribute::UPDATE_ARRAY => match LkhUpdateArray::parse(octets) {
            Ok(array) => {
                text.line(format_args!("encrypted under LKH ID {}, handle {}", array.id, array.handle));
                write_lkh_keys(text, &array.keys);
            }
            Err(error) => text.malformed(error),
        },
        _ => {}
    });
}

fn write_lkh_keys(text: &mut Text, keys: &[LkhKey<'_>]) {
    for key in keys {
        text.line(format_args!(
            "LKH ID {}, handle {}: {}, created {}, expires {}, {} octets, not shown",
            key.id,
            key.handle,
            key.algorithm,
            key.created,
            key.expires,
            key.data.len()
        ));
    }
}

fn class(registry: Registry, class: u16) -> String {
    match registry {
        Registry::PhaseOne => PhaseOneAttribute(class).to_string(),
        Registry::Ipsec => IpsecAttribute(class).to_string(),
        Registry::Kek => KekAttribute(class).to_string(),
        Registry::Gap => GapAttribute(class).to_string(),
        Registry::TekKey => TekKeyAttribute(class).to_string(),
        Registry::KekKey => KekKeyAttribute(class).to_string(),
        Registry::LkhKey => LkhKeyAttribute(class).to_string(),
        Registry::SidKey => SidKeyAttribute(class).to_string(),
        Registry::Iec61850 => IecAttribute(class).to_string(),
        Registry::Unknown => format!("attribute {class}"),
    }
}

fn value(registry: Registry, class: u16, number: u16) -> Option<String> {
    Some(match registry {
        Registry::PhaseOne => match PhaseOneAttribute(class) {
            PhaseOneAttribute::ENCRYPTION_ALGORITHM => EncryptionAlgorithm(number).to_string(),
            PhaseOneAttribute::HASH_ALGORITHM => HashAlgorithm(number).to_string(),
            PhaseOneAttribute::AUTHENTICATION_METHOD => AuthenticationMethod(number).to_string(),
            PhaseOneAttribute::GROUP_DESCRIPTION => GroupDescription(number).to_string(),
            PhaseOneAttribute::LIFE_TYPE => LifeType(number).to_string(),
            _ => return None,
        },
        Registry::Ipsec => match IpsecAttribute(class) {
            IpsecAttribute::LIFE_TYPE => LifeType(number).to_string(),
            IpsecAttribute::ENCAPSULATION_MODE => EncapsulationMode(number).to_string(),
            IpsecAttribute::AUTHENTICATION_ALGORITHM => AuthenticationAlgorithm(number).to_string(),
            IpsecAttribute::GROUP_DESCRIPTION => GroupDescription(number).to_string(),
            IpsecAttribute::ADDRESS_PRESERVATION => AddressPreservation(number).to_string(),
            IpsecAttribute::SA_DIRECTION => SaDirection(number).to_string(),
            _ => return None,
        },
        Registry::Kek => match KekAttribute(class) {
            KekAttribute::MANAGEMENT_ALGORITHM => KekManagementAlgorithm(number).to_string(),
            KekAttribute::ALGORITHM => KekAlgorithm(number).to_string(),
            KekAttribute::SIGNATURE_HASH_ALGORITHM => SignatureHashAlgorithm(number).to_string(),
            KekAttribute::SIGNATURE_ALGORITHM => SignatureAlgorithm(number).to_string(),
            KekAttribute::ACKNOWLEDGEMENT_REQUESTED => KekAcknowledgement(number).to_string(),
            _ => return None,
        },
        Registry::Gap
        | Registry::TekKey
        | Registry::KekKey
        | Registry::LkhKey
        | Registry::SidKey
        | Registry::Iec61850
        | Registry::Unknown => return None,
    })
}

fn is_number(registry: Registry, class: u16) -> bool {
    match registry {
        Registry::PhaseOne => PhaseOneAttribute(class) == PhaseOneAttribute::LIFE_DURATION,
        Registry::Ipsec => IpsecAttribute(class) == IpsecAttribute::LIFE_DURATION,
        Registry::Kek => KekAttribute(class) == KekAttribute::KEY_LIFETIME,
        Registry::Gap => GapAttribute(class) == GapAttribute::D3P_WINDOW,
        Registry::Iec61850 => IecAttribute(class) == IecAttribute::ACTIVATION_TIME_DELAY,
        Registry::SidKey => SidKeyAttribute(class) == SidKeyAttribute::SID_VALUE,
        Registry::TekKey | Registry::KekKey | Registry::LkhKey | Registry::Unknown => false,
    }
}

fn is_secret(registry: Registry, class: u16) -> bool {
    match registry {
        // A public key.
        Registry::KekKey => KekKeyAttribute(class) != KekKeyAttribute::SIGNATURE_KEY,
        Registry::LkhKey => LkhKeyAttribute(class) != LkhKeyAttribute::SIGNATURE_KEY,
        // An unknown key packet may hold a key in whatever it holds.
        Registry::TekKey | Registry::Unknown => true,
        Registry::PhaseOne | Registry::Ipsec | Registry::Kek | Registry::Gap | Registry::SidKey => false,
        Registry::Iec61850 => false,
    }
}
