"""What a peer did against the texts: collected, printed at once, and decisive for the exit code."""

import sys


class Malformed(Exception):
    """The peer's bytes cannot be read any further. The violation itself is already recorded."""


class Findings:
    """Violations by the section they break, and notes that break nothing."""

    def __init__(self, stream=sys.stderr):
        self.violations = []
        self.notes = []
        self.context = ""
        self.stream = stream

    def violation(self, section, text):
        """Record a violation and go on."""
        line = f"VIOLATION [{section}]{self._where()} {text}"
        self.violations.append(line)
        print(line, file=self.stream, flush=True)

    def require(self, holds, section, text):
        """A violation unless `holds`; returns whether it held."""
        if not holds:
            self.violation(section, text)
        return bool(holds)

    def fatal(self, holds, section, text):
        """As `require`, but nothing after it can be read."""
        if not self.require(holds, section, text):
            raise Malformed(f"[{section}] {text}")

    def note(self, text):
        """Something worth reading that no text forbids."""
        line = f"note{self._where()} {text}"
        self.notes.append(line)
        print(line, file=self.stream, flush=True)

    def _where(self):
        return f" ({self.context})" if self.context else ""
