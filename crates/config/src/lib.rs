//! The configuration language: Junos' `security group-vpn` language in its curly and `set` forms.
//!
//! Text → tokens → tree → [typed model](model::Configuration), every step collecting findings instead of stopping at
//! the first error. Pure: no file, clock or environment is read here.

mod build;
mod candidate;
mod compare;
pub mod finding;
pub mod model;
mod nearest;
pub mod obfuscation;
pub mod place;
mod render;
mod report;
pub mod schema;
pub mod secret;
mod text;
pub mod tree;

pub use candidate::{Candidate, check, load, read};
pub use compare::{Change, Changes, compare, diff};
pub use finding::{Finding, Kind, Severity};
pub use model::Configuration;
pub use place::{Place, Span};
pub use report::Report;
pub use secret::SecretText;
pub use tree::{LoadMode, Tree};

/// Words as one text.
fn text_of<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(" ")
}
