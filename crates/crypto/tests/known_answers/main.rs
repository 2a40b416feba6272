//! Known answers from RFCs, FIPS and recorded sessions, for every algorithm.

mod cbc;
mod diffie_hellman;
mod esp;
mod hmac;
mod recorded_session;
mod signature;
