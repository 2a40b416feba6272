//! Durable, sealed records: what a key server must not forget.
//!
//! A record is a place (`group/7/keys`) and octets whose meaning is its writer's business. All records are sealed
//! ([`crypto::SealingKey`]); their places are not secret. Changes are committed in batches, a batch as a whole or not
//! at all, and are durable when [`Embedded::commit`] returns: only then may a message leave that depends on them.
//!
//! [`Embedded`] is one file of one server, [`Shared`] what cooperating servers have in common.

mod embedded;
mod shared;

use crypto::Secret;

pub use embedded::{CommitError, Embedded, LoadError, OpenError, SCHEMA};
pub use shared::{Busy, Epoch, Preference, Shared, SharedEvent, SharedSettings, Term, Tls};

/// One record is set, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where the record belongs. At most [`PLACE_MAX`] octets.
    pub place: String,
    /// What it holds from now on; `None` removes it.
    pub content: Option<Secret>,
}

/// Octets of the longest place.
pub const PLACE_MAX: usize = 1024;

impl Change {
    /// Sets a record.
    pub fn set(place: impl Into<String>, content: Secret) -> Self {
        Self { place: place.into(), content: Some(content) }
    }

    /// Removes a record, if there is one.
    pub fn remove(place: impl Into<String>) -> Self {
        Self { place: place.into(), content: None }
    }
}
