#!/usr/bin/python3
"""Proves the two peers themselves: published vectors, every suite against each other, and that planted errors are found."""

import io
import ipaddress
import json
import pathlib
import sys

from findings import Findings, Malformed
from gdoi_server import make_teks
from group_esp import Inbound, Outbound, ipv4
from group_member import Member, Pull, Refused, Silent, group_key_id
from group_policy import read_kd, read_sa
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
    esp()
    print(f"selftest: {CHECKS} checks passed")


if __name__ == "__main__":
    main()
