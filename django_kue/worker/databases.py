"""Database connections of the executors' threads: none is left in a transaction, none grows old.

A job that uses no database pays nothing: Django tells when a connection is made, and only threads in
which one was are looked at.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

FRESH = 1.0  # seconds between looks at how old this thread's connections are


class _Here(threading.local):
    has_connected = False  # a connection was made in this thread
    looked_at = 0.0


_here = _Here()
OWN = "kue-"  # how our threads' names begin


class _Elsewhere:
    """Whether a connection was made in a thread that isn't one of ours: by what coroutines call."""

    has_connected = False


_elsewhere = _Elsewhere()


def _note(**kwargs: Any) -> None:
    _here.has_connected = True
    _elsewhere.has_connected |= not threading.current_thread().name.startswith(OWN)


connection_created.connect(_note, dispatch_uid="django_kue.worker")


def freshen(now: float) -> None:
    """Close connections that are broken or older than ``CONN_MAX_AGE``; looks once in :data:`FRESH`.

    ``now``: seconds of ``time.monotonic()``.
    """
    if _here.has_connected and now - _here.looked_at > FRESH:
        _here.looked_at = now
        close_old_connections()


def suspect() -> None:
    """Something failed: the next :func:`freshen` looks at once."""
    _here.looked_at = 0.0


def leave_clean() -> None:
    """A transaction that was left open is rolled back: the next job starts with a new connection. One of a
    pool's goes back, since others may wait for it."""
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
    """This thread has nothing to do: what Django would close at the end of a request is closed."""
    if _here.has_connected:
        with suppress(Exception):  # it may be broken; the next job meets that, if it still is
            close_old_connections()


async def arest() -> None:
    """The same for the thread by which coroutines reach databases."""
    if _elsewhere.has_connected:
        await sync_to_async(rest)()


def close() -> None:
    """This thread ends."""
    if _here.has_connected:
        connections.close_all()
