"""How much memory a process uses: what's in RAM, including what it shares with others."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

BETWEEN_LOOKS = 0.005  # seconds: jobs that take a millisecond may leak a MiB each


def resident_bytes(pid: int) -> int | None:
    """The memory that a process uses; ``None`` if that can't be known, or the process is gone."""
    if sys.platform != "linux":
        return None
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


class Limit:
    """How much memory this process may use; once exceeded it stays exceeded, whatever is freed."""

    def __init__(self, mib: int | None) -> None:
        """``mib``: ``None`` for no limit."""
        self._bytes = float("inf") if mib is None else mib * 2**20
        self.look_at = float("inf") if mib is None else 0.0  # when to look again, by ``time.monotonic()``
        self.is_exceeded = False

    def look(self, now: float) -> bool:
        """Whether it's exceeded, as of now."""
        self.look_at = now + BETWEEN_LOOKS
        self.is_exceeded = self.is_exceeded or self._takes_more()
        return self.is_exceeded

    def _takes_more(self) -> bool:
        # The peak is checked first: that's one system call, during which this thread keeps the GIL.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak * (1 if sys.platform == "darwin" else 1024) <= self._bytes:
            return False
        resident = resident_bytes(os.getpid())
        return resident is None or resident > self._bytes
