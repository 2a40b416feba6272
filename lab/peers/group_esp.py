"""ESP in tunnel mode with the inner addresses outside (RFC 4303, RFC 5374), on raw frames: the data path's other end.

No kernel IPsec and no packet library: every octet is built or checked here.
"""

import hmac
import ipaddress
import secrets
import socket
import struct
import threading
import time

import ike_crypto
from findings import Malformed
from group_policy import INTEGRITY

ESP, ICMP, IPIP = 50, 1, 4
ETHERTYPE_IPV4 = 0x0800


def checksum(data):
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(source, destination, protocol, payload, identification=0, flags=0, ttl=64, tos=0):
    """An IPv4 packet; `flags` is the 16-bit word of flags and fragment offset."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), identification, flags, ttl, protocol, 0,
                         source, destination)  # fmt: skip
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


class Header:
    """An IPv4 header, read and checked."""

    def __init__(self, packet, findings, what):
        findings.fatal(len(packet) >= 20 and packet[0] >> 4 == 4, "RFC 791 3.1", f"{what} is no IPv4 packet")
        (first, self.tos, self.length, self.identification, self.flags, self.ttl, self.protocol, _,
         self.source, self.destination) = struct.unpack_from("!BBHHHBBH4s4s", packet)  # fmt: skip
        self.octets = (first & 15) * 4
        findings.fatal(20 <= self.octets <= self.length <= len(packet), "RFC 791 3.1", f"lengths of {what}")
        findings.require(checksum(packet[: self.octets]) == 0, "RFC 791 3.1", f"header checksum of {what}")
        self.payload = packet[self.octets : self.length]

    @property
    def fragment_offset(self):
        return (self.flags & 0x1FFF) * 8

    @property
    def more_fragments(self):
        return bool(self.flags & 0x2000)

    @property
    def do_not_fragment(self):
        return bool(self.flags & 0x4000)


def in_selector(tek, header):
    """Whether a packet's addresses are those of the TEK's policy, in the direction written or in its mirror."""
    source, destination = ipaddress.ip_address(header.source), ipaddress.ip_address(header.destination)
    selector = tek.selector
    return (source in selector.source and destination in selector.destination) or (
        destination in selector.source and source in selector.destination
    )


class Outbound:
    """One sender's use of a TEK."""

    def __init__(self, tek):
        self.tek, self.sequence = tek, 0

    def seal(self, inner):
        """An ESP packet around `inner`, whose addresses, TOS and TTL it copies."""
        tek = self.tek
        self.sequence += 1
        block = 8 if tek.transform in (2, 3) else 16
        pad = -(len(inner) + 2) % block
        plaintext = inner + bytes(range(1, pad + 1)) + bytes([pad, IPIP])
        iv = secrets.token_bytes(block)
        name, _, icv_octets = INTEGRITY[tek.integrity]
        body = tek.spi + struct.pack("!I", self.sequence) + iv
        body += ike_crypto.encrypt(tek.cipher, tek.encryption_key, iv, plaintext)
        body += hmac.new(tek.integrity_key, body, name).digest()[:icv_octets]
        return ipv4(inner[12:16], inner[16:20], ESP, body, secrets.randbelow(65536), 0, inner[8], inner[1])


class Inbound:
    """What other senders do with the TEKs of a policy."""

    def __init__(self, teks, findings):
        self.teks, self.findings = teks, findings
        self.sequences, self.ivs = {}, set()
        self.opened = 0

    def forget(self):
        """Whoever gives up its keys and registers anew begins to count anew."""
        self.sequences.clear()

    def open(self, packet):
        """The inner packet of an ESP packet for one of our SPIs, else None."""
        outer = Header(packet, self.findings, "an outer packet")
        teks = [tek for tek in self.teks if tek.spi == outer.payload[:4]]
        if not teks:
            return None
        findings, tek = self.findings, teks[0]
        findings.fatal(
            outer.fragment_offset == 0 and not outer.more_fragments, "RFC 4303 3.3.4",
            "an ESP packet was fragmented although the path takes 1500 octets",
        )  # fmt: skip
        block = 8 if tek.transform in (2, 3) else 16
        name, _, icv_octets = INTEGRITY[tek.integrity]
        covered, icv = outer.payload[:-icv_octets], outer.payload[-icv_octets:]
        ciphertext = covered[8 + block :]
        findings.fatal(
            len(ciphertext) >= block and len(ciphertext) % block == 0, "RFC 4303 2.4",
            f"ciphertext of {len(ciphertext)} octets",
        )  # fmt: skip
        wanted = hmac.new(tek.integrity_key, covered, name).digest()[:icv_octets]
        findings.fatal(hmac.compare_digest(wanted, icv), "RFC 4303 2.8", "ICV does not verify")
        self.check_sequence(tek, outer, int.from_bytes(covered[4:8], "big"))
        iv = covered[8 : 8 + block]
        findings.require(iv not in self.ivs, "RFC 3602 2.1", f"IV {iv.hex()} was used before")
        self.ivs.add(iv)
        plaintext = ike_crypto.decrypt(tek.cipher, tek.encryption_key, iv, ciphertext)
        pad, following = plaintext[-2], plaintext[-1]
        findings.require(following == IPIP, "RFC 4303 2.6", f"next header {following}, tunnel mode has 4")
        findings.fatal(pad + 2 <= len(plaintext), "RFC 4303 2.4", f"pad length {pad}")
        padding = plaintext[-2 - pad : -2]
        findings.require(
            padding == bytes(range(1, pad + 1)), "RFC 4303 2.4", f"padding is not 1, 2, 3...: {padding.hex()}"
        )
        findings.require(pad < block, "RFC 4303 2.4", f"{pad} octets of padding, {block - 1} are enough")
        inner_packet = plaintext[: -2 - pad]
        self.check_inner(teks, outer, inner_packet)
        self.opened += 1
        return inner_packet

    def check_sequence(self, tek, outer, number):
        """Each sender's counter starts at 1 and never repeats (RFC 4303 section 2.2)."""
        # The outer source is a host; all hosts behind one gateway share its counter, so only repeats show.
        seen = self.sequences.setdefault(tek.spi, set())
        self.findings.require(number != 0, "RFC 4303 2.2", "sequence number zero")
        self.findings.require(number not in seen, "RFC 4303 2.2", f"sequence number {number} was used before")
        if seen:
            self.findings.require(number > max(seen), "RFC 4303 3.3.3", f"sequence number {number} after {max(seen)}")
        seen.add(number)

    def check_inner(self, teks, outer, packet):
        """The inner packet against the outer header and the policy."""
        findings = self.findings
        inner = Header(packet, findings, "an inner packet")
        findings.require(inner.length == len(packet), "RFC 4303 2.3", "octets between inner packet and padding")
        findings.require(
            (inner.source, inner.destination) == (outer.source, outer.destination), "RFC 6407 5.5.1.1.1",
            f"outer {socket.inet_ntoa(outer.source)} > {socket.inet_ntoa(outer.destination)}, inner "
            f"{socket.inet_ntoa(inner.source)} > {socket.inet_ntoa(inner.destination)}",
        )  # fmt: skip
        findings.require(inner.tos >> 2 == outer.tos >> 2, "RFC 4301 5.1.2", f"DSCP {outer.tos:#x} outside, {inner.tos:#x} inside")
        findings.require(0 < outer.ttl <= inner.ttl, "RFC 4301 5.1.2", f"TTL {outer.ttl} outside, {inner.ttl} inside")
        findings.require(outer.length <= 1500, "RFC 4303 3.3.4", f"packet of {outer.length} octets")
        findings.require(
            any(in_selector(tek, inner) for tek in teks), "RFC 4301 5.2",
            f"{socket.inet_ntoa(inner.source)} > {socket.inet_ntoa(inner.destination)} is in no policy of this SA",
        )  # fmt: skip


class Wire:
    """An interface, as frames."""

    def __init__(self, interface):
        self.interface = interface
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_IPV4))
        self.socket.bind((interface, ETHERTYPE_IPV4))
        self.address = self.socket.getsockname()[4]

    def receive(self, seconds):
        """(sender's address, IPv4 packet) or None; our own frames are passed over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, origin = self.socket.recvfrom(65535)
            except TimeoutError:
                return None
            if origin[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00":
                return frame[6:12], frame[14:]
        return None

    def send(self, destination, packet):
        self.socket.send(destination + self.address + b"\x08\x00" + packet)


def neighbour(interface, destination):
    """The link-layer address of the next hop towards `destination`."""
    import subprocess

    route = subprocess.run(["ip", "route", "get", destination], capture_output=True, text=True, check=True).stdout.split()
    hop = route[route.index("via") + 1] if "via" in route else destination
    subprocess.run(["ping", "-c", "1", "-W", "1", hop], capture_output=True, check=False)
    words = subprocess.run(["ip", "neighbour", "show", hop, "dev", interface], capture_output=True, text=True,
                           check=True).stdout.split()  # fmt: skip
    return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", ""))


def fragments(packet, most):
    """An IPv4 packet cut so that no part is longer than `most`."""
    if len(packet) <= most:
        return [packet]
    size = (most - 20) // 8 * 8
    payload, identification = packet[20:], secrets.randbelow(65536)
    out = []
    for offset in range(0, len(payload), size):
        more = 0x2000 if offset + size < len(payload) else 0
        out.append(ipv4(packet[12:16], packet[16:20], packet[9], payload[offset : offset + size], identification,
                        more | offset // 8, packet[8], packet[1]))  # fmt: skip
    return out


class Reassembly:
    """Fragments of inner packets, put together."""

    def __init__(self, findings):
        self.findings, self.parts = findings, {}
        self.fragments_seen = 0

    def add(self, packet):
        """A whole packet's (header, payload), once it is whole."""
        header = Header(packet, self.findings, "an inner packet")
        if header.fragment_offset == 0 and not header.more_fragments:
            return header, header.payload
        self.fragments_seen += 1
        if header.more_fragments:
            self.findings.require(len(header.payload) % 8 == 0, "RFC 791 3.2", "a fragment's length is no multiple of 8")
        key = (header.source, header.destination, header.identification, header.protocol)
        parts = self.parts.setdefault(key, {})
        parts[header.fragment_offset] = (header.payload, header.more_fragments)
        data = b""
        while len(data) in parts:
            payload, more = parts[len(data)]
            data += payload
            if not more:
                del self.parts[key]
                return header, data
        return None


class Hosts(threading.Thread):
    """Emulated hosts behind this peer: they answer pings that come as ESP, by ESP."""

    def __init__(self, interface, teks, findings):
        super().__init__(daemon=True)
        self.wire, self.findings = Wire(interface), findings
        self.inbound, self.reassembly = Inbound(teks, findings), Reassembly(findings)
        self.teks, self.outbound = teks, {}
        self.answered = 0
        self.on_spi = lambda tek: None

    def run(self):
        while True:
            received = self.wire.receive(3600)
            if received is None or received[1][9] != ESP:
                continue
            sender, packet = received
            try:
                inner = self.inbound.open(packet)
                whole = inner and self.reassembly.add(inner)
                if whole:
                    self.answer(sender, packet[20:24], *whole)
            except Malformed:
                pass

    def check_activation(self, tek):
        """Which key a sender uses while the keys roll (RFC 5374 section 4.2.1)."""
        now = time.monotonic()
        self.findings.require(
            tek.activate_at is None or now > tek.activate_at - 0.5, "RFC 6407 5.4.1",
            f"SPI {tek.spi.hex()} is used {(tek.activate_at or now) - now:.1f} s before its activation time",
        )  # fmt: skip
        newer = [
            other for other in self.teks
            if other.made > tek.made and str(other.selector) == str(tek.selector)
            and other.activate_at is not None and now > other.activate_at + 1.5
        ]  # fmt: skip
        self.findings.require(
            not newer, "RFC 5374 4.2.1", f"SPI {tek.spi.hex()} is used although its successor is active"
        )

    def answer(self, sender, spi, header, payload):
        """An echo request gets its reply."""
        if header.protocol != ICMP or payload[0] != 8:
            return
        self.findings.require(checksum(payload) == 0, "RFC 792", "ICMP checksum of a decrypted packet")
        reply = struct.pack("!BBH", 0, 0, 0) + payload[4:]
        reply = reply[:2] + struct.pack("!H", checksum(reply)) + reply[4:]
        packet = ipv4(header.destination, header.source, ICMP, reply, secrets.randbelow(65536), 0, 64, header.tos)
        tek = next(tek for tek in self.teks if tek.spi == spi)
        self.check_activation(tek)
        if spi not in self.outbound:
            self.outbound[spi] = Outbound(tek)
            self.on_spi(tek)
        for part in fragments(packet, 1400):
            self.wire.send(sender, self.outbound[spi].seal(part))
        self.answered += 1


def ping(policy, interface, source, destination, findings, count=5, sizes=(56, 56, 1000, 1400, 3000)):
    """Ping from an emulated host through the group's ESP; whether every one was answered."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    mine = [tek for tek in policy.teks if in_selector(tek, type("H", (), {"source": one.packed, "destination": other.packed}))]
    if not mine:
        findings.note(f"no TEK covers {source} > {destination}")
        return False
    outbound, wire = Outbound(mine[0]), Wire(interface)
    inbound, reassembly = Inbound(policy.teks, findings), Reassembly(findings)
    towards, identifier, answered = neighbour(interface, destination), secrets.randbelow(65536), 0
    for number, size in zip(range(1, count + 1), sizes):
        data = secrets.token_bytes(size)
        echo = struct.pack("!BBHHH", 8, 0, 0, identifier, number) + data
        echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
        for part in fragments(ipv4(one.packed, other.packed, ICMP, echo, 0, 0, 64, 0xB8), 1400):
            wire.send(towards, outbound.seal(part))
        end = time.monotonic() + 2
        while (received := wire.receive(max(0.001, end - time.monotonic()))) is not None:
            if received[1][9] != ESP:
                continue
            try:
                inner = inbound.open(received[1])
                whole = inner and reassembly.add(inner)
            except Malformed:
                continue
            if whole and whole[1] == b"\0\0" + whole[1][2:4] + echo[4:]:
                findings.require(checksum(whole[1]) == 0, "RFC 792", "ICMP checksum of the reply")
                answered += 1
                print(f"ping {source} > {destination}: {size} octets answered through ESP", flush=True)
                break
    print(f"{count} pings sent as ESP, {answered} answered", flush=True)
    return answered == count
