"""Datagrams to one peer, with or without the non-ESP marker."""

import socket
import time

MARKER = bytes(4)


class Link:
    """A bound socket towards one peer. What comes from elsewhere is a finding."""

    def __init__(self, local, remote, marker, findings):
        self.remote, self.marker, self.findings = remote, marker, findings
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(local)

    def send(self, datagram):
        self.socket.sendto((MARKER if self.marker else b"") + datagram, self.remote)

    def receive(self, seconds):
        """The next datagram within so many seconds, or None."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                datagram, source = self.socket.recvfrom(65535)
            except TimeoutError:
                return None
            except ConnectionError:
                continue
            if not self.findings.require(source == self.remote, "RFC 6407 2.2", f"answer from {source}"):
                continue
            marked = datagram[:4] == MARKER
            self.findings.require(
                marked == self.marker, "RFC 3948 2.2", "the non-ESP marker is not mirrored" if self.marker
                else "non-ESP marker without one having been sent"
            )  # fmt: skip
            return datagram[4:] if marked else datagram
        return None

    def drain(self):
        """Forget what has arrived."""
        while self.receive(0.01) is not None:
            pass
