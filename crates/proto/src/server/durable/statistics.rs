//! The counters of one server, as the others of its cluster add them to theirs.

use crypto::Secret;
use wire::codec::Result;

use crate::record::{Input, Output};
use crate::server::group::Statistics;

/// Layout of the record. Reasons of refusal that a reader does not know are added to the last one.
const LAYOUT: u8 = 1;

pub(in crate::server) fn write(statistics: &Statistics) -> Secret {
    let mut output = Output::default();
    output.u8(LAYOUT);
    for counter in [
        statistics.pulls_succeeded,
        statistics.pulls_failed,
        statistics.threshold_exceeded,
        statistics.pushes_sent,
        statistics.pushes_acknowledged,
        statistics.pushes_unacknowledged,
    ] {
        output.u64(counter);
    }
    output.count(statistics.acknowledgements_refused.len());
    statistics.acknowledgements_refused.iter().for_each(|count| output.u64(*count));
    output.count(statistics.recent_failures.len());
    statistics.recent_failures.iter().for_each(|failure| output.text(failure));
    output.into_secret()
}

pub(super) fn read(mut input: Input<'_>) -> Result<Statistics> {
    if input.u8("layout")? != LAYOUT {
        return Err(input.error("layout"));
    }
    let mut counter = || input.u64("counter");
    let mut statistics = Statistics {
        pulls_succeeded: counter()?,
        pulls_failed: counter()?,
        threshold_exceeded: counter()?,
        pushes_sent: counter()?,
        pushes_acknowledged: counter()?,
        pushes_unacknowledged: counter()?,
        ..Statistics::default()
    };
    let last = statistics.acknowledgements_refused.len() - 1;
    for (index, count) in input.list("reasons", |input| input.u64("reason"))?.into_iter().enumerate() {
        let counter = &mut statistics.acknowledgements_refused[index.min(last)];
        *counter = counter.saturating_add(count);
    }
    statistics.recent_failures = input.list("failures", |input| input.text("failure"))?.into();
    input.finish()?;
    Ok(statistics)
}
