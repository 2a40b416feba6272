//! Log entries of the protocol roles, which are data, as `tracing` events.

use proto::log::{Entry, Facility, Level};

/// Prints an entry. Its rate limit is already applied.
pub fn record(role: &'static str, entry: &Entry) {
    // Targets and levels of `tracing` are constants, so every pair is an event of its own.
    macro_rules! event {
        ($target:literal) => {
            match entry.level {
                Level::Error => tracing::error!(target: $target, role, "{entry}"),
                Level::Warn => tracing::warn!(target: $target, role, "{entry}"),
                Level::Info => tracing::info!(target: $target, role, "{entry}"),
                Level::Debug => tracing::debug!(target: $target, role, "{entry}"),
                Level::Trace => tracing::trace!(target: $target, role, "{entry}"),
            }
        };
    }
    match entry.facility {
        Facility::Ike => event!("ike"),
        Facility::PolicyManager => event!("policy-manager"),
        Facility::Timer => event!("timer"),
        Facility::Config => event!("config"),
        Facility::Certificates => event!("certificates"),
        Facility::HighAvailability => event!("high-availability"),
        Facility::General => event!("general"),
    }
}
