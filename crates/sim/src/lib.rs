//! A deterministic world: key servers and members on virtual time, with a network that loses, delays, repeats and
//! reorders, partitions, restarts, operators, and an attacker. Everything follows from one seed.
//!
//! [`Scenario::from_seed`] draws the circumstances, [`run`] lets the time pass and checks the invariants of
//! ARCHITECTURE.md that exist now after every change; a failure names the seed.
//!
//! | invariant | here |
//! |---|---|
//! | 2 a rekey sequence number never goes back | per KEK, as its server shows it |
//! | 4 no sending before activation or after the hard lifetime | what a member sends with is alive at the server that made it, and active |
//! | 5 bounded state for the unauthenticated | an attacker's datagrams neither stop registrations nor register anybody |
//! | (eviction) | who is out never gets a newer key, although he overhears every push |
//! | 6 nobody who can reach a server lacks a key that others send with | `invariants.rs`, which says who is owed what |
//! | 7 state is a function of the input | the same seed gives the same hash of all events and datagrams |

mod attacker;
mod bits;
mod chance;
mod circumstances;
mod clock;
mod data_path;
mod disk;
mod invariants;
mod judge;
mod keys;
mod lives;
mod network;
mod parties;
mod plan;
mod report;
mod scenario;
mod schedule;
mod touch;
mod trace;
mod traffic;
mod watched;
mod world;

pub use report::{Failure, Report};
pub use scenario::{Communication, Deed, Fault, Faults, Pushing, Scenario};
pub use world::{replay, run, run_and_tell};
