//! Group policy on the wire: TEKs as SA TEK payloads and key packets, written by the server and read by the member.
//!
//! ```text
//! SA payload     DOI GDOI, situation 0
//!   GAP          ACTIVATION_TIME_DELAY, DEACTIVATION_TIME_DELAY: while a successor waits for its activation; pseudo-time
//!   SAT ...      per ipsec-sa in the server's order, oldest TEK first, one SAT for each match policy
//! KD payload     one TEK key packet for each SPI
//! ```
//!
//! All SATs of one TEK share SPI and keys. What RFC 6407 does not carry travels in two private attributes of a TEK's
//! first SAT, and only to members that show our vendor id: [`CONFIGURED_LIFETIME`] and [`ACTIVATION_DELAY`]; likewise
//! [`KEK_HEARTBEAT`] and [`KEK_CONFIGURED_LIFETIME`] in a SAK. Where packets carry the group's pseudo-time, so does the GAP.
//!
//! TEKs of a counter mode come with a SID key packet ([`SenderIdDownload`]), in a PULL only.
//!
//! Not implemented here: LKH, AH.

mod algorithms;
mod decode;
mod decode_kek;
mod encode;
mod encode_kek;
mod sender_ids;
mod size;

pub use decode::{MAXIMUM_TEKS, Offer, PolicyError, ReceivedTek, RefusedTek, TekRefusal};
pub use decode_kek::{KekKeys, KekRefusal, ReceivedKek};
pub use encode::{GroupPolicy, PendingTimes, TekView, Template, ToldTime};
pub use encode_kek::KekView;
pub use sender_ids::SenderIdDownload;
pub use size::{DATAGRAM_LIMIT, MessageSize};

/// Private SAT attribute: the TEK's configured lifetime in seconds, four octets.
pub const CONFIGURED_LIFETIME: u16 = 32001;

/// Private SAT attribute: seconds until this TEK starts to encrypt, two octets.
pub const ACTIVATION_DELAY: u16 = 32002;

/// Private SAT attribute, two octets: 0 where this TEK's packets carry no pseudo-time although the GAP tells it, which is so
/// while the setting of the group changes.
pub const PSEUDO_TIME_CARRIED: u16 = 32003;

/// Private KEK attribute: seconds between two signs of life of the server, two octets.
pub const KEK_HEARTBEAT: u16 = 128;

/// Private KEK attribute: the KEK's configured lifetime in seconds, four octets.
pub const KEK_CONFIGURED_LIFETIME: u16 = 129;

/// First of the attribute classes that RFC 2407 leaves to private use.
const PRIVATE_USE: u16 = 32001;
