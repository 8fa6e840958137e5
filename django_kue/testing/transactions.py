"""Jobs that wait for a commit, in tests that never commit.

Django's ``TestCase`` (and pytest-django's ``db``) wraps a test in a transaction that's rolled back, so that
what waits for the commit would wait for ever. That transaction isn't the project's: what waits only for it
counts as committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeGuard

from django.db import connections

from django_kue import enqueueing
from django_kue.testing.memory import MemoryStore


class Waiting:
    """What started to wait for a commit after this was made. What was there before belongs to somebody else.

    Each thread has its own connections, and a view that an async test requests runs in another thread. So the
    connections on which jobs were enqueued are remembered.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._connections: dict[int, Any] = {}  # by identity
        self._earlier = [send for _, _, send in self._callbacks()]

    def look_here(self) -> None:
        """Remember this thread's connections."""
        for connection in connections.all(initialized_only=True):
            self._connections[id(connection)] = connection

    def send_what_only_the_test_holds(self) -> None:
        """Send the jobs of connections that have no open transaction but the test's own."""
        for connection, index, send in list(self._callbacks()):
            if all(_is_tests(block) for block in connection.atomic_blocks) and not self._is_anothers(send):
                # Left in its place: captureOnCommitCallbacks() counts them, and may call it again.
                marks, _, *rest = connection.run_on_commit[index]
                connection.run_on_commit[index] = (marks, _is_sent, *rest)
                if not self._has_come(send):
                    send()

    def jobs(self) -> Iterator[Any]:
        """What waits for the commit of a transaction that's open now: definitions and records."""
        for _, _, send in self._callbacks():
            if not self._is_anothers(send) and not self._has_come(send):
                batch, jobs = send.args
                yield from ((batch.definition, job) for job in jobs)

    def _is_anothers(self, send: partial[None]) -> bool:
        return any(send is one for one in self._earlier)

    def _has_come(self, send: partial[None]) -> bool:
        """Whether captureOnCommitCallbacks() has called it already."""
        batch, jobs = send.args
        return all(self._store.has_seen(batch.queue, job.key) for job in jobs)

    def _callbacks(self) -> Iterator[tuple[Any, int, partial[None]]]:
        """Connection, place and callback of what sends jobs at a commit."""
        self.look_here()
        for connection in tuple(self._connections.values()):
            callbacks: list[Any] = connection.run_on_commit
            for index, (_, send, *_rest) in enumerate(callbacks):
                if connection.in_atomic_block and _is_ours(send):
                    yield connection, index, send


def _is_ours(send: object) -> TypeGuard[partial[None]]:
    return isinstance(send, partial) and send.func is enqueueing._send_after_commit


def _is_tests(block: Any) -> bool:
    return bool(getattr(block, "_from_testcase", False))


def _is_sent() -> None:
    """Takes the place of a callback whose jobs were sent already."""
