"""A worker in threads of this process: real turns with a real Redis, for tests of how the parts of a worker
work together. It can't survive what ends its process, and doesn't end runs that ignore their timeout."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from contextlib import suppress
from types import TracebackType

from django_kue.conf import settings
from django_kue.errors import KueError, StoreUnavailable
from django_kue.store import Link, moves, new_link, reads
from django_kue.testing.modes import begin_break, end_break
from django_kue.worker import WorkerOptions
from django_kue.worker.board import Board
from django_kue.worker.fetch import Fetcher

logger = logging.getLogger("django_kue.worker")

TICK = 0.05  # seconds between looks at timeouts and leases


class WorkerThread:
    """Runs jobs beside the test, until it's stopped. A test mode that's on is suspended meanwhile.

    Args:
        queues: names; by default all that are declared.
        threads: functions that run at once.
        coroutines: coroutine functions that run at once.
        is_burst: end by itself once nothing is waiting; delayed jobs stay.

    >>> with WorkerThread("email"):
    ...     assert send_receipt.enqueue(17).wait(timeout=5) == "sent"
    """

    def __init__(self, *queues: str, threads: int = 4, coroutines: int = 20, is_burst: bool = False) -> None:
        self._options = WorkerOptions(
            queues=queues or tuple(settings.queues), processes=1, threads=threads, coroutines=coroutines,
            is_burst=is_burst,
        )  # fmt: skip
        self.id = f"test:{os.getpid()}:{os.urandom(3).hex()}"
        self._thread = threading.Thread(target=self._mind, name="kue-test-worker", daemon=True)

    def start(self) -> WorkerThread:
        """Start it. Raises StoreUnavailable if Redis is away."""
        self._begin_break()
        try:
            self._begin()
        except BaseException:
            self._end_break()
            raise
        return self

    def _begin(self) -> None:
        self._owner = moves.owner(f"{self.id}/1")
        self._board = Board(self._options.queues, 1 + self._options.threads + self._options.coroutines)
        self._link: Link = new_link(2.0)
        self._link.send(*[reads.registry(queue) for queue in self._options.queues])
        self._fetcher = _Fetcher(self._owner, self._options, self._board)
        self._beat_at = 0.0
        self._fetcher.start()
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Take no more jobs, and wait until the running ones have ended and are acknowledged.

        Raises:
            TimeoutError: a job is still running.
        """
        self._fetcher.stop()
        self.join(timeout)

    def join(self, timeout: float = 10.0) -> None:
        """Wait until it has ended by itself. Raises TimeoutError."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            running = [busy.job_id for busy in self._board.busy()] or ["nothing"]
            raise TimeoutError(f"the worker hasn't ended within {timeout:g} s; it runs {', '.join(running)}")
        self._end_break()
        if self._fetcher.failure is not None:
            raise RuntimeError("the worker thread broke") from self._fetcher.failure

    def __enter__(self) -> WorkerThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._end_break()

    def _begin_break(self) -> None:
        begin_break()
        self._has_break = True

    def _end_break(self) -> None:
        if self._has_break:
            self._has_break = False
            end_break()

    def _mind(self) -> None:
        """What a worker's supervisor and its child's main thread do."""
        fetcher = self._fetcher
        while not fetcher.is_over:
            select.select([fetcher.leadership.bell], [], [], min(TICK, fetcher.leadership.watch()))
            fetcher.crew.threads.interrupt_overdue()
            fetcher.log.flush()
            with suppress(StoreUnavailable):  # the fetch loop logs that, and waits for Redis
                self._beat()
        fetcher.log.flush()
        fetcher.close()
        self._link.close()

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + min(1.0, settings.LEASE / 3)
        for queue in self._board.held():
            beat = self._link.try_send(moves.beat(queue, self._owner))[0]
            if isinstance(beat, KueError):
                raise beat
            if beat.is_alive:
                self._board.set_beaten(queue, now + settings.LEASE)
                for key in beat.to_stop:
                    self._fetcher.crew.cancelled(queue, key)
            elif self._board.valid_until(queue) < now:
                self._fetcher.lost(queue, now)


class _Fetcher(Fetcher):
    """What would end a child process ends only this worker."""

    failure: BaseException | None = None

    def give_up(self, code: int, error: BaseException | None = None) -> None:
        self.failure = error or RuntimeError(f"the worker's process would have ended with code {code}")
        self._end()
