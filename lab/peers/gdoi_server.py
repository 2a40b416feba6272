#!/usr/bin/python3
"""An independent GDOI key server: serves members, strictly, with the quirks of other implementations on request.

Runs until SIGINT or `--seconds`; exits with 1 if a member broke a text (each violation is printed with its section).
"""

import argparse
import ipaddress
import json
import secrets
import select
import signal
import socket
import struct
import sys
import time

from findings import Findings, Malformed
from group_policy import INTEGRITY, TEK_INTEGRITY, TEK_SUITES, Selector, Tek
from group_push import public_key_octets, read_public_key
from group_pusher import Commands, Pusher
from group_server import Server
from ike_crypto import Suite, with_odd_parity

MARKER = bytes(4)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--local", required=True, help="own address; also the phase 1 identity")
    parser.add_argument("--port", type=int, default=848)
    parser.add_argument("--psk", required=True, help="pre-shared key")
    parser.add_argument("--suite", action="append", help="accepted suites, such as aes128-sha1-14")
    parser.add_argument("--group", type=int, default=1, help="group number")
    parser.add_argument("--tek", action="append", required=True, metavar="SUITE:SOURCE>DESTINATION[,...]",
                        help="a TEK and its policies, such as aes128-sha1:10.1.0.0/24>10.2.0.0/24")  # fmt: skip
    parser.add_argument("--lifetime", type=int, default=600, help="TEK lifetime in seconds")
    parser.add_argument("--quirk", action="append", default=[], help="what to do otherwise than usual")
    parser.add_argument("--control", help="file with quirks, read at each phase 1 and PULL")
    parser.add_argument("--log", help="file for the events")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--esp", metavar="INTERFACE", help="play the hosts behind this peer on this interface")
    parser.add_argument("--kek", metavar="CIPHER-HASH-KEY", help="rekey by push, such as aes256-sha256-rsa2048 or -ecdsa256")
    parser.add_argument("--kek-lifetime", type=int, default=3600, help="KEK lifetime in seconds")
    parser.add_argument("--push-to", default="0.0.0.0", help="multicast group of the pushes; else each member gets a copy")
    parser.add_argument("--push-from", metavar="INTERFACE", help="interface that multicast pushes leave by")
    parser.add_argument("--ack", choices=("none", "sha256", "sha512"), default="sha256", help="KEK_ACK_REQUESTED (unicast)")
    parser.add_argument("--commands", help="file of rekey commands, read as it grows")
    parser.add_argument("--keys", help="file that gets every KEK, for gdoi_decrypt.py")
    return parser.parse_args()


def make_teks(texts, lifetime):
    """Fresh keys and SPIs for every `--tek`."""
    teks = []
    for text in texts:
        suite, selectors = text.split(":", maxsplit=1)
        cipher, integrity = suite.split("-")
        transform, key_bits = TEK_SUITES[cipher]
        spi = (256 + secrets.randbelow((1 << 32) - 256)).to_bytes(4, "big")
        tek = Tek(spi, transform, None, key_bits, TEK_INTEGRITY[integrity], lifetime)
        key = secrets.token_bytes(tek.key_octets())
        key = with_odd_parity(key) if transform in (2, 3) else key
        integrity_key = secrets.token_bytes(INTEGRITY[tek.integrity][1])
        for pair in selectors.split(","):
            source, destination = (ipaddress.ip_network(part) for part in pair.split(">"))
            selector = Selector(0, source, 0, destination, 0)
            teks.append(Tek(spi, transform, selector, key_bits, tek.integrity, lifetime, key, integrity_key))
    return teks


def main():
    options = arguments()
    findings = Findings(sys.stdout)
    suites = [Suite.parse(text) for text in options.suite or ["aes128-sha1-14"]]
    teks = make_teks(options.tek, options.lifetime)

    def quirks():
        if options.control:
            try:
                with open(options.control, encoding="ascii") as file:
                    return set(file.read().split()) | set(options.quirk)
            except FileNotFoundError:
                pass
        return set(options.quirk)

    log = open(options.log, "a", encoding="ascii") if options.log else None  # noqa: SIM115 (as long as the process)
    server = Server(findings, options.local, options.psk.encode(), suites, options.group, teks, quirks, log)
    if options.kek:
        multicast = ipaddress.ip_address(options.push_to).is_multicast
        server.pusher = Pusher(server, options.kek, options.kek_lifetime, "none" if multicast else options.ack,
                               options.push_to, server.log)  # fmt: skip
    hosts = None
    if options.esp:
        from group_esp import Hosts

        hosts = Hosts(options.esp, teks, findings)
        server.on_registration = hosts.inbound.forget
        hosts.on_spi = lambda tek: server.log("esp-under", spi=tek.spi.hex(), after=round(time.monotonic() - tek.made, 2))
        hosts.start()
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.bind((options.local, options.port))
    channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 64)
    # The copy that the sending interface receives is the one that a multicast router forwards: not a second one.
    channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    if options.push_from:
        index = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(options.push_from))
        channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, index)
    commands = Commands(options.commands) if options.commands else None
    # Whoever starts this in the background may have it inherit an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = time.monotonic() + options.seconds if options.seconds else None
    server.log("ready", address=options.local, port=options.port, spis=sorted({tek.spi.hex() for tek in teks}))
    try:
        while end is None or time.monotonic() < end:
            for line in commands.lines() if commands else ():
                for datagram, member in server.pusher.command(line):
                    channel.sendto(datagram, member)
            if not select.select([channel], [], [], 0.05 if commands else 0.2)[0]:
                continue
            datagram, address = channel.recvfrom(65535)
            marked = datagram[:4] == MARKER
            try:
                answers = server.handle(datagram[4:] if marked else datagram, address)
            except Malformed:
                continue
            for answer in answers:
                channel.sendto((MARKER if marked else b"") + answer, address)
    except KeyboardInterrupt:
        pass
    server.finish()
    if options.keys:
        with open(options.keys, "w", encoding="ascii") as file:
            for kek in server.pusher.keks.values():
                read_public_key(kek, public_key_octets(kek), findings)
                print(json.dumps(kek.json()), file=file)
    if hosts:
        server.log("esp", opened=hosts.inbound.opened, answered=hosts.answered, fragments=hosts.reassembly.fragments_seen)
    if server.pusher:
        server.log("pushes", sent=len(server.pusher.sent), acknowledgements=server.pusher.acknowledgements)
    server.log("end", registrations=server.registrations, violations=len(findings.violations))
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
