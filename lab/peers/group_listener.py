"""A member after its registration: it opens what the key server pushes, strictly, keeps the group's keys, acknowledges,
and registers again when it must (RFC 6407 section 4.4, RFC 8263 section 4)."""

import json
import select
import socket
import time

from findings import Malformed
from group_member import Refused, Silent
from group_policy import Policy, read_kd, read_sa
from group_push import open_push, seal_ack
from ike_message import GROUPKEY_PUSH, INFORMATIONAL, read_message

# Lives are told in whole seconds, rounded down at two ends.
ROUNDING = 2.0


class RekeySa:
    """A KEK as this member holds it."""

    def __init__(self, kek, sequence):
        self.kek, self.sequence, self.since = kek, sequence, time.monotonic()
        self.ends = self.since + kek.lifetime if kek.lifetime else None
        self.deleted = False

    @property
    def live(self):
        return not self.deleted and (self.ends is None or time.monotonic() < self.ends + ROUNDING)


class Listener:
    """Follows a group for a while. Every event is one line of JSON."""

    def __init__(self, member, options, findings, pull):
        self.member, self.options, self.findings, self.pull = member, options, findings, pull
        self.keks, self.teks, self.ends = {}, [], {}
        self.pushes = self.acknowledged = self.registrations = 0
        self.rolled_teks, self.rolled_keks = set(), set()
        self.multicast = None
        self.current = None
        self.log_file = open(options.log, "a", encoding="ascii") if options.log else None  # noqa: SIM115
        self.keys_file = open(options.keys, "a", encoding="ascii") if options.keys else None  # noqa: SIM115
        member.on_push = self.push

    def log(self, event, **fields):
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        print(line, flush=True)
        if self.log_file:
            print(line, file=self.log_file, flush=True)

    # Registration.

    def register(self):
        """A PULL under a fresh phase 1, and what came of it."""
        self.member.phase1(self.options.mode)
        policy = self.pull()
        self.registrations += 1
        self.take_teks(policy, "PULL")
        if policy.kek is not None:
            self.findings.require(policy.sequence is not None, "RFC 6407 5.7", "SEQ MUST be told where there is a KEK")
            self.take_kek(policy.kek, policy.sequence or 0, "PULL")
        self.log("registered", kek=policy.kek.spi.hex() if policy.kek else None, sequence=policy.sequence,
                 teks={tek.spi.hex(): tek.lifetime for tek in policy.teks}, gap=policy.gap)  # fmt: skip

    def take_kek(self, kek, sequence, whence):
        """A KEK of a SAK: a new one, or the one we have."""
        findings, known = self.findings, self.keks.get(kek.spi)
        own = kek.source.network_address
        findings.require(
            str(own) == self.member.server_address, "RFC 6407 5.3", f"SAK source {own}, the server is {self.member.server_address}"
        )
        findings.require(
            not kek.multicast or not kek.acknowledge, "RFC 8263 6", "acknowledgements requested of a whole multicast group"
        )
        if known is not None:
            same = (known.kek.key, known.kek.iv, known.kek.public_octets) == (kek.key, kek.iv, kek.public_octets)
            findings.require(same, "RFC 6407 5.3", f"{whence}: another key under the SPI of a KEK we have")
            if known.ends and kek.lifetime:
                longer = time.monotonic() + kek.lifetime - known.ends
                findings.require(longer <= ROUNDING, "RFC 6407 5.3.4", f"{whence}: the KEK's life grew by {longer:.0f} s")
            findings.require(
                sequence >= known.sequence, "RFC 6407 5.7", f"{whence}: SEQ {sequence}, we have had {known.sequence}"
            )
            known.sequence, known.deleted = max(known.sequence, sequence), False
            return
        for other in self.keks.values():
            findings.require(other.kek.key != kek.key, "RFC 6407 4", "a new KEK with an old key")
            findings.require(other.kek.spi[:8] != kek.spi[:8], "RFC 6407 4", "a new KEK with an old initiator cookie")
            self.rolled_keks.add(kek.spi)
        self.keks[kek.spi] = RekeySa(kek, sequence)
        self.current = kek.spi
        if self.keys_file:
            print(json.dumps(kek.json()), file=self.keys_file, flush=True)
        if kek.multicast and self.multicast is None:
            self.join(str(kek.destination.network_address))

    def take_teks(self, policy, whence):
        """The TEKs of a message beside those that we have."""
        findings, now = self.findings, time.monotonic()
        for tek in policy.teks:
            end = now + tek.lifetime
            known = [
                other for other in self.teks if other.spi == tek.spi and str(other.selector) == str(tek.selector)
            ]
            if not known:
                if any(str(other.selector) == str(tek.selector) for other in self.teks):
                    self.rolled_teks.add(tek.spi)
                self.teks.append(tek)
                self.ends.setdefault(tek.spi, end)
                continue
            same = (known[0].encryption_key, known[0].integrity_key) == (tek.encryption_key, tek.integrity_key)
            findings.require(same, "RFC 6407 5.6.1", f"{whence}: another key under SPI {tek.spi.hex()}")
            longer = end - self.ends[tek.spi]
            findings.require(longer <= ROUNDING, "RFC 2407 4.5", f"{whence}: the life of {tek.spi.hex()} grew by {longer:.0f} s")
            self.ends[tek.spi] = min(end, self.ends[tek.spi])
        for spi in [spi for spi, end in self.ends.items() if end + ROUNDING < now]:
            self.forget(spi)

    def forget(self, spi):
        self.teks[:] = [tek for tek in self.teks if tek.spi != spi]
        self.ends.pop(spi, None)

    def join(self, group):
        """Pushes come to a multicast group."""
        self.multicast = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.multicast.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.multicast.bind((group, self.options.port))
        local = socket.inet_aton(self.options.join_at or self.member.identity)
        self.multicast.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + local)
        self.log("joined", group=group)

    # Rekey messages.

    def push(self, datagram, source, multicast=False):
        """One GROUPKEY-PUSH."""
        findings = self.findings
        message = read_message(datagram, findings)
        state = self.keks.get(message.cookies)
        if state is None:
            findings.violation("RFC 6407 4.4", f"a push under the unknown KEK {message.cookies.hex()}")
            return
        kek = state.kek
        findings.require(state.live, "RFC 6407 5.3.4", f"a push under the KEK {kek.spi.hex()} after its end")
        findings.require(multicast == kek.multicast, "RFC 6407 5.3", "not where the SAK said pushes would go")
        findings.require(source[0] == str(kek.source.network_address), "RFC 6407 5.3", f"a push from {source[0]}")
        findings.require(source[1] == self.options.port, "RFC 6407 2.2", f"a push from port {source[1]}")
        push = open_push(kek, datagram, findings)
        findings.fatal(
            push.sequence > state.sequence, "RFC 6407 4.4", f"SEQ {push.sequence} after {state.sequence}: it must be greater"
        )
        gap, state.sequence = push.sequence - state.sequence, push.sequence
        policy = Policy()
        if push.sa is not None:
            policy = read_sa(push.sa, findings, True, self.member.private)
            read_kd(push.kd, policy, findings, True)
        for protocol, spis in push.deletes:
            self.delete(protocol, spis, push)
        fresh = sorted({tek.spi.hex() for tek in policy.teks} - {spi.hex() for spi in self.ends})
        self.take_teks(policy, "PUSH")
        if policy.kek is not None:
            self.take_kek(policy.kek, 0 if policy.kek.spi not in self.keks else self.keks[policy.kek.spi].sequence, "PUSH")
        self.pushes += 1
        self.log("push", kek=kek.spi.hex(), sequence=push.sequence, skipped=gap - 1, octets=len(datagram),
                 signed_length=push.form, teks={tek.spi.hex(): tek.lifetime for tek in policy.teks}, new_teks=fresh,
                 new_kek=policy.kek.spi.hex() if policy.kek else None, gap=policy.gap,
                 deletes=push.json()["deletes"])  # fmt: skip
        if kek.acknowledge and not self.silent():
            self.acknowledge(kek, push.sequence, source)

    def silent(self):
        """Told not to acknowledge: by option, or by a file that exists for as long."""
        if self.options.no_ack_file:
            try:
                open(self.options.no_ack_file, "rb").close()
                return True
            except FileNotFoundError:
                pass
        return self.options.no_ack

    def acknowledge(self, kek, sequence, source):
        """As the server asked; with `--bad-acks` wrong ones go before it."""
        for spoil in ("hash", "kek", "flags") if self.options.bad_acks else ():
            self.member.link.socket.sendto(seal_ack(kek, sequence, self.member.identity, (spoil,)), source)
        self.member.link.socket.sendto(seal_ack(kek, sequence, self.member.identity), source)
        self.acknowledged += 1

    def delete(self, protocol, spis, push):
        """A Delete payload."""
        if protocol == 0:
            for spi in spis:
                known = self.keks if spi == bytes(16) else {spi: self.keks[spi]} if spi in self.keks else {}
                self.findings.require(known, "RFC 6407 5.9", f"Delete for the foreign KEK {spi.hex()}")
                for state in known.values():
                    state.deleted = True
            return
        for spi in spis:
            known = list(self.ends) if spi == bytes(4) else [spi] if spi in self.ends else []
            self.findings.require(known, "RFC 6407 5.9", f"Delete for the foreign TEK {spi.hex()}")
            for one in known:
                self.forget(one)

    # The loop.

    def follow(self, seconds):
        """Until the time is up or SIGINT."""
        end = time.monotonic() + seconds
        link = self.member.link.socket
        while (left := end - time.monotonic()) > 0:
            if self.options.register_again and self.must_register():
                self.again()
            sockets = [link] + ([self.multicast] if self.multicast else [])
            for ready in select.select(sockets, [], [], min(left, 0.2))[0]:
                datagram, source = ready.recvfrom(65535)
                try:
                    self.datagram(datagram, source, ready is self.multicast)
                except Malformed:
                    pass

    def datagram(self, datagram, source, multicast):
        message = read_message(datagram, self.findings)
        if message.exchange == GROUPKEY_PUSH:
            self.push(datagram, source, multicast)
        elif message.exchange == INFORMATIONAL:
            self.member.informational(message)
        else:
            self.findings.violation("RFC 6407 4", f"a message of exchange {message.exchange} after registration")

    def must_register(self):
        """No KEK that lives on, or no TEK."""
        now = time.monotonic()
        live = [state for state in self.keks.values() if state.live]
        keyless = self.keks and not live
        return keyless or not any(end > now for end in self.ends.values())

    def again(self):
        """Register anew; a server that refuses or is silent is asked again later."""
        try:
            self.register()
        except (Refused, Silent) as error:
            self.log("not-registered", reason=str(error))
            time.sleep(1)

    def finish(self):
        """The sum, and what was expected of it."""
        now = time.monotonic()
        live = sorted(spi.hex() for spi, end in self.ends.items() if end > now)
        self.log("end", pushes=self.pushes, acknowledged=self.acknowledged, registrations=self.registrations,
                 tek_rollovers=len(self.rolled_teks), kek_rollovers=len(self.rolled_keks), live_teks=live,
                 violations=len(self.findings.violations))  # fmt: skip


