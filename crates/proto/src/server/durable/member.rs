//! A member as a record: as much of it as a server must know that did not register it itself.

use std::sync::Arc;

use crypto::Secret;
use wire::codec::Result;

use crate::path::Path;
use crate::record::{Input, Output};
use crate::server::members::{Counters, Member, RememberedMember, Standing};
use crate::time::Instant;

/// Layout of the record. A reader of a later layout reads the earlier ones too.
const LAYOUT: u8 = 2;

/// The layout before there could be several servers.
const LAYOUT_OF_ONE_SERVER: u8 = 1;

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
    output.text(&member.server);
    let Counters { pulls_succeeded, pulls_failed, pushes_sent, pushes_acknowledged, pushes_unacknowledged } =
        member.counters;
    for counter in [pulls_succeeded, pulls_failed, pushes_sent, pushes_acknowledged, pushes_unacknowledged] {
        output.u32(counter);
    }
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<RememberedMember> {
    let layout = input.u8("layout")?;
    if ![LAYOUT, LAYOUT_OF_ONE_SERVER].contains(&layout) {
        return Err(input.error("layout"));
    }
    let mut member = RememberedMember {
        gateway: Arc::from(input.text("gateway")?),
        path: Path { local: input.socket("local address")?, remote: input.socket("address")? },
        lost: input.flag("standing")?,
        ours: input.flag("vendor id")?,
        acknowledges: input.flag("acknowledgement")?,
        kek: input.u32("KEK")?,
        heard_at: input.moment("last sign of life")?,
        keys_until: input.moment("keys until")?,
        server: Arc::from(""),
        counters: Counters::default(),
    };
    if layout != LAYOUT_OF_ONE_SERVER {
        member.server = Arc::from(input.text("server")?);
        member.counters = Counters {
            pulls_succeeded: input.u32("counter")?,
            pulls_failed: input.u32("counter")?,
            pushes_sent: input.u32("counter")?,
            pushes_acknowledged: input.u32("counter")?,
            pushes_unacknowledged: input.u32("counter")?,
        };
    }
    input.finish()?;
    Ok(member)
}
