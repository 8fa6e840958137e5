"""Transactions of the project's: which is open, who ends it, and what's done once it's committed."""

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
    """The connection of this thread whose transaction is open, if one is. None is made to find out.

    Args:
        on_commit: an alias; ``True`` is the default database's, ``False`` none's.
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
    """Whether a synchronous caller waits for this coroutine, by ``async_to_sync``.

    Then that caller's thread may have a transaction open, and ``sync_to_async`` leads there.
    """
    waiting = getattr(AsyncToSync.executors, "current", None)
    return waiting is not None or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors


def is_told(connection: BaseDatabaseWrapper) -> bool:
    """Whether Django will know when the transaction that's open is committed.

    It doesn't while the project commits by hand. Within ``atomic()`` it does, once autocommit is on again,
    which ``AUTOCOMMIT: False`` rules out.
    """
    return connection.in_atomic_block and connection.settings_dict["AUTOCOMMIT"]


@contextmanager
def own_transaction(alias: str, *, is_atomic: bool) -> Iterator[None]:
    """What's done within is committed at its end, also where autocommit is off.

    Args:
        is_atomic: as a whole. Else each statement is committed by itself, where autocommit is on.
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
    """Outside ``atomic()``: whether autocommit is off. Of a connection that isn't open it's always said."""
    return connection.connection is not None and not connection.autocommit


class Commit:
    """The commit of a transaction that's open: what waits for it, and what of that went wrong.

    Django calls what waits until something raises, and leaves out the rest, be it the project's own. So an
    error is put behind the last, and raised when all others have been called.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._callbacks: list[Any] = connection.run_on_commit  # Django takes them from its front
        self._own = 0

    def then(self, callback: Callable[[], None]) -> None:
        """Have it called after the commit."""
        self._own = id(callback)
        self._connection.on_commit(callback)

    def check(self, queue: str) -> None:
        """Not each job that waited for one commit waits for a Redis that's away.

        Raises:
            EnqueueError: that of an earlier job of this queue.
        """
        if (failures := self._failures()) and queue in failures.away:
            raise failures.away[queue]

    def fail(self, queue: str, error: EnqueueError) -> None:
        """Tell whoever commits of an error: at the end, or where that can't be, at once.

        Raises:
            EnqueueError: it's given in a test that never commits, or a savepoint was rolled back since, and
                what Django calls isn't the list that was known.
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
        self.away: dict[str, EnqueueError] = {}  # queue → what Redis being away was told by

    def add(self, queue: str, error: EnqueueError) -> None:
        if isinstance(error.__cause__, StoreUnavailable):
            self.away.setdefault(queue, error)
        if error not in self._errors:
            self._errors.append(error)

    def __call__(self) -> None:
        """
        Raises:
            EnqueueError: the first; the others are its notes.
        """
        first, *others = self._errors
        for other in others:
            first.add_note(f"Others weren't either: {other.args[0]}")
        raise first
