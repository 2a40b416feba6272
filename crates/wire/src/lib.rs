//! Bytes to types and back: ISAKMP, GDOI, ESP, IP and UDP. No cryptography, no clock.

pub mod attribute;
pub mod codec;
pub mod describe;
pub mod esp;
pub mod gdoi;
pub mod ip;
pub mod isakmp;
pub mod non_esp;
pub mod pseudo_time;
pub mod registry;
pub mod selector;
pub mod text;

pub use attribute::{Attribute, AttributeValue, Attributes};
pub use codec::{Error, Result, Violation};
pub use pseudo_time::PseudoTime;
pub use selector::Selector;
