"""A real ``manage.py runworker`` in processes of its own, started, watched, signalled and always ended.

>>> with WorkerProcess("--processes", "1") as worker:  # doctest: +SKIP
...     job = add.enqueue(1)
...     finished(job)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from django_kue.jobs import Job
from tests.conftest import redis_client

ROOT = Path(__file__).parents[1]
T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 10.0, what: str | Callable[[], str] = "") -> T:
    """The condition's first true value. Fails after ``timeout`` s, saying ``what`` was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(
                f"not within {timeout:g} s: {text or getattr(condition, '__name__', condition)}"
            )
        time.sleep(0.005)


def hear_interrupts() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and that's inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def broke(log: str) -> bool:
    """Whether a worker has written a traceback of its own: those of jobs are indented."""
    return any(line.startswith("Traceback") for line in log.splitlines())


class WorkerProcess:
    """One worker: its supervisor is the process that's started here.

    ``environment`` holds what ``tests/settings.py`` reads. ``log`` is all that it has written.
    """

    def __init__(self, *arguments: str, wrap: str = "", folder: Path = ROOT, **environment: str) -> None:
        self._arguments = arguments
        self._wrap = wrap.split()  # a command that runs it
        self._folder = folder
        self._environment = environment
        handle, name = tempfile.mkstemp(prefix="kue-worker-", suffix=".log")
        self._log = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._bookmark = 0
        self.process: subprocess.Popen[bytes] | None = None

    # ── life ──

    def start(self) -> WorkerProcess:
        environment = {
            **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": f"{self._folder}:{ROOT}",
            "PYTHONFAULTHANDLER": "", **self._environment,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [*self._wrap, sys.executable, "-m", "django", "runworker", *self._arguments],
            env=environment, stdout=self._log, stderr=self._log, start_new_session=True, cwd=self._folder,
            preexec_fn=hear_interrupts,
        )  # fmt: skip
        return self

    def __enter__(self) -> WorkerProcess:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.end()
        if exc[0] is not None:
            sys.stderr.write(f"── log of the worker ──\n{self.log[-3_000:]}")
        self._path.unlink(missing_ok=True)

    def end(self) -> None:
        """Kill whatever is left of it, and wait till it's gone: else it takes a job of the next test."""
        if self.process is None:
            return
        self.process.kill()  # first, so that it forks none meanwhile
        self.process.wait(10)
        wait_for(lambda: not self._kill_left(), what="the end of its processes")
        self._log.close()

    def _kill_left(self) -> list[int]:
        """The processes of its session that still live, also those that nobody asked for and orphans; not
        what its jobs have left behind."""
        left = [
            pid
            for pid, _, state in _processes()
            if is_alive(state)
            and session_of(pid) == self.pid
            and (state[0] == "Z" or any(name in command_of(pid) for name in ("runworker", "kue worker")))
        ]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # stopped ones, too
        return left

    def wait_started(self, timeout: float = 20.0) -> WorkerProcess:
        """Until its processes have been forked."""
        wait_for(lambda: "worker" in self.log and self.children(), timeout, lambda: f"a start; {self.log}")
        return self

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM; its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 15.0) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it didn't end within {timeout:g} s\n{self.log}") from None

    # ── a look at it ──

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self._path.read_text(errors="replace")

    def bookmark(self) -> None:
        """From here on :attr:`new_log` is read."""
        self._bookmark = len(self.log)

    @property
    def new_log(self) -> str:
        return self.log[self._bookmark :]

    def wait_log(self, text: str, timeout: float = 10.0) -> str:
        """The first line of the new log that has ``text`` in it."""
        return wait_for(lambda: self._line(text), timeout, lambda: f"{text!r} in {self.new_log}")

    def _line(self, text: str) -> str | None:
        return next((line for line in self.new_log.splitlines() if text in line), None)

    def children(self) -> list[int]:
        """The pids of its processes that live, oldest first."""
        return sorted(pid for pid, parent, state in _processes() if parent == self.pid and is_alive(state))

    def child(self) -> int:
        """The pid of its only process."""
        [pid] = wait_for(lambda: self.children(), what="a child")
        return pid

    def cpu_seconds(self) -> float:
        """What its living processes have spent so far."""
        ticks = 0
        for pid in (self.pid, *self.children()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    # ── what is done to it ──

    def send(self, number: int, pid: int | None = None) -> None:
        os.kill(pid or self.pid, number)

    def kill_child(self, number: int = signal.SIGKILL) -> int:
        pid = self.child()
        os.kill(pid, number)
        return pid

    def kill_all(self, number: int = signal.SIGKILL) -> None:
        """The signal for the supervisor and its children, at once: as a container's end."""
        for pid in (self.pid, *self.children()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _processes() -> list[tuple[int, int, str]]:
    """``(pid, parent, state)`` of all processes."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    return [(int(pid), int(parent), state) for pid, parent, state in map(str.split, listing.splitlines())]


def session_of(pid: int) -> int:
    """Its session's number; 0 when it's gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def is_running(pid: int) -> bool:
    """Whether a process lives; a zombie doesn't."""
    return any(one == pid and is_alive(state) for one, _, state in _processes())


def is_alive(state: str) -> bool:
    """By its state in ``ps``. A zombie whose other threads are still ending (``l``) has its connections, and
    what Redis was asked for on these it does."""
    return state[0] != "Z" or "l" in state


def command_of(pid: int) -> str:
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()


# ── what jobs left behind ──


def marks(name: str) -> list[str]:
    """What jobs marked under a name, in order."""
    return [value.decode() for value in redis_client().lrange(f"mark:{name}", 0, -1)]


def wait_marks(name: str, count: int = 1, timeout: float = 10.0) -> list[str]:
    """At least ``count`` marks."""
    return wait_for(
        lambda: found if len(found := marks(name)) >= count else None, timeout,
        lambda: f"{count} marks of {name!r}, there are {marks(name)}",
    )  # fmt: skip


def finished(job: Job, timeout: float = 10.0) -> Job:
    """The job once it's completed, failed or cancelled."""
    return wait_for(
        lambda: now if (now := job.refresh()).is_finished else None,
        timeout,
        lambda: f"the end of {job.refresh()!r}",
    )


def all_finished(jobs: Iterable[Job], timeout: float = 15.0) -> list[Job]:
    """All jobs, each once it's finished."""
    deadline = time.monotonic() + timeout
    return [finished(job, max(0.01, deadline - time.monotonic())) for job in jobs]


def in_state(job: Job, state: str, timeout: float = 10.0) -> Job:
    """The job once it's in a state."""
    return wait_for(
        lambda: now if (now := job.refresh()).state == state else None, timeout,
        lambda: f"{state}; it is {job.refresh()!r}",
    )  # fmt: skip


def counts(queue: str = "default") -> dict[str, Any]:
    """How many jobs are in each state; only those above 0."""
    from django_kue import get_queue

    return {str(state): count for state, count in get_queue(queue).counts().items() if count}


def is_well(queue: str, *, apart_from: str = "") -> bool:
    """Whether all of a queue's keys agree; ``apart_from``: a kind of fault that's expected."""
    from django_kue.audit import audit

    return [fault for fault in audit(queue) if fault.kind != apart_from] == []
