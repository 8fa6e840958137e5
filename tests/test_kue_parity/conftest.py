"""What the parity tests share: a real worker, which lives as long as the folder's tests run.

The worker serves every queue but ``other``: a job there stays where it was put.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from django_kue import Job
from django_kue.events import listen
from tests.conftest import redis_client
from tests.worker_process import WorkerProcess, wait_for

UNSERVED = "other"
SERVED = "default,email,narrow,slow"


def let_go(name: str) -> None:
    """Let a job that waits for this mark go on."""
    redis_client().rpush(f"mark:{name}", "1")


@pytest.fixture(scope="package")
def living_worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--queues", SERVED) as worker:
        yield worker.wait_started()
        assert worker.stop() == 0, worker.log


@pytest.fixture
def worker(living_worker: WorkerProcess) -> WorkerProcess:
    """The worker that all tests share; one that died in an earlier test fails this one."""
    assert living_worker.is_alive, living_worker.log
    return living_worker


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers of the test's own, on the queue that the shared one leaves alone."""
    with ExitStack() as workers:

        def start(*options: str, **environment: str) -> WorkerProcess:
            worker = WorkerProcess("--processes", "1", "--queues", UNSERVED, *options, **environment)
            return workers.enter_context(worker)

        yield start


class Ear:
    """Collects events in a thread; once it's made, nothing is missed any more."""

    def __init__(self, source: Iterator[Any], queue: str) -> None:
        self.events: list[Any] = []
        self._source = source
        self._is_closed = False
        before = _listeners(queue)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        wait_for(lambda: _listeners(queue) > before and _is_told(queue), what="the listener")

    def _listen(self) -> None:
        for event in self._source:
            if self._is_closed:
                return
            self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def hears(self, name: str) -> Any:
        """The first event of this name, once it has come."""
        return wait_for(
            lambda: next((event for event in self.events if event.name == name), None),
            what=lambda: f"the event {name}, after {self.names}",
        )

    def over(self) -> list[str]:
        """The names of all events, once their source has ended."""
        self._thread.join(10)
        assert not self._thread.is_alive(), self.names
        return self.names

    def close(self) -> None:
        """End the thread; :func:`listen` never ends by itself, but the next event lets it."""
        self._is_closed = True


def _listeners(queue: str) -> int:
    [(_, count)] = redis_client().pubsub_numsub(f"kue:{{{queue}}}:ev")
    return int(count)


def _is_told(queue: str) -> bool:
    """True when the scripts know that somebody listens."""
    return bool(redis_client().hexists(f"kue:{{{queue}}}:h", "ev"))


@pytest.fixture
def ear() -> Iterator[Callable[..., Ear]]:
    """``ear(job)`` hears a job's events, ``ear("email")`` a queue's."""
    ears: list[tuple[str, Ear]] = []

    def open_ear(source: Job | str) -> Ear:
        if isinstance(source, Job):
            ears.append((source.queue, Ear(source.events(timeout=10), source.queue)))
        else:
            ears.append((source, Ear(listen(source), source)))
        return ears[-1][1]

    yield open_ear
    for queue, opened in ears:
        opened.close()
        redis_client().publish(f"kue:{{{queue}}}:ev", '[0, [["paused", "", "", ""]]]')
        opened.over()
