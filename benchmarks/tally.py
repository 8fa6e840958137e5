"""How a worker's process tells the harness what it has run: files in the folder ``$BENCH_TALLY``.

``<pid>.count`` holds unsigned 64-bit numbers whose sum is how many jobs the process has run: one number
for each thread, since two threads that write the same number could undo each other's counts.
``<pid>.delays`` holds float64s, one for each job that recorded how late it was. Both are little-endian.
"""

from __future__ import annotations

import atexit
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable
from itertools import count as counter
from pathlib import Path

FLUSH_EVERY = 0.05
THREADS = 512  # the most in one process that run jobs

_number = struct.Struct("<Q")
_seats = counter()
_counts: mmap.mmap | None = None
_delays: list[float] = []
_lock = threading.Lock()
_writing = False


class _Thread(threading.local):
    """A thread's place in the file of counts, and how far it has counted."""

    def __init__(self) -> None:
        file = _file_of_counts()
        offset = next(_seats) * _number.size
        jobs = counter(1)

        def count() -> None:
            _number.pack_into(file, offset, next(jobs))

        self.count = count


def _file_of_counts() -> mmap.mmap:
    global _counts
    with _lock:
        if _counts is None:
            path = _folder() / f"{os.getpid()}.count"
            with path.open("w+b") as file:
                file.truncate(THREADS * _number.size)
                _counts = mmap.mmap(file.fileno(), 0)
        return _counts


def _folder() -> Path:
    return Path(os.environ["BENCH_TALLY"])


_thread: _Thread | None = None


def count() -> None:
    """One more job has run in this process."""
    global _thread
    try:
        _thread.count()  # type: ignore[union-attr] # the first call in a process finds None
    except AttributeError:
        with _lock:
            here = _thread
        if here is None:
            here = _Thread()
            with _lock:
                _thread = here = _thread or here
        here.count()


def record(delay: float) -> None:
    """A job has started this many seconds after it should or could have."""
    _delays.append(delay)
    if not _writing:
        _begin_writing()


def _begin_writing() -> None:
    global _writing
    with _lock:
        if _writing:
            return
        _writing = True
    threading.Thread(target=_write_on, name="tally", daemon=True).start()
    atexit.register(flush)


def _write_on() -> None:
    while True:
        time.sleep(FLUSH_EVERY)
        flush()


def flush() -> None:
    """Write the recorded delays; called automatically, and by workers that exit without ``atexit``."""
    with _lock:
        ready = len(_delays)
        if ready:
            with (_folder() / f"{os.getpid()}.delays").open("ab") as file:
                file.write(struct.pack(f"<{ready}d", *_delays[:ready]))
            del _delays[:ready]


def _start_anew() -> None:
    """A forked child has files of its own."""
    global _thread, _counts, _seats, _lock, _writing
    _thread, _counts, _seats, _lock, _writing = None, None, counter(), threading.Lock(), False
    _delays.clear()


os.register_at_fork(after_in_child=_start_anew)


# ── What the harness reads ────────────────────────────────────────────────────────────────────────


def counted(folder: Path) -> int:
    """How many jobs all processes have run."""
    return sum(_sum(path) for path in _files(folder, ".count"))


def delays(folder: Path) -> list[float]:
    """What all processes have recorded so far, in seconds, in no particular order."""
    found: list[float] = []
    for path in _files(folder, ".delays"):
        data = path.read_bytes()
        found.extend(struct.unpack(f"<{len(data) // 8}d", data[: len(data) // 8 * 8]))
    return found


def _files(folder: Path, suffix: str) -> Iterable[Path]:
    return [path for path in folder.iterdir() if path.suffix == suffix]


def _sum(path: Path) -> int:
    data = path.read_bytes()
    whole = len(data) // 8
    return sum(struct.unpack(f"<{whole}Q", data[: whole * 8]))
