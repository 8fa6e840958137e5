"""Helpers for tests of a project's jobs. ``docs/how-to/testing.md`` shows how to use them.

With pytest there are the fixtures ``kue``, ``kue_inline`` and ``kue_worker``; with unittest
:class:`KueTestMixin`; anywhere :func:`fake` and :func:`inline`.
"""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from django_kue.jobs import Job
from django_kue.testing.modes import Kue, active, fake, inline
from django_kue.testing.running import TooManyRuns
from django_kue.testing.unittests import KueTestMixin

if TYPE_CHECKING:
    from django_kue.testing.worker import WorkerThread

__tracebackhide__ = methodcaller("errisinstance", AssertionError)


def assert_enqueued(function: Any, /, *args: Any, **kwargs: Any) -> Job:
    """Like :meth:`Kue.assert_enqueued`, for the test mode that's on."""
    return active().assert_enqueued(function, *args, **kwargs)


def assert_not_enqueued(function: Any, /, *args: Any, **kwargs: Any) -> None:
    """Like :meth:`Kue.assert_not_enqueued`, for the test mode that's on."""
    active().assert_not_enqueued(function, *args, **kwargs)


def assert_nothing_enqueued() -> None:
    """Like :meth:`Kue.assert_nothing_enqueued`, for the test mode that's on."""
    active().assert_nothing_enqueued()


def assert_count(count: int, function: Any = None, /, *args: Any, **kwargs: Any) -> list[Job]:
    """Like :meth:`Kue.assert_count`, for the test mode that's on."""
    return active().assert_count(count, function, *args, **kwargs)


def drain(*queues: str, within: float | None = None, raise_failures: bool = True) -> list[Job]:
    """Like :meth:`Kue.drain`, for the test mode that's on."""
    return active().drain(*queues, within=within, raise_failures=raise_failures)


async def adrain(*queues: str, within: float | None = None, raise_failures: bool = True) -> list[Job]:
    """Like :meth:`Kue.adrain`, for the test mode that's on."""
    return await active().adrain(*queues, within=within, raise_failures=raise_failures)


def __getattr__(name: str) -> Any:
    """The worker is loaded only if it's used."""
    if name != "WorkerThread":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django_kue.testing.worker import WorkerThread

    return WorkerThread


__all__ = [
    # switching it on
    "fake", "inline", "KueTestMixin", "Kue",
    # for the mode that's on
    "assert_enqueued", "assert_not_enqueued", "assert_nothing_enqueued", "assert_count", "drain", "adrain",
    "TooManyRuns",
    # a real worker
    "WorkerThread",
]  # fmt: skip
