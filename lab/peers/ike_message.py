"""ISAKMP messages (RFC 2408 section 3): header, chains of payloads, attributes, notifications.

Everything read is checked against the text; what breaks it is a finding.
"""

import struct
from dataclasses import dataclass


HEADER = struct.Struct("!8s8sBBBBII")

SA, PROPOSAL, TRANSFORM, KE, ID, HASH, SIG, NONCE, NOTIFY, DELETE, VENDOR = 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13
SAK, SAT, KD, SEQ, GAP = 15, 16, 17, 18, 22

MAIN_MODE, AGGRESSIVE, INFORMATIONAL, GROUPKEY_PULL, GROUPKEY_PUSH, GROUPKEY_PUSH_ACK = 2, 4, 5, 32, 33, 35
ENCRYPTED = 0x01

NAMES = {
    1: "SA", 4: "KE", 5: "ID", 8: "HASH", 9: "SIG", 10: "NONCE", 11: "N", 12: "D", 13: "VID", 15: "SAK", 16: "SAT",
    17: "KD", 18: "SEQ", 20: "NAT-D", 22: "GAP",
}  # fmt: skip

NOTIFY_NAMES = {
    1: "INVALID-PAYLOAD-TYPE", 2: "DOI-NOT-SUPPORTED", 3: "SITUATION-NOT-SUPPORTED", 4: "INVALID-COOKIE",
    5: "INVALID-MAJOR-VERSION", 6: "INVALID-MINOR-VERSION", 7: "INVALID-EXCHANGE-TYPE", 8: "INVALID-FLAGS",
    9: "INVALID-MESSAGE-ID", 10: "INVALID-PROTOCOL-ID", 11: "INVALID-SPI", 12: "INVALID-TRANSFORM-ID",
    13: "ATTRIBUTES-NOT-SUPPORTED", 14: "NO-PROPOSAL-CHOSEN", 15: "BAD-PROPOSAL-SYNTAX", 16: "PAYLOAD-MALFORMED",
    17: "INVALID-KEY-INFORMATION", 18: "INVALID-ID-INFORMATION", 19: "INVALID-CERT-ENCODING",
    20: "INVALID-CERTIFICATE", 21: "CERT-TYPE-UNSUPPORTED", 22: "INVALID-CERT-AUTHORITY",
    23: "INVALID-HASH-INFORMATION", 24: "AUTHENTICATION-FAILED", 25: "INVALID-SIGNATURE",
    26: "ADDRESS-NOTIFICATION", 27: "NOTIFY-SA-LIFETIME", 28: "CERTIFICATE-UNAVAILABLE",
    29: "UNSUPPORTED-EXCHANGE-TYPE", 30: "UNEQUAL-PAYLOAD-LENGTHS", 24576: "RESPONDER-LIFETIME",
    24577: "REPLAY-STATUS", 24578: "INITIAL-CONTACT", 36136: "R-U-THERE", 36137: "R-U-THERE-ACK",
}  # fmt: skip

DPD_VENDOR = bytes.fromhex("afcad71368a1f1c96b8696fc77570100")
R_U_THERE, R_U_THERE_ACK = 36136, 36137


@dataclass(frozen=True)
class Payload:
    """One payload: its type, its octets with the generic header, and without."""

    type: int
    raw: bytes

    @property
    def body(self):
        return self.raw[4:]


@dataclass(frozen=True)
class Message:
    """A datagram whose header has been read."""

    initiator: bytes
    responder: bytes
    first: int
    version: int
    exchange: int
    flags: int
    message_id: bytes
    body: bytes
    datagram: bytes

    @property
    def cookies(self):
        return self.initiator + self.responder

    @property
    def encrypted(self):
        return bool(self.flags & ENCRYPTED)


def read_message(datagram, findings):
    """The header of a peer's datagram, checked."""
    findings.fatal(len(datagram) >= 28, "RFC 2408 3.1", f"datagram of {len(datagram)} octets has no whole header")
    initiator, responder, first, version, exchange, flags, message_id, length = HEADER.unpack_from(datagram)
    findings.fatal(
        length == len(datagram), "RFC 2408 3.1", f"header says {length} octets, the datagram has {len(datagram)}"
    )
    findings.require(version == 0x10, "RFC 2408 3.1", f"version octet is {version:#04x}, not major 1 minor 0")
    findings.require(initiator != bytes(8), "RFC 2408 2.5.3", "initiator cookie is zero")
    findings.require(flags & ~0x07 == 0, "RFC 2408 3.1", f"flag bits that must be zero are set: {flags:#04x}")
    findings.require(flags & 0x02 == 0, "RFC 6407 3.2.1", "commit flag is set")
    findings.require(flags & 0x04 == 0, "RFC 2408 3.1", "authentication-only flag is set")
    findings.require(
        exchange in (MAIN_MODE, AGGRESSIVE, INFORMATIONAL, GROUPKEY_PULL, GROUPKEY_PUSH, GROUPKEY_PUSH_ACK),
        "RFC 6407 3.2.1",
        f"exchange type {exchange}",
    )
    findings.require(first != 0, "RFC 2408 3.1", "message without payloads")
    return Message(
        initiator, responder, first, version, exchange, flags, struct.pack("!I", message_id), datagram[28:], datagram
    )


def read_payloads(first, data, findings, block=None, allowed=None):
    """The chain of payloads in `data`; `block` is the cipher's block when there may be padding."""
    payloads = []
    kind, offset = first, 0
    while kind != 0:
        findings.fatal(
            len(data) - offset >= 4, "RFC 2408 3.2", f"chain goes on with type {kind} where nothing is left"
        )
        following, reserved, length = struct.unpack_from("!BBH", data, offset)
        findings.require(reserved == 0, "RFC 2408 3.2", f"RESERVED of payload {NAMES.get(kind, kind)} is {reserved}")
        findings.fatal(
            4 <= length <= len(data) - offset,
            "RFC 2408 3.2",
            f"payload {NAMES.get(kind, kind)} says {length} octets, {len(data) - offset} are left",
        )
        if allowed is not None:
            findings.require(
                kind in allowed, "RFC 2408 3.1", f"payload {NAMES.get(kind, kind)} does not belong here"
            )
        payloads.append(Payload(kind, data[offset : offset + length]))
        kind, offset = following, offset + length
    padding = data[offset:]
    if block is None:
        findings.require(not padding, "RFC 2408 3.1", f"{len(padding)} octets after the last payload")
    else:
        findings.require(
            len(padding) <= block, "RFC 2409 appendix B", f"{len(padding)} octets of padding, the block is {block}"
        )
        # RFC 2409 5.3 counts the padding in its last octet, appendix B uses zeros only: either will do.
        counted = padding[:-1] + b"\0" if padding and padding[-1] == len(padding) - 1 else padding
        findings.require(not any(counted), "RFC 2409 appendix B", f"padding is not zero: {padding.hex()}")
    return payloads


def covered(payloads):
    """What HASH(n) of a phase 2 message covers: all octets after the HASH payload, without padding."""
    return b"".join(payload.raw for payload in payloads[1:])


def chain(parts):
    """Octets and first type of a chain of (type, body)."""
    out = b""
    for index, (_, body) in enumerate(parts):
        following = parts[index + 1][0] if index + 1 < len(parts) else 0
        out += struct.pack("!BBH", following, 0, len(body) + 4) + body
    return parts[0][0], out


def write_message(cookies, first, exchange, flags, message_id, body, version=0x10):
    """A whole datagram around `body`."""
    return HEADER.pack(cookies[:8], cookies[8:], first, version, exchange, flags,
                       int.from_bytes(message_id, "big"), 28 + len(body)) + body  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    """RFC 2408 section 3.3."""

    type: int
    basic: bool
    value: bytes

    @property
    def number(self):
        return int.from_bytes(self.value, "big")


def read_attributes(data, findings, what, basic=(), variable=()):
    """A list of attributes; `basic` ones may not be variable, a `variable` one may be short enough to be basic."""
    out, offset = [], 0
    while offset < len(data):
        findings.fatal(len(data) - offset >= 4, "RFC 2408 3.3", f"{what}: an attribute is cut off")
        kind, second = struct.unpack_from("!HH", data, offset)
        if kind & 0x8000:
            attribute, offset = Attribute(kind & 0x7FFF, True, data[offset + 2 : offset + 4]), offset + 4
        else:
            findings.fatal(
                second <= len(data) - offset - 4, "RFC 2408 3.3", f"{what}: attribute {kind} says {second} octets"
            )
            attribute = Attribute(kind, False, data[offset + 4 : offset + 4 + second])
            offset += 4 + second
            findings.require(second > 0, "RFC 2408 3.3", f"{what}: attribute {kind} is empty")
        if attribute.type in basic:
            findings.require(
                attribute.basic, "RFC 2409 appendix A", f"{what}: basic attribute {attribute.type} is encoded variable"
            )
        elif attribute.type not in variable:
            findings.violation("RFC 2408 3.3", f"{what}: unknown attribute {attribute.type}")
        out.append(attribute)
    return out


def basic(kind, value):
    """An attribute in its short form."""
    return struct.pack("!HH", kind | 0x8000, value)


def variable(kind, value):
    """An attribute in its long form."""
    return struct.pack("!HH", kind, len(value)) + value


def notify_body(kind, spi=b"", data=b"", doi=2, protocol=1):
    """A Notification payload without its generic header (RFC 2408 section 3.14)."""
    return struct.pack("!IBBH", doi, protocol, len(spi), kind) + spi + data


def delete_body(cookies, doi=0):
    """A Delete payload of the phase 1 SA (RFC 2408 section 3.15)."""
    return struct.pack("!IBBH", doi, 1, 16, 1) + cookies


@dataclass(frozen=True)
class Notification:
    """What a Notification payload said."""

    type: int
    doi: int
    protocol: int
    spi: bytes
    data: bytes

    @property
    def name(self):
        return NOTIFY_NAMES.get(self.type, str(self.type))


def read_notify(payload, findings):
    """A peer's Notification, checked."""
    body = payload.body
    findings.fatal(len(body) >= 8, "RFC 2408 3.14", "Notification is too short")
    doi, protocol, spi_size, kind = struct.unpack_from("!IBBH", body)
    findings.fatal(len(body) >= 8 + spi_size, "RFC 2408 3.14", f"Notification has no room for an SPI of {spi_size}")
    findings.require(doi in (0, 1, 2), "RFC 2408 3.14", f"Notification has DOI {doi}")
    findings.require(protocol in (0, 1, 2, 3), "RFC 2408 3.14", f"Notification has protocol {protocol}")
    if protocol == 1:
        findings.require(spi_size in (0, 8, 16), "RFC 2408 3.14", f"ISAKMP Notification with SPI size {spi_size}")
    findings.require(
        kind in NOTIFY_NAMES or kind == 16384 or 8192 <= kind <= 16383 or 24576 <= kind <= 40959,
        "RFC 2408 3.14.1",
        f"reserved notify message type {kind}",
    )
    return Notification(kind, doi, protocol, body[8 : 8 + spi_size], body[8 + spi_size :])


def read_delete(payload, cookies, findings):
    """A peer's Delete; returns whether it names the phase 1 SA with these cookies."""
    body = payload.body
    findings.fatal(len(body) >= 8, "RFC 2408 3.15", "Delete is too short")
    doi, protocol, spi_size, count = struct.unpack_from("!IBBH", body)
    findings.require(doi in (0, 1, 2), "RFC 2408 3.15", f"Delete has DOI {doi}")
    findings.require(count > 0, "RFC 2408 3.15", "Delete names no SPI")
    findings.fatal(len(body) == 8 + spi_size * count, "RFC 2408 3.15", "Delete's SPIs do not fill it")
    if protocol == 1:
        findings.require(spi_size == 16, "RFC 2408 3.15", f"Delete of an ISAKMP SA with SPI size {spi_size}")
        return any(body[8 + 16 * n : 24 + 16 * n] == cookies for n in range(count))
    return False


def only(payloads, kind, findings, section):
    """The one payload of a type."""
    found = [payload for payload in payloads if payload.type == kind]
    findings.fatal(len(found) == 1, section, f"{len(found)} payloads {NAMES[kind]} where there must be one")
    return found[0]
