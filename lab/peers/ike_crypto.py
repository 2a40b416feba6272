"""Algorithms of phase 1: ciphers in CBC mode, hashes and their HMAC as prf, Diffie-Hellman groups, key derivation.

RFC 2409 section 5 and appendix B, RFC 3526, RFC 3602, RFC 4868, RFC 5903, RFC 5114 (group 24).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from modp_groups import MODP

try:  # Newer releases moved the old ciphers.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES

# Name: (RFC 2409 appendix A encryption algorithm, key octets, block octets, key length attribute in bits or None).
CIPHERS = {
    "des": (1, 8, 8, None),
    "3des": (5, 24, 8, None),
    "aes128": (7, 16, 16, 128),
    "aes192": (7, 24, 16, 192),
    "aes256": (7, 32, 16, 256),
}

# Name: (RFC 2409 appendix A hash algorithm, hashlib name).
HASHES = {
    "md5": (1, "md5"),
    "sha1": (2, "sha1"),
    "sha256": (4, "sha256"),
    "sha384": (5, "sha384"),
    "sha512": (6, "sha512"),
}

# Group number: (curve, octets of one coordinate).
CURVES = {19: (ec.SECP256R1(), 32), 20: (ec.SECP384R1(), 48), 21: (ec.SECP521R1(), 66)}

DES_WEAK_KEYS = {
    bytes.fromhex(key)
    for key in (
        "0101010101010101 fefefefefefefefe e0e0e0e0f1f1f1f1 1f1f1f1f0e0e0e0e 011f011f010e010e 1f011f010e010e01 "
        "01e001e001f101f1 e001e001f101f101 01fe01fe01fe01fe fe01fe01fe01fe01 1fe01fe00ef10ef1 e01fe01ff10ef10e "
        "1ffe1ffe0efe0efe fe1ffe1ffe0efe0e e0fee0fef1fef1fe fee0fee0fef1fef1"
    ).split()
}


@dataclass(frozen=True)
class Suite:
    """What phase 1 negotiates, written `aes128-sha1-14`."""

    cipher: str
    hash: str
    group: int

    @classmethod
    def parse(cls, text):
        cipher, hash_name, group = text.split("-")
        suite = cls(cipher, hash_name, int(group))
        if cipher not in CIPHERS or hash_name not in HASHES or suite.group not in {**MODP, **CURVES}:
            raise ValueError(f"unknown suite {text}")
        return suite

    @property
    def block(self):
        return CIPHERS[self.cipher][2]

    @property
    def hash_octets(self):
        return hashlib.new(HASHES[self.hash][1]).digest_size

    def digest(self, data):
        return hashlib.new(HASHES[self.hash][1], data).digest()

    def prf(self, key, data):
        return hmac.new(key, data, HASHES[self.hash][1]).digest()

    def __str__(self):
        return f"{self.cipher}-{self.hash}-{self.group}"


def cbc(cipher, key):
    """The block cipher by its name, for `encrypt` and `decrypt`."""
    if cipher == "des":
        return TripleDES(key * 3)  # E(K, D(K, E(K, x))) is E(K, x).
    if cipher == "3des":
        return TripleDES(key)
    return algorithms.AES(key)


def encrypt(cipher, key, iv, plaintext):
    context = Cipher(cbc(cipher, key), modes.CBC(iv)).encryptor()
    return context.update(plaintext) + context.finalize()


def decrypt(cipher, key, iv, ciphertext):
    context = Cipher(cbc(cipher, key), modes.CBC(iv)).decryptor()
    return context.update(ciphertext) + context.finalize()


def public_octets(group):
    """Length of a Diffie-Hellman public value: RFC 2409 section 5, RFC 5903 section 7."""
    if group in MODP:
        return (MODP[group][0].bit_length() + 7) // 8
    return 2 * CURVES[group][1]


class DiffieHellman:
    """One side's ephemeral key."""

    def __init__(self, group):
        self.group = group
        if group in MODP:
            prime, generator = MODP[group]
            self.exponent = secrets.randbelow(1 << 512) + (1 << 512)
            if prime.bit_length() < 1024:
                self.exponent >>= 300
            self.public = pow(generator, self.exponent, prime).to_bytes(public_octets(group), "big")
        else:
            curve, octets = CURVES[group]
            self.key = ec.generate_private_key(curve)
            numbers = self.key.public_key().public_numbers()
            self.public = numbers.x.to_bytes(octets, "big") + numbers.y.to_bytes(octets, "big")

    def shared(self, public):
        """g^xy; ValueError if the peer's value is not one of the group."""
        if self.group in MODP:
            prime = MODP[self.group][0]
            value = int.from_bytes(public, "big")
            if not 1 < value < prime - 1:
                raise ValueError("the public value is 0, 1, p-1 or not below p")
            return pow(value, self.exponent, prime).to_bytes(public_octets(self.group), "big")
        curve, octets = CURVES[self.group]
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(public[:octets], "big"), int.from_bytes(public[octets:], "big"), curve
        )
        # Only the x coordinate is the shared secret (RFC 5903 section 7).
        return self.key.exchange(ec.ECDH(), numbers.public_key())


@dataclass(frozen=True)
class Keys:
    """SKEYID and what comes of it."""

    skeyid: bytes
    skeyid_d: bytes
    skeyid_a: bytes
    skeyid_e: bytes
    cipher: bytes


def cipher_key(suite, skeyid_e):
    """RFC 2409 appendix B: Ka = K1 | K2 | ... when SKEYID_e is too short."""
    octets = CIPHERS[suite.cipher][1]
    if len(skeyid_e) >= octets:
        key = skeyid_e[:octets]
    else:
        part = suite.prf(skeyid_e, b"\0")
        key = part
        while len(key) < octets:
            part = suite.prf(skeyid_e, part)
            key += part
        key = key[:octets]
    return key


def derive(suite, psk, ni, nr, shared, cookies):
    """RFC 2409 section 5: the keys of pre-shared key authentication."""
    skeyid = suite.prf(psk, ni + nr)
    skeyid_d = suite.prf(skeyid, shared + cookies + b"\0")
    skeyid_a = suite.prf(skeyid, skeyid_d + shared + cookies + b"\1")
    skeyid_e = suite.prf(skeyid, skeyid_a + shared + cookies + b"\2")
    return Keys(skeyid, skeyid_d, skeyid_a, skeyid_e, cipher_key(suite, skeyid_e))


def odd_parity(key):
    """Whether each octet has an odd number of ones."""
    return all(bin(octet).count("1") % 2 for octet in key)


def with_odd_parity(key):
    """A DES key as FIPS 46-3 wants it."""
    return bytes((octet & 0xFE) | (bin(octet & 0xFE).count("1") % 2 == 0) for octet in key)
