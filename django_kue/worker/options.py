"""A worker's options: those of ``runworker``, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


def cpu_count() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works. Times are in seconds, memory in MiB."""

    queues: tuple[str, ...]
    processes: int = field(default_factory=cpu_count)
    threads: int = 8  # functions that run at once in a process
    coroutines: int = 100  # coroutine functions that run at once in a process
    is_burst: bool = False
    max_jobs: int | None = None  # a process is replaced after this many jobs …
    max_memory: int | None = None  # … or when it has grown this large
    shutdown_timeout: float = 30.0
    liveness_file: str | None = None

    def __post_init__(self) -> None:
        if not self.queues:
            raise ValueError("a worker needs at least one queue")
        for name, least in (("processes", 1), ("threads", 1), ("coroutines", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} is at least {least}, not {getattr(self, name)}")
        for name in ("max_jobs", "max_memory"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {value}")
        if self.shutdown_timeout < 0:
            raise ValueError(f"--shutdown-timeout is at least 0, not {self.shutdown_timeout}")
