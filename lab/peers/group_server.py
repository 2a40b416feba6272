"""A GDOI key server: phase 1 as responder and GROUPKEY-PULL (RFC 6407 section 3), checking every octet a member sends."""

import json
import secrets
import struct
import time

from group_policy import Tek, kd_body, sa_body, sat_body
from group_push import sak_body
from ike_crypto import DiffieHellman
from ike_message import (
    AGGRESSIVE, DPD_VENDOR, ENCRYPTED, GAP, GROUPKEY_PULL, GROUPKEY_PUSH_ACK, HASH, ID, INFORMATIONAL, KD, KE, MAIN_MODE, NONCE,
    NOTIFY, R_U_THERE, R_U_THERE_ACK, SA, SAK, SAT, SEQ, VENDOR, basic, chain, delete_body, notify_body, only,
    read_attributes, read_message, read_payloads, write_message,
)  # fmt: skip
from ike_phase1 import (
    Phase1Material, SecurityAssociation, check_identity, check_key_exchange, check_nonce, identity_body,
    read_proposals, suite_matches,
)  # fmt: skip

# Name: (what the server does, the notification it tells or None).
REFUSALS = {
    "refuse-group": 18, "refuse-authorization": 24, "refuse-policy": 14, "refuse-attributes": 13,
}  # fmt: skip

# Quirks after which the member must not send message 3 (RFC 6407 sections 3.3 and 5.4).
UNACCEPTABLE_2 = ("wrong-hash-2", "gap-unknown", "wrong-order", "no-attributes", "short-nonce")


class Session:
    """One initiator's phase 1 and what runs under it."""

    def __init__(self, quirks, address):
        self.quirks, self.address = quirks, address
        self.stage, self.material, self.dh, self.sa = 0, None, None, None
        self.answers, self.pulls, self.iv = {}, {}, None
        self.exchange = None
        self.waiting_for_ack = None


class PullState:
    """One GROUPKEY-PULL."""

    def __init__(self):
        self.stage, self.iv, self.nonce_i, self.nonce_r = 0, None, None, None


class Server:
    """All sessions. `handle` takes a datagram and returns what to send."""

    def __init__(self, findings, address, psk, suites, group, teks, quirks, log, member_private=()):
        self.findings, self.address, self.psk, self.suites = findings, address, psk, suites
        self.group, self.teks, self.quirks, self.log_file = group, teks, quirks, log
        self.lifetime = teks[0].lifetime if teks else 0
        for tek in teks:
            tek.made = time.monotonic()
        self.pusher = None
        self.sessions, self.first_messages = {}, {}
        self.registrations = 0
        self.on_registration = lambda: None
        self.seen_message_ids = set()
        self.told_doi = set()

    def log(self, event, **fields):
        line = json.dumps({"event": event, **fields})
        print(line, flush=True)
        if self.log_file:
            print(line, file=self.log_file, flush=True)

    # Routing.

    def handle(self, datagram, address):
        """Datagrams to send in answer."""
        message = read_message(datagram, self.findings)
        if message.exchange == GROUPKEY_PUSH_ACK:
            self.findings.fatal(self.pusher, "RFC 8263 4", "an acknowledgement in a group without rekey messages")
            self.pusher.acknowledged(datagram, address)
            return []
        if message.responder == bytes(8):
            return self.first_message(message, address)
        session = self.sessions.get(message.cookies)
        if session is None:
            self.findings.note(f"message of exchange {message.exchange} with unknown cookies")
            return []
        if session.address != address:
            self.findings.note(f"phase 1 of {session.address} goes on from {address}")
            session.address = address
        if datagram in session.answers:
            self.log("duplicate", exchange=message.exchange, stage=session.stage)
            return session.answers[datagram]
        if message.exchange == INFORMATIONAL:
            return self.informational(session, message)
        if message.exchange == GROUPKEY_PULL:
            answer = self.pull(session, message)
        else:
            answer = self.phase1(session, message)
        session.answers[datagram] = answer
        return self.lossy(session, answer)

    def lossy(self, session, answer):
        """With this quirk the first answer to each message is lost."""
        if "lossy" in session.quirks and answer:
            self.log("lost", stage=session.stage)
            return []
        return answer

    # Phase 1.

    def first_message(self, message, address):
        """Message 1 of main or aggressive mode."""
        known = self.first_messages.get(message.initiator)
        if known is not None:
            first, session = known
            self.findings.require(
                first == message.datagram, "RFC 2408 5.1", "message 1 was retransmitted with other octets"
            )
            return session.answers.get(first, [])
        findings = self.findings
        findings.fatal(message.exchange in (MAIN_MODE, AGGRESSIVE), "RFC 2409 5", f"exchange {message.exchange} begins")
        findings.require(message.flags == 0, "RFC 2408 3.1", f"flags {message.flags:#x} in message 1")
        findings.require(message.message_id == bytes(4), "RFC 2408 3.1", "message id of phase 1 is not zero")
        quirks = self.quirks()
        wanted = (SA,) if message.exchange == MAIN_MODE else (SA, KE, NONCE, ID)
        payloads = read_payloads(message.first, message.body, findings, None, wanted + (VENDOR,))
        findings.require(payloads[0].type == SA, "RFC 2409 5", "SA is not the first payload")
        body = only(payloads, SA, findings, "RFC 2409 5.4").body
        doi, situation, proposals = read_proposals(body, findings)
        vendor_ids = [payload.body for payload in payloads if payload.type == VENDOR]
        self.log("phase1-offer", doi=doi, situation=situation, exchange=message.exchange,
                 vendor_ids=[vendor.hex() for vendor in vendor_ids], quirks=sorted(quirks))  # fmt: skip
        if "doi1" in quirks and doi == 2:
            self.told_doi.add(address)
            return [self.clear_notify(message, 2)]
        findings.require(
            doi == 2 or address in self.told_doi, "RFC 6407 2.1", "phase 1 SA with DOI 1 though nobody refused DOI 2"
        )
        if "refuse-phase1" in quirks:
            return [self.clear_notify(message, 14)]
        number, transforms = proposals[0]
        for chosen, values, octets in transforms:
            suite = next((suite for suite in self.suites if suite_matches(suite, values)), None)
            if suite is not None:
                break
        if suite is None:
            self.log("no-proposal", offered=[values for _, values, _ in transforms])
            return [self.clear_notify(message, 14)]
        session = Session(quirks, address)
        session.exchange = message.exchange
        material = session.material = Phase1Material(suite, self.psk)
        material.sa_body = body
        material.cookies = message.initiator + secrets.token_bytes(8)
        self.sessions[material.cookies] = session
        self.first_messages[message.initiator] = (message.datagram, session)
        transform = struct.pack("!BBHBBH", 0, 0, 8 + len(octets), chosen, 1, 0) + octets
        proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transform), number, 1, 0, 1) + transform
        reply = struct.pack("!II", doi, situation) + proposal
        session.stage = 1
        if message.exchange == MAIN_MODE:
            first, out = chain([(SA, reply), (VENDOR, DPD_VENDOR)])
        else:
            first, out = self.aggressive_answer(session, payloads, reply)
        answer = [write_message(material.cookies, first, message.exchange, 0, bytes(4), out)]
        session.answers[message.datagram] = answer
        return self.lossy(session, answer)

    def clear_notify(self, message, kind):
        """An unauthenticated refusal of phase 1."""
        self.log("refused", notification=kind)
        first, body = chain([(NOTIFY, notify_body(kind, message.cookies))])
        return write_message(message.initiator + secrets.token_bytes(8), first, INFORMATIONAL, 0, secrets.token_bytes(4), body)

    def aggressive_answer(self, session, payloads, reply):
        """SA, KE, Nr, IDir, HASH_R."""
        material = session.material
        self.take_public(session, payloads)
        identity = only(payloads, ID, self.findings, "RFC 2409 5.4").body
        self.identity_i = session.identity = identity
        check_identity(identity, session.address[0], self.findings)
        own = identity_body(self.address)
        return chain([(SA, reply), (KE, session.dh.public), (NONCE, material.nonce_r), (ID, own),
                      (HASH, material.hash_r(own)), (VENDOR, DPD_VENDOR)])  # fmt: skip

    def take_public(self, session, payloads):
        """KE and nonce of the initiator, ours, and the keys."""
        material, findings = session.material, self.findings
        public = only(payloads, KE, findings, "RFC 2409 5.4").body
        check_key_exchange(public, material.suite.group, findings)
        material.public_i = public
        material.nonce_i = only(payloads, NONCE, findings, "RFC 2409 5.4").body
        check_nonce(material.nonce_i, findings)
        session.dh = DiffieHellman(material.suite.group)
        material.public_r, material.nonce_r = session.dh.public, secrets.token_bytes(16)
        try:
            material.derive(session.dh.shared(public))
        except ValueError as error:
            findings.fatal(False, "RFC 2409 5", f"initiator's public value: {error}")
        session.sa = SecurityAssociation(material.suite, material.cookies, material.keys, b"")
        session.iv = material.iv

    def phase1(self, session, message):
        """Messages 3 and 5 of main mode, 3 of aggressive mode."""
        findings, material = self.findings, session.material
        findings.fatal(message.exchange == session.exchange, "RFC 2408 3.1", f"exchange {message.exchange} in phase 1")
        findings.require(message.message_id == bytes(4), "RFC 2408 3.1", "message id of phase 1 is not zero")
        if session.stage == 1 and session.exchange == MAIN_MODE:
            findings.fatal(message.flags == 0, "RFC 2409 5.4", f"message 3 has flags {message.flags:#x}")
            payloads = read_payloads(message.first, message.body, findings, None, (KE, NONCE, VENDOR, 20, 130))
            self.take_public(session, payloads)
            session.stage = 2
            first, body = chain([(KE, session.dh.public), (NONCE, material.nonce_r)])
            return [write_message(material.cookies, first, MAIN_MODE, 0, bytes(4), body)]
        if session.stage == 2 and session.exchange == MAIN_MODE:
            findings.fatal(message.flags == ENCRYPTED, "RFC 2409 5.4", f"message 5 has flags {message.flags:#x}")
            plaintext, iv = session.sa.open(message, session.iv, findings)
            payloads = read_payloads(
                message.first, plaintext, findings, material.suite.block, (ID, HASH, NOTIFY, VENDOR)
            )
            identity = only(payloads, ID, findings, "RFC 2409 5.4").body
            who = check_identity(identity, session.address[0], findings)
            self.check_hash_i(session, payloads, identity)
            own = identity_body(self.address)
            digest = material.hash_r(own)
            if "wrong-hash-r" in session.quirks:
                digest = bytes([digest[0] ^ 1]) + digest[1:]
            first, body = chain([(ID, own), (HASH, digest)])
            datagram, session.sa.last_block = session.sa.seal(MAIN_MODE, bytes(4), iv, first, body)
            session.stage = 3
            self.log("phase1", mode="main", suite=str(material.suite), identity=who)
            return [datagram]
        if session.stage == 1 and session.exchange == AGGRESSIVE:
            if message.encrypted:
                plaintext, session.sa.last_block = session.sa.open(message, session.iv, findings)
                payloads = read_payloads(
                    message.first, plaintext, findings, material.suite.block, (HASH, NOTIFY, VENDOR)
                )
            else:
                payloads = read_payloads(message.first, message.body, findings, None, (HASH, NOTIFY, VENDOR))
                session.sa.last_block = material.iv
            self.check_hash_i(session, payloads, session.identity)
            session.stage = 3
            self.log("phase1", mode="aggressive", suite=str(material.suite), encrypted=message.encrypted)
            return []
        findings.fatal(
            False, "RFC 2408 5.1", f"a message of phase 1 in stage {session.stage}: a retransmission with other octets?"
        )
        return []

    def check_hash_i(self, session, payloads, identity):
        digest = only(payloads, HASH, self.findings, "RFC 2409 5.4").body
        self.findings.fatal(digest == session.material.hash_i(identity), "RFC 2409 5", "HASH_I does not verify")

    # Informational exchanges.

    def informational(self, session, message):
        """Notifications and Deletes of a member."""
        if not message.encrypted:
            payloads = read_payloads(message.first, message.body, self.findings, None, (NOTIFY, VENDOR))
            kinds = [payload.type for payload in payloads]
            self.log("clear-informational", payloads=kinds)
            # A member that rejects our message 6 has no SA to protect its notification with.
            self.findings.require(
                session.stage < 3 or "wrong-hash-r" in session.quirks, "RFC 2409 5.7",
                "an informational exchange in clear although phase 1 is up",
            )  # fmt: skip
            return []
        self.findings.fatal(session.stage >= 2, "RFC 2409 5.7", "encrypted informational before phase 1 has keys")
        notifications, deleted = session.sa.read_informational(message, self.findings)
        out = []
        for notification in notifications:
            self.log("notification", name=notification.name, doi=notification.doi)
            if notification.type in (R_U_THERE, R_U_THERE_ACK):
                self.findings.require(
                    notification.spi == session.sa.cookies and len(notification.data) == 4, "RFC 3706 5.3",
                    "DPD notification without cookies or sequence number",
                )  # fmt: skip
            if notification.type == R_U_THERE:
                out.append(session.sa.notification(R_U_THERE_ACK, notification.data, 1))
            if notification.type == R_U_THERE_ACK:
                self.findings.require(
                    notification.data == session.waiting_for_ack, "RFC 3706 5.3", "ACK with another sequence number"
                )
                session.waiting_for_ack = None
        if deleted:
            self.log("deleted")
            del self.sessions[session.sa.cookies]
        session.answers[message.datagram] = out
        return out

    # GROUPKEY-PULL.

    def pull(self, session, message):
        """Messages 1 and 3."""
        findings = self.findings
        findings.fatal(session.stage == 3, "RFC 6407 3", "GROUPKEY-PULL before phase 1 is complete")
        findings.require(message.flags == ENCRYPTED, "RFC 6407 3.2.1", f"flags {message.flags:#x}")
        findings.fatal(message.message_id != bytes(4), "RFC 6407 3.2.1", "message id zero")
        key = message.cookies + message.message_id
        state = session.pulls.get(message.message_id)
        if state is None:
            findings.require(key not in self.seen_message_ids, "RFC 2408 3.1", "message id used a second time")
            self.seen_message_ids.add(key)
            state = PullState()
            state.iv = session.sa.phase2_iv(message.message_id)
            answer = self.message1(session, state, message)
            session.pulls[message.message_id] = state
            return answer
        findings.fatal(state.stage == 1, "RFC 2408 5.1", "a message after message 3: a retransmission with other octets?")
        return self.message3(session, state, message)

    def refuse(self, session, kind):
        self.log("refused", notification=kind)
        return [session.sa.notification(kind)]

    def message1(self, session, state, message):
        """HASH(1), Ni, ID; the answer is message 2."""
        findings, sa = self.findings, session.sa
        self.quirks_of(session)
        plaintext, iv = sa.open(message, state.iv, findings)
        payloads = read_payloads(message.first, plaintext, findings, sa.suite.block, (HASH, NONCE, ID))
        kinds = [payload.type for payload in payloads]
        findings.fatal(sorted(kinds) == [ID, HASH, NONCE], "RFC 6407 3.2", f"message 1 has payloads {kinds}")
        findings.require(kinds == [HASH, NONCE, ID], "RFC 6407 3.2", f"message 1 has payloads in order {kinds}")
        sa.check_hash(payloads, message.message_id, findings, "HASH(1)", "RFC 6407 3.2")
        state.nonce_i = next(payload.body for payload in payloads if payload.type == NONCE)
        check_nonce(state.nonce_i, findings, 128, "RFC 6407 5.8")
        self.check_group(next(payload.body for payload in payloads if payload.type == ID))
        for quirk, kind in REFUSALS.items():
            if quirk in session.quirks:
                return self.refuse(session, kind)
        state.nonce_r = secrets.token_bytes(7 if "short-nonce" in session.quirks else 16)
        if "mute" in session.quirks:
            return []
        first, body = chain([(NONCE, state.nonce_r), (SA, self.policy(session.quirks))])
        digest = sa.prf(message.message_id + state.nonce_i + body)
        if "wrong-hash-2" in session.quirks:
            digest = bytes([digest[0] ^ 1]) + digest[1:]
        plaintext = struct.pack("!BBH", first, 0, 4 + len(digest)) + digest + body
        datagram, state.iv = sa.seal(GROUPKEY_PULL, message.message_id, iv, HASH, plaintext)
        state.stage = 1
        self.log("message-2", quirks=sorted(session.quirks))
        return [datagram]

    def quirks_of(self, session):
        """Quirks may change between PULLs under one phase 1."""
        session.quirks = self.quirks()

    def check_group(self, body):
        """RFC 6407 section 5.1."""
        findings = self.findings
        findings.fatal(len(body) > 4, "RFC 6407 5.1", "group identity without data")
        kind, protocol, port = struct.unpack_from("!BBH", body)
        findings.require((protocol, port) == (0, 0), "RFC 6407 5.1", "DOI-Specific ID Data MUST be 0")
        findings.fatal(kind == 11, "RFC 6407 5.1", f"group identity of type {kind}, not ID_KEY_ID")
        findings.fatal(len(body) == 8, "RFC 6407 5.1", f"ID_KEY_ID of {len(body) - 4} octets, MUST be 4")
        number = int.from_bytes(body[4:], "big")
        findings.require(number == self.group, "RFC 6407 5.1", f"group {number}, it is configured with {self.group}")

    def policy(self, quirks):
        """The SA payload of message 2."""
        parts = []
        if self.pusher:
            parts.append((SAK, sak_body(self.pusher.remaining(self.pusher.current))))
        if "gap" in quirks:
            parts.append((GAP, basic(1, 5) + basic(2, 60)))
        if "gap-unknown" in quirks:
            parts.append((GAP, basic(1, 5) + basic(77, 1)))
        if "unknown-transform" in quirks:
            selector = self.teks[0].selector
            strange = Tek(bytes.fromhex("7a7a7a7a"), 77, selector, 128, 2, 300)
            parts.append((SAT, sat_body(strange)))
        for tek in self.live():
            parts.append((SAT, sat_body(self.shown(tek), "two-octet-lengths" in quirks, "host-ids" in quirks)))
        if "wrong-order" in quirks:
            parts.append((GAP, basic(1, 5)))
        if "no-attributes" in quirks:
            return struct.pack("!IIHH", 2, 0, 0, 0)
        return sa_body(parts)

    def live(self):
        """TEKs that have not ended, oldest first."""
        now = time.monotonic()
        self.teks[:] = [
            tek for tek in self.teks if now < tek.made + tek.lifetime and (tek.dead_at is None or now < tek.dead_at)
        ]
        return list(self.teks)

    def shown(self, tek):
        """A TEK as a SAT says it now."""
        now = time.monotonic()
        left = tek.lifetime - int(now - tek.made)
        if tek.dead_at is not None:
            left = min(left, int(tek.dead_at - now + 0.5))
        return Tek(tek.spi, tek.transform, tek.selector, tek.key_bits, tek.integrity, max(1, left))

    def deactivate(self, spis, delay):
        """DEACTIVATION_TIME_DELAY of TEKs that were replaced."""
        for tek in self.teks:
            if tek.spi in spis:
                tek.dead_at = time.monotonic() + delay

    def deleted(self, deletes):
        """TEKs that a Delete named are replaced by fresh ones, which members must PULL."""
        named = [spi for protocol, spis in deletes if protocol == 1 for spi in spis]
        gone = [tek for tek in self.live() if tek.spi in named or bytes(4) in named]
        if gone and len(gone) == len(self.teks):
            self.pusher.successors(self.lifetime, None)
        self.teks[:] = [tek for tek in self.teks if tek not in gone]

    def message3(self, session, state, message):
        """HASH(3) [, GAP]; the answer is message 4."""
        findings, sa = self.findings, session.sa
        plaintext, iv = sa.open(message, state.iv, findings)
        payloads = read_payloads(message.first, plaintext, findings, sa.suite.block, (HASH, GAP))
        kinds = [payload.type for payload in payloads]
        findings.fatal(kinds in ([HASH], [HASH, GAP]), "RFC 6407 3.2", f"message 3 has payloads {kinds}")
        prefix = message.message_id + state.nonce_i + state.nonce_r
        sa.check_hash(payloads, prefix, findings, "HASH(3)", "RFC 6407 3.2")
        if len(payloads) > 1:
            for attribute in read_attributes(payloads[1].body, findings, "GAP of message 3", basic=(3,)):
                findings.note(f"GAP in message 3 asks {attribute}")
        for quirk in UNACCEPTABLE_2:
            findings.require(quirk not in session.quirks, "RFC 6407 3.3", f"message 3 after message 2 with `{quirk}`")
        state.stage = 2
        body = self.keys(session.quirks)
        parts = [(KD, body)]
        if self.pusher:
            parts.insert(0, (SEQ, struct.pack("!I", self.pusher.sequences[self.pusher.current.spi])))
            self.pusher.registered(session.address)
        elif "seq" in session.quirks:
            parts.insert(0, (SEQ, bytes(4)))
        first, body = chain(parts)
        digest = sa.prf(prefix + body)
        if "wrong-hash-4" in session.quirks:
            digest = bytes([digest[0] ^ 1]) + digest[1:]
        plaintext = struct.pack("!BBH", first, 0, 4 + len(digest)) + digest + body
        datagram, state.iv = sa.seal(GROUPKEY_PULL, message.message_id, iv, HASH, plaintext)
        self.registrations += 1
        self.on_registration()
        self.log("registered", number=self.registrations, quirks=sorted(session.quirks))
        return [datagram] + self.afterwards(session)

    def keys(self, quirks):
        """The KD payload of message 4."""
        teks = self.live()
        if "missing-key" in quirks:
            teks = [tek for tek in teks if tek.spi != teks[-1].spi]
        if "short-key" in quirks:
            first = teks[0]
            teks[0] = Tek(first.spi, first.transform, first.selector, encryption_key=first.encryption_key[:-1],
                          integrity_key=first.integrity_key)  # fmt: skip
        if "unknown-transform" in quirks:
            teks.append(Tek(bytes.fromhex("7a7a7a7a"), 77, teks[0].selector, encryption_key=secrets.token_bytes(16),
                            integrity_key=secrets.token_bytes(20)))  # fmt: skip
        if "unknown-spi" in quirks:
            teks.append(Tek(bytes.fromhex("7b7b7b7b"), 12, teks[0].selector, encryption_key=secrets.token_bytes(16),
                            integrity_key=secrets.token_bytes(20)))  # fmt: skip
        form = next((form for form in ("pkcs1", "point") if form in quirks), "spki")
        body = kd_body(teks, self.pusher.current if self.pusher else None, form)
        if "wrong-count" in quirks:
            body = struct.pack("!H", struct.unpack("!H", body[:2])[0] + 1) + body[2:]
        return body

    def afterwards(self, session):
        """What the server has to say once a member is registered."""
        if "dpd" in session.quirks:
            session.waiting_for_ack = secrets.token_bytes(4)
            return [session.sa.notification(R_U_THERE, session.waiting_for_ack, 1)]
        if "delete" in session.quirks:
            return [session.sa.informational([(12, delete_body(session.sa.cookies))])]
        return []

    def finish(self):
        """What must have happened by the end."""
        if self.pusher:
            self.pusher.finish()
        for session in self.sessions.values():
            self.findings.require(session.waiting_for_ack is None, "RFC 3706 5.3", "R-U-THERE was never acknowledged")
