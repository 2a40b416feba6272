//! GROUPKEY-PUSH and its acknowledgement: what is sent byte by byte, and what is done with anything else.

mod acknowledgement;
mod documented;
mod hostile;
mod round_trip;
mod support;
