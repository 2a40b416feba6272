//! The non-ESP marker (RFC 3948 section 2.2): four zero octets before an ISAKMP message where ESP could stand.

/// The marker.
pub const MARKER: [u8; 4] = [0; 4];

/// Splits a datagram into whether it has a marker, and the message.
///
/// No ISAKMP message begins with four zero octets: an initiator cookie is never zero in practice (RFC 2408 section
/// 2.5.3), and one whose first half happens to be zero is refused like any other malformed message.
pub fn strip(datagram: &[u8]) -> (bool, &[u8]) {
    match datagram.strip_prefix(&MARKER) {
        Some(message) => (true, message),
        None => (false, datagram),
    }
}

/// The datagram that carries `message`, with a marker if the peer sent one.
pub fn mirror(marker: bool, message: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(MARKER.len() + message.len());
    if marker {
        datagram.extend_from_slice(&MARKER);
    }
    datagram.extend_from_slice(message);
    datagram
}
