"""Database connections of the executors' threads: none is left in a transaction, and none grows too old.

A job that uses no database pays nothing: Django signals when a connection is made, and only threads that
made one are checked.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

FRESH = 1.0  # seconds between checks of how old this thread's connections are


class _Here(threading.local):
    has_connected = False  # a connection was made in this thread
    looked_at = 0.0


_here = _Here()
OWN = "kue-"  # the beginning of our threads' names


class _Elsewhere:
    """Whether a connection was made in a thread that isn't ours: by something that coroutines call."""

    has_connected = False


_elsewhere = _Elsewhere()


def _note(**kwargs: Any) -> None:
    _here.has_connected = True
    _elsewhere.has_connected |= not threading.current_thread().name.startswith(OWN)


connection_created.connect(_note, dispatch_uid="django_kue.worker")


def freshen(now: float) -> None:
    """Close connections that are broken or older than ``CONN_MAX_AGE``; checks once per :data:`FRESH`.

    ``now``: seconds of ``time.monotonic()``.
    """
    if _here.has_connected and now - _here.looked_at > FRESH:
        _here.looked_at = now
        close_old_connections()


def suspect() -> None:
    """Something failed: have the next :func:`freshen` check at once."""
    _here.looked_at = 0.0


def leave_clean() -> None:
    """Roll back a transaction that was left open: the next job starts with a new connection. A pool's
    connection goes back to the pool, since others may be waiting for it."""
    if not _here.has_connected:
        return
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or not connection.get_autocommit():
            with suppress(Exception):  # it may be broken already
                connection.connection.close()
            del connections[connection.alias]
        elif connection.settings_dict["OPTIONS"].get("pool"):
            connection.close()


def rest() -> None:
    """Close what Django would close at the end of a request: this thread has nothing to do."""
    if _here.has_connected:
        with suppress(Exception):  # it may be broken; if it still is, the next job finds out
            close_old_connections()


async def arest() -> None:
    """The same for the thread through which coroutines reach databases."""
    if _elsewhere.has_connected:
        await sync_to_async(rest)()


def close() -> None:
    """Close all of this thread's connections: it ends."""
    if _here.has_connected:
        connections.close_all()
