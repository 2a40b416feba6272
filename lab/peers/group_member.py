"""A GDOI group member: phase 1 as initiator and GROUPKEY-PULL (RFC 6407 section 3), checking every octet it gets."""

import secrets
import struct

from group_policy import read_kd, read_sa, read_seq
from ike_crypto import DiffieHellman
from ike_message import (
    AGGRESSIVE, DELETE, DPD_VENDOR, ENCRYPTED, GAP, GROUPKEY_PULL, GROUPKEY_PUSH, HASH, ID, INFORMATIONAL, KD, KE, MAIN_MODE,
    NONCE, NOTIFY, R_U_THERE, R_U_THERE_ACK, SA, SEQ, VENDOR, chain, delete_body, notify_body, only, read_message,
    read_notify, read_payloads, write_message,
)  # fmt: skip
from ike_phase1 import (
    Phase1Material, SecurityAssociation, check_choice, check_identity, check_key_exchange, check_nonce,
    identity_body, proposal_body,
)  # fmt: skip

PHASE1_EXTRAS = (VENDOR, 20, 130)  # Vendor ids and NAT-D (RFC 3947) may stand anywhere after what must come first.


class Refused(Exception):
    """The peer answered with an error notification."""

    def __init__(self, notification, authenticated):
        super().__init__(f"{notification.name} ({'authenticated' if authenticated else 'in clear'})")
        self.notification, self.authenticated = notification, authenticated


class Silent(Exception):
    """The peer did not answer."""


def group_key_id(number):
    """Message 1's identity: ID_KEY_ID with four octets (RFC 6407 section 5.1)."""
    return struct.pack("!BBHI", 11, 0, 0, number)


class Member:
    """One initiator towards one server."""

    def __init__(self, link, findings, psk, suites, identity, server_address, doi=2, lifetime=3600, private=(),
                 tries=4, vendor_ids=(DPD_VENDOR,)):  # fmt: skip
        self.link, self.findings, self.psk, self.suites = link, findings, psk, suites
        self.identity, self.server_address, self.doi, self.lifetime = identity, server_address, doi, lifetime
        self.private, self.tries, self.vendor_ids = private, tries, vendor_ids
        self.sa = None
        self.deleted = False
        self.answers_to_dpd = []
        self.peer_vendor_ids = []
        self.on_push = None

    # Sending and receiving.

    def ask(self, datagram, exchange, message_id, tries=None, wait=1.0):
        """Send until an answer of this exchange comes. Raises `Refused` or `Silent`."""
        for _ in range(tries or self.tries):
            self.link.send(datagram)
            answer = self.listen(exchange, message_id, wait)
            if answer is not None:
                return answer
        raise Silent(f"no answer in exchange {exchange}")

    def listen(self, exchange, message_id, wait):
        """The next message of an exchange, or None; informational exchanges are handled on the way."""
        while (datagram := self.link.receive(wait)) is not None:
            message = read_message(datagram, self.findings)
            if message.exchange == INFORMATIONAL:
                self.informational(message)
            elif message.exchange == GROUPKEY_PUSH and self.on_push:
                self.on_push(datagram, self.link.remote)
            elif message.exchange == exchange and message.message_id == message_id:
                return message
            else:
                self.findings.violation(
                    "RFC 2408 2.5.3", f"message of exchange {message.exchange} id {message.message_id.hex()} unasked for"
                )
        return None

    def informational(self, message):
        """An informational exchange of the server."""
        if message.encrypted:
            if self.sa is None or message.cookies != self.sa.cookies:
                self.findings.note("an encrypted informational exchange of another phase 1 SA")
                return
            notifications, deleted = self.sa.read_informational(message, self.findings)
            self.deleted |= deleted
            for notification in notifications:
                self.notified(notification)
            return
        payloads = read_payloads(message.first, message.body, self.findings, None, (NOTIFY, VENDOR))
        for payload in payloads:
            if payload.type == NOTIFY:
                raise Refused(read_notify(payload, self.findings), False)

    def notified(self, notification):
        """An authenticated notification."""
        if notification.type in (R_U_THERE, R_U_THERE_ACK):
            self.findings.require(
                notification.spi == self.sa.cookies, "RFC 3706 5.3", "DPD notification without both cookies as SPI"
            )
            self.findings.require(len(notification.data) == 4, "RFC 3706 5.3", "DPD sequence number of 4 octets")
            if notification.type == R_U_THERE:
                self.link.send(self.sa.informational(
                    [(NOTIFY, notify_body(R_U_THERE_ACK, self.sa.cookies, notification.data, 1))]
                ))  # fmt: skip
            else:
                self.answers_to_dpd.append(int.from_bytes(notification.data, "big"))
        elif notification.type < 16384:
            raise Refused(notification, True)

    # Phase 1.

    def phase1(self, mode="main", repeat=False):
        """A new phase 1 SA. With `repeat` every message is sent twice and must get the same answer twice."""
        self.link.drain()
        self.deleted, self.repeat = False, repeat
        if mode == "main":
            self.main_mode()
        else:
            self.aggressive_mode(encrypted=mode != "aggressive-clear")
        return self.sa

    def ask_phase1(self, exchange, parts, flags=0, body=None, first=None, cookies=None):
        """One message of phase 1 and its answer."""
        if body is None:
            first, body = chain(parts)
        datagram = write_message(cookies, first, exchange, flags, bytes(4), body)
        answer = self.ask(datagram, exchange, bytes(4))
        self.findings.require(
            answer.initiator == cookies[:8], "RFC 2408 2.5.3", "answer changes the initiator's cookie"
        )
        if cookies[8:] != bytes(8):
            self.findings.require(answer.responder == cookies[8:], "RFC 2408 2.5.3", "responder's cookie changes")
        self.findings.require(answer.responder != bytes(8), "RFC 2408 2.5.3", "responder's cookie is zero")
        self.findings.require(
            answer.flags == flags, "RFC 2408 3.1", f"flags {answer.flags:#x} in an answer to flags {flags:#x}"
        )
        if self.repeat:
            self.link.send(datagram)
            again = self.listen(exchange, bytes(4), 1.0)
            self.findings.require(
                again is not None and again.datagram == answer.datagram,
                "RFC 2408 5.1",
                f"a duplicate of a phase 1 message got {'another' if again else 'no'} answer",
            )
        return answer

    def read_clear(self, message, wanted, first=None):
        """The payloads of a clear phase 1 message."""
        payloads = read_payloads(message.first, message.body, self.findings, None, wanted + PHASE1_EXTRAS)
        if first is not None:
            self.findings.require(payloads[0].type == first, "RFC 2409 5", "SA is not the first payload")
        self.peer_vendor_ids += [payload.body for payload in payloads if payload.type == VENDOR]
        return payloads

    def offer(self):
        material = Phase1Material(self.suites[0], self.psk)
        material.sa_body = proposal_body(self.suites, self.lifetime, self.doi)
        material.nonce_i = secrets.token_bytes(16)
        return material

    def vendors(self):
        return [(VENDOR, vendor) for vendor in self.vendor_ids]

    def main_mode(self):
        """Six messages (RFC 2409 section 5.4)."""
        findings, material, cookie = self.findings, self.offer(), secrets.token_bytes(8)
        self.peer_vendor_ids = []
        cookies = cookie + bytes(8)
        answer = self.ask_phase1(MAIN_MODE, [(SA, material.sa_body)] + self.vendors(), cookies=cookies)
        payloads = self.read_clear(answer, (SA,), first=SA)
        chosen = check_choice(only(payloads, SA, findings, "RFC 2409 5.4").body, material.sa_body, findings)
        suite = material.suite = self.suites[chosen - 1]
        material.cookies = cookies = answer.cookies

        dh = DiffieHellman(suite.group)
        material.public_i = dh.public
        answer = self.ask_phase1(MAIN_MODE, [(KE, dh.public), (NONCE, material.nonce_i)], cookies=cookies)
        payloads = self.read_clear(answer, (KE, NONCE))
        self.take_public(material, payloads, dh)

        identity = identity_body(self.identity)
        first, plaintext = chain([(ID, identity), (HASH, material.hash_i(identity))])
        self.sa = SecurityAssociation(suite, cookies, material.keys, b"")
        datagram, iv = self.sa.seal(MAIN_MODE, bytes(4), material.iv, first, plaintext)
        answer = self.ask_phase1(MAIN_MODE, None, ENCRYPTED, datagram[28:], first, cookies)
        plaintext, last = self.sa.open(answer, iv, findings)
        payloads = read_payloads(answer.first, plaintext, findings, suite.block, (ID, HASH, NOTIFY, VENDOR))
        self.check_peer(material, payloads, "RFC 2409 5.4")
        self.sa.last_block = last

    def aggressive_mode(self, encrypted=True):
        """Three messages (RFC 2409 section 5.4)."""
        findings, material, suite = self.findings, self.offer(), self.suites[0]
        self.peer_vendor_ids = []
        dh, identity = DiffieHellman(suite.group), identity_body(self.identity)
        material.public_i = dh.public
        parts = [(SA, material.sa_body), (KE, dh.public), (NONCE, material.nonce_i), (ID, identity)] + self.vendors()
        answer = self.ask_phase1(AGGRESSIVE, parts, cookies=secrets.token_bytes(8) + bytes(8))
        payloads = self.read_clear(answer, (SA, KE, NONCE, ID, HASH), first=SA)
        check_choice(only(payloads, SA, findings, "RFC 2409 5.4").body, material.sa_body, findings)
        material.cookies = answer.cookies
        self.take_public(material, payloads, dh)
        self.sa = SecurityAssociation(suite, answer.cookies, material.keys, b"")
        self.check_peer(material, payloads, "RFC 2409 5.4")
        first, plaintext = chain([(HASH, material.hash_i(identity))])
        if encrypted:
            datagram, self.sa.last_block = self.sa.seal(AGGRESSIVE, bytes(4), material.iv, first, plaintext)
        else:
            datagram = write_message(answer.cookies, first, AGGRESSIVE, 0, bytes(4), plaintext)
            self.sa.last_block = material.iv
        self.third = datagram
        self.link.send(datagram)

    def take_public(self, material, payloads, dh):
        """KE and nonce of the responder, and the keys."""
        public = only(payloads, KE, self.findings, "RFC 2409 5.4").body
        check_key_exchange(public, material.suite.group, self.findings)
        material.public_r = public
        material.nonce_r = only(payloads, NONCE, self.findings, "RFC 2409 5.4").body
        check_nonce(material.nonce_r, self.findings)
        try:
            material.derive(dh.shared(public))
        except ValueError as error:
            self.findings.fatal(False, "RFC 2409 5", f"responder's public value: {error}")

    def check_peer(self, material, payloads, section):
        """The responder's identity and HASH_R."""
        identity = only(payloads, ID, self.findings, section).body
        self.server_identity = check_identity(identity, self.server_address, self.findings)
        digest = only(payloads, HASH, self.findings, section).body
        self.findings.fatal(digest == material.hash_r(identity), "RFC 2409 5", "HASH_R does not verify")

    def delete(self):
        """Tell the server that the phase 1 SA is gone."""
        self.link.send(self.sa.informational([(DELETE, delete_body(self.sa.cookies))]))


class Pull:
    """One GROUPKEY-PULL exchange (RFC 6407 section 3.2)."""

    def __init__(self, member, group, nonce=None, message_id=None, allow_kek=False):
        self.member, self.sa, self.findings = member, member.sa, member.findings
        self.group = group
        self.nonce_i = secrets.token_bytes(16) if nonce is None else nonce
        self.message_id = message_id or self.sa.new_message_id()
        self.iv = self.sa.phase2_iv(self.message_id)
        self.allow_kek = allow_kek
        self.nonce_r = self.policy = None

    def seal(self, digest, body, first, padding=None):
        """HASH and what follows it, encrypted. The IV advances."""
        plaintext = struct.pack("!BBH", first, 0, 4 + len(digest)) + digest + body
        datagram, self.iv = self.sa.seal(GROUPKEY_PULL, self.message_id, self.iv, HASH, plaintext, padding)
        return datagram

    def message1(self, spoil=False, parts=None, padding=None):
        """HDR*, HASH(1), Ni, ID."""
        first, body = chain(parts or [(NONCE, self.nonce_i), (ID, self.group)])
        digest = self.sa.prf(self.message_id + body)
        if spoil:
            digest = bytes([digest[0] ^ 1]) + digest[1:]
        return self.seal(digest, body, first, padding)

    def take2(self, message):
        """HDR*, HASH(2), Nr, SA."""
        findings = self.findings
        self.check_header(message)
        plaintext, self.iv = self.sa.open(message, self.iv, findings)
        payloads = read_payloads(message.first, plaintext, findings, self.sa.suite.block, (HASH, NONCE, SA))
        kinds = [payload.type for payload in payloads]
        findings.fatal(kinds == [HASH, NONCE, SA], "RFC 6407 3.2", f"message 2 has payloads {kinds}")
        self.sa.check_hash(payloads, self.message_id + self.nonce_i, findings, "HASH(2)", "RFC 6407 3.2")
        self.nonce_r = payloads[1].body
        check_nonce(self.nonce_r, findings, 128, "RFC 6407 5.8")
        findings.require(self.nonce_r != self.nonce_i, "RFC 6407 3.2", "Nr is Ni")
        self.policy = read_sa(payloads[2].body, findings, self.allow_kek, self.member.private)
        return self.policy

    def message3(self, spoil=False, gap=None, nonce_r=None):
        """HDR*, HASH(3) [, GAP]."""
        first, body = chain([(GAP, gap)]) if gap is not None else (0, b"")
        digest = self.sa.prf(self.message_id + self.nonce_i + (nonce_r or self.nonce_r or b"") + body)
        if spoil:
            digest = bytes([digest[0] ^ 1]) + digest[1:]
        return self.seal(digest, body, first)

    def take4(self, message):
        """HDR*, HASH(4), [SEQ,] KD."""
        findings = self.findings
        self.check_header(message)
        plaintext, self.iv = self.sa.open(message, self.iv, findings)
        payloads = read_payloads(message.first, plaintext, findings, self.sa.suite.block, (HASH, SEQ, KD))
        kinds = [payload.type for payload in payloads]
        wanted = [HASH, SEQ, KD] if self.policy.kek is not None else [HASH, KD]
        findings.require(kinds == wanted, "RFC 6407 3.2", f"message 4 has payloads {kinds}, not {wanted}")
        findings.fatal(kinds[-1] == KD, "RFC 6407 3.2", "message 4 without KD")
        self.sa.check_hash(
            payloads, self.message_id + self.nonce_i + self.nonce_r, findings, "HASH(4)", "RFC 6407 3.2"
        )
        if SEQ in kinds:
            self.policy.sequence = read_seq(payloads[kinds.index(SEQ)].body, findings)
        read_kd(payloads[-1].body, self.policy, findings, self.allow_kek)
        return self.policy

    def check_header(self, message):
        """What RFC 6407 section 3.2.1 fixes."""
        self.findings.require(message.cookies == self.sa.cookies, "RFC 6407 3.2.1", "cookies are not phase 1's")
        self.findings.require(message.flags == ENCRYPTED, "RFC 6407 3.2.1", f"flags {message.flags:#x}")

    def run(self):
        """All four messages."""
        self.first = self.message1()
        self.second = self.member.ask(self.first, GROUPKEY_PULL, self.message_id)
        self.take2(self.second)
        self.third = self.message3()
        self.fourth = self.member.ask(self.third, GROUPKEY_PULL, self.message_id)
        return self.take4(self.fourth)
