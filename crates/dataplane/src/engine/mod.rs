//! The engine: one object per lane, batches of frames in, frames and counters out.

use crate::{FrameBuffer, FrameIn, Instant, Tables};

/// The packet engine of one lane (thread).
#[derive(Debug, Default)]
pub struct Engine {}

impl Engine {
    /// An engine with empty caches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Processes one batch; frames to be sent are appended to `output`, which the caller clears.
    pub fn process(
        &mut self,
        now: Instant,
        tables: &Tables,
        input: &[FrameIn<'_>],
        output: &mut FrameBuffer,
    ) {
        let _ = (now, tables, input, output);
    }
}
