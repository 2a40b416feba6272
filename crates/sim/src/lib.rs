//! A deterministic world: key servers and members on virtual time, with a network that loses, delays, repeats and
//! reorders, partitions, restarts, and an attacker. Everything follows from one seed.
//!
//! [`Scenario::from_seed`] draws the circumstances, [`run`] lets the time pass and checks the invariants of
//! ARCHITECTURE.md that exist now after every step; a failure names the seed.
//!
//! | invariant | here |
//! |---|---|
//! | 4 no sending before activation or after the hard lifetime | what a member sends with is alive at the server that made it, and active |
//! | 5 bounded state for the unauthenticated | an attacker's datagrams neither stop registrations nor register anybody |
//! | 6 nobody who can reach a server lacks a key that others send with | [`invariants`], for one server that keeps its keys |
//! | 7 state is a function of the input | the same seed gives the same hash of all events and datagrams |

mod attacker;
mod chance;
mod invariants;
mod network;
mod parties;
mod scenario;
mod world;

pub use scenario::Scenario;
pub use world::{Failure, Report, run};
