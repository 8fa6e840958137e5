"""Progress and log lines on their way to Redis, gathered here so that a job's code never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from django_kue import signals
from django_kue.execution import Run
from django_kue.store.moves import Report

logger = logging.getLogger("django_kue.worker")

MOST = 10_000  # log lines that may wait for Redis; beyond that, a queue's oldest are dropped and counted


class Progressed(NamedTuple):
    """Progress that receivers of ``job_progressed`` should be told about once it's accepted."""

    run: Run
    percent: float
    data: Any


class Reports:
    """Reports of all running jobs, by queue. ``wake`` is called when the first one comes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._reports: dict[str, deque[Report]] = {}
        self._progress: dict[tuple[str, bytes, bytes], Report] = {}
        self._heard: dict[Run, Progressed] = {}
        self._count = 0
        self._dropped = 0
        self.since: float | None = None  # when the oldest came

    def put(self, queue: str, report: Report) -> None:
        with self._lock:
            waiting = self._reports.setdefault(queue, deque())
            waiting.append(report)
            self._count += 1
            if self._count > MOST and report.kind == b"l":
                while waiting[0].kind != b"l":  # a suspect's start isn't dropped
                    waiting.rotate(-1)
                waiting.popleft()
                self._count -= 1
                self._dropped += 1
        self._begin()

    def progressed(self, run: Run, text: bytes, percent: float, data: Any) -> None:
        """Put a job's progress; only the newest counts."""
        with self._lock:
            self._progress[run.queue, run.lease, run.key] = Report(run.lease, run.key, b"p", text)
            if signals.job_progressed.receivers:
                self._heard[run] = Progressed(run, percent, data)
        self._begin()

    def _begin(self) -> None:
        if self.since is None:
            self.since = time.monotonic()
            self._wake()

    def has(self, queue: str) -> bool:
        """Whether any of a queue's reports are waiting."""
        with self._lock:
            return bool(self._reports.get(queue)) or any(name == queue for name, _, _ in self._progress)

    def take(self) -> tuple[dict[str, list[Report]], list[Progressed]]:
        """Take all reports, by queue, and what receivers should be told."""
        if self.since is None:
            return {}, []
        with self._lock:
            self.since = None
            reports = {queue: list(waiting) for queue, waiting in self._reports.items()}
            self._reports.clear()
            dropped, self._dropped = self._dropped, 0
            progress, self._progress = self._progress, {}
            heard, self._heard = list(self._heard.values()), {}
            self._count = 0
        for (queue, _, _), report in progress.items():
            reports.setdefault(queue, []).append(report)
        if dropped:
            logger.warning("%d log lines were dropped: they came faster than Redis took them", dropped)
        return reports, heard

    def give_back(self, reports: dict[str, list[Report]], heard: list[Progressed]) -> None:
        """Keep what didn't get to Redis, in its order."""
        with self._lock:
            self._heard = {progressed.run: progressed for progressed in heard} | self._heard
            for queue, items in reports.items():
                self._reports[queue] = deque([*items, *self._reports.get(queue, ())])
                self._count += len(items)
            if self.since is None:
                self.since = time.monotonic()
