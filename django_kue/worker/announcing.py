"""What a worker says about itself with its heartbeat: its portrait, and how busy it was."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import django_kue
from django_kue.worker.board import Board
from django_kue.worker.memory import resident_bytes
from django_kue.worker.options import WorkerOptions


class Living(NamedTuple):
    """A process to announce."""

    pid: int
    board: Board


class LoadMeter:
    """Samples of how full the processes are, added up until they're reported.

    A process counts by the fuller of its two pools, threads and coroutines: a worker whose threads are
    all busy is full, however many coroutines it could still run.
    """

    FULL = 1000

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self.busy = self.slots = 0

    def sample(self, boards: Iterable[Board]) -> None:
        threads, coroutines = self._options.threads, self._options.coroutines
        for board in boards:
            by_threads = board.busy_count(0, threads + 1) / threads
            by_coroutines = board.busy_count(threads + 1, threads + 1 + coroutines) / coroutines
            self.busy += round(self.FULL * max(by_threads, by_coroutines))
            self.slots += self.FULL

    def told(self) -> None:
        self.busy = self.slots = 0


def portrait(
    options: WorkerOptions,
    living: Sequence[Living],
    *,
    started_at: float,
    done_before: int,
    is_stopping: bool,
) -> dict[str, Any]:
    """The description of this worker that ``django_kue.workers`` reads."""
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "version": django_kue.__version__,
        "queues": list(options.queues), "threads": options.threads, "coroutines": options.coroutines,
        "started_at": started_at, "state": "stopping" if is_stopping else "running",
        "done": done_before + sum(one.board.done() for one in living),
        "memory": resident_bytes(os.getpid()),
        "processes": [_process(options, one) for one in living], "max_memory": options.max_memory,
    }  # fmt: skip


def _process(options: WorkerOptions, one: Living) -> dict[str, Any]:
    jobs = [busy.job_id for busy in one.board.busy()]
    slots = options.threads + options.coroutines
    return {
        "pid": one.pid, "jobs": jobs, "done": one.board.done(), "busy": len(jobs), "slots": slots,
        "memory": resident_bytes(one.pid),
    }  # fmt: skip
