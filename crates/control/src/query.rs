//! The query string: `detail&peer-address=100.0.0.3&group=g1`.

use crate::filter::{Filter, Level};
use crate::problem::Problem;

impl Filter {
    /// Reads a query string. A bare `brief` or `detail` is the level; unknown names are refused.
    pub fn from_query(query: &str) -> Result<Filter, Problem> {
        let mut filter = Filter::default();
        for (name, value) in pairs(query)? {
            let wrong = |what: &str| Problem::new(format!("`{name}={value}`: expected {what}"));
            match name.as_str() {
                "brief" => filter.level = Level::Brief,
                "detail" => filter.level = Level::Detail,
                "peer-address" => {
                    filter.peer_address = Some(value.parse().map_err(|_| wrong("an IP address"))?)
                }
                "group" => filter.group = Some(value),
                "group-id" => filter.group_id = Some(value.parse().map_err(|_| wrong("a group number"))?),
                "index" => filter.index = Some(value.parse().map_err(|_| wrong("an index"))?),
                "vpn" => filter.vpn = Some(value),
                "peer-gateway" => filter.peer_gateway = Some(value),
                "now" => filter.now = true,
                "tunnel" => filter.tunnel = true,
                _ => {
                    return Err(Problem::new(format!(
                        "unknown filter `{name}`; known are brief, detail, peer-address, peer-gateway, group, group-id, index, vpn, now, tunnel"
                    )));
                }
            }
        }
        Ok(filter)
    }

    /// Writes the query string that [`Filter::from_query`] reads.
    pub fn to_query(&self) -> String {
        let mut parts = Vec::new();
        if self.level == Level::Detail {
            parts.push("detail".to_owned());
        }
        if self.now {
            parts.push("now".to_owned());
        }
        if self.tunnel {
            parts.push("tunnel".to_owned());
        }
        let mut add = |name: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{name}={}", encode(&value))));
        };
        add("peer-address", self.peer_address.map(|value| value.to_string()));
        add("group", self.group.clone());
        add("group-id", self.group_id.map(|value| value.to_string()));
        add("index", self.index.map(|value| value.to_string()));
        add("vpn", self.vpn.clone());
        add("peer-gateway", self.peer_gateway.clone());
        parts.join("&")
    }
}

/// The decoded names and values of a query string, in order.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Percent-encodes everything but letters, digits and `-._~:/`.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                char::from(octet).to_string()
            }
            _ => format!("%{octet:02X}"),
        })
        .collect()
}

fn decode(text: &str) -> Result<String, Problem> {
    let broken = || Problem::new(format!("broken percent-encoding in `{text}`"));
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(broken);
                (digit()? << 4 | digit()?) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(octets).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_query_string() {
        let filter = Filter {
            level: Level::Detail,
            peer_address: Some("2001:db8::1".parse().unwrap()),
            group: Some("a & b+c=ü".into()),
            group_id: Some(7),
            index: Some(3),
            vpn: Some("gvpn".into()),
            peer_gateway: Some("server-2".into()),
            now: true,
            tunnel: true,
        };
        assert_eq!(Filter::from_query(&filter.to_query()).unwrap(), filter);
        assert_eq!(Filter::from_query("").unwrap(), Filter::default());
        assert_eq!(Filter::from_query("brief").unwrap(), Filter::default());
    }

    #[test]
    fn names_the_filter_that_is_wrong() {
        assert!(Filter::from_query("grup=g1").unwrap_err().error.contains("unknown filter `grup`"));
        assert!(Filter::from_query("index=x").unwrap_err().error.contains("expected an index"));
        assert!(Filter::from_query("vpn=%zz").unwrap_err().error.contains("percent"));
    }
}
