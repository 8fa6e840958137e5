"""The project's transactions: which one is open, who ends it, and what's done once it's committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from asgiref.sync import AsyncToSync
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_kue.errors import EnqueueError, StoreUnavailable

logger = logging.getLogger("django_kue")


def open_transaction(on_commit: bool | str) -> BaseDatabaseWrapper | None:
    """This thread's connection to a database, if it has an open transaction. None is made to find out.

    Args:
        on_commit: an alias; ``True`` is the default database, ``False`` none.
    """
    if on_commit is False:
        return None
    if on_commit is True:
        alias = DEFAULT_DB_ALIAS
    elif on_commit in connections.settings:
        alias = on_commit
    else:
        raise ImproperlyConfigured(f"on_commit={on_commit!r}: there's no such database in DATABASES")
    made = connections._connections  # type: ignore[attr-defined]  # connections[alias] would make one
    connection: BaseDatabaseWrapper | None = getattr(made, alias, None)
    if connection is None or not (connection.in_atomic_block or _is_manual(connection)):
        return None
    return connection


def is_waited_for() -> bool:
    """Whether a synchronous caller waits for this coroutine, through ``async_to_sync``.

    If so, that caller's thread may have a transaction open, and ``sync_to_async`` leads there.
    """
    waiting = getattr(AsyncToSync.executors, "current", None)
    return waiting is not None or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors


def is_told(connection: BaseDatabaseWrapper) -> bool:
    """Whether Django will know when the open transaction is committed.

    It doesn't while the project commits by hand. Inside ``atomic()`` it does, once autocommit is on again,
    which ``AUTOCOMMIT: False`` rules out.
    """
    return connection.in_atomic_block and connection.settings_dict["AUTOCOMMIT"]


@contextmanager
def own_transaction(alias: str, *, is_atomic: bool) -> Iterator[None]:
    """What's done inside the ``with`` block is committed at its end, even if autocommit is off.

    Args:
        is_atomic: as a whole. Otherwise each statement is committed by itself, if autocommit is on.
    """
    connection = connections[alias]
    connection.ensure_connection()
    is_manual = not connection.in_atomic_block and _is_manual(connection)
    block: AbstractContextManager[object] = transaction.atomic(using=alias) if is_atomic else nullcontext()
    try:
        with block:
            yield
    except BaseException:
        if is_manual:
            connection.rollback()
        raise
    if is_manual:
        connection.commit()


def _is_manual(connection: BaseDatabaseWrapper) -> bool:
    """Outside ``atomic()``: whether autocommit is off. A connection that isn't open always says so."""
    return connection.connection is not None and not connection.autocommit


class Commit:
    """The commit of an open transaction: what waits for it, and what went wrong with that.

    Django calls the callbacks until one raises, and skips the rest, even the project's own. So an error is
    put into a callback after the last one, and raised when all others have been called.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._callbacks: list[Any] = connection.run_on_commit  # Django takes them from its front
        self._own = 0

    def then(self, callback: Callable[[], None]) -> None:
        """Have a callback called after the commit."""
        self._own = id(callback)
        self._connection.on_commit(callback)

    def check(self, queue: str) -> None:
        """Keep jobs that waited for one commit from each waiting for a Redis that's away.

        Raises:
            EnqueueError: the one of an earlier job of this queue.
        """
        if (failures := self._failures()) and queue in failures.away:
            raise failures.away[queue]

    def fail(self, queue: str, error: EnqueueError) -> None:
        """Raise an error in the code that commits: after all callbacks or, if that's impossible, at once.

        Raises:
            EnqueueError: the given one: in a test that never commits, or if a savepoint was rolled back
                since, so that Django goes through another list than the known one.
        """
        error.is_committed = not self._connection.in_atomic_block
        if not self._is_under_way():
            raise error
        logger.error("After a commit, jobs of queue %s weren't enqueued: %s", queue, error.args[0])
        failures = self._failures()
        if failures is None:
            failures = _Failures()
            self._callbacks.append((set(), failures, False))
        failures.add(queue, error)

    def _is_under_way(self) -> bool:
        is_waiting = any(id(callback) == self._own for _, callback, *_ in self._callbacks)
        return not self._connection.in_atomic_block and not is_waiting

    def _failures(self) -> _Failures | None:
        return next((one for _, one, *_ in self._callbacks if isinstance(one, _Failures)), None)


class _Failures:
    """The last callback of a commit after which jobs couldn't be enqueued."""

    def __init__(self) -> None:
        self._errors: list[EnqueueError] = []
        self.away: dict[str, EnqueueError] = {}  # queue → the error that said Redis is away

    def add(self, queue: str, error: EnqueueError) -> None:
        if isinstance(error.__cause__, StoreUnavailable):
            self.away.setdefault(queue, error)
        if error not in self._errors:
            self._errors.append(error)

    def __call__(self) -> None:
        """Raise what was added.

        Raises:
            EnqueueError: the first; the others are its notes.
        """
        first, *others = self._errors
        for other in others:
            first.add_note(f"Others weren't enqueued either: {other.args[0]}")
        raise first
