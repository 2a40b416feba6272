"""Phase 1 (RFC 2408, RFC 2409) with pre-shared keys: what both sides build and check, and the SA that results."""

import hmac
import secrets
import socket
import struct

import ike_crypto
from ike_crypto import CIPHERS, HASHES
from ike_message import (
    DELETE, ENCRYPTED, HASH, INFORMATIONAL, NOTIFY, basic, chain, covered, notify_body, read_attributes,
    read_delete, read_notify, read_payloads, variable, write_message,
)  # fmt: skip

# RFC 2409 appendix A attribute classes.
ENCRYPTION, HASHING, AUTHENTICATION, GROUP, LIFE_TYPE, LIFE_DURATION, KEY_LENGTH = 1, 2, 3, 4, 11, 12, 14
PRE_SHARED = 1


def suite_attributes(suite, lifetime):
    """The attributes of one transform."""
    cipher, _, _, key_bits = CIPHERS[suite.cipher]
    out = basic(ENCRYPTION, cipher)
    if key_bits:
        out += basic(KEY_LENGTH, key_bits)
    out += basic(HASHING, HASHES[suite.hash][0]) + basic(AUTHENTICATION, PRE_SHARED) + basic(GROUP, suite.group)
    return out + basic(LIFE_TYPE, 1) + variable(LIFE_DURATION, struct.pack("!I", lifetime))


def proposal_body(suites, lifetime, doi, situation=None):
    """The body of a phase 1 SA payload offering these suites, best first."""
    transforms = b""
    for index, suite in enumerate(suites):
        attributes = suite_attributes(suite, lifetime)
        following = 3 if index + 1 < len(suites) else 0
        transforms += struct.pack("!BBHBBH", following, 0, 8 + len(attributes), index + 1, 1, 0) + attributes
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, len(suites)) + transforms
    if situation is None:
        situation = 1 if doi == 1 else 0
    return struct.pack("!II", doi, situation) + proposal


def read_proposals(body, findings):
    """A phase 1 SA body: its DOI, situation, and per proposal its number and transforms (number, attributes, octets)."""
    findings.fatal(len(body) >= 8, "RFC 2408 3.4", "SA payload is too short")
    doi, situation = struct.unpack_from("!II", body)
    findings.require(doi in (1, 2), "RFC 6407 2.1", f"phase 1 SA has DOI {doi}")
    findings.require(
        situation == 1 or (doi == 2 and situation == 0), "RFC 6407 2.1", f"DOI {doi} with situation {situation}"
    )
    proposals, data, more = [], body[8:], True
    while more:
        findings.fatal(len(data) >= 8, "RFC 2408 3.5", "proposal is cut off")
        following, reserved, length, number, protocol, spi_size, count = struct.unpack_from("!BBHBBBB", data)
        findings.require(reserved == 0, "RFC 2408 3.5", "RESERVED of a proposal is not zero")
        findings.require(following in (0, 2), "RFC 2408 3.5", f"next payload of a proposal is {following}")
        findings.require(protocol == 1, "RFC 2409 5", f"proposal for protocol {protocol}, not ISAKMP")
        findings.require(spi_size <= 16, "RFC 2408 3.5", f"SPI of {spi_size} octets in a phase 1 proposal")
        findings.fatal(8 + spi_size <= length <= len(data), "RFC 2408 3.5", "length of a proposal")
        findings.require(count > 0, "RFC 2408 3.5", "proposal without transforms")
        transforms = read_transforms(data[8 + spi_size : length], count, findings)
        proposals.append((number, transforms))
        data, more = data[length:], following == 2
    findings.require(not data, "RFC 2408 3.4", f"{len(data)} octets after the last proposal")
    findings.require(len(proposals) == 1, "RFC 2409 5", f"{len(proposals)} proposals in phase 1, there must be one")
    return doi, situation, proposals


def read_transforms(data, count, findings):
    """The transforms of one proposal."""
    transforms, more = [], True
    while more:
        findings.fatal(len(data) >= 8, "RFC 2408 3.6", "transform is cut off")
        following, reserved, length, number, identifier, reserved2 = struct.unpack_from("!BBHBBH", data)
        findings.require(reserved == 0, "RFC 2408 3.6", "RESERVED of a transform is not zero")
        findings.require(reserved2 == 0, "RFC 2408 3.6", "RESERVED2 of a transform is not zero")
        findings.require(following in (0, 3), "RFC 2408 3.6", f"next payload of a transform is {following}")
        findings.require(identifier == 1, "RFC 2407 4.4.2", f"transform id {identifier}, not KEY_IKE")
        findings.fatal(8 <= length <= len(data), "RFC 2408 3.6", "length of a transform")
        octets = data[8:length]
        attributes = read_attributes(
            octets, findings, "phase 1 transform",
            basic=(ENCRYPTION, HASHING, AUTHENTICATION, GROUP, LIFE_TYPE, KEY_LENGTH), variable=(LIFE_DURATION,),
        )  # fmt: skip
        check_transform(attributes, findings)
        transforms.append((number, {attribute.type: attribute.number for attribute in attributes}, octets))
        data, more = data[length:], following == 3
    findings.require(not data, "RFC 2408 3.5", f"{len(data)} octets after the last transform")
    findings.require(len(transforms) == count, "RFC 2408 3.5", f"{len(transforms)} transforms, {count} announced")
    numbers = [number for number, _, _ in transforms]
    findings.require(len(set(numbers)) == len(numbers), "RFC 2408 3.6", f"transform numbers {numbers} repeat")
    return transforms


def check_transform(attributes, findings):
    """RFC 2409 section 4 and appendix A: what a transform must and must not have."""
    kinds = [attribute.type for attribute in attributes]
    values = {attribute.type: attribute.number for attribute in attributes}
    for kind in (ENCRYPTION, HASHING, AUTHENTICATION, GROUP):
        findings.require(kinds.count(kind) == 1, "RFC 2409 4", f"attribute {kind} appears {kinds.count(kind)} times")
    if values.get(ENCRYPTION) == 7:
        findings.require(
            values.get(KEY_LENGTH) in (128, 192, 256), "RFC 3602 5.3", f"AES key length {values.get(KEY_LENGTH)}"
        )
    elif values.get(ENCRYPTION) in (1, 5):
        findings.require(KEY_LENGTH not in values, "RFC 2409 appendix A", "key length for a cipher of fixed length")
    if LIFE_DURATION in kinds:
        findings.require(
            LIFE_TYPE in kinds and kinds.index(LIFE_TYPE) < kinds.index(LIFE_DURATION),
            "RFC 2409 appendix A",
            "life duration without a life type before it",
        )
        findings.require(values[LIFE_DURATION] > 0, "RFC 2409 appendix A", "life duration is zero")
    if LIFE_TYPE in kinds:
        findings.require(values[LIFE_TYPE] in (1, 2), "RFC 2409 appendix A", f"life type {values[LIFE_TYPE]}")
        findings.require(LIFE_DURATION in kinds, "RFC 2409 appendix A", "life type without a life duration")


def suite_matches(suite, values):
    """Whether a transform's attributes are this suite's."""
    cipher, _, _, key_bits = CIPHERS[suite.cipher]
    wanted = {ENCRYPTION: cipher, HASHING: HASHES[suite.hash][0], AUTHENTICATION: PRE_SHARED, GROUP: suite.group}
    return all(values.get(kind) == value for kind, value in wanted.items()) and values.get(KEY_LENGTH) == key_bits


def check_choice(body, offered_body, findings):
    """The responder's SA against the offer: one proposal, one transform, nothing modified."""
    doi, situation, proposals = read_proposals(body, findings)
    offered_doi, offered_situation, offer = read_proposals(offered_body, findings)
    findings.require(doi == offered_doi, "RFC 6407 2.1", f"answer has DOI {doi}, the offer had {offered_doi}")
    findings.require(
        situation == offered_situation,
        "RFC 2408 4.2",
        f"answer has situation {situation}, the offer had {offered_situation}",
    )
    number, transforms = proposals[0]
    findings.require(number == offer[0][0], "RFC 2408 4.2", f"proposal number changed to {number}")
    findings.require(len(transforms) == 1, "RFC 2409 5", f"answer has {len(transforms)} transforms, not one")
    chosen, values, _ = transforms[0]
    known = {offered_number: offered_values for offered_number, offered_values, _ in offer[0][1]}
    findings.fatal(chosen in known, "RFC 2408 4.2", f"answer has transform {chosen}, never offered")
    # "the responder MUST NOT modify attributes of any offer, attribute encoding excepted"
    findings.require(values == known[chosen], "RFC 2409 5", f"attributes modified: {known[chosen]} became {values}")
    return chosen


def identity_body(address):
    """An ID_IPV4_ADDR phase 1 identity, protocol and port zero."""
    return struct.pack("!BBH", 1, 0, 0) + socket.inet_aton(address)


def check_identity(body, address, findings, others=()):
    """A phase 1 identity (RFC 2407 section 4.6.2). Returns it as text."""
    findings.fatal(len(body) > 4, "RFC 2407 4.6.2", "identity without data")
    kind, protocol, port = struct.unpack_from("!BBH", body)
    findings.require(
        (protocol, port) in ((0, 0), (17, 500), (17, 848)),
        "RFC 2407 4.6.2",
        f"phase 1 identity has protocol {protocol} port {port}",
    )
    data = body[4:]
    if kind == 1:
        findings.fatal(len(data) == 4, "RFC 2407 4.6.2.2", f"ID_IPV4_ADDR of {len(data)} octets")
        text = socket.inet_ntoa(data)
        findings.require(text == address or text in others, "RFC 2407 4.6.2", f"identity {text} of peer {address}")
        return text
    findings.require(kind in (2, 3, 5, 9, 11), "RFC 2407 4.6.2.1", f"identification type {kind} for one peer")
    return data.decode("ascii", "replace") if kind in (2, 3) else data.hex()


def check_key_exchange(body, group, findings):
    """Length of a public value."""
    findings.fatal(
        len(body) == ike_crypto.public_octets(group),
        "RFC 5903 7" if group in ike_crypto.CURVES else "RFC 2409 5",
        f"KE data of {len(body)} octets in group {group}",
    )


def check_nonce(body, findings, most=256, section="RFC 2409 5"):
    """Length of a nonce, and that it is no constant."""
    findings.require(8 <= len(body) <= most, section, f"nonce of {len(body)} octets")
    findings.require(len(set(body)) > 1, section, f"nonce is constant: {body.hex()}")


class SecurityAssociation:
    """The phase 1 SA: keys, base IV, and what every later exchange needs."""

    def __init__(self, suite, cookies, keys, last_block):
        self.suite, self.cookies, self.keys, self.last_block = suite, cookies, keys, last_block
        self.used_message_ids = set()
        self.peer_message_ids = {}

    def new_message_id(self):
        """Random, not zero, never used before in this SA."""
        while True:
            message_id = secrets.token_bytes(4)
            if message_id != bytes(4) and message_id not in self.used_message_ids:
                self.used_message_ids.add(message_id)
                return message_id

    def phase2_iv(self, message_id):
        """RFC 2409 appendix B: hash(last phase 1 block | M-ID)."""
        return self.suite.digest(self.last_block + message_id)[: self.suite.block]

    def prf(self, data):
        return self.suite.prf(self.keys.skeyid_a, data)

    def seal(self, exchange, message_id, iv, first, plaintext, padding=None):
        """A whole encrypted datagram and the next IV."""
        if padding is None:
            padding = bytes(-len(plaintext) % self.suite.block)
        body = ike_crypto.encrypt(self.suite.cipher, self.keys.cipher, iv, plaintext + padding)
        datagram = write_message(self.cookies, first, exchange, ENCRYPTED, message_id, body)
        return datagram, body[-self.suite.block :]

    def open(self, message, iv, findings):
        """Decrypt a message; returns the octets and the next IV."""
        block = self.suite.block
        findings.fatal(message.encrypted, "RFC 2409 5", f"exchange {message.exchange} arrived in clear")
        findings.fatal(
            message.body and len(message.body) % block == 0,
            "RFC 2409 appendix B",
            f"ciphertext of {len(message.body)} octets",
        )
        plaintext = ike_crypto.decrypt(self.suite.cipher, self.keys.cipher, iv, message.body)
        return plaintext, message.body[-block:]

    def informational(self, parts):
        """An encrypted informational exchange (RFC 2409 section 5.7)."""
        message_id = self.new_message_id()
        first, body = chain(parts)
        digest = self.prf(message_id + body)
        kind, plaintext = chain([(HASH, digest)])
        plaintext = struct.pack("!BBH", first, 0, 4 + len(digest)) + digest + body
        return self.seal(INFORMATIONAL, message_id, self.phase2_iv(message_id), kind, plaintext)[0]

    def notification(self, kind, data=b"", doi=2):
        """An encrypted informational exchange with one Notification."""
        return self.informational([(NOTIFY, notify_body(kind, self.cookies, data, doi))])

    def read_informational(self, message, findings):
        """A peer's informational exchange: (notifications, whether it deletes this SA)."""
        findings.require(message.message_id != bytes(4), "RFC 2409 5.7", "encrypted informational with message id 0")
        seen = self.peer_message_ids.get(message.message_id)
        findings.require(
            seen is None or seen == message.datagram, "RFC 2409 5.7", "message id of an informational used twice"
        )
        self.peer_message_ids[message.message_id] = message.datagram
        plaintext, _ = self.open(message, self.phase2_iv(message.message_id), findings)
        payloads = read_payloads(message.first, plaintext, findings, self.suite.block, (HASH, NOTIFY, DELETE))
        findings.fatal(payloads[0].type == HASH, "RFC 2409 5.7", "HASH is not the first payload")
        findings.fatal(len(payloads) > 1, "RFC 2409 5.7", "informational carries nothing")
        self.check_hash(payloads, message.message_id, findings, "HASH(1) of an informational")
        notifications = [read_notify(payload, findings) for payload in payloads if payload.type == NOTIFY]
        deleted = [read_delete(payload, self.cookies, findings) for payload in payloads if payload.type == DELETE]
        return notifications, any(deleted)

    def check_hash(self, payloads, prefix, findings, what, section="RFC 2409 5.7"):
        """HASH is first, its length is the prf's, and it covers the rest of the message."""
        findings.fatal(
            payloads and payloads[0].type == HASH, section, f"{what}: HASH does not follow the header at once"
        )
        wanted = self.prf(prefix + covered(payloads))
        findings.fatal(hmac.compare_digest(payloads[0].body, wanted), section, f"{what} does not verify")


class Phase1Material:
    """Cookies, nonces, public values and SAi_b of a handshake under way."""

    def __init__(self, suite, psk):
        self.suite, self.psk = suite, psk
        self.sa_body = self.public_i = self.public_r = self.nonce_i = self.nonce_r = self.cookies = None

    def derive(self, shared):
        self.keys = ike_crypto.derive(self.suite, self.psk, self.nonce_i, self.nonce_r, shared, self.cookies)
        self.iv = self.suite.digest(self.public_i + self.public_r)[: self.suite.block]
        return self.keys

    def hash_i(self, identity):
        """RFC 2409 section 5."""
        data = self.public_i + self.public_r + self.cookies + self.sa_body + identity
        return self.suite.prf(self.keys.skeyid, data)

    def hash_r(self, identity):
        data = self.public_r + self.public_i + self.cookies[8:] + self.cookies[:8] + self.sa_body + identity
        return self.suite.prf(self.keys.skeyid, data)
