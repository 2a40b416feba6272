//! A member as a record: as much of it as a server must know that did not register it itself.

use std::sync::Arc;

use crypto::Secret;
use wire::codec::Result;

use super::octets::{Input, Output};
use crate::path::Path;
use crate::server::members::{Member, RememberedMember, Standing};
use crate::time::Instant;

/// Layout of the record.
const LAYOUT: u8 = 1;

pub(super) fn write(member: &Member, now: Instant) -> Secret {
    let mut output = Output::default();
    output.u8(LAYOUT);
    output.text(&member.gateway);
    output.socket(member.path.local);
    output.socket(member.path.remote);
    output.flag(member.standing == Standing::Lost);
    output.flag(member.ours);
    output.flag(member.acknowledges);
    output.u32(member.kek);
    output.moment(now, member.heard_at);
    output.moment(now, member.keys_until);
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<RememberedMember> {
    if input.u8("layout")? != LAYOUT {
        return Err(input.error("layout"));
    }
    let member = RememberedMember {
        gateway: Arc::from(input.text("gateway")?),
        path: Path { local: input.socket("local address")?, remote: input.socket("address")? },
        lost: input.flag("standing")?,
        ours: input.flag("vendor id")?,
        acknowledges: input.flag("acknowledgement")?,
        kek: input.u32("KEK")?,
        heard_at: input.moment("last sign of life")?,
        keys_until: input.moment("keys until")?,
    };
    input.finish()?;
    Ok(member)
}
