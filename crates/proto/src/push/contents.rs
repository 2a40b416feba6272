//! The payloads of a push.

use wire::gdoi::{GroupSecurityAssociation, KeyDownload, SequenceNumber};
use wire::isakmp::{Payload, Payloads};
use wire::registry::PayloadType;
use wire::{Error, Violation};

use super::Deletion;

/// What a push says. The octets may hold keys: they belong to the message, which wipes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents<'a> {
    /// Sequence number.
    pub sequence: u32,
    /// What shall be forgotten, in the order of the wire.
    pub deletions: Vec<Deletion>,
    /// Policy, if any.
    pub sa: Option<GroupSecurityAssociation<'a>>,
    /// The keys that belong to `sa`.
    pub keys: Option<KeyDownload<'a>>,
    /// Every payload before SIG.
    pub(super) signed: &'a [u8],
    /// All payloads, without padding.
    pub(super) chain: &'a [u8],
    /// Body of SIG.
    pub(super) signature: &'a [u8],
}

impl<'a> Contents<'a> {
    /// Reads decrypted payloads and the padding after them.
    pub(super) fn read(first: PayloadType, octets: &'a [u8]) -> Result<Self, Error> {
        let payloads = Payloads::parse_decrypted(first, octets)?;
        let out_of_place = |payload: Option<&Payload<'_>>| Error {
            violation: Violation::BadOrder,
            field: "payload",
            offset: payload.map_or(0, Payload::offset),
        };
        let [first, between @ .., last] = payloads.as_slice() else { return Err(out_of_place(None)) };
        if first.kind != PayloadType::SEQUENCE_NUMBER {
            return Err(out_of_place(Some(first)));
        }
        // What follows SIG is not signed, so nothing may.
        if last.kind != PayloadType::SIGNATURE {
            return Err(out_of_place(Some(last)));
        }
        let mut contents = Self {
            sequence: first.parse::<SequenceNumber>()?.0,
            deletions: Vec::new(),
            sa: None,
            keys: None,
            signed: &payloads.chain()[..payloads.chain().len() - last.octets().len()],
            chain: payloads.chain(),
            signature: last.body(),
        };
        for payload in between {
            match payload.kind {
                PayloadType::DELETE => {
                    Deletion::read(&payload.parse()?, payload.offset(), &mut contents.deletions)?;
                }
                PayloadType::SECURITY_ASSOCIATION if contents.sa.is_none() => {
                    contents.sa = Some(payload.parse()?);
                }
                PayloadType::KEY_DOWNLOAD if contents.keys.is_none() => {
                    contents.keys = Some(payload.parse()?)
                }
                PayloadType::VENDOR_ID | PayloadType::NOTIFICATION => {}
                _ => return Err(out_of_place(Some(payload))),
            }
        }
        let needs_keys = contents.sa.as_ref().is_some_and(|sa| sa.kek.is_some() || !sa.teks.is_empty());
        //= https://www.rfc-editor.org/rfc/rfc6407#section-4.3
        //# A KD payload is then added.  This is identical in structure and
        //# meaning to a KD payload sent in a GROUPKEY-PULL exchange.
        if needs_keys && contents.keys.is_none() || contents.sa.is_none() && contents.keys.is_some() {
            return Err(out_of_place(Some(last)));
        }
        Ok(contents)
    }
}
