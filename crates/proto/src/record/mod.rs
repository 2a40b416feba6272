//! What a role keeps over a restart, as octets: fields in a fixed order, and numbers for what has a name.

mod kek;
mod names;
mod octets;

pub(crate) use kek::{read_kek, write_kek};
pub(crate) use names::{
    read_cipher, read_hash, read_selector, read_suite, write_cipher, write_hash, write_selector, write_suite,
};
pub(crate) use octets::{Input, Output, Written};
