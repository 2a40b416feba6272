#!/usr/bin/python3
"""Proves the two peers themselves: published vectors, every suite against each other, and that planted errors are found."""

import io
import ipaddress
import json
import pathlib
import sys

from findings import Findings, Malformed
from gdoi_decrypt import Opener
from gdoi_server import make_teks
from group_esp import Inbound, Outbound, ipv4
from group_listener import Listener
from group_member import Member, Pull, Refused, Silent, group_key_id
from group_policy import read_kd, read_sa
from group_push import Kek, public_key_octets, read_ack, read_public_key, seal_ack, seal_push, verifies
from group_pusher import WRONG, Pusher
from group_server import Server
from ike_crypto import CURVES, MODP, Suite, derive, encrypt
from ike_message import read_message, read_payloads
from ike_phase1 import Phase1Material, SecurityAssociation, read_proposals

CRATES = pathlib.Path(__file__).resolve().parents[2] / "crates"
CHECKS = 0


def check(holds, what):
    """A failed check ends the run."""
    global CHECKS
    CHECKS += 1
    if not holds:
        print(f"selftest: {what}")
        sys.exit(1)


def quiet():
    return Findings(io.StringIO())


def reference_session():
    """The debug log of the protocol authors' implementation: phase 1 and PULL, recomputed."""
    session = json.loads((CRATES / "wire/tests/vectors/gdoi-pull.json").read_text())["loopback"]
    octets = lambda name: bytes.fromhex(session[name])  # noqa: E731
    findings, suite = quiet(), Suite.parse("3des-sha1-2")
    messages = [read_message(bytes.fromhex(text), findings) for text in session["phase1_messages"]]
    offer = read_payloads(messages[0].first, messages[0].body, findings)[0].body
    doi, situation, _ = read_proposals(offer, findings)
    check((doi, situation) == (2, 0), "DOI and situation of the reference")
    keys = derive(suite, session["psk"].encode(), octets("ni"), octets("nr"), octets("g_xy"),
                  octets("cookie_i") + octets("cookie_r"))  # fmt: skip
    for name in ("skeyid", "skeyid_d", "skeyid_a", "skeyid_e"):
        check(getattr(keys, name) == octets(name), f"{name} of the reference")
    check(bytes(o & 0xFE for o in keys.cipher) == bytes(o & 0xFE for o in octets("key_3des_no_parity")), "3DES key")
    material = Phase1Material(suite, b"")
    material.keys, material.cookies, material.sa_body = keys, octets("cookie_i") + octets("cookie_r"), offer
    material.public_i, material.public_r = octets("g_xi"), octets("g_xr")
    sa = SecurityAssociation(suite, material.cookies, keys, b"")
    iv = suite.digest(material.public_i + material.public_r)[:8]
    plaintext, iv = sa.open(messages[4], iv, findings)
    identity, digest = read_payloads(5, plaintext, findings, 8)[:2]
    check(digest.body == material.hash_i(identity.body), "HASH_I of the reference")
    plaintext, sa.last_block = sa.open(messages[5], iv, findings)
    identity, digest = read_payloads(5, plaintext, findings, 8)[:2]
    check(digest.body == material.hash_r(identity.body), "HASH_R of the reference")
    reference_pull(session, sa, findings)
    # It names ports beside protocol 0 (any), which says nothing a packet filter could use.
    others = [line for line in findings.violations if "ports with protocol 0" not in line]
    check(not others, f"the reference itself: {others}")


def reference_pull(session, sa, findings):
    """IV chain, HASH(1) to HASH(4), policy and keys; and the same octets again from the plaintexts."""
    iv, nonces, policy = None, b"", None
    for number, step in enumerate(session["pull"], start=1):
        message = read_message(bytes.fromhex(step["wire"]), findings)
        iv = iv or sa.phase2_iv(message.message_id)
        check(encrypt("3des", sa.keys.cipher, iv, bytes.fromhex(step["plaintext"])) == message.body, f"PULL {number}")
        plaintext, iv = sa.open(message, iv, findings)
        check(plaintext.hex() == step["plaintext"], f"plaintext of PULL message {number}")
        payloads = read_payloads(message.first, plaintext, findings, 8)
        sa.check_hash(payloads, message.message_id + nonces, findings, f"HASH({number})")
        nonces += b"".join(payload.body for payload in payloads if payload.type == 10)
        if number == 2:
            policy = read_sa(payloads[2].body, findings)
        if number == 4:
            read_kd(payloads[-1].body, policy, quiet())
    check([tek.spi.hex() for tek in policy.teks] == ["1122aabb", "3344ccdd"], "SPIs of the reference")
    check(policy.teks[0].encryption_key == b"ABCDEFGHIJKLMNOPQRSTUVWX", "TEK of the reference")
    check(policy.teks[0].integrity_key == b"12345678901234567890", "integrity key of the reference")


def nist_vectors():
    """NIST CAVP 800-135: SKEYID and its children for a pre-shared key."""
    names = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
    digest, values, count = None, {}, 0
    for line in (CRATES / "proto/tests/vectors/ikev1_psk.rsp").read_text().splitlines() + ["COUNT = end"]:
        if line.startswith("[SHA"):
            digest = names.get(line.strip("[]"))
        if line.startswith("COUNT"):
            if values.get("digest"):
                suite = Suite("aes128", values["digest"], 14)
                raw = lambda name: bytes.fromhex(values[name])  # noqa: E731, B023
                keys = derive(suite, raw("pre-shared-key"), raw("Ni"), raw("Nr"), raw("g^xy"), raw("CKY_I") + raw("CKY_R"))
                check(keys.skeyid == raw("SKEYID") and keys.skeyid_d == raw("SKEYID_d"), "NIST SKEYID")
                check(keys.skeyid_a == raw("SKEYID_a") and keys.skeyid_e == raw("SKEYID_e"), "NIST SKEYID_a, _e")
                count += 1
            values = {"digest": digest}
        elif " = " in line:
            name, value = line.split(" = ")
            values[name] = value
    check(count > 150, f"only {count} NIST vectors")


class Direct:
    """A link without a network: what is sent is answered at once."""

    def __init__(self, server):
        self.server, self.marker, self.waiting = server, False, []

    def send(self, datagram):
        try:
            self.waiting += self.server.handle(datagram, ("127.0.0.1", 848))
        except Malformed:
            pass

    def receive(self, _seconds):
        return self.waiting.pop(0) if self.waiting else None

    def drain(self):
        self.waiting.clear()


def pair(suite, quirks=(), doi=2):
    """A member and a server wired together."""
    teks = make_teks(["aes256-sha256:10.1.0.0/24>10.2.0.0/24,10.2.0.0/24>10.1.0.0/24", "3des-md5:10.3.0.0/24>10.9.0.1/32"], 600)
    server = Server(quiet(), "127.0.0.1", b"key", [suite], 7, teks, lambda: set(quirks), None)
    server.log = lambda *_, **__: None
    member = Member(Direct(server), quiet(), b"key", [suite], "127.0.0.1", "127.0.0.1", doi)
    return member, server


def every_suite():
    """Each cipher, hash and group at least once, in both modes, with duplicates and losses."""
    ciphers, hashes = ["des", "3des", "aes128", "aes192", "aes256"], ["md5", "sha1", "sha256", "sha384", "sha512"]
    for index, group in enumerate([*MODP, *CURVES]):
        suite = Suite(ciphers[index % 5], hashes[(index + index // 5) % 5], group)
        for mode in ("main", "aggressive", "aggressive-clear"):
            member, server = pair(suite, ("lossy",) if mode == "main" and group in CURVES else ())
            member.phase1(mode, repeat=mode == "main" and not server.quirks())
            policy = Pull(member, group_key_id(7)).run()
            check(server.registrations == 1 and len(policy.teks) == 3, f"registration with {suite} in {mode} mode")
            check(not member.findings.violations, f"{suite}, {mode}: {member.findings.violations}")
            check(not server.findings.violations, f"{suite}, {mode}: {server.findings.violations}")


def planted_errors():
    """What the server does wrong on purpose the member must find."""
    suite = Suite.parse("aes128-sha256-19")
    for quirk in ("wrong-hash-2", "wrong-hash-4", "wrong-hash-r", "short-nonce", "gap-unknown", "wrong-order", "no-attributes",
                  "missing-key", "short-key", "unknown-spi", "unknown-transform", "wrong-count", "two-octet-lengths",
                  "seq"):  # fmt: skip
        member, _ = pair(suite, (quirk,))
        try:
            member.phase1()
            Pull(member, group_key_id(7)).run()
        except (Malformed, Refused, Silent):
            pass
        check(member.findings.violations, f"planted error `{quirk}` was not found")
    for quirk in ("gap", "host-ids", "dpd"):
        member, server = pair(suite, (quirk,))
        member.phase1()
        Pull(member, group_key_id(7)).run()
        member.listen(0, bytes(4), 0)
        server.finish()
        check(not member.findings.violations + server.findings.violations, f"`{quirk}`: {member.findings.violations}")


def ecdsa_example():
    """RFC 4754 section 8.1: the key and signature of the message "abc"."""
    x = "2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970"
    y = "6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D"
    r = "CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C"
    s = "86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315"
    kek, findings = Kek(bytes(16), signature=4), quiet()
    check(read_public_key(kek, bytes.fromhex(x + y), findings) == "elliptic curve point", "a raw point")
    check(verifies(kek, b"abc", bytes.fromhex(r + s)), "the signature of RFC 4754 section 8.1")
    check(not verifies(kek, b"abd", bytes.fromhex(r + s)), "a signature of something else")


class Options:
    """What a listener is told."""

    mode, log, keys, no_ack, no_ack_file, bad_acks, register_again, port, join_at = "main", None, None, False, None, False, False, 848, None


def rekeying(text, acknowledge="sha256"):
    """A registered listener and its server, which delivers pushes as they are made."""
    suite = Suite.parse("aes128-sha256-19")
    member, server = pair(suite)
    server.pusher = Pusher(server, text, 3600, acknowledge, "0.0.0.0", server.log)
    listener = Listener(member, Options(), member.findings, lambda: Pull(member, group_key_id(7), allow_kek=True).run())
    listener.log = lambda *_, **__: None
    member.link.socket = Acknowledgements(server)
    listener.register()

    def command(line):
        for datagram, _ in server.pusher.command(line):
            try:
                listener.datagram(datagram, ("127.0.0.1", 848), False)
            except Malformed:
                pass

    return member, server, listener, command


class Acknowledgements:
    """The member's socket, for what it sends by itself."""

    def __init__(self, server):
        self.server = server

    def sendto(self, datagram, _address):
        try:
            self.server.handle(datagram, ("127.0.0.1", 848))
        except Malformed:
            pass


def every_rekey():
    """Each cipher, hash and kind of key, each kind of message; what one seals the other opens and acknowledges."""
    for text in ("des-md5-rsa2048", "3des-sha1-rsa3072", "aes128-sha256-ecdsa256", "aes192-sha384-ecdsa384",
                 "aes256-sha512-ecdsa521", "aes256-sha512-rsa2048"):  # fmt: skip
        member, server, listener, command = rekeying(text, "sha512" if "521" in text else "sha256")
        lines = ("tek", "tek atd=3 dtd=20", "kek", "heartbeat", "both", "heartbeat padded-length", "delete oldest")
        for line in lines:
            command(line)
        check(not member.findings.violations + server.findings.violations,
              f"{text}: {member.findings.violations} {server.findings.violations}")  # fmt: skip
        check(server.pusher.acknowledgements == listener.pushes == len(lines), f"{text}: acknowledgements")
        check(len(listener.rolled_keks) == 2 and len(listener.rolled_teks) == 6, f"{text}: rollovers")
        command("delete every-tek every-kek")
        check(not listener.teks and listener.must_register(), f"{text}: everything deleted")
        listener.again()
        command("heartbeat")
        check(not member.findings.violations + server.findings.violations, f"{text}: a new start")


def planted_rekeys():
    """Each wrong push is found by the member, each wrong acknowledgement by the server."""
    member, server, listener, command = rekeying("aes256-sha256-rsa2048")
    command("heartbeat")
    for wrong in WRONG:
        before = len(member.findings.violations)
        command("spoil " + wrong)
        check(len(member.findings.violations) > before, f"planted `{wrong}` was not found")
    command("again")
    before = len(member.findings.violations)
    command("again")
    check(len(member.findings.violations) > before, "a replay was not found")
    acknowledged = server.pusher.acknowledgements
    command("flips 40")
    check(server.pusher.acknowledgements == acknowledged + 1, "damaged copies before a message")
    server.findings.violations.clear()
    Options.bad_acks = True
    command("heartbeat")
    Options.bad_acks = False
    check(len(server.findings.violations) >= 3, "wrong acknowledgements were not found")
    kek = server.pusher.current
    for spoil, number in (("short-l", 1), ("", 77)):
        server.findings.violations.clear()
        Acknowledgements(server).sendto(seal_ack(kek, number, "127.0.0.1", (spoil,)), None)
        check(server.findings.violations, f"acknowledgement `{spoil}` {number} was not found")


def vector():
    """What `gdoi_decrypt.py` is given is read back."""
    _, server, _, _ = rekeying("aes128-sha256-ecdsa256")
    kek, findings = server.pusher.current, quiet()
    datagram = seal_push(kek, 9, [(1, [bytes(4)])])
    kek.public_octets = public_key_octets(kek)
    opener = Opener(findings)
    opener.learn(Kek.from_json(json.loads(json.dumps(kek.json())), findings))
    opened = opener.message(datagram)
    check(opened["sequence"] == 9 and opened["deletes"] == [{"protocol": 1, "spis": ["00000000"]}], "a decrypted push")


def fixed_seed():
    """The messages that our crates document octet by octet: opened by this code, which shares nothing with them."""
    files = sorted((CRATES / "proto/testdata/push").glob("*.json"))
    check(files, "documented pushes")
    for path in files:
        values, findings = json.loads(path.read_text()), quiet()
        opener = Opener(findings)
        kek = Kek.from_json(values["kek"], findings)
        opener.learn(kek)
        for number, text in enumerate(values["messages"], start=1):
            check(opener.message(bytes.fromhex(text)), f"{path.name}: message {number}")
        acknowledgement = values["acknowledgement"]["message"]
        if acknowledgement:
            read_ack({kek.spi: kek}, bytes.fromhex(acknowledgement), findings)
        check(not findings.violations, f"{path.name}: {findings.violations}")


def esp():
    """Packets sealed are opened; a changed octet is found."""
    for text in ("des-md5", "3des-sha1", "aes128-sha1", "aes256-sha256", "aes192-sha384", "aes256-sha512"):
        teks = make_teks([text + ":10.1.0.0/24>10.2.0.0/24"], 600)
        findings = quiet()
        outbound, inbound = Outbound(teks[0]), Inbound(teks, findings)
        one, other = (ipaddress.ip_address(a).packed for a in ("10.1.0.2", "10.2.0.2"))
        for length in range(0, 40):
            packet = ipv4(one, other, 17, bytes(length), tos=0xB8)
            check(inbound.open(outbound.seal(packet)) == packet, f"ESP with {text}")
        check(not findings.violations, f"ESP with {text}: {findings.violations}")
        sealed = bytearray(outbound.seal(ipv4(one, other, 17, b"x")))
        sealed[-1] ^= 1
        try:
            inbound.open(bytes(sealed))
        except Malformed:
            pass
        check(findings.violations, "a changed ICV was not found")


def main():
    reference_session()
    nist_vectors()
    every_suite()
    planted_errors()
    ecdsa_example()
    every_rekey()
    planted_rekeys()
    vector()
    fixed_seed()
    esp()
    print(f"selftest: {CHECKS} checks passed")


if __name__ == "__main__":
    main()
