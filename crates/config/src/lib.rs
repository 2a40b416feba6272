//! The configuration language: Junos' `security group-vpn` language in its curly and `set` forms.
//!
//! Text → tokens → tree → [typed model](model::Configuration), every step collecting findings instead of stopping at
//! the first error. Pure: no file, clock or environment is read here.

pub mod finding;
pub mod model;
pub mod place;
pub mod secret;

pub use finding::{Finding, Kind, Severity};
pub use model::Configuration;
pub use place::{Place, Span};
pub use secret::SecretText;
