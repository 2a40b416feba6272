//! What a server of a cluster tells the one that makes the keys: who registered at it, who acknowledged what to it, and
//! that it runs out of sender ids.

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::Secret;
use wire::codec::Result;

use crate::path::Path;
use crate::record::{Input, Output};
use crate::time::Instant;

/// Layout of the record.
const LAYOUT: u8 = 1;

/// Something that the server which makes the keys must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum News {
    /// A member registered.
    Registered(RegisteredElsewhere),
    /// Members acknowledged messages, and were authentic.
    Acknowledged(Vec<Acknowledged>),
    /// A server wants sender ids, of this start of the group.
    WantsSenderIds {
        /// The life of a server that wants them.
        incarnation: Arc<str>,
        /// The start of the group that it knows.
        fresh_starts: u64,
    },
}

/// A registration at another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct RegisteredElsewhere {
    /// Name of the server.
    pub(in crate::server) server: Arc<str>,
    pub(in crate::server) gateway: Arc<str>,
    pub(in crate::server) path: Path,
    pub(in crate::server) ours: bool,
    /// Index of the KEK it was given, 0 for none.
    pub(in crate::server) kek: u32,
    pub(in crate::server) keys_until: Instant,
    /// The last rekey whose outcome it was given.
    pub(in crate::server) rekey: u64,
    pub(in crate::server) at: Instant,
}

/// An acknowledgement that another server received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Acknowledged {
    pub(in crate::server) member: SocketAddr,
    /// Index of the KEK.
    pub(in crate::server) kek: u32,
    pub(in crate::server) sequence: u32,
}

pub(in crate::server) fn write(news: &News, now: Instant) -> Secret {
    let mut output = Output::default();
    output.u8(LAYOUT);
    match news {
        News::Registered(registered) => {
            output.u8(1);
            output.text(&registered.server);
            output.text(&registered.gateway);
            output.socket(registered.path.local);
            output.socket(registered.path.remote);
            output.flag(registered.ours);
            output.u32(registered.kek);
            output.moment(now, registered.keys_until);
            output.u64(registered.rekey);
            output.moment(now, registered.at);
        }
        News::Acknowledged(acknowledged) => {
            output.u8(2);
            output.count(acknowledged.len());
            for Acknowledged { member, kek, sequence } in acknowledged {
                output.socket(*member);
                output.u32(*kek);
                output.u32(*sequence);
            }
        }
        News::WantsSenderIds { incarnation, fresh_starts } => {
            output.u8(3);
            output.text(incarnation);
            output.u64(*fresh_starts);
        }
    }
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<News> {
    if input.u8("layout")? != LAYOUT {
        return Err(input.error("layout"));
    }
    let news = match input.u8("news")? {
        1 => News::Registered(RegisteredElsewhere {
            server: Arc::from(input.text("server")?),
            gateway: Arc::from(input.text("gateway")?),
            path: Path { local: input.socket("local address")?, remote: input.socket("address")? },
            ours: input.flag("vendor id")?,
            kek: input.u32("KEK")?,
            keys_until: input.moment("keys until")?,
            rekey: input.u64("rekey")?,
            at: input.moment("registration")?,
        }),
        2 => News::Acknowledged(input.list("acknowledgements", |input| {
            Ok(Acknowledged {
                member: input.socket("address")?,
                kek: input.u32("KEK")?,
                sequence: input.u32("sequence number")?,
            })
        })?),
        3 => News::WantsSenderIds {
            incarnation: Arc::from(input.text("server")?),
            fresh_starts: input.u64("fresh starts")?,
        },
        _ => return Err(input.error("news")),
    };
    input.finish()?;
    Ok(news)
}
