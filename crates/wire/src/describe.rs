//! Any message or packet as indented text, for `gvpn decode`.
//!
//! Nothing here fails: what cannot be read is shown as far as it goes, followed by the error and its offset. Keys are
//! never shown, only their length.

mod attributes;
mod packet;
mod payloads;

pub use packet::{datagram, frame, packet};

use std::fmt::{self, Write};

use crate::codec::{Error, Reader, Violation};
use crate::isakmp::{Cookie, Flags, Header, Version};
use crate::registry::{ExchangeType, PayloadType};

/// A whole ISAKMP message, without non-ESP marker.
pub fn message(octets: &[u8]) -> String {
    let mut text = Text::default();
    write_message(&mut text, octets);
    text.finish()
}

/// The decrypted body of a message with this header: the payloads and their padding.
pub fn plaintext(header: &Header, body: &[u8]) -> String {
    let mut text = Text::default();
    payloads::write_payloads(&mut text, header.exchange, header.next_payload, body, 0, true);
    text.finish()
}

/// Payloads beginning with one of type `first`, in the sense of `exchange`, and padding after them.
pub fn payloads(exchange: ExchangeType, first: PayloadType, body: &[u8]) -> String {
    let mut text = Text::default();
    payloads::write_payloads(&mut text, exchange, first, body, 0, true);
    text.finish()
}

fn write_message(text: &mut Text, octets: &[u8]) {
    let mut reader = Reader::new(octets);
    let (header, length) = match Header::read(&mut reader) {
        Ok(read) => read,
        Err(error) => {
            text.line(format_args!("ISAKMP, {} octets", octets.len()));
            return text.indented(|text| text.malformed(error));
        }
    };
    text.line(format_args!("ISAKMP {}", header.exchange));
    text.indented(|text| {
        let responder = match header.responder_cookie {
            Cookie::ZERO => "none yet".to_owned(),
            cookie => cookie.to_string(),
        };
        text.line(format_args!("cookies: initiator {}, responder {responder}", header.initiator_cookie));
        if header.version != Version::V1_0 {
            text.line(format_args!("version: {}", header.version));
        }
        if header.flags != Flags::NONE {
            text.line(format_args!("flags: {}", header.flags));
        }
        text.line(format_args!("message ID: {}", header.message_id));
        text.line(format_args!("length: {length}"));
        if header.version != Version::V1_0 {
            return text.malformed(Error {
                violation: Violation::UnsupportedVersion,
                field: "Version",
                offset: 17,
            });
        }
        if usize::try_from(length) != Ok(octets.len()) {
            text.line(format_args!("received: {} octets", octets.len()));
            text.malformed(Error { violation: Violation::BadLength, field: "Length", offset: 24 });
        }
        let body = reader.take_rest();
        if header.flags.contains(Flags::ENCRYPTED) {
            text.line(format_args!("first payload: {}", header.next_payload));
            text.line(format_args!("encrypted, {} octets", body.len()));
        } else {
            payloads::write_payloads(text, header.exchange, header.next_payload, body, Header::LENGTH, false);
        }
    });
}

/// Lines of text with a level of indentation.
#[derive(Default)]
struct Text {
    lines: String,
    level: usize,
}

impl Text {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        let Self { lines, level } = self;
        let width = *level * 2;
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{:width$}{line}", "");
    }

    fn malformed(&mut self, error: Error) {
        self.line(format_args!("malformed: {error}"));
    }

    fn indented(&mut self, write: impl FnOnce(&mut Self)) {
        self.level += 1;
        write(self);
        self.level -= 1;
    }

    fn finish(self) -> String {
        self.lines
    }
}
