//! A member of ours and a server whose every message a test writes: what pushes do to the member.

mod deletion;
mod hostile;
mod kek;
mod recovery;
mod scripted;
mod tek;
