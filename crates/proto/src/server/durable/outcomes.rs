//! What became of evictions that servers asked the leader for.

use std::sync::Arc;

use crypto::Secret;
use wire::codec::Result;

use crate::record::{Input, Output};
use crate::server::cluster::EvictionOutcome;

/// Layout of the record.
const LAYOUT: u8 = 1;

pub(in crate::server) fn write<'a>(outcomes: impl ExactSizeIterator<Item = &'a EvictionOutcome>) -> Secret {
    let mut output = Output::default();
    output.u8(LAYOUT);
    output.count(outcomes.len());
    for EvictionOutcome { asker, number, done_in } in outcomes {
        output.text(asker);
        output.u64(*number);
        output.optional_duration(*done_in);
    }
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<Vec<EvictionOutcome>> {
    if input.u8("layout")? != LAYOUT {
        return Err(input.error("layout"));
    }
    let outcomes = input.list("outcomes", |input| {
        Ok(EvictionOutcome {
            asker: Arc::from(input.text("server")?),
            number: input.u64("number")?,
            done_in: input.optional_duration("time")?,
        })
    })?;
    input.finish()?;
    Ok(outcomes)
}
