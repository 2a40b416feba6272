"""GROUPKEY-PUSH (RFC 6407 section 4) and its acknowledgement (RFC 8263): messages, signatures, the keys they need."""

import hashlib
import hmac
import ipaddress
import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

import ike_crypto
from ike_message import (
    DELETE, ENCRYPTED, GROUPKEY_PUSH, GROUPKEY_PUSH_ACK, HASH, ID, KD, SA, SEQ, SIG, basic, chain, read_message,
    read_payloads, variable, write_message,
)  # fmt: skip

# RFC 6407 section 5.3: attributes of a SAK.
ALGORITHM, KEY_LENGTH, LIFETIME, SIG_HASH, SIG_ALGORITHM, SIG_KEY_LENGTH, ACK_REQUESTED = 2, 3, 4, 5, 6, 7, 9
# KEK algorithm: (name without its key length, block).
KEK_ALGORITHMS = {1: ("des", 8), 2: ("3des", 8), 3: ("aes", 16)}
SIG_HASHES = {1: "md5", 2: "sha1", 3: "sha256", 4: "sha384", 5: "sha512"}
RSA = 1
# ECDSA: (curve, octets of r or s, the hash that the name implies).
ECDSA = {4: (ec.SECP256R1, 32, "sha256"), 5: (ec.SECP384R1, 48, "sha384"), 6: (ec.SECP521R1, 66, "sha512")}
# KEK_ACK_REQUESTED: (hash, L in bits as the text gives it). LKH's forms need a key array.
ACKNOWLEDGEMENTS = {1: ("sha256", 512), 3: ("sha512", 1024)}
# RFC 8017 section 9.2: what an encoded hash begins with.
HASH_OBJECTS = {"md5": hashes.MD5, "sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}


@dataclass
class Kek:
    """A Rekey SA: what its SAK said, and its keys once KD has come."""

    spi: bytes
    algorithm: int = 3
    key_bits: int = None
    lifetime: int = None
    hash: int = None
    signature: int = RSA
    signature_bits: int = None
    acknowledge: int = None
    source: object = None
    destination: object = None
    iv: bytes = None
    key: bytes = None
    public: object = None
    public_octets: bytes = None
    private: object = None

    @property
    def cipher(self):
        name = KEK_ALGORITHMS[self.algorithm][0]
        return f"aes{self.key_bits}" if name == "aes" else name

    @property
    def block(self):
        return KEK_ALGORITHMS[self.algorithm][1]

    @property
    def key_octets(self):
        return {1: 8, 2: 24}.get(self.algorithm) or (self.key_bits or 0) // 8

    @property
    def hash_name(self):
        """The hash of the signature: implied by ECDSA's name, else said."""
        return ECDSA[self.signature][2] if self.signature in ECDSA else SIG_HASHES.get(self.hash)

    @property
    def multicast(self):
        return self.destination is not None and self.destination.network_address.is_multicast

    def ack_key(self, bits=None):
        """RFC 8263 section 3.2."""
        name, length = ACKNOWLEDGEMENTS[self.acknowledge]
        label = b"GROUPKEY-PUSH ACK\0" + self.spi + struct.pack("!H", bits or length)
        return hmac.new(self.key, label, name).digest()

    def json(self):
        return {
            "spi": self.spi.hex(), "cipher": self.cipher, "lifetime": self.lifetime, "hash": self.hash_name,
            "signature": self.signature, "signature_bits": self.signature_bits, "acknowledge": self.acknowledge,
            "source": str(self.source), "destination": str(self.destination),
            "iv": self.iv.hex() if self.iv else None, "key": self.key.hex() if self.key else None,
            "public": self.public_octets.hex() if self.public_octets else None,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values, findings):
        """What `json` wrote."""
        numbers = {name: number for number, name in SIG_HASHES.items()}
        cipher = values["cipher"]
        algorithm = {"des": 1, "3des": 2}.get(cipher, 3)
        kek = cls(bytes.fromhex(values["spi"]), algorithm, int(cipher[3:]) if algorithm == 3 else None)
        kek.hash, kek.signature = numbers.get(values.get("hash")), values.get("signature", RSA)
        kek.acknowledge = values.get("acknowledge")
        kek.iv, kek.key = bytes.fromhex(values["iv"]), bytes.fromhex(values["key"])
        read_public_key(kek, bytes.fromhex(values["public"]), findings)
        return kek


# Keys.


def read_public_key(kek, octets, findings):
    """SIG_ALGORITHM_KEY in any of the forms that are in use; the text names none. Fills the key into `kek`."""
    kek.public_octets = octets
    forms = (
        ("SubjectPublicKeyInfo", serialization.load_der_public_key),
        ("X.509", lambda data: x509.load_der_x509_certificate(data).public_key()),
        ("elliptic curve point", lambda data: read_point(kek, data)),
    )
    for name, load in forms:
        try:
            kek.public = load(octets)
        except (ValueError, KeyError):
            continue
        kind = ec.EllipticCurvePublicKey if kek.signature in ECDSA else rsa.RSAPublicKey
        findings.fatal(isinstance(kek.public, kind), "RFC 6407 5.6.2.2", f"SIG_ALGORITHM_KEY is no key for {kek.signature}")
        if kek.signature in ECDSA:
            findings.require(
                isinstance(kek.public.curve, ECDSA[kek.signature][0]), "RFC 6407 5.3.6.4", f"curve {kek.public.curve.name}"
            )
        if kek.signature_bits:
            findings.require(
                kek.public.key_size == kek.signature_bits, "RFC 6407 5.3.7",
                f"SIG_KEY_LENGTH says {kek.signature_bits}, the key has {kek.public.key_size} bits",
            )  # fmt: skip
        return name
    findings.fatal(False, "RFC 6407 5.6.2.2", "SIG_ALGORITHM_KEY is in no known form")
    return None


def read_point(kek, octets):
    """x | y, or the form with a leading 4."""
    curve, size, _ = ECDSA[kek.signature]
    if len(octets) == 2 * size:
        octets = b"\4" + octets
    return ec.EllipticCurvePublicKey.from_encoded_point(curve(), octets)


def sign(kek, covered, bare=False):
    """The data of a SIG payload; `bare` leaves DigestInfo out, as one old implementation does."""
    if kek.signature in ECDSA:
        _, size, name = ECDSA[kek.signature]
        r, s = utils.decode_dss_signature(kek.private.sign(covered, ec.ECDSA(HASH_OBJECTS[name]())))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if bare:
        digest = hashlib.new(kek.hash_name, covered).digest()
        numbers = kek.private.private_numbers()
        modulus = numbers.public_numbers.n
        octets = (modulus.bit_length() + 7) // 8
        block = b"\0\1" + b"\xff" * (octets - 3 - len(digest)) + b"\0" + digest
        return pow(int.from_bytes(block, "big"), numbers.d, modulus).to_bytes(octets, "big")
    return kek.private.sign(covered, padding.PKCS1v15(), HASH_OBJECTS[kek.hash_name]())


def verifies(kek, covered, signature):
    """Whether `signature` is `covered`'s."""
    try:
        if kek.signature in ECDSA:
            _, size, name = ECDSA[kek.signature]
            if len(signature) != 2 * size:
                return False
            numbers = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
            kek.public.verify(utils.encode_dss_signature(*numbers), covered, ec.ECDSA(HASH_OBJECTS[name]()))
        else:
            kek.public.verify(signature, covered, padding.PKCS1v15(), HASH_OBJECTS[kek.hash_name]())
    except InvalidSignature:
        return False
    return True


# Messages.


@dataclass
class Push:
    """A GROUPKEY-PUSH that has been opened."""

    kek: Kek
    sequence: int
    deletes: list
    sa: bytes = None
    kd: bytes = None
    form: str = None
    plaintext: bytes = b""
    signature: bytes = b""

    def json(self):
        return {
            "kek": self.kek.spi.hex(), "sequence": self.sequence, "signed_length": self.form,
            "deletes": [{"protocol": protocol, "spis": [spi.hex() for spi in spis]} for protocol, spis in self.deletes],
            "sa": self.sa.hex() if self.sa is not None else None, "kd": self.kd.hex() if self.kd is not None else None,
            "signature": self.signature.hex(),
        }  # fmt: skip


def open_push(kek, datagram, findings):
    """A datagram under `kek`, checked from its first octet to its last."""
    message = read_message(datagram, findings)
    findings.fatal(message.exchange == GROUPKEY_PUSH, "RFC 6407 4.2", f"exchange type {message.exchange}, not 33")
    findings.fatal(message.cookies == kek.spi, "RFC 6407 4.2", "the cookies are another KEK's")
    findings.fatal(message.flags == ENCRYPTED, "RFC 6407 4.2", f"flags {message.flags:#x}: the Encryption bit and no other")
    findings.fatal(message.message_id == bytes(4), "RFC 6407 4.2", f"Message ID {message.message_id.hex()}, MUST be zero")
    findings.require(message.first == SEQ, "RFC 6407 4", f"first payload {message.first}, not SEQ")
    findings.fatal(
        message.body and len(message.body) % kek.block == 0, "RFC 6407 4.4", f"ciphertext of {len(message.body)} octets"
    )
    plaintext = ike_crypto.decrypt(kek.cipher, kek.key, kek.iv, message.body)
    payloads = read_payloads(message.first, plaintext, findings, kek.block, (SEQ, DELETE, SA, KD, SIG))
    kinds = [payload.type for payload in payloads]
    deletes = kinds.count(DELETE)
    rest = [SA, KD, SIG] if SA in kinds else [SIG]
    findings.fatal(
        kinds == [SEQ] + [DELETE] * deletes + rest, "RFC 6407 4", f"payloads {kinds}, not SEQ, [D,] SA, KD, SIG"
    )
    findings.fatal(SA in kinds or deletes, "RFC 6407 5.9", "neither policy nor Delete")
    findings.fatal(len(payloads[0].body) == 4, "RFC 6407 5.7", "SEQ payload MUST be of 8 octets")
    sequence = int.from_bytes(payloads[0].body, "big")
    findings.require(sequence > 0, "RFC 6407 5.7", "the first packet of a Rekey SA has Sequence Number 1, not 0")
    push = Push(kek, sequence, [])
    push.plaintext = plaintext
    push.signature = payloads[-1].body
    push.form = signed_form(kek, datagram, payloads)
    findings.fatal(push.form, "RFC 6407 4", "the signature does not verify")
    for payload in payloads[1 : 1 + deletes]:
        push.deletes.append(read_group_delete(payload.body, findings))
    if SA in kinds:
        push.sa, push.kd = payloads[-3].body, payloads[-2].body
    return push


def signed_form(kek, datagram, payloads):
    """Which Length the signed header had: the text does not say whether it counts the padding. None if it does not verify."""
    covered = b"".join(payload.raw for payload in payloads[:-1])
    unpadded = 28 + len(covered) + len(payloads[-1].raw)
    for form, length in (("without padding", unpadded), ("with padding", len(datagram))):
        header = datagram[:24] + struct.pack("!I", length)
        if verifies(kek, b"rekey" + header + covered, payloads[-1].body):
            return form
    return None


def seal_push(kek, sequence, deletes=(), sa=None, kd=None, spoil=(), signer=None):
    """A datagram; `spoil` names what is to be wrong or unusual about it."""
    parts = [(SEQ, struct.pack("!I", sequence))] + [(DELETE, group_delete_body(*delete)) for delete in deletes]
    if sa is not None:
        parts += [(SA, sa), (KD, kd)]
    if "order" in spoil:
        parts = parts[1:] + parts[:1]
    octets = signature_octets(kek)
    first, body = chain(parts + [(SIG, bytes(octets))])
    covered = body[: -octets - 4]
    pad = -len(body) % kek.block
    flags = 0 if "clear" in spoil else 3 if "flags" in spoil else ENCRYPTED
    message_id = b"\0\0\0\7" if "message-id" in spoil else bytes(4)
    spi = bytes(16 * [0x5A]) if "kek" in spoil else kek.spi
    whole = write_message(spi, first, GROUPKEY_PUSH, flags, message_id, body + bytes(pad))
    header = whole[:24] + struct.pack("!I", len(whole) if "padded-length" in spoil else 28 + len(body))
    signature = sign(signer or kek, b"rekey" + header + covered, "bare-hash" in spoil)
    if "signature" in spoil:
        signature = signature[:9] + bytes([signature[9] ^ 1]) + signature[10:]
    plaintext = body[:-octets] + signature + bytes(pad)
    if "clear" not in spoil:
        plaintext = ike_crypto.encrypt(kek.cipher, kek.key, kek.iv, plaintext)
    if "flip" in spoil:
        middle = len(plaintext) // 2
        plaintext = plaintext[:middle] + bytes([plaintext[middle] ^ 0x10]) + plaintext[middle + 1 :]
    if "cut" in spoil:
        plaintext = plaintext[: -kek.block]
        whole = whole[:24] + struct.pack("!I", 28 + len(plaintext)) + whole[28:]
    datagram = whole[:28] + plaintext
    if "truncated" in spoil:
        datagram = datagram[: -kek.block]
    if "trailing" in spoil:
        datagram += bytes(kek.block)
    return datagram


def signature_octets(kek):
    """Length of a signature by this key."""
    if kek.signature in ECDSA:
        return 2 * ECDSA[kek.signature][1]
    return kek.private.key_size // 8


def group_delete_body(protocol, spis):
    """A Delete payload of group SAs (RFC 6407 section 5.9)."""
    return struct.pack("!IBBH", 2, protocol, len(spis[0]) if spis else 0, len(spis)) + b"".join(spis)


def read_group_delete(body, findings):
    """(protocol, SPIs) of a Delete payload."""
    findings.fatal(len(body) >= 8, "RFC 2408 3.15", "Delete is too short")
    doi, protocol, size, count = struct.unpack_from("!IBBH", body)
    findings.require(doi == 2, "RFC 6407 5.9", f"Delete has DOI {doi}: the field contains the GDOI DOI")
    findings.fatal(protocol in (0, 1, 2), "RFC 6407 5.9", f"Delete for protocol {protocol}")
    findings.fatal(len(body) == 8 + size * count, "RFC 2408 3.15", "Delete's SPIs do not fill it")
    findings.require(count > 0, "RFC 6407 5.9", "Delete names no SPI: everything is an SPI of zero")
    findings.require(size == (16 if protocol == 0 else 4), "RFC 2408 3.15", f"SPI size {size} for protocol {protocol}")
    return protocol, [body[8 + size * n : 8 + size * (n + 1)] for n in range(count)]


# Acknowledgements.


def seal_ack(kek, sequence, address, spoil=()):
    """A GROUPKEY-PUSH-ACK of the member at `address`."""
    sequence_payload = struct.pack("!BBHI", ID, 0, 8, sequence)
    identity = struct.pack("!BBHBBH", 0, 0, 12, 1, 0, 0) + ipaddress.ip_address(address).packed
    name, length = ACKNOWLEDGEMENTS[kek.acknowledge]
    key = kek.ack_key(length // 2 if "short-l" in spoil else None)
    digest = hmac.new(key, sequence_payload + identity, name).digest()
    if "hash" in spoil:
        digest = bytes([digest[0] ^ 1]) + digest[1:]
    body = struct.pack("!BBH", SEQ, 0, 4 + len(digest)) + digest + sequence_payload + identity
    spi = bytes(16 * [0x5A]) if "kek" in spoil else kek.spi
    flags = 1 if "flags" in spoil else 0
    return write_message(spi, HASH, GROUPKEY_PUSH_ACK, flags, bytes(4), body)


def read_ack(keks, datagram, findings):
    """(KEK, sequence, address of the member as it says, L that it used), checked."""
    message = read_message(datagram, findings)
    findings.fatal(message.exchange == GROUPKEY_PUSH_ACK, "RFC 8263 3.1", f"exchange type {message.exchange}, not 35")
    kek = keks.get(message.cookies)
    findings.fatal(kek is not None, "RFC 8263 3.1", "the cookies are no KEK's")
    findings.fatal(kek.acknowledge is not None, "RFC 8263 4", "an acknowledgement that nobody requested")
    findings.require(message.flags == 0, "RFC 8263 3.1", f"flags {message.flags:#x}")
    findings.require(message.message_id == bytes(4), "RFC 8263 3.1", "Message ID MUST be 0")
    payloads = read_payloads(message.first, message.body, findings, None, (HASH, SEQ, ID))
    kinds = [payload.type for payload in payloads]
    findings.fatal(kinds == [HASH, SEQ, ID], "RFC 8263 3", f"payloads {kinds}, not HASH, SEQ, ID")
    digest, sequence, identity = payloads
    name, length = ACKNOWLEDGEMENTS[kek.acknowledge]
    covered = sequence.raw + identity.raw
    forms = {bits: hmac.new(kek.ack_key(bits), covered, name).digest() for bits in (length, length // 2)}
    used = next((bits for bits, wanted in forms.items() if hmac.compare_digest(wanted, digest.body)), None)
    findings.fatal(used is not None, "RFC 8263 3.2", "HASH does not verify")
    findings.require(used == length, "RFC 8263 3.2", f"L is {used}, the text says {length}")
    findings.fatal(len(sequence.body) == 4, "RFC 6407 5.7", "SEQ payload MUST be of 8 octets")
    findings.fatal(len(identity.body) >= 4, "RFC 8263 3.4", "ID without data")
    kind, protocol, port = struct.unpack_from("!BBH", identity.body)
    findings.require((protocol, port) == (0, 0), "RFC 8263 3.4", "Protocol ID and Port MUST be 0")
    findings.fatal(kind == 1 and len(identity.body) == 8, "RFC 8263 3.4", f"ID of type {kind}, not ID_IPV4_ADDR")
    return kek, int.from_bytes(sequence.body, "big"), str(ipaddress.ip_address(identity.body[4:])), used


# What the server side says of a KEK.


def sak_body(kek, extra=b""):
    """A SAK payload's body (RFC 6407 section 5.3)."""
    out = struct.pack("!B", 17)
    for network in (kek.source, kek.destination):
        out += struct.pack("!BHB", 1, 848, 4) + network.network_address.packed
    out += kek.spi + bytes(4) + basic(ALGORITHM, kek.algorithm)
    if kek.key_bits:
        out += basic(KEY_LENGTH, kek.key_bits)
    out += variable(LIFETIME, struct.pack("!I", kek.lifetime))
    if kek.signature == RSA:
        out += basic(SIG_HASH, kek.hash)
    out += basic(SIG_ALGORITHM, kek.signature) + basic(SIG_KEY_LENGTH, kek.private.key_size)
    if kek.acknowledge:
        out += basic(ACK_REQUESTED, kek.acknowledge)
    return out + extra


def public_key_octets(kek, form="spki"):
    """SIG_ALGORITHM_KEY in one of the forms in use."""
    public = kek.private.public_key()
    if form == "point":
        encoding, kind = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        return public.public_bytes(encoding, kind)[1:]
    kind = serialization.PublicFormat.PKCS1 if form == "pkcs1" else serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.DER, kind)


def kek_packet(kek, form="spki", short=False):
    """The KEK key packet of a KD payload (RFC 6407 section 5.6.2)."""
    key = kek.key[:-1] if short else kek.key
    attributes = variable(1, kek.iv + key) + variable(2, public_key_octets(kek, form))
    return struct.pack("!BBHB", 2, 0, 5 + 16 + len(attributes), 16) + kek.spi + attributes
