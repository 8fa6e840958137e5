"""Jobs run in the test's own process, one after the other, with the engine's own steps.

Delays pass without sleeping: the store's clock is put forward. Timeouts aren't enforced.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from collections.abc import Callable, Collection
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from django_kue import execution, signals
from django_kue.context import JobContext, enter
from django_kue.execution import Outcome, Run
from django_kue.jobs import Job
from django_kue.store.moves import Report
from django_kue.testing.memory import MemoryQueue, MemoryStore
from django_kue.testing.stored import Stored
from django_kue.worker.reports import Progressed
from django_kue.worker.telling import emit_end, emit_progress

WORKER = f"test:{os.getpid()}"
MOST = 1000  # runs of one drain: jobs that go on enqueueing themselves must not hang a test
# What ends a run; other BaseExceptions (Ctrl-C, pytest's own) end the test.
ENDS_A_RUN = (Exception, SystemExit, asyncio.CancelledError)


class TooManyRuns(AssertionError):
    """A drain would never end."""


class Runner:
    """Runs what waits in a :class:`MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._numbers = 0

    def next(self, names: Collection[str], until: float | None) -> tuple[MemoryQueue, Stored] | None:
        """The next job to run, if there's one by then.

        Args:
            names: queues; if empty, all.
            until: Unix ms up to which delays may pass; ``None`` for as long as it takes.
        """
        queues = [queue for queue in self._store.queues() if not names or queue.name in names]
        while True:
            for queue in queues:
                queue.promote_due()
            waiting = [(queue, job) for queue in queues if (job := queue.next()) is not None]
            if waiting:
                return min(waiting, key=lambda pair: pair[1].place)
            dues = [
                due for queue in queues if queue.paused_since is None and (due := queue.due()) is not None
            ]
            if not dues or (until is not None and min(dues) > until):
                return None
            self._store.put_forward(min(dues) - self._store.now())

    def run(self, queue: MemoryQueue, job: Stored) -> Run:
        """Run a job to the end of one attempt. Returns the run, with its outcome."""
        run = self._claimed(queue, job)
        outcome = execution.load(run)
        if outcome is None:
            outcome = self._in_own_context(queue, job, self._steps, run)
        self._ended(queue, job, run, outcome)
        return run

    async def arun(self, queue: MemoryQueue, job: Stored) -> Run:
        """The twin of :meth:`run`: a coroutine function runs on this event loop, others in a thread."""
        run = self._claimed(queue, job)
        outcome = execution.load(run)
        if outcome is None and run.definition is not None and run.definition.is_async:
            try:
                outcome = await asyncio.create_task(self._asteps(run), context=contextvars.Context())
            except BaseException:
                queue.release(job)
                raise
        elif outcome is None:
            outcome = await sync_to_async(self._in_own_context)(queue, job, self._steps, run)
        await sync_to_async(self._ended)(queue, job, run, outcome)
        return run

    def _claimed(self, queue: MemoryQueue, job: Stored) -> Run:
        self._numbers += 1
        now, text = self._store.now(), f"{self._numbers}|%d|{WORKER}/1".encode()
        lease = text % now
        queue.claim(job, lease)
        run = Run(
            queue.name, job.key, lease, job.record, now, time.monotonic(), reports=_Reports(self._store, job)
        )
        job.run = run
        return run

    @staticmethod
    def _in_own_context(
        queue: MemoryQueue, job: Stored, steps: Callable[[Run], Outcome], run: Run
    ) -> Outcome:
        """As in a worker, it sees none of the test's context variables, and leaves none behind."""
        try:
            return contextvars.Context().run(steps, run)
        except BaseException:
            queue.release(job)
            raise

    def _steps(self, run: Run) -> Outcome:
        assert run.definition is not None
        if run.definition.is_async:
            return async_to_sync(self._asteps)(run)
        outcome = execution.prepare(run)
        if outcome is not None:
            return outcome
        told = _begin(run)
        try:
            return execution.of_result(run, execution.call(run, told))
        except ENDS_A_RUN as error:
            return execution.of_exception(run, error)

    async def _asteps(self, run: Run) -> Outcome:
        outcome = await sync_to_async(execution.prepare)(run)
        if outcome is not None:
            return outcome
        told = await sync_to_async(_begin)(run)
        enter(told)  # what the thread set is only seen there
        try:
            return execution.of_result(run, await execution.call(run, told))
        except ENDS_A_RUN as error:
            return execution.of_exception(run, error)

    @staticmethod
    def _ended(queue: MemoryQueue, job: Stored, run: Run, outcome: Outcome) -> None:
        if run.is_cancelled:
            outcome = execution.CANCELLED
        run.finished = time.monotonic()
        run.outcome = outcome
        queue.settle(job, run, outcome)
        if outcome.kind not in "bk":
            emit_end(run)


def _begin(run: Run) -> JobContext:
    told = JobContext(run, run.attempt)
    enter(told)
    signals.emit(signals.job_started, run.definition, job=run.job())
    return told


class _Reports:
    """Where a run's progress and log lines go: into the store, at once."""

    def __init__(self, store: MemoryStore, job: Stored) -> None:
        self._store = store
        self._job = job

    def put(self, queue: str, report: Report) -> None:
        self._job.logs.append(b"%d|%b" % (self._store.now(), report.text))

    def progressed(self, run: Run, text: bytes, percent: float, data: Any) -> None:
        self._job.progress = text
        emit_progress(Progressed(run, percent, data))


def described(run: Run) -> str:
    """A run, for the reader of a traceback."""
    job: Job = run.job()
    return f"in the job {job.name}, attempt {run.attempt} of {job.attempts} ({run.id})"
