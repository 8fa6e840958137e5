"""How much memory a process takes: what's in RAM, with what it shares."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def resident_bytes(pid: int) -> int | None:
    """The memory of a process; ``None`` where it can't be known, or when it's gone."""
    if sys.platform != "linux":
        return None
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def is_larger(mib: float) -> bool:
    """Whether this process takes more than that; where only its peak is known, whether it ever did."""
    # The peak is asked first: one call to the system, in which this thread keeps the interpreter.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if peak <= mib * 2**20:
        return False
    resident = resident_bytes(os.getpid())
    return resident is None or resident > mib * 2**20
