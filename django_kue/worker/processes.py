"""What a worker asks of the operating system for its processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from django_kue.worker import codes


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even while it holds the GIL."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(codes.ORPHANED)


def end_group(pid: int) -> None:
    """End what a dead child's jobs left running."""
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def set_title(title: str) -> None:
    """Name this process for ``ps``, if setproctitle is installed."""
    with suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle(title)
