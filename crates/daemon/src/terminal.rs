//! Lines for whoever started the program. That nobody takes them, on a full disk or a closed pipe, ends nothing.

use std::fmt::Display;
use std::io::Write as _;

/// To standard output.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// To standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
