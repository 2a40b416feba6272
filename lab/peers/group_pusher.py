"""The rekey side of a key server (RFC 6407 section 4): builds messages on command, right ones and wrong ones, and holds
members to what RFC 8263 says of acknowledgements."""

import ipaddress
import secrets
import time

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from group_policy import INTEGRITY, Tek, kd_body, sa_body, sat_body
from group_push import ECDSA, Kek, read_ack, sak_body, seal_push
from ike_crypto import with_odd_parity
from ike_message import GAP, SAK, SAT, basic, variable

KEK_CIPHERS = {"des": (1, 8, None), "3des": (2, 24, None), "aes128": (3, 16, 128), "aes192": (3, 24, 192), "aes256": (3, 32, 256)}
KEK_HASHES = {"md5": 1, "sha1": 2, "sha256": 3, "sha384": 4, "sha512": 5}
ECDSA_NAMES = {"ecdsa256": 4, "ecdsa384": 5, "ecdsa521": 6}
ACKNOWLEDGEMENT_NAMES = {"none": None, "sha256": 1, "sha512": 3}

# A member may wait for 5 seconds (RFC 8263 section 6).
LATEST_ACK = 5.0
# What a member must leave unanswered; the words are those of `seal_push` and of `Pusher.spoilt`.
WRONG = (
    "signature", "foreign-key", "kek", "truncated", "trailing", "cut", "flip", "order", "clear", "flags", "message-id", "bare-hash",
    "old-sequence", "kek-attribute", "tek-attribute", "gap-attribute", "missing-key", "short-kek",
)  # fmt: skip


class Sent:
    """One GROUPKEY-PUSH and who is to acknowledge it."""

    def __init__(self, kek, sequence, members, wanted):
        self.kek, self.sequence, self.when, self.wanted = kek, sequence, time.monotonic(), wanted
        self.owing, self.acknowledged = set(members if wanted and kek.acknowledge else ()), set()


def make_key(kind):
    """A private key and its SIG_ALGORITHM."""
    if kind in ECDSA_NAMES:
        number = ECDSA_NAMES[kind]
        return ec.generate_private_key(ECDSA[number][0]()), number
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa"))), 1


class Pusher:
    """The Rekey SAs of one group."""

    def __init__(self, server, text, lifetime, acknowledge, destination, log):
        cipher, self.hash, kind = text.split("-")
        self.server, self.cipher, self.lifetime = server, KEK_CIPHERS[cipher], lifetime
        self.acknowledge = ACKNOWLEDGEMENT_NAMES[acknowledge]
        self.multicast = destination if ipaddress.ip_address(destination).is_multicast else None
        self.destination = ipaddress.ip_network(destination)
        self.private, self.signature = make_key(kind)
        self.strange, _ = make_key(kind)
        self.log, self.findings = log, server.findings
        self.keks, self.sequences, self.members, self.sent = {}, {}, {}, []
        self.last = None
        self.acknowledgements = 0
        self.current = self.make_kek()

    def make_kek(self):
        """A fresh Rekey SA. The old ones stay for acknowledgements."""
        algorithm, octets, bits = self.cipher
        key = secrets.token_bytes(octets)
        kek = Kek(secrets.token_bytes(16), algorithm, bits, self.lifetime, KEK_HASHES[self.hash], self.signature)
        kek.key, kek.iv = key if bits else with_odd_parity(key), secrets.token_bytes(kek.block)
        kek.acknowledge, kek.private, kek.made = self.acknowledge, self.private, time.monotonic()
        kek.source, kek.destination = ipaddress.ip_network(self.server.address), self.destination
        self.keks[kek.spi], self.sequences[kek.spi] = kek, 0
        return kek

    def remaining(self, kek):
        """The KEK as a SAK says it now."""
        age = int(time.monotonic() - kek.made)
        return Kek(**{**{name: getattr(kek, name) for name in kek.__dataclass_fields__},
                      "lifetime": max(1, self.lifetime - age)})  # fmt: skip

    def registered(self, address):
        """A member completed a PULL from `address`: it owes nothing from before."""
        self.members[address] = time.monotonic()
        for sent in self.sent:
            sent.owing.discard(address)

    # Sending.

    def command(self, line):
        """Datagrams with their destinations for one command; see README.md for the commands."""
        words = line.split()
        name, options = words[0], dict(word.split("=") for word in words[1:] if "=" in word)
        flags = [word for word in words[1:] if "=" not in word]
        if name == "again":
            self.log("pushed", command=line)
            return self.address(self.last)
        if name == "spoil":
            return self.spoilt(flags[0])
        if name == "flips":
            return self.flips(int(flags[0]))
        kek, deletes, parts, keys, new_kek = self.current, [], [], [], None
        if name in ("kek", "both"):
            new_kek = self.make_kek()
            parts.append((SAK, sak_body(new_kek)))
        if name in ("tek", "both"):
            old, new = self.successors(int(options.get("lifetime", self.server.lifetime)), float(options["atd"]) if "atd" in options else None)
            if options:
                gap = basic(1, int(options["atd"])) if "atd" in options else b""
                gap += basic(2, int(options["dtd"])) if "dtd" in options else b""
                if gap:
                    parts.append((GAP, gap))
            if "dtd" in options:
                self.server.deactivate([tek.spi for tek in old], int(options["dtd"]))
            keys = new if "new-only" in flags else old + new
        elif name == "heartbeat":
            keys = self.server.live()
        elif name == "delete":
            deletes = [self.delete(flag) for flag in flags]
        parts += [(SAT, sat_body(self.server.shown(tek))) for tek in keys]
        body = (sa_body(parts), kd_body(keys, new_kek)) if parts else (None, None)
        spoil = [word for word in flags if word == "padded-length"]
        out = self.push(kek, deletes, *body, spoil=spoil, wanted=None if "foreign" in flags else True)
        if new_kek is not None:
            self.current = new_kek
        if name == "delete":
            self.server.deleted(deletes)
            if any(protocol == 0 for protocol, _ in deletes) and "foreign" not in flags:
                self.current = self.make_kek()
        self.log("pushed", command=line, kek=kek.spi.hex(), sequence=self.sequences[kek.spi],
                 teks=sorted({tek.spi.hex() for tek in keys}), octets=len(self.last))  # fmt: skip
        return out

    def flips(self, count):
        """A new TEK, whose message comes after many copies of it with one bit turned: the right one must still be taken."""
        teks = self.server.live()
        _, fresh = self.successors(self.server.lifetime, None)
        sa = sa_body([(SAT, sat_body(self.server.shown(tek))) for tek in teks + fresh])
        right = self.push(self.current, [], sa, kd_body(teks + fresh))
        bits = len(self.last) * 8
        wrong = []
        for bit in range(0, bits, max(1, bits // count)):
            octets = bytearray(self.last)
            octets[bit // 8] ^= 1 << bit % 8
            wrong += self.address(bytes(octets))
        self.log("pushed", command=f"flips {count}", sequence=self.sequences[self.current.spi], copies=len(wrong))
        return wrong + right

    def push(self, kek, deletes, sa, kd, spoil=(), wanted=True, sequence=None, signer=None):
        """Seal and address one message. `wanted`: whether it is to be acknowledged; None leaves it to the member."""
        if sequence is None:
            self.sequences[kek.spi] += 1
            sequence = self.sequences[kek.spi]
        self.last = seal_push(kek, sequence, deletes, sa, kd, spoil, signer)
        self.sent.append(Sent(kek, sequence, self.members, wanted))
        return self.address(self.last)

    def address(self, datagram):
        """To the group, or one copy to each member."""
        if self.multicast:
            return [(datagram, (self.multicast, 848))]
        return [(datagram, member) for member in self.members]

    def successors(self, lifetime, delay):
        """(live TEKs, a fresh one for the newest of each ipsec-sa). Without a delay the text leaves its activation open."""
        old = self.server.live()
        newest = {}
        for tek in old:
            newest[str(tek.selector)] = tek
        made, fresh = {}, []
        for tek in newest.values():
            if tek.spi not in made:
                spi = (256 + secrets.randbelow((1 << 32) - 256)).to_bytes(4, "big")
                key = secrets.token_bytes(tek.key_octets())
                key = with_odd_parity(key) if tek.transform in (2, 3) else key
                made[tek.spi] = (spi, key, secrets.token_bytes(INTEGRITY[tek.integrity][1]))
            spi, key, integrity_key = made[tek.spi]
            fresh.append(Tek(spi, tek.transform, tek.selector, tek.key_bits, tek.integrity, lifetime, key, integrity_key))
        for tek in fresh:
            tek.made = time.monotonic()
            tek.activate_at = None if delay is None else tek.made + delay
        self.server.teks += fresh
        return old, fresh

    def delete(self, what):
        """(protocol, SPIs) of a Delete."""
        if what == "kek":
            return 0, [self.current.spi]
        if what == "every-kek":
            return 0, [bytes(16)]
        if what == "every-tek":
            return 1, [bytes(4)]
        if what == "foreign":
            return 1, [bytes.fromhex("7c7c7c7c")]
        if what == "oldest":
            return 1, [self.server.live()[0].spi]
        return 1, [bytes.fromhex(what)]

    def spoilt(self, how):
        """A message that must change nothing and stay unanswered. It carries a TEK that nobody will ever use."""
        if how not in WRONG:
            raise ValueError(f"{how} is not one of {WRONG}")
        kek, kept = self.current, list(self.server.teks)
        old, fresh = self.successors(3600, None)
        self.server.teks[:] = kept
        parts = [(SAT, sat_body(tek)) for tek in fresh]
        strange = variable(0x7ABC, b"what?")
        if how == "tek-attribute":
            parts[0] = (SAT, parts[0][1] + strange)
        if how == "gap-attribute":
            parts.insert(0, (GAP, basic(1, 3) + basic(99, 1)))
        new_kek = None
        if how in ("kek-attribute", "short-kek"):
            new_kek = self.make_kek()
            parts.insert(0, (SAK, sak_body(new_kek, strange if how == "kek-attribute" else b"")))
        keys = [] if how == "missing-key" else fresh
        if how == "missing-key":
            keys = old[:1]
        signer = None
        if how == "foreign-key":
            signer = self.remaining(kek)
            signer.private = self.strange
        sequence = None
        # A sequence number is spent on what a member can take for the server's own word, and on nothing else.
        if how not in ("old-sequence", "kek-attribute", "tek-attribute", "gap-attribute", "missing-key", "short-kek"):
            sequence = self.sequences[kek.spi] + 5
        if how == "old-sequence":
            sequence = max(0, self.sequences[kek.spi] - 1)
        out = self.push(kek, [], sa_body(parts), kd_body(keys, new_kek, short=how == "short-kek"), (how,), False, sequence, signer)
        self.log("pushed", command="spoil " + how, kek=kek.spi.hex(), sequence=self.sent[-1].sequence,
                 teks=sorted({tek.spi.hex() for tek in fresh}), octets=len(self.last))  # fmt: skip
        return out

    # Acknowledgements.

    def acknowledged(self, datagram, address):
        """A GROUPKEY-PUSH-ACK."""
        findings = self.findings
        kek, sequence, identity, _ = read_ack(self.keks, datagram, findings)
        findings.fatal(address in self.members, "RFC 8263 3", f"acknowledgement from {address}, who is no member")
        # "MUST match the source IP address used for the most recent GROUPKEY-PULL exchange"
        findings.require(identity == address[0], "RFC 8263 3.4", f"ID {identity} from {address[0]}")
        sent = [one for one in self.sent if one.kek is kek and one.sequence == sequence]
        findings.fatal(sent, "RFC 8263 3.3", f"sequence number {sequence} was never sent under {kek.spi.hex()}")
        wanted = [one for one in sent if one.wanted is not False]
        findings.fatal(wanted, "RFC 8263 4", f"sequence number {sequence} was acknowledged although it cannot be accepted")
        one = wanted[-1]
        delay = time.monotonic() - one.when
        findings.require(delay <= LATEST_ACK, "RFC 8263 6", f"acknowledgement after {delay:.1f} s")
        findings.require(address not in one.acknowledged, "RFC 8263 4", f"sequence number {sequence} acknowledged twice")
        one.owing.discard(address)
        one.acknowledged.add(address)
        self.acknowledgements += 1
        self.log("acknowledged", address=address[0], kek=kek.spi.hex(), sequence=sequence, after=round(delay, 3))

    def finish(self):
        """Who owes an acknowledgement."""
        now = time.monotonic()
        for sent in self.sent:
            for address in sent.owing if now - sent.when > LATEST_ACK else ():
                self.findings.violation("RFC 8263 4", f"sequence number {sent.sequence} was never acknowledged by {address[0]}")


class Commands:
    """A file to which whoever drives the server appends lines."""

    def __init__(self, path):
        self.path = path
        # What is there already was for a server before this one.
        with open(path, "a", encoding="ascii") as file:
            self.position = file.tell()

    def lines(self):
        """What was appended since."""
        with open(self.path, encoding="ascii") as file:
            file.seek(self.position)
            text = file.read()
        whole, newline, _ = text.rpartition("\n")
        self.position += len(whole) + len(newline)
        return [line for line in whole.splitlines() if line.strip()]


