"""The jobs of the chaos suite: plain ones, and those that misbehave in every way we know.

Each writes its start and its finish into the ledger. Whatever is going to take its process with it says so
first. What must become of each stands in ``judge.ENDS``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_kue import current_job, job, signals
from tests.app import abuse
from tests.chaos.ledger import BACK, FINISHED, HARMFUL, LEFT, STARTED, TOLD, Pen

_PATH = os.environ.get("KUE_CHAOS_LEDGER", os.devnull)
pen = Pen(_PATH)


class _Entry:
    """A run's lines in the ledger."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._token = os.urandom(6).hex()

    def start(self) -> None:
        pen.write(STARTED, self._number, self._token, current_job().attempt, os.getpid())

    def finish(self) -> None:
        pen.write(FINISHED, self._number, self._token)

    def warn(self, seconds: float) -> None:
        """Within so many seconds this run may end its process."""
        pen.write(HARMFUL, self._number, self._token, seconds)


@contextmanager
def entered(number: int, *, doom: float = 0.0) -> Iterator[None]:
    """The ledger's lines around a run; ``doom`` as in :meth:`_Entry.warn`."""
    entry = _Entry(number)
    entry.start()
    if doom:
        entry.warn(doom)
    try:
        yield
    finally:
        entry.finish()


# ── plain ones ──


@job
def work(number: int, ms: float) -> int:
    """Waits, as for a database or another service."""
    with entered(number):
        time.sleep(ms / 1000)
    return number


@job
def quiet(number: int, ms: float) -> None:
    """As most jobs: nothing is returned."""
    with entered(number):
        time.sleep(ms / 1000)


@job
def compute(number: int, ms: float) -> None:
    """Holds the interpreter, as far as Python does."""
    with entered(number):
        until = time.monotonic() + ms / 1000
        while time.monotonic() < until:
            sum(range(50))


@job
async def await_(number: int, ms: float) -> int:
    with entered(number):
        await asyncio.sleep(ms / 1000)
    return number


@job(attempts=4, backoff=0.05)
def flaky(number: int, failures: int) -> int:
    """Fails so many attempts, then it's well."""
    with entered(number):
        time.sleep(0.002)
        if current_job().attempt <= failures:
            raise ValueError("not yet")
    return number


@job(queue="long")
def long(number: int, seconds: float) -> int:
    """Longer than the lease: heartbeats must keep it."""
    with entered(number):
        time.sleep(seconds)
    return number


# ── ends of processes ──


@job
def die(number: int, how: str, is_poison: bool = False) -> str:
    """Takes its process with it: every time, or only once."""
    entry = _Entry(number)
    entry.start()
    if not _has_died(number) or is_poison:
        entry.warn(1.0)
        if how == "segfault":
            ctypes.string_at(0)
        if how == "abort":
            os.abort()
        os._exit(0)
    entry.finish()
    return "alive"


def _has_died(number: int) -> bool:
    try:
        os.close(os.open(f"{_PATH}.died.{number}", os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return True
    return False


@job(timeout=0.5)
def spin(number: int) -> None:
    with entered(number, doom=4.0):
        while True:
            sum(range(1000))


@job(timeout=0.5)
def ignore_everything(number: int) -> None:
    """Swallows its timeout, and goes on."""
    with entered(number, doom=4.0):
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                continue


# ── exceptions and results ──


@job
def raise_(number: int, kind: str) -> None:
    with entered(number):
        if kind == "exit":
            raise SystemExit(3)
        if kind == "interrupt":
            raise KeyboardInterrupt
        if kind == "recursion":
            _recurse()
        abuse.raise_it(kind)


def _recurse() -> None:
    _recurse()


@job
def return_(number: int, kind: str) -> Any:
    with entered(number):
        pass
    return abuse.return_it(kind)


@job
def eat_memory(number: int) -> int:
    with entered(number):
        return abuse.use_up_memory(64)


# ── what's left behind ──


@job
def fork(number: int) -> None:
    """A process of its own that outlives the job."""
    with entered(number):
        child = subprocess.Popen(["sleep", "600"])
        pen.write(LEFT, number, child.pid, os.getpid())
        child.returncode = 0  # no warning that it still runs: that's what this is about


@job
def leave_thread(number: int) -> None:
    with entered(number):
        threading.Thread(target=time.sleep, args=[600], name=f"left by {number}").start()


@job
def log_megabytes(number: int) -> None:
    with entered(number):
        for _ in range(40):
            current_job().log("%s", "z" * 50_000)
        current_job().progress(100)


# ── what receivers hear ──


def _hear(sender: Any, job: Any, **kwargs: Any) -> None:
    if isinstance(job.args[0] if job.args else None, int):
        pen.write(TOLD, job.args[0], str(job.state))


def _hear_back(sender: Any, job: Any, **kwargs: Any) -> None:
    pen.write(BACK, job.args[0])


if "KUE_CHAOS_LEDGER" in os.environ:
    for _signal in (signals.job_completed, signals.job_failed, signals.job_cancelled):
        _signal.connect(_hear, weak=False)
    signals.job_stalled.connect(_hear_back, weak=False)
