"""What a worker asks of the operating system for its processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from django_kue.worker import codes

try:  # before the fork: an import that fails touches half a megabyte, again in each process
    from setproctitle import setproctitle
except ImportError:
    setproctitle = None  # type: ignore[assignment]
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even while it holds the GIL."""
    if _libc is not None:
        PR_SET_PDEATHSIG = 1
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(codes.ORPHANED)


def end_group(pid: int) -> None:
    """Kill what a dead child's jobs left running."""
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def set_title(title: str) -> None:
    """Name this process for ``ps``, if setproctitle is installed."""
    if setproctitle is not None:
        setproctitle(title)
