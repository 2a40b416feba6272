//! What a server of a cluster tells the one that makes the keys: who registered at it, who acknowledged what to it, that it
//! runs out of sender ids, for whom it wants room, and that an operator wants keys replaced.

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::Secret;
use wire::codec::Result;

use crate::path::Path;
use crate::record::{Input, Output};
use crate::server::cluster::EvictionOrder;
use crate::server::eviction::Eviction;
use crate::server::members::Registration;
use crate::time::Instant;

/// Layout of the record.
const LAYOUT: u8 = 1;

/// Something that the server which makes the keys must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum News {
    /// A member registered.
    Registered(Registered),
    /// Members acknowledged messages, and were authentic.
    Acknowledged(Vec<Acknowledged>),
    /// A server wants sender ids, of this start of the group.
    WantsSenderIds {
        /// The life of a server that wants them.
        incarnation: Arc<str>,
        /// The start of the group that it knows.
        fresh_starts: u64,
    },
    /// Keys are to be replaced.
    Evict(EvictionOrder),
    /// A member is about to register, if the group has room for it.
    WantsRoom(Registered),
}

/// A registration as servers tell each other of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Registered {
    pub(in crate::server) gateway: Arc<str>,
    pub(in crate::server) registration: Registration,
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
            write_registration(&mut output, now, registered);
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
        News::WantsRoom(newcomer) => {
            output.u8(4);
            write_registration(&mut output, now, newcomer);
        }
        News::Evict(EvictionOrder { asker, number, eviction }) => {
            output.u8(5);
            output.text(asker);
            output.u64(*number);
            output.flag(*eviction == Eviction::Now);
        }
    }
    output.into_secret()
}

fn write_registration(output: &mut Output, now: Instant, registered: &Registered) {
    let Registration { path, server, ours, kek, keys_until } = &registered.registration;
    output.text(server);
    output.text(&registered.gateway);
    output.socket(path.local);
    output.socket(path.remote);
    output.flag(*ours);
    output.u32(*kek);
    output.moment(now, *keys_until);
    output.u64(registered.rekey);
    output.moment(now, registered.at);
}

pub(super) fn read(mut input: Input<'_>) -> Result<News> {
    if input.u8("layout")? != LAYOUT {
        return Err(input.error("layout"));
    }
    let news = match input.u8("news")? {
        1 => News::Registered(read_registration(&mut input)?),
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
        4 => News::WantsRoom(read_registration(&mut input)?),
        5 => News::Evict(EvictionOrder {
            asker: Arc::from(input.text("server")?),
            number: input.u64("number")?,
            eviction: if input.flag("now")? { Eviction::Now } else { Eviction::Graceful },
        }),
        _ => return Err(input.error("news")),
    };
    input.finish()?;
    Ok(news)
}

fn read_registration(input: &mut Input<'_>) -> Result<Registered> {
    let server = Arc::from(input.text("server")?);
    let gateway = Arc::from(input.text("gateway")?);
    let registration = Registration {
        path: Path { local: input.socket("local address")?, remote: input.socket("address")? },
        server,
        ours: input.flag("vendor id")?,
        kek: input.u32("KEK")?,
        keys_until: input.moment("keys until")?,
    };
    Ok(Registered { gateway, registration, rekey: input.u64("rekey")?, at: input.moment("registration")? })
}
