//! A deterministic world of one server and many members on virtual time.
