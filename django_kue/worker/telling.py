"""How a child calls signal receivers: always on one of its executor threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from django.dispatch import Signal

from django_kue import ids, registry, signals
from django_kue.errors import JobCrashed, JobTimeout, KueError
from django_kue.execution import Run
from django_kue.jobs import Job
from django_kue.states import State
from django_kue.worker import databases
from django_kue.worker.board import Board
from django_kue.worker.buffer import Buffer
from django_kue.worker.reports import Progressed
from django_kue.worker.served import averaged

SIGNALS = {
    "c": signals.job_completed, "r": signals.job_retrying,
    "f": signals.job_failed, "x": signals.job_cancelled,
}  # fmt: skip


class Ends:
    """Ends of runs that have receivers: one thread calls them for all, unless that takes long; then others
    help."""

    LONG = 0.001  # seconds
    duration: ClassVar[float | None] = None  # average seconds that one end takes in this process

    def __init__(self, runs: Iterable[Run], buffer: Buffer) -> None:
        self._runs = deque(runs)
        self._buffer = buffer

    def __call__(self) -> None:
        begun = at = time.monotonic()
        told, has_help = 0, False
        try:
            while True:
                try:
                    run = self._runs.popleft()
                except IndexError:
                    return
                told += 1
                emit_end(run)
                databases.leave_clean()
                now = time.monotonic()
                if now - at >= self.LONG and not has_help:
                    has_help = self._call_for_help()
                at = now
        except BaseException:  # a receiver's SystemExit: receivers of the other ends are called all the same
            self._call_for_help()
            raise
        finally:
            if told:
                Ends.duration = averaged(Ends.duration, (time.monotonic() - begun) / told, told)

    def _call_for_help(self) -> bool:
        """Have another thread help; False when nothing is left to do."""
        if not self._runs:
            return False
        self._buffer.put([self], 1)
        return True


class OfBuried:
    """Calls receivers for jobs that were taken from the dead, on as many threads as are free.

    The board shows how far it got: if this process dies too, another child does the rest. What was begun
    isn't repeated, because a receiver may be what the process died of.
    """

    def __init__(self, buffer: Buffer, board: Board) -> None:
        self._words: deque[tuple[str, str, float]] = deque()
        self._begun = 0
        self._lock = threading.Lock()
        self._buffer = buffer
        self._board = board

    def tell(self, words: Iterable[tuple[str, str, float]]) -> None:
        for word in words:
            self._words.append(word)
            self._buffer.put([self], 1)

    def __call__(self) -> None:
        with self._lock:
            job_id, signal, delay = self._words.popleft()
            self._begun += 1
            self._board.set_heard(self._begun)
        emit_buried(job_id, signal, delay)


def awaited(runs: Sequence[Run]) -> list[Run]:
    """The runs whose end has receivers."""
    kinds = {kind for kind, signal in SIGNALS.items() if signal.receivers}
    return [run for run in runs if run.outcome is not None and run.outcome.kind in kinds] if kinds else []


def emit_end(run: Run) -> None:
    """Send the signal of a run's end, with its exception as the current one."""
    outcome = run.outcome
    assert outcome is not None
    job = run.job_after()
    sender = run.definition.original if run.definition else None
    if outcome.kind == "c":
        # without emit(): it has receivers, and it's by far the most frequent signal
        signals.job_completed.send_robust(sender, job=job, result=run.result)
    elif outcome.kind == "x":
        signals.emit(signals.job_cancelled, sender, job=job)
    else:
        extra = {"delay": outcome.delay} if outcome.kind == "r" else {}
        try:
            if run.exception is not None:
                raise run.exception
        except BaseException as exception:  # noqa: BLE001 - raised so that sys.exc_info() has it
            signals.emit(SIGNALS[outcome.kind], sender, job=job, exception=exception, **extra)


def emit_progress(progressed: Progressed) -> None:
    run = progressed.run
    signals.emit(
        signals.job_progressed, run.definition.original if run.definition else None, job=run.job(),
        progress=progressed.percent, data=progressed.data,
    )  # fmt: skip


def emit_read(signal: Signal, queue: str, keys: list[bytes]) -> None:
    for key in keys:
        with suppress(KueError):
            job = Job.get(ids.joined(queue, key))
            signals.emit(signal, registry.get(job.name), job=job)


_OF_THE_DEAD = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (JobCrashed, JobTimeout)}


def _exception_of(job: Job) -> KueError:
    """The exception that receivers get for a job taken from the dead, as they do for any other."""
    if job.error is None:  # the job has gone on since
        return KueError("its process died")
    kind = _OF_THE_DEAD.get(job.error.type)
    return kind(job.error.message) if kind else KueError(str(job.error))


def emit_buried(job_id: str, signal: str, delay: float) -> None:
    """Send the signal for a job that was taken from a dead process or worker."""
    with suppress(KueError):
        job = Job.get(job_id)
        sender = registry.get(job.name)
        if signal == "failed":
            signals.emit(signals.job_failed, sender, job=job, exception=_exception_of(job))
        elif signal == "cancelled":
            signals.emit(signals.job_cancelled, sender, job=job)
        elif signal == "completed":
            signals.emit(signals.job_completed, sender, job=job, result=job.result)
        elif signal == "retrying":
            job = replace(job, state=State.DELAYED if delay else State.WAITING)
            signals.emit(signals.job_retrying, sender, job=job, exception=_exception_of(job), delay=delay)
        else:
            signals.emit(signals.job_stalled, sender, job=replace(job, state=State.WAITING))
