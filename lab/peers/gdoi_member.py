#!/usr/bin/python3
"""An independent GDOI group member: registers with a key server, strictly, and misbehaves on request.

Exits with 1 if the server broke a text (each violation is printed with its section), with 2 if it did not answer.
"""

import argparse
import json
import signal
import socket
import sys

from findings import Findings, Malformed
from group_listener import Listener
from group_member import Member, Pull, Refused, Silent, group_key_id
from ike_crypto import Suite
from ike_message import DPD_VENDOR
from member_tests import Tests
from udp_link import Link


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", required=True, help="address of the key server")
    parser.add_argument("--local", default="0.0.0.0", help="own address; also the phase 1 identity")
    parser.add_argument("--port", type=int, default=848, help="port at both ends")
    parser.add_argument("--local-port", type=int, help="own port, if another")
    parser.add_argument("--psk", required=True, help="pre-shared key")
    parser.add_argument("--suite", action="append", help="such as aes128-sha1-14; several: in order of preference")
    parser.add_argument("--mode", choices=("main", "aggressive", "aggressive-clear"), default="main")
    parser.add_argument("--doi", type=int, choices=(1, 2), default=2, help="DOI of phase 1")
    parser.add_argument("--marker", action="store_true", help="put the non-ESP marker before each message")
    parser.add_argument("--lifetime", type=int, default=3600, help="phase 1 lifetime in seconds")
    parser.add_argument("--group", type=int, default=1, help="group number")
    parser.add_argument("--group-address", help="name the group by this address (ID_IPV4_ADDR)")
    parser.add_argument("--allow-kek", action="store_true", help="the group has rekey messages")
    parser.add_argument("--tests", nargs="*", help="names of tests, `all`, or nothing for a list")
    parser.add_argument("--ping", nargs=3, metavar=("INTERFACE", "SOURCE", "DESTINATION"),
                        help="after registering, ping from SOURCE to DESTINATION through the group's ESP")  # fmt: skip
    parser.add_argument("--follow", type=float, metavar="SECONDS", help="stay registered so long and take what is pushed")
    parser.add_argument("--register-again", action="store_true", help="with --follow: register when the keys are gone")
    parser.add_argument("--no-ack", action="store_true", help="with --follow: acknowledge nothing")
    parser.add_argument("--no-ack-file", help="with --follow: acknowledge nothing while this file exists")
    parser.add_argument("--bad-acks", action="store_true", help="with --follow: wrong acknowledgements before each right one")
    parser.add_argument("--join-at", help="with --follow: address of the interface that joins a multicast group")
    parser.add_argument("--log", help="with --follow: file for the events")
    parser.add_argument("--keys", help="with --follow: file that gets every KEK, for gdoi_decrypt.py")
    parser.add_argument("--esp", metavar="INTERFACE", help="with --follow: play the hosts behind this peer on this interface")
    return parser.parse_args()


def main():
    options = arguments()
    findings = Findings()
    suites = [Suite.parse(text) for text in options.suite or ["aes128-sha1-14"]]
    if options.group_address:
        options.group_body = bytes([1, 0, 0, 0]) + socket.inet_aton(options.group_address)
    else:
        options.group_body = group_key_id(options.group)
    link = Link((options.local, options.local_port or options.port), (options.server, options.port), options.marker,
                findings)  # fmt: skip
    member = Member(link, findings, options.psk.encode(), suites, options.local, options.server, options.doi,
                    options.lifetime, vendor_ids=(DPD_VENDOR,))  # fmt: skip
    if options.tests is not None:
        tests = Tests(member, options)
        if not options.tests:
            print("\n".join(tests.names()))
            return 0
        names = tests.names() if options.tests == ["all"] else options.tests
        for name in names:
            tests.run(name)
        print(f"{len(names)} tests, {len(findings.violations)} violations")
        return 1 if findings.violations else 0
    if options.follow is not None:
        return follow(member, options, findings)
    return register(member, options, findings)


def register(member, options, findings):
    """One registration, told as JSON."""
    try:
        sa = member.phase1(options.mode)
        policy = Pull(member, options.group_body, allow_kek=options.allow_kek).run()
    except Malformed:
        return 1
    except Refused as refusal:
        print(json.dumps({"refused": refusal.notification.name, "authenticated": refusal.authenticated}))
        return 1
    except Silent as silent:
        print(json.dumps({"silent": str(silent)}))
        return 2
    print(json.dumps({
        "suite": str(sa.suite), "mode": options.mode, "cookies": sa.cookies.hex(), "server": member.server_identity,
        "vendor_ids": [vendor.hex() for vendor in member.peer_vendor_ids], "policy": policy.json(),
        "violations": findings.violations,
    }, indent=2), flush=True)  # fmt: skip
    if options.ping:
        from group_esp import ping

        interface, source, destination = options.ping
        if not ping(policy, interface, source, destination, findings):
            findings.violation("RFC 4303", f"no answer to pings from {source} to {destination}")
    return 1 if findings.violations else 0


def follow(member, options, findings):
    """Register, then take what is pushed."""
    listener = Listener(member, options, findings, lambda: Pull(member, options.group_body, allow_kek=True).run())
    # Whoever starts this in the background may have it inherit an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        listener.register()
        if options.esp:
            from group_esp import Hosts

            Hosts(options.esp, listener.teks, findings).start()
        listener.follow(options.follow)
    except KeyboardInterrupt:
        pass
    except Malformed:
        return 1
    except Refused as refusal:
        print(json.dumps({"refused": refusal.notification.name, "authenticated": refusal.authenticated}))
        return 1
    except Silent as silent:
        print(json.dumps({"silent": str(silent)}))
        return 2
    listener.finish()
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
