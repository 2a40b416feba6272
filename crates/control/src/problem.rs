//! The body of every reply that is not a success.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// One line for people.
    pub error: String,
}

impl Problem {
    /// A problem in words.
    pub fn new(error: impl Into<String>) -> Self {
        Problem { error: error.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.error)
    }
}

impl std::error::Error for Problem {}
