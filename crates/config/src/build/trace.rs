//! Trace options.

use super::{At, Builder};
use crate::model::*;
use crate::tree::size;

impl Builder {
    pub(super) fn trace_options(&mut self, above: &At<'_>, scope: TraceScope) -> Option<TraceOptions> {
        let at = above.child("traceoptions")?;
        let file = at.child("file");
        let file = file.as_ref();
        let filter = at.child("gateway-filter");
        let filter = filter.as_ref();
        Some(TraceOptions {
            scope,
            file: file.and_then(|file| file.text("filename")),
            size: file.and_then(|file| file.value("size", size)).unwrap_or(128 << 10),
            files: file.and_then(|file| file.number("files")).unwrap_or(3),
            world_readable: file
                .is_some_and(|file| file.has("world-readable") && !file.has("no-world-readable")),
            match_expression: file.and_then(|file| file.text("match")),
            level: at.value("level", TraceLevel::from_word).unwrap_or(TraceLevel::Error),
            flags: at
                .node
                .children_named("flag")
                .filter_map(|node| TraceFlag::from_word(node.value()))
                .collect(),
            filter_local: filter.and_then(|filter| filter.number("local-address")),
            filter_remote: filter.and_then(|filter| filter.number("remote-address")),
            place: at.place(),
        })
    }
}
