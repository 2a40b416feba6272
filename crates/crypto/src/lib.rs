//! The only crate that names a cryptographic library: the audit boundary.
