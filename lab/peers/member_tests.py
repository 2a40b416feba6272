"""What a group member may do wrong, and what a key server must then do (or not do)."""

import secrets
import struct

from findings import Malformed
from group_member import Pull, Refused, Silent, group_key_id
from ike_crypto import DiffieHellman, Suite
from ike_message import (
    AGGRESSIVE, DELETE, ENCRYPTED, GROUPKEY_PULL, HASH, ID, INFORMATIONAL, KE, MAIN_MODE, NONCE, NOTIFY, R_U_THERE,
    SA, basic, chain, delete_body, notify_body, variable, write_message,
)  # fmt: skip
from ike_phase1 import proposal_body

QUIET = 0.6  # Seconds in which a server on the same machine would have answered.


class Tests:
    """Each method whose name starts with `test_` is one conversation."""

    def __init__(self, member, options):
        self.member, self.findings, self.options = member, member.findings, options
        self.group = options.group_body

    def names(self):
        return [name[5:].replace("_", "-") for name in dir(self) if name.startswith("test_")]

    def run(self, name):
        """One test; whatever it did to the server, a member must be able to register afterwards."""
        before = len(self.findings.violations)
        self.findings.context = name
        try:
            getattr(self, "test_" + name.replace("-", "_"))()
        except (Refused, Silent) as error:
            self.findings.violation("RFC 6407 3", f"{type(error).__name__}: {error}")
        except Malformed:
            pass
        self.findings.context = ""
        failed = len(self.findings.violations) - before
        print(f"{'FAIL' if failed else 'pass'} {name}", flush=True)

    # What tests are made of.

    def fresh(self, mode=None, **arguments):
        return self.member.phase1(mode or self.options.mode, **arguments)

    def pull(self, **arguments):
        return Pull(self.member, self.group, **arguments)

    def registers(self, why):
        """The phase 1 SA still works: a PULL succeeds under it."""
        try:
            return self.pull().run()
        except (Refused, Silent) as error:
            self.findings.violation("RFC 6407 3", f"no PULL under the same phase 1 after {why}: {error}")
            return None

    def refused(self, datagram, exchange, message_id, section, what, must_tell=False):
        """The answer must be a notification or nothing. Returns the notification's name."""
        self.member.link.send(datagram)
        try:
            answer = self.member.listen(exchange, message_id, QUIET)
        except Refused as refusal:
            self.findings.require(
                refusal.authenticated or not must_tell, section, f"{what}: the notification is in clear"
            )
            print(f"     {what}: {refusal}")
            return refusal.notification.name
        self.findings.require(answer is None, section, f"{what}: the server went on")
        self.findings.require(not must_tell, section, f"{what}: no notification")
        if answer is None:
            print(f"     {what}: silence")
        return None

    # Registration as it should be.

    def test_register(self):
        """Main or aggressive mode, then a PULL."""
        self.fresh()
        self.registers("phase 1")

    def test_two_pulls(self):
        """A second PULL brings the same TEKs, whose lifetimes have not grown."""
        import time

        self.fresh()
        first = self.pull().run()
        time.sleep(2)
        second = self.pull().run()
        later = {(tek.spi, tek.selector.json().__str__()): tek for tek in second.teks}
        for tek in first.teks:
            again = later.get((tek.spi, tek.selector.json().__str__()))
            if again is None:
                self.findings.note(f"TEK {tek.spi.hex()} is gone two seconds later")
                continue
            self.findings.require(
                1 <= tek.lifetime - again.lifetime <= 3,
                "RFC 2407 4.5",
                f"lifetime of {tek.spi.hex()} was {tek.lifetime}, two seconds later {again.lifetime}",
            )
            self.findings.require(
                (tek.encryption_key, tek.integrity_key) == (again.encryption_key, again.integrity_key),
                "RFC 6407 5.6.1",
                f"TEK {tek.spi.hex()} has another key in a second PULL",
            )

    def test_interleaved_pulls(self):
        """RFC 6407 section 3: there may be several exchanges under one phase 1 SA; here at the same time."""
        self.fresh()
        one, two = self.pull(), self.pull()
        answer_one = self.member.ask(one.message1(), GROUPKEY_PULL, one.message_id)
        answer_two = self.member.ask(two.message1(), GROUPKEY_PULL, two.message_id)
        two.take2(answer_two)
        one.take2(answer_one)
        self.findings.require(one.nonce_r != two.nonce_r, "RFC 6407 3.2", "two exchanges have the same Nr")
        two.take4(self.member.ask(two.message3(), GROUPKEY_PULL, two.message_id))
        one.take4(self.member.ask(one.message3(), GROUPKEY_PULL, one.message_id))

    def test_doi_1(self):
        """Phase 1 with DOI 1 is answered in kind (PROTOCOL-NOTES); GDOI stays DOI 2 in the PULL."""
        doi, self.member.doi = self.member.doi, 1
        try:
            self.fresh()
            self.registers("phase 1 with DOI 1")
        finally:
            self.member.doi = doi

    def test_non_esp_marker(self):
        """Four zero octets before each message, mirrored."""
        marker, self.member.link.marker = self.member.link.marker, True
        try:
            self.fresh()
            self.registers("phase 1 with the marker")
        finally:
            self.member.link.marker = marker

    def test_other_mode(self):
        """The other of the two modes is refused or accepted, but not half done."""
        other = "aggressive" if self.options.mode == "main" else "main"
        try:
            self.fresh(other)
            print(f"     {other} mode: accepted")
            self.registers(f"{other} mode")
        except (Refused, Silent) as error:
            print(f"     {other} mode: {error}")

    def test_many_transforms(self):
        """The server chooses the transform it wants and leaves it as it was offered."""
        suites = self.member.suites
        self.member.suites = [Suite.parse("des-md5-1"), Suite.parse("aes192-sha512-16")] + suites
        try:
            self.fresh("main")
            self.registers("an offer of several transforms")
        finally:
            self.member.suites = suites

    def test_group_named_by_address(self):
        """ID_IPV4_ADDR as group identity: PROTOCOL-NOTES accept it; a notification is the other right answer."""
        self.fresh()
        pull = Pull(self.member, struct.pack("!BBHI", 1, 0, 0, self.options.group))
        try:
            pull.run()
            print("     group named by ID_IPV4_ADDR: accepted")
        except Refused as refusal:
            print(f"     group named by ID_IPV4_ADDR: {refusal}")
        self.registers("a group named by address")

    # Duplicates and replays.

    def test_duplicates_in_phase_1(self):
        """Each message of phase 1 twice: the same octets come back twice."""
        self.fresh(repeat=True)
        self.registers("duplicates in phase 1")

    def test_duplicate_message_1(self):
        """The same answer, before and (or nothing) after the exchange."""
        self.fresh()
        pull = self.pull()
        pull.run()
        self.member.link.send(pull.first)
        again = self.member.listen(GROUPKEY_PULL, pull.message_id, QUIET)
        self.findings.require(
            again is None or again.datagram in (pull.second.datagram, pull.fourth.datagram),
            "RFC 6407 3.2",
            "a replayed message 1 began a new exchange under a used message id",
        )
        pull = self.pull()
        datagram = pull.message1()
        second = self.member.ask(datagram, GROUPKEY_PULL, pull.message_id)
        self.member.link.send(datagram)
        again = self.member.listen(GROUPKEY_PULL, pull.message_id, 1.0)
        self.findings.require(
            again is not None and again.datagram == second.datagram,
            "RFC 2408 5.1",
            f"a duplicate of message 1 got {'another' if again else 'no'} answer",
        )
        pull.take2(second)
        pull.take4(self.member.ask(pull.message3(), GROUPKEY_PULL, pull.message_id))

    def test_duplicate_message_3(self):
        """Message 4 again, octet for octet."""
        self.fresh()
        pull = self.pull()
        pull.run()
        self.member.link.send(pull.third)
        again = self.member.listen(GROUPKEY_PULL, pull.message_id, 1.0)
        self.findings.require(
            again is not None and again.datagram == pull.fourth.datagram,
            "RFC 2408 5.1",
            f"a duplicate of message 3 got {'another' if again else 'no'} answer",
        )

    def test_replay_under_another_phase_1(self):
        """A PULL message of an older phase 1 SA means nothing to the next one."""
        self.fresh()
        pull = self.pull()
        pull.run()
        self.fresh()
        stale = self.member.sa.cookies + pull.first[16:]
        self.refused(stale, GROUPKEY_PULL, pull.message_id, "RFC 6407 3.2", "message 1 of another phase 1")
        self.registers("a replay from another phase 1")

    # Wrong messages of the PULL.

    def test_wrong_hash_1(self):
        self.fresh()
        pull = self.pull()
        datagram = pull.message1(spoil=True)
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 6407 3.4", "HASH(1) wrong in one bit")
        self.registers("a wrong HASH(1)")

    def test_wrong_hash_3(self):
        """No keys without proof of liveness, and the exchange survives a forged message 3."""
        self.fresh()
        pull = self.pull()
        pull.take2(self.member.ask(pull.message1(), GROUPKEY_PULL, pull.message_id))
        iv = pull.iv
        self.refused(pull.message3(spoil=True), GROUPKEY_PULL, pull.message_id, "RFC 6407 3.4", "HASH(3) wrong in one bit")
        self.registers("a wrong HASH(3)")
        pull.iv = iv
        try:
            pull.take4(self.member.ask(pull.message3(), GROUPKEY_PULL, pull.message_id, tries=1))
            print("     the exchange goes on after a wrong HASH(3)")
        except (Silent, Refused) as error:
            self.findings.note(f"one forged message 3 ends the exchange ({error})")

    def test_hash_3_without_nonce(self):
        """HASH(3) over a guessed Nr."""
        self.fresh()
        pull = self.pull()
        pull.take2(self.member.ask(pull.message1(), GROUPKEY_PULL, pull.message_id))
        datagram = pull.message3(nonce_r=bytes(16))
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 6407 3.2", "HASH(3) without Nr")
        self.registers("a HASH(3) without Nr")

    def test_early_message_3(self):
        """A message 3 with no message 1 before it."""
        self.fresh()
        pull = self.pull()
        self.refused(pull.message3(), GROUPKEY_PULL, pull.message_id, "RFC 6407 3.2", "message 3 first")
        self.registers("an early message 3")

    def test_wrong_group(self):
        """A group that is not there: told, never silence."""
        self.fresh()
        pull = Pull(self.member, group_key_id(0xFEDCBA98))
        self.refused(
            pull.message1(), GROUPKEY_PULL, pull.message_id, "RFC 6407 3.4", "unknown group", must_tell=True
        )
        self.registers("an unknown group")

    def test_group_of_wrong_length(self):
        """ID_KEY_ID MUST specify four octets."""
        self.fresh()
        for data in (b"", b"\1", struct.pack("!BI", 0, self.options.group)):
            pull = Pull(self.member, struct.pack("!BBH", 11, 0, 0) + data)
            what = f"group of {len(data)} octets"
            self.refused(pull.message1(), GROUPKEY_PULL, pull.message_id, "RFC 6407 5.1", what)
        self.registers("a group of wrong length")

    def test_nonce_length(self):
        """RFC 6407 section 5.8: 8 to 128 octets, both ends included."""
        self.fresh()
        for octets in (8, 128):
            self.pull(nonce=secrets.token_bytes(octets)).run()
        for octets in (0, 7, 257):
            pull = self.pull(nonce=secrets.token_bytes(octets))
            what = f"nonce of {octets} octets"
            self.refused(pull.message1(), GROUPKEY_PULL, pull.message_id, "RFC 6407 5.8", what)
        self.registers("nonces of wrong length")

    def test_unknown_payload(self):
        """A reserved payload type makes the message be discarded (RFC 2408 section 5.3)."""
        self.fresh()
        pull = self.pull()
        parts = [(NONCE, pull.nonce_i), (ID, self.group), (100, bytes(4))]
        self.refused(pull.message1(parts=parts), GROUPKEY_PULL, pull.message_id, "RFC 2408 5.3", "payload type 100")
        self.registers("an unknown payload")

    def test_missing_and_double_payloads(self):
        """Message 1 has one nonce and one identity."""
        self.fresh()
        nonce, group = (NONCE, secrets.token_bytes(16)), (ID, self.group)
        for parts, what in (([nonce], "no ID"), ([group], "no nonce"), ([nonce, group, group], "two IDs"),
                            ([nonce, nonce, group], "two nonces")):  # fmt: skip
            pull = self.pull(nonce=nonce[1])
            self.refused(pull.message1(parts=parts), GROUPKEY_PULL, pull.message_id, "RFC 6407 3.2", what)
        self.registers("payloads missing or doubled")

    def test_hash_not_first(self):
        self.fresh()
        pull = self.pull()
        _, covered = chain([(NONCE, pull.nonce_i), (ID, self.group)])
        digest = self.member.sa.prf(pull.message_id + covered)
        first, plaintext = chain([(NONCE, pull.nonce_i), (ID, self.group), (HASH, digest)])
        datagram, _ = self.member.sa.seal(GROUPKEY_PULL, pull.message_id, pull.iv, first, plaintext)
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 2409 5.5", "HASH last")
        self.registers("a HASH that is not first")

    def test_reserved_octets(self):
        """A generic header's RESERVED that is not zero: RFC 2408 section 5.3 discards it."""
        self.fresh()
        pull = self.pull()
        first, body = chain([(NONCE, pull.nonce_i), (ID, self.group)])
        body = body[:1] + b"\x55" + body[2:]
        datagram = pull.seal(self.member.sa.prf(pull.message_id + body), body, first)
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 2408 5.3", "RESERVED of a payload not zero")
        self.registers("a RESERVED octet")

    def test_padding(self):
        """Zero padding of a whole extra block is accepted (PROTOCOL-NOTES); other padding must do no harm."""
        self.fresh()
        block = self.member.sa.suite.block
        pull = self.pull()
        short = -(3 * 4 + pull.sa.suite.hash_octets + len(pull.nonce_i) + len(self.group))
        for padding, what in (
            (bytes(short % block or block), "zero padding"),
            (b"\xaa" * (short % block or block), "padding that is not zero"),
            (bytes(short % block + 5 * block), "five blocks of padding"),
        ):
            pull = self.pull()
            datagram = pull.message1(padding=padding)
            try:
                pull.take2(self.member.ask(datagram, GROUPKEY_PULL, pull.message_id, tries=1, wait=QUIET))
                print(f"     {what}: accepted")
            except (Refused, Silent) as error:
                print(f"     {what}: {error}")
                self.findings.require(
                    what != "zero padding" or short % block == 0, "RFC 2409 appendix B", f"{what} is refused"
                )
        self.registers("odd padding")

    def test_truncated_messages(self):
        """Cut at every length, with the header's Length left alone and with it put right."""
        self.fresh()
        pull = self.pull()
        datagram = pull.message1()
        for length in list(range(0, 29)) + list(range(29, len(datagram), 7)):
            self.member.link.send(datagram[:length])
            if length >= 28:
                self.member.link.send(datagram[:24] + struct.pack("!I", length) + datagram[28:length])
        try:
            answer = self.member.listen(GROUPKEY_PULL, pull.message_id, QUIET)
            self.findings.require(answer is None, "RFC 2408 5.2", "a truncated message was answered as if whole")
        except Refused as refusal:
            print(f"     truncated message: {refusal}")
        self.settle()
        self.registers("truncated messages")

    def settle(self):
        """Let notifications pass."""
        while True:
            try:
                if self.member.listen(0, bytes(4), 0.3) is None:
                    return
            except Refused:
                pass

    def test_lengths_inside(self):
        """Payload lengths that lie: under a right HASH, so only the parser stands between them and the server."""
        self.fresh()
        for offset, value in ((2, 0), (2, 3), (2, 0xFFFF), (22, 0), (22, 4), (22, 0xFFFF)):
            pull = self.pull()
            first, body = chain([(NONCE, pull.nonce_i), (ID, self.group)])
            body = body[:offset] + struct.pack("!H", value) + body[offset + 2 :]
            datagram = pull.seal(self.member.sa.prf(pull.message_id + body), body, first)
            what = f"length {value} at {offset}"
            self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 2408 5.3", what)
        self.registers("lengths that lie")

    def test_gap_in_message_3(self):
        """A request the group's TEKs have no use for is no error; an attribute nobody knows MUST abort."""
        self.fresh()
        pull = self.pull()
        pull.take2(self.member.ask(pull.message1(), GROUPKEY_PULL, pull.message_id))
        pull.take4(self.member.ask(pull.message3(gap=basic(3, 1)), GROUPKEY_PULL, pull.message_id))
        pull = self.pull()
        pull.take2(self.member.ask(pull.message1(), GROUPKEY_PULL, pull.message_id))
        datagram = pull.message3(gap=variable(99, b"what is this"))
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 6407 5.4", "unknown GAP attribute")
        self.registers("a GAP in message 3")

    # Wrong headers.

    def test_headers(self):
        """Versions, flags, exchange types and message ids that cannot be."""
        self.fresh()
        for position, octet, what in ((17, 0x20, "major version 2"), (18, 0xF0, "exchange type 240"),
                                      (18, 31, "exchange type 31"), (19, 0xF1, "reserved flags")):  # fmt: skip
            pull = self.pull()
            datagram = pull.message1()
            datagram = datagram[:position] + bytes([octet]) + datagram[position + 1 :]
            self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 2408 5.2", what)
        self.registers("wrong headers")

    def test_message_id_zero(self):
        """Zero belongs to phase 1."""
        self.fresh()
        pull = self.pull(message_id=bytes(4))
        self.refused(pull.message1(), GROUPKEY_PULL, bytes(4), "RFC 2408 3.1", "message id zero")
        self.registers("message id zero")

    def test_clear_pull(self):
        """Message 1 without encryption."""
        self.fresh()
        pull = self.pull()
        first, body = chain([(NONCE, pull.nonce_i), (ID, self.group)])
        digest = self.member.sa.prf(pull.message_id + body)
        kind, plaintext = chain([(HASH, digest), (NONCE, pull.nonce_i), (ID, self.group)])
        datagram = write_message(self.member.sa.cookies, kind, GROUPKEY_PULL, 0, pull.message_id, plaintext)
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 6407 3.2", "message 1 in clear")
        self.registers("a clear message 1")

    def test_unknown_cookies(self):
        """A PULL without phase 1."""
        self.fresh()
        pull = self.pull()
        datagram = secrets.token_bytes(16) + pull.message1()[16:]
        self.refused(datagram, GROUPKEY_PULL, pull.message_id, "RFC 6407 3", "PULL without phase 1")
        self.registers("unknown cookies")

    def test_quick_mode(self):
        """IKE's Quick Mode has the same exchange number: a clean notification, and phase 1 stays up."""
        self.fresh()
        pull = self.pull()
        attributes = basic(1, 1) + variable(2, struct.pack("!I", 3600)) + basic(4, 1) + basic(5, 2)
        transform = struct.pack("!BBHBBH", 0, 0, 8 + len(attributes), 1, 3, 0) + attributes
        proposal = struct.pack("!BBHBBBB", 0, 0, 12 + len(transform), 1, 3, 4, 1) + secrets.token_bytes(4) + transform
        subnet = struct.pack("!BBH", 4, 0, 0) + bytes([10, 0, 0, 0, 255, 0, 0, 0])
        parts = [(SA, struct.pack("!II", 1, 1) + proposal), (NONCE, pull.nonce_i), (ID, subnet), (ID, subnet)]
        self.refused(
            pull.message1(parts=parts), GROUPKEY_PULL, pull.message_id, "RFC 2408 5.4", "Quick Mode", must_tell=True
        )
        self.registers("Quick Mode")

    # Informational exchanges.

    def test_dead_peer_detection(self):
        """R-U-THERE gets an ACK with its sequence number (RFC 3706)."""
        sa = self.fresh()
        self.member.answers_to_dpd = []
        number = secrets.randbelow(1 << 30)
        for offset in range(2):
            self.member.link.send(sa.notification(R_U_THERE, struct.pack("!I", number + offset), doi=1))
            self.member.listen(0, bytes(4), QUIET)
        self.findings.require(
            self.member.answers_to_dpd == [number, number + 1],
            "RFC 3706 5.3",
            f"answers to R-U-THERE {number}, {number + 1}: {self.member.answers_to_dpd}",
        )
        self.registers("dead peer detection")

    def test_forged_informational(self):
        """Nothing unauthenticated ends a phase 1 SA."""
        sa = self.fresh()
        first, body = chain([(DELETE, delete_body(sa.cookies))])
        self.member.link.send(write_message(sa.cookies, first, INFORMATIONAL, 0, bytes(4), body))
        self.member.link.send(write_message(sa.cookies, first, INFORMATIONAL, 0, secrets.token_bytes(4), body))
        first, body = chain([(NOTIFY, notify_body(24))])
        self.member.link.send(write_message(sa.cookies, first, INFORMATIONAL, 0, bytes(4), body))
        message_id = sa.new_message_id()
        first, plaintext = chain([(HASH, bytes(sa.suite.hash_octets)), (DELETE, delete_body(sa.cookies))])
        datagram, _ = sa.seal(INFORMATIONAL, message_id, sa.phase2_iv(message_id), first, plaintext)
        self.member.link.send(datagram)
        self.settle()
        self.registers("forged Deletes")

    def test_delete(self):
        """After a Delete the cookies mean nothing."""
        self.fresh()
        pull = self.pull()
        self.member.delete()
        self.refused(pull.message1(), GROUPKEY_PULL, pull.message_id, "RFC 2408 3.15", "PULL after Delete")
        self.fresh()
        self.registers("a Delete")

    # Wrong phase 1.

    def test_wrong_pre_shared_key(self):
        """HASH_I cannot verify, so no message 6, and the right key works at once."""
        psk, self.member.psk = self.member.psk, b"certainly not the key"
        try:
            self.fresh("main")
            self.findings.violation("RFC 2409 5", "phase 1 is up with a wrong pre-shared key")
        except (Refused, Silent) as error:
            print(f"     wrong pre-shared key: {error}")
        finally:
            self.member.psk = psk
        self.settle()
        self.fresh()
        self.registers("a wrong pre-shared key")

    def test_no_common_proposal(self):
        suites = self.member.suites
        self.member.suites = [Suite.parse("des-md5-1")]
        try:
            self.fresh("main")
            self.findings.violation("RFC 2409 5", "a suite nobody configured is accepted")
        except Refused as refusal:
            print(f"     no common proposal: {refusal}")
            self.findings.require(
                refusal.notification.type == 14, "RFC 2408 5.5", f"told by {refusal.notification.name}"
            )
        except Silent:
            self.findings.violation("RFC 2408 5.5", "no NO-PROPOSAL-CHOSEN")
        finally:
            self.member.suites = suites

    def test_unknown_doi(self):
        material = proposal_body(self.member.suites, 3600, 77, 0)
        datagram = write_message(secrets.token_bytes(8) + bytes(8), SA, MAIN_MODE, 0, bytes(4), chain([(SA, material)])[1])
        self.refused(datagram, MAIN_MODE, bytes(4), "RFC 2408 5.4", "DOI 77")

    def test_bad_public_values(self):
        """KE of 0, 1, p-1, too short, too long: no phase 1."""
        suite, findings = self.member.suites[0], self.findings
        length = len(DiffieHellman(suite.group).public)
        for public, what in ((bytes(length), "zero"), (bytes(length - 1) + b"\1", "one"), (b"\xff" * length, "ff.."),
                             (b"\x12" * (length - 1), "short"), (b"\x12" * (length + 1), "long")):  # fmt: skip
            material = proposal_body(self.member.suites[:1], 3600, self.member.doi)
            first, body = chain([(SA, material)])
            datagram = write_message(secrets.token_bytes(8) + bytes(8), first, MAIN_MODE, 0, bytes(4), body)
            answer = self.member.ask(datagram, MAIN_MODE, bytes(4))
            first, body = chain([(KE, public), (NONCE, secrets.token_bytes(16))])
            datagram = write_message(answer.cookies, first, MAIN_MODE, 0, bytes(4), body)
            self.refused(datagram, MAIN_MODE, bytes(4), "RFC 2409 5", f"public value {what}")
            self.settle()
        findings.context += " (afterwards)"
        self.fresh()
        self.registers("bad public values")

    def test_phase_1_out_of_order(self):
        """Message 3 of nobody, message 5 in clear, a repeated SA in a second payload."""
        first, body = chain([(KE, bytes(128)), (NONCE, secrets.token_bytes(16))])
        datagram = write_message(secrets.token_bytes(16), first, MAIN_MODE, 0, bytes(4), body)
        self.refused(datagram, MAIN_MODE, bytes(4), "RFC 2408 5.2", "message 3 of nobody")
        material = proposal_body(self.member.suites[:1], 3600, self.member.doi)
        first, body = chain([(SA, material), (SA, material)])
        datagram = write_message(secrets.token_bytes(8) + bytes(8), first, MAIN_MODE, 0, bytes(4), body)
        self.refused(datagram, MAIN_MODE, bytes(4), "RFC 2409 5", "two SA payloads")
        first, body = chain([(NONCE, secrets.token_bytes(16)), (SA, material)])
        datagram = write_message(secrets.token_bytes(8) + bytes(8), first, MAIN_MODE, 0, bytes(4), body)
        self.refused(datagram, MAIN_MODE, bytes(4), "RFC 2409 5", "SA not first")
        self.settle()
        self.fresh()
        self.registers("phase 1 out of order")

    def test_noise(self):
        """Random octets, random bodies behind right headers."""
        sa = self.fresh()
        for _ in range(200):
            self.member.link.send(secrets.token_bytes(secrets.randbelow(200)))
            kind = secrets.choice((MAIN_MODE, AGGRESSIVE, INFORMATIONAL, GROUPKEY_PULL))
            flags = secrets.choice((0, ENCRYPTED))
            body = secrets.token_bytes(8 * secrets.randbelow(20))
            self.member.link.send(write_message(sa.cookies, secrets.randbelow(30), kind, flags, secrets.token_bytes(4), body))
        self.member.link.drain()
        self.settle()
        self.registers("noise")
