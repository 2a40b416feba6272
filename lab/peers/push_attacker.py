#!/usr/bin/python3
"""An attacker on the path: takes rekey messages and acknowledgements from a capture and sends them again from the sender's own
address, as they were, damaged, cut, or under other cookies. It knows no key. Needs root, for raw sockets.
"""

import argparse
import json
import secrets
import socket
import struct
import sys
import time

from gdoi_decrypt import datagrams
from group_esp import ipv4
from ike_message import GROUPKEY_PUSH, GROUPKEY_PUSH_ACK


def udp(source, destination, octets):
    """A whole IPv4 packet around a datagram between the two ports 848; a checksum of zero is none."""
    return ipv4(source, destination, 17, struct.pack("!HHHH", 848, 848, 8 + len(octets), 0) + octets, secrets.randbelow(65536))


def flipped(octets, bit):
    out = bytearray(octets)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def resized(octets):
    """The header's Length made to fit."""
    return octets[:24] + struct.pack("!I", len(octets)) + octets[28:]


def attacks(octets, flips):
    """(name, datagram) of everything that is done with one message."""
    yield "replay", octets
    # Every bit of the header, then bits spread over the rest.
    bits = len(octets) * 8
    for bit in [*range(28 * 8), *range(28 * 8, bits, max(1, (bits - 28 * 8) // flips))]:
        yield "flip", flipped(octets, bit)
    for length in (0, 1, 4, 27, 28, 29, 44, len(octets) // 2, len(octets) - 16, len(octets) - 1):
        yield "cut", octets[:length]
        if length > 28:
            yield "cut and resized", resized(octets[:length])
    yield "cookies", secrets.token_bytes(16) + octets[16:]
    yield "noise", octets[:28] + secrets.token_bytes(len(octets) - 28)
    yield "longer", resized(octets + secrets.token_bytes(16))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pcap", required=True, help="capture in which the messages are")
    parser.add_argument("--flips", type=int, default=200, help="bits to flip in each message beside those of the header")
    parser.add_argument("--spare", help="address of somebody who is left alone")
    parser.add_argument("--messages", type=int, default=4, help="so many messages of each kind, the last ones")
    options = parser.parse_args()
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    found, seen = {GROUPKEY_PUSH: [], GROUPKEY_PUSH_ACK: []}, set()
    for _, source, destination, octets in datagrams(options.pcap):
        if options.spare in (socket.inet_ntoa(source), socket.inet_ntoa(destination)):
            continue
        if len(octets) > 28 and octets[18] in found and (source, destination, octets) not in seen:
            seen.add((source, destination, octets))
            found[octets[18]].append((source, destination, octets))
    sent = {}
    for kind, messages in found.items():
        for source, destination, octets in messages[-options.messages :]:
            for name, datagram in attacks(octets, options.flips):
                raw.sendto(udp(source, destination, datagram), (socket.inet_ntoa(destination), 0))
                key = f"{'push' if kind == GROUPKEY_PUSH else 'acknowledgement'}: {name}"
                sent[key] = sent.get(key, 0) + 1
                time.sleep(0.0005)
    print(json.dumps(sent, indent=1))
    return 0 if all(messages for messages in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
