//! Whether a value has the form its row asks for.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::nearest::nearest;
use crate::obfuscation;
use crate::schema::Value;

/// First and last port.
pub(crate) type Ports = (u16, u16);

/// What is wrong with a value.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

fn wrong(message: impl Into<String>) -> Result<(), Wrong> {
    Err(Wrong { message: message.into(), remedy: None })
}

/// Checks a value; `name` is the statement's, for the message.
pub(super) fn check(value: &Value, name: &str, text: &str) -> Result<(), Wrong> {
    let shown: String = text.chars().take(80).collect();
    let bad = |what: &str| wrong(format!("`{name}`: `{shown}` is not {what}"));
    match value {
        Value::Name(max) | Value::Text(max) => match text.chars().count() {
            0 => wrong(format!("`{name}` is empty")),
            length if length > *max => wrong(format!("`{name}` has {length} characters")),
            _ if text.chars().any(char::is_control) => {
                wrong(format!("`{name}` has control characters in it"))
            }
            _ => Ok(()),
        },
        // What only tests may have is refused, without `test-lifetimes`, when the whole tree is known.
        Value::Number { min, max, .. } | Value::Timer { test_min: min, max, .. } => match text.parse::<u64>()
        {
            Ok(number) if number >= *min && number <= *max => Ok(()),
            Ok(_) => wrong(format!("`{name}`: {shown} is out of range")),
            Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                wrong(format!("`{name}`: {shown} is out of range"))
            }
            Err(_) => bad("a number"),
        },
        Value::Words(choices) => {
            if choices.iter().any(|choice| choice.word == text) {
                return Ok(());
            }
            let remedy = nearest(text, choices.iter().map(|choice| choice.word))
                .map(|word| format!("did you mean `{word}`?"));
            Err(Wrong { message: format!("`{name}`: unknown value `{shown}`"), remedy })
        }
        Value::Address => match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() => bad("the address of a host"),
            Ok(_) => Ok(()),
            Err(_) => bad("an address"),
        },
        Value::Multicast => match text.parse::<IpAddr>() {
            Ok(address) if is_forwarded_group(address) => Ok(()),
            Ok(_) => bad("a group address that routers forward"),
            Err(_) => bad("an address"),
        },
        Value::Prefix => match prefix(text) {
            Some(_) => Ok(()),
            None => bad("a prefix"),
        },
        Value::InterfaceAddress => match text.parse::<IpNet>() {
            Ok(_) => Ok(()),
            Err(_) if text.parse::<IpAddr>().is_ok() => Ok(()),
            Err(_) => bad("an address with its prefix length"),
        },
        Value::Interface => {
            let fine =
                |character: char| character.is_ascii_graphic() && !matches!(character, '"' | '\'' | '\\');
            if text.is_empty() || text.len() > 63 || !text.chars().all(fine) {
                return bad("an interface name");
            }
            Ok(())
        }
        Value::SecretText | Value::SecretHexadecimal => secret(value, name, text),
        Value::Size => match size(text) {
            Some(10_240..=1_073_741_824) => Ok(()),
            Some(_) => wrong(format!("`{name}`: {shown} is out of range")),
            None => bad("a size"),
        },
        Value::Expression => {
            if text.is_empty() || text.len() > 255 {
                bad("a regular expression")
            } else {
                Ok(())
            }
        }
        Value::Window => match window_millis(text) {
            Some(_) => Ok(()),
            None if text.trim_end_matches("ms").parse::<u64>().is_ok() => {
                wrong(format!("`{name}`: {shown} is out of range"))
            }
            None => bad("a time window"),
        },
        Value::Protocol => match protocol_number(text) {
            Some(_) => Ok(()),
            None => bad("an IP protocol"),
        },
        Value::Ports => match ports(text) {
            Some(_) => Ok(()),
            None => bad("a port or a range of ports"),
        },
        Value::Identity => {
            let fine = |character: char| !character.is_control();
            if text.is_empty() || text.len() > 255 || !text.chars().all(fine) {
                bad("an identity")
            } else {
                Ok(())
            }
        }
    }
}

/// Never quotes the secret.
fn secret(value: &Value, name: &str, text: &str) -> Result<(), Wrong> {
    let clear = if text.starts_with(obfuscation::MAGIC) {
        match obfuscation::decode(text) {
            Some(clear) => clear,
            None => return wrong(format!("`{name}`: this `$9$` string does not decode")),
        }
    } else {
        text.as_bytes().to_vec()
    };
    let length = clear.len();
    let hexadecimal = clear.iter().all(u8::is_ascii_hexdigit) && length.is_multiple_of(2);
    let clear = crate::SecretText::new(clear);
    if clear.expose().is_empty() || length > 255 {
        return wrong(format!("`{name}`: the key has {length} characters"));
    }
    if matches!(value, Value::SecretHexadecimal) && !hexadecimal {
        return wrong(format!("`{name}`: the key is not an even number of hexadecimal digits"));
    }
    Ok(())
}

/// A prefix; an address alone is a host's.
pub(crate) fn prefix(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(net) => Some(net.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// A size in octets.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1u64 << 10),
        'm' | 'M' => (&text[..text.len() - 1], 1 << 20),
        'g' | 'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A group address beyond the local link and its administrative kin: not 224.0.0.0/24, not ff01::/16 or ff02::/16.
fn is_forwarded_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() && address.octets()[..3] != [224, 0, 0],
        IpAddr::V6(address) => address.is_multicast() && (address.segments()[0] & 0x000f) > 2,
    }
}

/// An anti-replay window in milliseconds.
pub(crate) fn window_millis(text: &str) -> Option<u32> {
    match text.strip_suffix("ms") {
        Some(digits) => digits.parse().ok().filter(|millis| (1..=60_000).contains(millis)),
        None => text.parse::<u32>().ok().filter(|secs| (60..=360).contains(secs)).map(|secs| secs * 1000),
    }
}

/// Number of an IP protocol given by number or name.
pub(crate) fn protocol_number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (number <= 254).then_some(number);
    }
    Some(match text {
        "icmp" => 1,
        "igmp" => 2,
        "ipip" => 4,
        "tcp" => 6,
        "egp" => 8,
        "udp" => 17,
        "rsvp" => 46,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmp6" => 58,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "sctp" => 132,
        _ => return None,
    })
}

/// A port or a range of ports.
pub(crate) fn ports(text: &str) -> Option<Ports> {
    let port = |text: &str| {
        Some(match text {
            "ftp" => 21,
            "ssh" => 22,
            "telnet" => 23,
            "smtp" => 25,
            "domain" => 53,
            "tftp" => 69,
            "http" => 80,
            "ntp" => 123,
            "snmp" => 161,
            "bgp" => 179,
            "https" => 443,
            "ike" => 500,
            "syslog" => 514,
            other => return other.parse::<u16>().ok(),
        })
    };
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
        None => port(text).map(|port| (port, port)),
    }
}
