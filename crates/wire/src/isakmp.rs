//! ISAKMP messages and payloads (RFC 2408), with the contents that RFC 2407 and RFC 2409 give them.
//!
//! A message is parsed in three steps, because a hash or a signature covers exact octets and because most bodies are
//! encrypted: [`Message::parse`] reads the header and believes its length; [`Payloads::parse`] cuts a (decrypted) body
//! into payloads and keeps the octets of each; [`Payload::parse`] gives one payload its type.
//!
//! ```
//! use wire::{isakmp::*, registry::*};
//!
//! let mut chain = PayloadChain::new();
//! chain.push(&Nonce::from(&[7; 16]))?.push(&Identification::new(Identity::key_id(1)))?;
//! let header = Header {
//!     initiator_cookie: Cookie([1; 8]),
//!     responder_cookie: Cookie([2; 8]),
//!     next_payload: chain.first(),
//!     version: Version::V1_0,
//!     exchange: ExchangeType::GROUPKEY_PULL,
//!     flags: Flags::NONE,
//!     message_id: MessageId(3),
//! };
//! let datagram = header.message(chain.bytes())?;
//! let message = Message::parse(&datagram)?;
//! let payloads = message.payloads()?;
//! assert_eq!(payloads.only::<Nonce>()?.unwrap().octets(), [7; 16]);
//! # Ok::<(), wire::Error>(())
//! ```

mod certificate;
mod delete;
mod header;
mod identification;
mod message;
mod notification;
mod opaque;
mod payload;
mod proposal;

pub use certificate::{Certificate, CertificateRequest};
pub use delete::Delete;
pub use header::{Cookie, Flags, Header, MessageId, Version};
pub use identification::{Identification, Identity, IdentityError};
pub use message::Message;
pub use notification::Notification;
pub use opaque::{Hash, KeyExchange, NatDiscovery, Nonce, Signature, VendorId};
pub use payload::{MAXIMUM_PADDING, MAXIMUM_PAYLOADS, Payload, PayloadBody, PayloadChain, Payloads};
pub use proposal::{Proposal, SecurityAssociation, Transform};
