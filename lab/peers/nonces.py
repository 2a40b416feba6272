#!/usr/bin/env python3
"""Reads a capture of ESP and looks for an IV that was used twice under one SPI by different packets.

What a router forwards is seen twice, in and out: packets that are the same octet for octet, but for what routers change, are one.
The first octets after the ESP header are the IV in every suite with an IV of eight octets or more; in a CBC suite, whose IVs
are random, a repetition would be as wrong. With --sender-bits the IVs begin with so many bits of a sender id, which must be of one
source address under each SPI."""

import argparse
import struct
import sys


def packets(path):
    """IPv4 packets of a pcap file, whatever their link layer."""
    with open(path, "rb") as file:
        data = file.read()
    magic = struct.unpack("<I", data[:4])[0]
    order = "<" if magic in (0xA1B2C3D4, 0xA1B23C4D) else ">"
    link = struct.unpack(order + "I", data[20:24])[0]
    header = {1: 14, 113: 16, 276: 20, 101: 0}[link]
    at = 24
    while at + 16 <= len(data):
        length = struct.unpack(order + "I", data[at + 8:at + 12])[0]
        yield data[at + 16 + header:at + 16 + length]
        at += 16 + length


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("capture")
    parser.add_argument("--at-least", type=int, default=1, help="different packets that there must be")
    parser.add_argument("--sender-bits", type=int, help="bits of a sender id")
    options = parser.parse_args()
    seen = {}
    owners = {}
    shared = 0
    twice = 0
    for packet in packets(options.capture):
        if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != 50:
            continue
        internet = (packet[0] & 15) * 4
        esp = packet[internet:]
        spi, sequence = struct.unpack(">II", esp[:8])
        nonce, rest = (spi, esp[8:16]), (packet[12:20], sequence, esp[16:])
        if options.sender_bits:
            sender = int.from_bytes(esp[8:16], "big") >> 64 - options.sender_bits
            source = ".".join(str(octet) for octet in packet[12:16])
            if owners.setdefault((spi, sender), source) != source:
                shared += 1
                print(f"SPI {spi:08x}: sender id {sender} of {owners[spi, sender]} and {source}")
        if seen.setdefault(nonce, rest) != rest:
            twice += 1
            print(f"SPI {spi:08x}: IV {esp[8:16].hex()} of two packets")
    for (spi, sender), source in sorted(owners.items()):
        print(f"SPI {spi:08x}: sender id {sender} is that of {source}")
    if shared:
        sys.exit(f"{shared} packets with the sender id of somebody else")
    if twice or len(seen) < options.at_least:
        sys.exit(f"{twice} nonces twice in {len(seen)} packets")
    print(f"no nonce twice in {len(seen)} packets")


if __name__ == "__main__":
    main()
