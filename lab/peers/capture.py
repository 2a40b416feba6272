"""IPv4 packets of a capture file."""

import struct

# Link types of a capture: octets before the IP header.
LINKS = {1: 14, 101: 0, 113: 16, 276: 20}


def ipv4_packets(path, protocol):
    """Packets of a protocol, as (seconds, packet, whether the capture holds all of it), without what padded the frame."""
    with open(path, "rb") as file:
        data = file.read()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(data[:4])
    if order is None:
        raise SystemExit(f"{path} is no capture in pcap format with microseconds")
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    offset = 24
    while offset + 16 <= len(data):
        seconds, micros, kept, length = struct.unpack_from(order + "IIII", data, offset)
        frame, offset = data[offset + 16 : offset + 16 + kept], offset + 16 + kept
        packet = frame[LINKS[link] :]
        if len(packet) >= 28 and packet[0] >> 4 == 4 and packet[9] == protocol:
            total = struct.unpack_from("!H", packet, 2)[0]
            yield seconds + micros / 1e6, packet[:total], kept == length
