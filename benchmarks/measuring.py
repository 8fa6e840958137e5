"""Processes and what they use: a private Redis, a worker with all its processes, CPU time, memory."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tests.conftest import free_port, start_redis

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 180.0  # seconds for the jobs of one measurement; after that, the worker has failed


class Failed(Exception):
    """A peer didn't do what a workload asks for; the message says why."""


class Server:
    """A Redis of its own for one measurement, and the folder in which workers count."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kue-bench-"))
        self.tally = Tally(self.folder / "tally")
        self.port = free_port()
        self.process = start_redis(self.port, str(self.folder), *options)
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.kill()  # there's nothing to save
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        return {"BENCH_REDIS_PORT": str(self.port), "BENCH_TALLY": str(self.tally.folder)}

    def cpu(self) -> float:
        return cpu_of([self.process.pid])

    def used_memory(self) -> int:
        info: Any = self.client.info("memory")
        return int(info["used_memory"])

    def commands(self, seconds: float) -> tuple[int, int]:
        """How many commands Redis runs in this time, and how many of them were sent by clients: the others
        come from scripts."""
        with self.client.monitor() as monitor:  # type: ignore[no-untyped-call]
            before = self._command_count()
            time.sleep(seconds)
            return self._command_count() - before, _sent_between_looks(monitor)

    def _command_count(self) -> int:
        info: Any = self.client.info("commandstats")
        return sum(stat["calls"] for name, stat in info.items() if name != "cmdstat_info")

    def version(self) -> str:
        info: Any = self.client.info("server")
        return str(info.get("valkey_version") or info["redis_version"])


class Tally:
    """Reads what workers count, cheaply enough to be asked every millisecond."""

    LOOK = 0.05  # seconds between looks for new processes

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._files: dict[str, int] = {}
        self._looked = 0.0

    def counted(self) -> int:
        now = time.monotonic()
        if now - self._looked > self.LOOK:
            self._looked = now
            for path in self.folder.glob("*.count"):
                if path.name not in self._files:
                    self._files[path.name] = os.open(path, os.O_RDONLY)
        return sum(_sum_of(file) for file in self._files.values())

    def recorded(self) -> int:
        return sum(path.stat().st_size // 8 for path in self.folder.glob("*.delays"))

    def wait(self, jobs: int, patience: float = PATIENCE) -> None:
        """Wait until this many have been counted."""
        self._wait(self.counted, jobs, 0.001, patience)

    def wait_recorded(self, jobs: int, patience: float = PATIENCE) -> None:
        self._wait(self.recorded, jobs, 0.02, patience)

    def forget_recorded(self) -> None:
        """Drop everything recorded so far: it's from the warm-up."""
        for path in self.folder.glob("*.delays"):
            os.truncate(path, 0)  # its writer appends

    @staticmethod
    def _wait(done: Callable[[], int], jobs: int, pause: float, patience: float) -> None:
        deadline = time.monotonic() + patience
        while done() < jobs:
            if time.monotonic() > deadline:
                raise Failed(f"only {done()} of {jobs} jobs ran in {patience:g} s")
            time.sleep(pause)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _sent_between_looks(monitor: Any) -> int:
    """How many commands clients sent between the first INFO and the second, both of which are ours."""
    looks = sent = 0
    for line in monitor.listen():
        if line["command"].lower().startswith("info"):
            looks += 1
        elif line["client_type"] != "lua":
            sent += looks
        if looks == 2:
            break
    return sent


def _sum_of(file: int) -> int:
    data = os.pread(file, 65536, 0).rstrip(b"\0")
    data += b"\0" * (-len(data) % 8)
    return sum(struct.unpack(f"<{len(data) // 8}Q", data))


# ── A worker ──────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """A peer's worker: the process that was started, and all its descendants."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def pids(self) -> list[int]:
        return tree(self.process.pid)

    def cpu(self) -> float:
        return cpu_of(self.pids())

    def memory(self) -> int:
        """Bytes: the proportional set size of all its processes, so that shared pages count once."""
        return sum(_pss(pid) for pid in self.pids())

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes inside the block."""
        pids = self.pids()
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it, gracefully if that's quick, otherwise not: its Redis ends next."""
        known = {pid: _started(pid) for pid in self.pids()}
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        known |= {pid: _started(pid) for pid in self.pids()}
        # By now a pid may belong to another process.
        _signal(
            [pid for pid, started in known.items() if started and started == _started(pid)], signal.SIGKILL
        )
        self.process.wait()


def tree(root: int) -> list[int]:
    """A process, its descendants, and whatever else is left of its session; the process itself is first."""
    parents = {pid: stat for pid in _processes() if (stat := _stat(pid))}
    found = [root]  # it grows while it's iterated over
    for pid in found:
        found += [
            child
            for child, (parent, session) in parents.items()
            if child not in found and (parent == pid or session == root)
        ]
    return [pid for pid in found if pid in parents]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _fields(pid: int) -> list[str]:
    """``/proc/<pid>/stat`` after the command's name, which may contain spaces; empty if it's gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _stat(pid: int) -> tuple[int, int] | None:
    fields = _fields(pid)
    return (int(fields[1]), int(fields[3])) if fields else None


def _started(pid: int) -> str:
    """When it started, in the kernel's format; empty if it's gone."""
    fields = _fields(pid)
    return fields[19] if fields else ""


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds that processes and their ended children have used, in user and kernel mode."""
    return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    """The process's time in ticks of 10 ms includes threads that have ended; the threads' own is exact."""
    fields = _fields(pid)
    if not fields:
        return 0.0
    user, system, children_user, children_system = (int(field) / TICKS for field in fields[11:15])
    return max(user + system, _cpu_of_threads(pid)) + children_user + children_system


def _cpu_of_threads(pid: int) -> float:
    """Exact, but only for threads that still live."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            nanoseconds += int(path.read_text().split()[0])
    return nanoseconds / 1e9


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
