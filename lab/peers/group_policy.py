"""Policy and keys of a group (RFC 6407 sections 5.2 to 5.7): the SA payload's attributes payloads, KD and SEQ."""

import ipaddress
import socket
import struct
from dataclasses import dataclass, field

from group_push import Kek, kek_packet, read_public_key
from ike_crypto import DES_WEAK_KEYS, odd_parity
from ike_message import GAP, NAMES, SAK, SAT, basic, chain, read_attributes, variable

# RFC 2407 section 4.5 and the registry.
LIFE_TYPE, LIFE_DURATION, GROUP_DESCRIPTION, ENCAPSULATION, AUTHENTICATION, KEY_LENGTH = 1, 2, 3, 4, 5, 6
ADDRESS_PRESERVATION, SA_DIRECTION = 14, 15
BASIC_ATTRIBUTES = (1, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 15)
VARIABLE_ATTRIBUTES = (2, 9)

# ESP transform: (name, key octets by key length attribute, salt octets).
TRANSFORMS = {2: "des", 3: "3des", 12: "aes", 18: "gcm8", 19: "gcm12", 20: "gcm16"}
# Authentication algorithm: (hashlib name, key octets, octets on the wire): RFC 2403, 2404, 4868.
INTEGRITY = {1: ("md5", 16, 12), 2: ("sha1", 20, 12), 5: ("sha256", 32, 16), 6: ("sha384", 48, 24), 7: ("sha512", 64, 32)}

TEK_SUITES = {
    "des": (2, None), "3des": (3, None), "aes128": (12, 128), "aes192": (12, 192), "aes256": (12, 256),
}  # fmt: skip
TEK_INTEGRITY = {"md5": 1, "sha1": 2, "sha256": 5, "sha384": 6, "sha512": 7}


@dataclass
class Selector:
    """One SAT's traffic: networks, ports, protocol; zero is any."""

    protocol: int
    source: ipaddress.IPv4Network
    source_port: int
    destination: ipaddress.IPv4Network
    destination_port: int

    def json(self):
        return {
            "protocol": self.protocol, "source": str(self.source), "source_port": self.source_port,
            "destination": str(self.destination), "destination_port": self.destination_port,
        }  # fmt: skip


@dataclass
class Tek:
    """One SA TEK payload, with its keys once KD has come."""

    spi: bytes
    transform: int
    selector: Selector
    key_bits: int = None
    integrity: int = None
    lifetime: int = 28800
    encryption_key: bytes = None
    integrity_key: bytes = None
    made: float = 0.0
    activate_at: float = None
    dead_at: float = None

    @property
    def cipher(self):
        name = TRANSFORMS.get(self.transform, str(self.transform))
        return f"aes{self.key_bits}" if name == "aes" else name

    def key_octets(self):
        if self.transform == 2:
            return 8
        if self.transform == 3:
            return 24
        return (self.key_bits or 0) // 8 + (4 if self.transform in (18, 19, 20) else 0)

    def json(self):
        integrity = INTEGRITY.get(self.integrity, (None,))[0]
        return {
            "spi": self.spi.hex(), "cipher": self.cipher, "integrity": integrity, "lifetime": self.lifetime,
            "selector": self.selector.json(),
            "encryption_key": self.encryption_key.hex() if self.encryption_key else None,
            "integrity_key": self.integrity_key.hex() if self.integrity_key else None,
        }  # fmt: skip


@dataclass
class Policy:
    """Everything an SA payload said."""

    teks: list = field(default_factory=list)
    kek: Kek = None
    gap: dict = None
    sequence: int = None

    def json(self):
        return {
            "teks": [tek.json() for tek in self.teks], "kek": self.kek.json() if self.kek else None,
            "gap": self.gap, "sequence": self.sequence,
        }  # fmt: skip


class Reader:
    """Octets of a payload, with a finding where they end too early."""

    def __init__(self, data, findings, section):
        self.data, self.findings, self.section = data, findings, section

    def take(self, count, what):
        self.findings.fatal(len(self.data) >= count, self.section, f"{what} is cut off")
        out, self.data = self.data[:count], self.data[count:]
        return out

    def number(self, count, what):
        return int.from_bytes(self.take(count, what), "big")


def read_network(kind, data, findings, what):
    """SRC/DST identification data (RFC 2407 section 4.6.2)."""
    if kind == 1:
        findings.fatal(len(data) == 4, "RFC 2407 4.6.2.2", f"{what}: ID_IPV4_ADDR of {len(data)} octets")
        return ipaddress.ip_network(socket.inet_ntoa(data))
    findings.fatal(kind == 4, "RFC 6407 5.5.1", f"{what}: identification type {kind}")
    findings.fatal(len(data) == 8, "RFC 2407 4.6.2.5", f"{what}: ID_IPV4_ADDR_SUBNET of {len(data)} octets")
    address, mask = (int.from_bytes(part, "big") for part in (data[:4], data[4:]))
    inverse = mask ^ 0xFFFFFFFF
    findings.fatal(inverse & (inverse + 1) == 0, "RFC 2407 4.6.2.5", f"{what}: mask {mask:#x} has holes")
    findings.require(address & inverse == 0, "RFC 2407 4.6.2.5", f"{what}: address has bits outside its mask")
    return ipaddress.ip_network((address & mask, 32 - inverse.bit_length()))


def read_sa(body, findings, allow_kek=False, private=()):
    """The SA payload of message 2, checked (RFC 6407 section 5.2)."""
    reader = Reader(body, findings, "RFC 6407 5.2")
    doi = reader.number(4, "DOI")
    situation = reader.number(4, "Situation")
    kind = reader.number(2, "SA Attribute Next Payload")
    reserved = reader.number(2, "RESERVED2")
    findings.require(doi == 2, "RFC 6407 5.2", f"DOI is {doi}, not 2")
    findings.require(situation == 0, "RFC 6407 5.2", f"Situation is {situation}, not 0")
    findings.require(reserved == 0, "RFC 6407 5.2", f"RESERVED2 is {reserved}")
    findings.fatal(kind in (SAK, SAT, GAP), "RFC 6407 5.2", f"SA Attribute Next Payload is {kind}")
    policy, last = Policy(), 0
    order = {SAK: 1, GAP: 2, SAT: 3}
    while kind:
        findings.fatal(kind in order, "RFC 6407 5.2.1", f"payload {NAMES.get(kind, kind)} among the SA's attributes")
        rank = order[kind]
        findings.require(
            rank > last or rank == last == 3, "RFC 6407 5.2.1", f"{NAMES[kind]} is out of order or there twice"
        )
        last = rank
        following = reader.number(1, NAMES[kind])
        reserved = reader.number(1, NAMES[kind])
        length = reader.number(2, NAMES[kind])
        findings.require(reserved == 0, f"RFC 6407 5.{rank + 2}", f"RESERVED of {NAMES[kind]} is {reserved}")
        findings.fatal(length >= 4, "RFC 2408 3.2", f"{NAMES[kind]} of {length} octets")
        content = reader.take(length - 4, NAMES[kind])
        if kind == SAK:
            findings.require(allow_kek, "RFC 6407 5.2.1", "SAK in a group that has no rekey messages")
            policy.kek = read_sak(content, findings)
        elif kind == GAP:
            policy.gap = read_gap(content, findings, private)
        else:
            policy.teks.append(read_sat(content, findings, private))
        kind = following
    findings.require(not reader.data, "RFC 6407 5.2", f"{len(reader.data)} octets after the last SA attribute payload")
    findings.require(
        policy.teks or policy.kek is not None, "RFC 6407 5.2.1", "neither SAK nor SAT: one MUST be present"
    )
    check_shared_spis(policy, findings)
    return policy


def check_shared_spis(policy, findings):
    """SATs that share an SPI are one SA: everything but the traffic must agree."""
    by_spi = {}
    for tek in policy.teks:
        first = by_spi.setdefault(tek.spi, tek)
        same = (first.transform, first.key_bits, first.integrity, first.lifetime)
        findings.require(
            same == (tek.transform, tek.key_bits, tek.integrity, tek.lifetime),
            "RFC 4301 4.1",
            f"SATs with SPI {tek.spi.hex()} disagree",
        )


def read_sak(body, findings):
    """A SAK payload (RFC 6407 section 5.3)."""
    reader = Reader(body, findings, "RFC 6407 5.3")
    protocol = reader.number(1, "protocol")
    findings.require(protocol == 17, "RFC 6407 5.3", f"GROUPKEY-PUSH is UDP, protocol 17, not {protocol}")
    ends = []
    for what in ("source", "destination"):
        kind = reader.number(1, f"{what} type")
        port = reader.number(2, f"{what} port")
        findings.require(port in (0, 848), "RFC 6407 5.3", f"SAK {what} port {port}, GDOI's is 848")
        data = reader.take(reader.number(1, f"{what} length"), what)
        ends.append(read_network(kind, data, findings, f"SAK {what}"))
    spi = reader.take(16, "SPI")
    findings.require(spi[:8] != bytes(8), "RFC 2408 2.5.3", "the KEK's first cookie is zero")
    findings.require(reader.number(4, "RESERVED2") == 0, "RFC 6407 5.3", "RESERVED2 of the SAK is not zero")
    attributes = read_attributes(reader.data, findings, "SAK", basic=(1, 2, 3, 5, 6, 7, 8, 9), variable=(4,))
    kinds = [attribute.type for attribute in attributes]
    values = {attribute.type: attribute.number for attribute in attributes}
    findings.require(len(set(kinds)) == len(kinds), "RFC 6407 5.3", f"KEK attributes repeat: {kinds}")
    for kind in (2, 6):
        findings.fatal(kind in kinds, "RFC 6407 5.3", f"SAK without attribute {kind}")
    findings.require(1 not in kinds, "RFC 6407 5.3", "KEK_MANAGEMENT_ALGORITHM in a GROUPKEY-PULL")
    findings.require(8 not in kinds, "RFC 6407 5.3", "attribute 8 is RESERVED")
    for attribute in attributes:
        if attribute.type == 4:
            findings.require(len(attribute.value) == 4, "RFC 6407 5.3.4", "KEK_KEY_LIFETIME is not 4 octets")
            findings.require(attribute.number > 0, "RFC 6407 5.3.4", "KEK_KEY_LIFETIME is zero")
    kek = Kek(spi, values[2], values.get(3), values.get(4), values.get(5), values[6], values.get(7), values.get(9))
    kek.source, kek.destination = ends
    findings.fatal(kek.algorithm in (1, 2, 3), "RFC 6407 5.3.2", f"KEK_ALGORITHM {kek.algorithm}")
    bits = (128, 192, 256) if kek.algorithm == 3 else (None, 64 if kek.algorithm == 1 else 192)
    findings.fatal(kek.key_bits in bits, "RFC 6407 5.3.3", f"KEK_KEY_LENGTH {kek.key_bits} for {kek.algorithm}")
    findings.fatal(kek.signature in (1, 4, 5, 6), "RFC 6407 5.3.6", f"SIG_ALGORITHM {kek.signature}")
    findings.fatal(kek.hash_name, "RFC 6407 5.3.5", f"SIG_HASH_ALGORITHM {kek.hash}")
    findings.require(kek.acknowledge in (None, 1, 3), "RFC 8263 2", f"KEK_ACK_REQUESTED {kek.acknowledge}")
    return kek


def read_gap(body, findings, private=()):
    """A GAP payload (RFC 6407 section 5.4): attribute name to value."""
    attributes = read_attributes(body, findings, "GAP", basic=(1, 2, 3), variable=tuple(private))
    names = {1: "activation_time_delay", 2: "deactivation_time_delay", 3: "sender_id_request"}
    kinds = [attribute.type for attribute in attributes]
    findings.require(len(set(kinds)) == len(kinds), "RFC 6407 5.4", f"GAP attributes repeat: {kinds}")
    findings.require(3 not in kinds, "RFC 6407 5.4.2", "SENDER_ID_REQUEST in a GAP that the server sends")
    return {names.get(attribute.type, str(attribute.type)): attribute.number for attribute in attributes}


def read_sat(body, findings, private=()):
    """A SAT payload for ESP (RFC 6407 section 5.5.1)."""
    reader = Reader(body, findings, "RFC 6407 5.5")
    protocol_id = reader.number(1, "Protocol-ID")
    findings.fatal(protocol_id == 1, "RFC 6407 5.5", f"Protocol-ID {protocol_id} is not ESP")
    protocol = reader.number(1, "protocol")
    networks, ports = [], []
    for what in ("SAT source", "SAT destination"):
        kind = reader.number(1, f"{what} type")
        ports.append(reader.number(2, f"{what} port"))
        data = reader.take(reader.number(1, f"{what} length"), what)
        networks.append(read_network(kind, data, findings, what))
    transform = reader.number(1, "transform")
    spi = reader.take(4, "SPI")
    findings.require(transform in TRANSFORMS, "RFC 6407 5.5.1", f"transform {transform}")
    findings.require(
        int.from_bytes(spi, "big") > 255, "RFC 4303 2.1", f"SPI {spi.hex()} is one of the reserved 0 to 255"
    )
    if any(ports):
        findings.require(protocol in (6, 17, 33, 132, 136), "RFC 6407 5.5.1", f"ports with protocol {protocol}")
    attributes = read_attributes(
        reader.data, findings, "SAT", BASIC_ATTRIBUTES, VARIABLE_ATTRIBUTES + tuple(private)
    )
    tek = Tek(spi, transform, Selector(protocol, networks[0], ports[0], networks[1], ports[1]))
    check_sat_attributes(tek, attributes, findings)
    return tek


def check_sat_attributes(tek, attributes, findings):
    """RFC 2407 section 4.5, RFC 6407 section 5.5.1, RFC 3602 section 5.3."""
    kinds = [attribute.type for attribute in attributes]
    values = {attribute.type: attribute.number for attribute in attributes}
    findings.require(len(set(kinds)) == len(kinds), "RFC 2407 4.5.2", f"SA attributes repeat: {kinds}")
    findings.require(GROUP_DESCRIPTION not in kinds, "RFC 6407 5.5.1", "Group Description MUST NOT be sent")
    for kind, name in ((LIFE_TYPE, "SA Life Type"), (LIFE_DURATION, "SA Life Duration"),
                       (ENCAPSULATION, "Encapsulation Mode")):  # fmt: skip
        findings.require(kind in kinds, "RFC 6407 5.5.1", f"SAT without {name}")
    if LIFE_DURATION in kinds:
        findings.require(
            LIFE_TYPE in kinds and kinds.index(LIFE_TYPE) < kinds.index(LIFE_DURATION),
            "RFC 2407 4.5",
            "SA Life Duration MUST always follow an SA Life Type",
        )
        findings.require(values[LIFE_DURATION] > 0, "RFC 2407 4.5", "SA Life Duration is zero")
        tek.lifetime = values[LIFE_DURATION]
    findings.require(values.get(LIFE_TYPE, 1) == 1, "RFC 2407 4.5", f"SA Life Type {values.get(LIFE_TYPE)}")
    findings.require(
        values.get(ENCAPSULATION, 1) == 1, "RFC 5374 3.1", f"encapsulation mode {values.get(ENCAPSULATION)}, not tunnel"
    )
    findings.require(values.get(ADDRESS_PRESERVATION, 4) in (1, 2, 3, 4), "RFC 6407 5.5.1.1.1", "address preservation")
    findings.require(values.get(SA_DIRECTION, 3) in (1, 2, 3), "RFC 6407 5.5.1.1.2", "SA direction")
    if tek.transform in (12, 18, 19, 20):
        findings.require(
            values.get(KEY_LENGTH) in (128, 192, 256), "RFC 3602 5.3", f"AES key length {values.get(KEY_LENGTH)}"
        )
    else:
        findings.require(KEY_LENGTH not in kinds, "RFC 2407 4.5", "Key Length for a cipher of fixed length")
    if tek.transform in (2, 3, 12):
        findings.require(
            values.get(AUTHENTICATION) in INTEGRITY,
            "RFC 6407 5.5.1",
            f"Authentication Algorithm {values.get(AUTHENTICATION)}",
        )
    else:
        findings.require(AUTHENTICATION not in kinds, "RFC 4106 8.1", "Authentication Algorithm beside GCM")
    tek.key_bits, tek.integrity = values.get(KEY_LENGTH), values.get(AUTHENTICATION)


def read_kd(body, policy, findings, allow_kek=False):
    """The KD payload of message 4 (RFC 6407 section 5.6): fills the keys into `policy`."""
    reader = Reader(body, findings, "RFC 6407 5.6")
    count = reader.number(2, "Number of Key Packets")
    findings.require(reader.number(2, "RESERVED2") == 0, "RFC 6407 5.6", "RESERVED2 of KD is not zero")
    findings.require(count > 0, "RFC 6407 5.6", "KD without key packets")
    keyed = set()
    for index in range(count):
        what = f"key packet {index + 1}"
        kind = reader.number(1, what)
        findings.require(reader.number(1, what) == 0, "RFC 6407 5.6", f"RESERVED of {what} is not zero")
        length = reader.number(2, what)
        spi_size = reader.number(1, what)
        findings.fatal(length >= 5 + spi_size, "RFC 6407 5.6", f"{what} of {length} octets")
        content = reader.take(length - 5, what)
        spi, attributes = content[:spi_size], content[spi_size:]
        if kind == 1:
            findings.require(spi_size == 4, "RFC 6407 5.6", f"{what}: TEK with an SPI of {spi_size} octets")
            findings.require(spi not in keyed, "RFC 6407 5.6.1", f"{what}: SPI {spi.hex()} has a key already")
            keyed.add(spi)
            read_tek_packet(spi, attributes, policy, findings, what)
        elif kind == 2:
            findings.require(allow_kek, "RFC 6407 5.6.2", f"{what}: KEK in a group that has no rekey messages")
            findings.fatal(policy.kek is not None, "RFC 6407 5.6", f"{what}: KEK without a SAK")
            findings.require(spi_size == 16, "RFC 6407 5.6", f"{what}: KEK with an SPI of {spi_size} octets")
            findings.fatal(spi == policy.kek.spi, "RFC 6407 5.6", f"{what}: SPI is not the SAK's")
            findings.fatal(policy.kek.key is None, "RFC 6407 5.6.2", f"{what}: a second KEK: there MUST be only one")
            read_kek_packet(attributes, policy.kek, findings, what)
        else:
            findings.violation("RFC 6407 5.6", f"{what}: KD type {kind}")
    findings.require(
        not reader.data, "RFC 6407 5.6", f"{len(reader.data)} octets after {count} key packets (Number of Key Packets)"
    )
    if policy.kek is not None:
        findings.fatal(policy.kek.key is not None, "RFC 6407 4", "KD has no KEK for the SAK")
    for tek in policy.teks:
        findings.require(tek.spi in keyed, "RFC 6407 3.2", f"KD has no key for SPI {tek.spi.hex()}")


def read_tek_packet(spi, data, policy, findings, what):
    """One TEK key packet (RFC 6407 section 5.6.1)."""
    teks = [tek for tek in policy.teks if tek.spi == spi]
    findings.require(teks, "RFC 6407 5.6", f"{what}: SPI {spi.hex()} was in no SAT")
    attributes = read_attributes(data, findings, what, variable=(1, 2, 3))
    kinds = sorted(attribute.type for attribute in attributes)
    keys = {attribute.type: attribute.value for attribute in attributes}
    findings.require(
        not any(attribute.basic for attribute in attributes), "RFC 6407 5.6.1", f"{what}: a key as a basic attribute"
    )
    for tek in teks:
        wanted = [1, 2] if tek.integrity else [1]
        findings.fatal(
            kinds == wanted, "RFC 6407 5.6.1", f"{what}: attributes {kinds}, the SAT asks for exactly {wanted}"
        )
        findings.require(
            len(keys[1]) == tek.key_octets(),
            "RFC 6407 5.6.1.1",
            f"{what}: key of {len(keys[1])} octets for {tek.cipher}",
        )
        if tek.transform in (2, 3):
            findings.require(odd_parity(keys[1]), "RFC 6407 5.6.1.1", f"{what}: DES key without parity bits")
            parts = [keys[1][n : n + 8] for n in range(0, len(keys[1]), 8)]
            findings.require(not DES_WEAK_KEYS & set(parts), "RFC 2451 2.3", f"{what}: weak DES key")
            findings.require(len(set(parts)) == len(parts), "RFC 2451 2.3", f"{what}: equal parts of a 3DES key")
        tek.encryption_key = keys[1]
        if tek.integrity:
            name, octets, _ = INTEGRITY.get(tek.integrity, ("?", 0, 0))
            findings.require(
                len(keys[2]) == octets, "RFC 6407 5.6.1.2", f"{what}: key of {len(keys[2])} octets for HMAC-{name}"
            )
            tek.integrity_key = keys[2]
        for key in keys.values():
            findings.require(len(set(key)) > 1, "RFC 6407 5.6.1", f"{what}: a key of one repeated octet")


def read_kek_packet(data, kek, findings, what):
    """The KEK key packet (RFC 6407 section 5.6.2): fills the keys into `kek`."""
    attributes = read_attributes(data, findings, what, variable=(1, 2))
    kinds = sorted(attribute.type for attribute in attributes)
    findings.fatal(kinds == [1, 2], "RFC 6407 5.6.2", f"{what}: attributes {kinds}, not exactly [1, 2]")
    findings.require(
        not any(attribute.basic for attribute in attributes), "RFC 6407 5.6.2", f"{what}: a key as a basic attribute"
    )
    keys = {attribute.type: attribute.value for attribute in attributes}
    findings.fatal(
        len(keys[1]) == kek.block + kek.key_octets, "RFC 6407 5.6.2.1",
        f"{what}: IV and key of {len(keys[1])} octets for {kek.cipher}",
    )  # fmt: skip
    kek.iv, kek.key = keys[1][: kek.block], keys[1][kek.block :]
    findings.require(len(set(kek.iv)) > 1, "RFC 6407 5.6.2.1", f"{what}: the IV is constant")
    findings.require(len(set(kek.key)) > 1, "RFC 6407 5.6.2.1", f"{what}: the key is constant")
    if kek.algorithm in (1, 2):
        findings.require(odd_parity(kek.key), "RFC 6407 5.6.1.1", f"{what}: DES key without parity bits")
    read_public_key(kek, keys[2], findings)


def read_seq(body, findings):
    """The SEQ payload (RFC 6407 section 5.7)."""
    findings.fatal(len(body) == 4, "RFC 6407 5.7", f"SEQ of {len(body) + 4} octets, MUST be 8")
    return int.from_bytes(body, "big")


# What the server side sends.


def network_parts(network, as_host=False):
    """Identification type and data of a network."""
    if as_host and network.prefixlen == 32:
        return 1, network.network_address.packed
    return 4, network.network_address.packed + network.netmask.packed


def sat_body(tek, wide_lengths=False, as_host=False, life_first=True):
    """A SAT payload's body; `wide_lengths` writes identification lengths of two octets, as one vendor does."""
    selector = tek.selector
    width = "!H" if wide_lengths else "!B"
    out = struct.pack("!BB", 1, selector.protocol)
    for network, port in ((selector.source, selector.source_port), (selector.destination, selector.destination_port)):
        kind, data = network_parts(network, as_host)
        out += struct.pack("!BH", kind, port) + struct.pack(width, len(data)) + data
    out += struct.pack("!B", tek.transform) + tek.spi
    out += basic(LIFE_TYPE, 1) + variable(LIFE_DURATION, struct.pack("!I", tek.lifetime)) + basic(ENCAPSULATION, 1)
    if tek.integrity:
        out += basic(AUTHENTICATION, tek.integrity)
    if tek.key_bits:
        out += basic(KEY_LENGTH, tek.key_bits)
    return out


def sa_body(parts):
    """The SA payload of message 2 around SA attribute payloads (type, body)."""
    first, attributes = chain(parts)
    return struct.pack("!IIHH", 2, 0, first, 0) + attributes


def kd_body(teks, kek=None, form="spki", short=False):
    """A KD payload with one key packet per SPI, the KEK's first."""
    packets, done = b"", []
    if kek is not None:
        packets += kek_packet(kek, form, short)
    for tek in teks:
        if tek.spi in done:
            continue
        done.append(tek.spi)
        attributes = variable(1, tek.encryption_key)
        if tek.integrity_key:
            attributes += variable(2, tek.integrity_key)
        packets += struct.pack("!BBHB", 1, 0, 5 + 4 + len(attributes), 4) + tek.spi + attributes
    return struct.pack("!HH", len(done) + (kek is not None), 0) + packets
