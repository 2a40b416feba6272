//! Dialogues of key server and member on virtual time, and recorded sessions of other implementations.

mod change;
mod cluster;
mod corpus;
mod damage;
mod dialogue;
mod durable;
mod foreign;
mod fuzz_bodies;
mod fuzz_steps;
mod link;
mod member_restart;
mod pseudo_time;
mod push_bodies;
mod refusal;
mod rekey;
mod rekeyed;
mod rollover;
mod rounds;
mod scale;
mod sender_ids;
mod sessions;
mod stranger;
mod world;
