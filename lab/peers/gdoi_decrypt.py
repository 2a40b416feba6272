#!/usr/bin/python3
"""Opens GROUPKEY-PUSH messages, given the KEK: prints sequence number, Deletes, policy and keys of each as JSON.

The messages are a capture (`--pcap`), hexadecimal on the command line (`--message`), or a file that holds both keys and messages
(`--vector`, see README.md). KEKs that the messages bring are used for those that follow. Exits with 1 if a message breaks a text,
does not verify, or if there were fewer than `--at-least`.
"""

import argparse
import json
import struct
import sys

from capture import ipv4_packets
from findings import Findings, Malformed
from group_policy import Policy, read_kd, read_sa
from group_push import Kek, open_push
from ike_message import GROUPKEY_PUSH

UDP = 17
GDOI_PORT = 848


def datagrams(path):
    """UDP datagrams from port 848 in a capture, as (seconds, source, destination, octets)."""
    for seconds, packet, whole in ipv4_packets(path, UDP):
        udp = packet[(packet[0] & 15) * 4 :]
        if len(udp) < 8 or struct.unpack_from("!H", udp)[0] != GDOI_PORT:
            continue
        if not whole:
            raise SystemExit(f"{path} does not hold whole packets")
        yield seconds, packet[12:16], packet[16:20], udp[8:]


class Opener:
    """KEKs, and what they open."""

    def __init__(self, findings):
        self.findings, self.keks = findings, {}
        self.opened = self.foreign = self.copies = 0
        self.seen, self.kek_spis, self.tek_spis = {}, [], []

    def learn(self, kek):
        if kek.spi not in self.keks:
            self.kek_spis.append(kek.spi.hex())
            self.keks[kek.spi] = kek

    def message(self, datagram, **context):
        """One datagram; None if it is no push or under no known KEK."""
        if len(datagram) < 28 or datagram[18] != GROUPKEY_PUSH:
            return None
        if datagram in self.seen:
            self.copies += 1
            return None
        kek = self.keks.get(datagram[:16])
        if kek is None:
            self.foreign += 1
            return None
        self.seen[datagram] = True
        self.findings.context = context.get("to", "")
        push = open_push(kek, datagram, self.findings)
        # Attributes of the server's own implementation go to members of the same one only.
        policy = Policy()
        if push.sa is not None:
            policy = read_sa(push.sa, self.findings, True, (32001, 32002))
            read_kd(push.kd, policy, self.findings, True)
        if policy.kek is not None:
            self.learn(policy.kek)
        self.tek_spis += sorted({tek.spi.hex() for tek in policy.teks} - set(self.tek_spis))
        self.opened += 1
        out = {**context, **push.json(), "policy": policy.json() if push.sa is not None else None}
        del out["sa"], out["kd"]
        return out


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--key", action="append", default=[], help="file with a KEK in JSON on each line, as `--keys` writes it")
    parser.add_argument("--pcap", help="capture")
    parser.add_argument("--message", action="append", default=[], help="a message in hexadecimal")
    parser.add_argument("--vector", help="file with `kek` and `messages`")
    parser.add_argument("--at-least", type=int, default=1, help="how many different messages there must be")
    parser.add_argument("--brief", action="store_true", help="print the sum only")
    return parser.parse_args()


def main():
    options, findings = arguments(), Findings()
    opener = Opener(findings)
    for path in options.key:
        with open(path, encoding="ascii") as file:
            for line in file:
                opener.learn(Kek.from_json(json.loads(line), findings))
    messages = [(bytes.fromhex(text), {}) for text in options.message]
    if options.vector:
        with open(options.vector, encoding="ascii") as file:
            vector = json.load(file)
        opener.learn(Kek.from_json(vector["kek"], findings))
        messages += [(bytes.fromhex(text), {}) for text in vector["messages"]]
    if options.pcap:
        messages += [(octets, {"time": round(when, 3), "to": ".".join(map(str, destination))})
                     for when, _, destination, octets in datagrams(options.pcap)]  # fmt: skip
    for octets, context in messages:
        try:
            opened = opener.message(octets, **context)
        except Malformed:
            continue
        if opened and not options.brief:
            print(json.dumps(opened))
    print(json.dumps({
        "opened": opener.opened, "further_copies": opener.copies, "under_unknown_keks": opener.foreign,
        "keks": opener.kek_spis, "teks": opener.tek_spis, "violations": findings.violations,
    }))  # fmt: skip
    return 1 if findings.violations or opener.opened < options.at_least else 0


if __name__ == "__main__":
    sys.exit(main())
