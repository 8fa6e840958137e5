"""What a running job can say and ask: ``current_job()``, or the ``context`` parameter."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from django_kue import codecs
from django_kue.conf import settings
from django_kue.errors import JobCancelled
from django_kue.jobs import Job

logger = logging.getLogger("django_kue.job")


class Reporter(Protocol):
    """Where a context's progress and log lines go; in a worker, sent within 100 ms and before the outcome."""

    queue: str

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def is_cancelled(self) -> bool: ...
    @property
    def headers(self) -> Mapping[str, Any]: ...
    def job(self) -> Job: ...
    def progressed(self, text: bytes, percent: float, data: Any) -> None: ...
    def logged(self, text: str) -> None: ...


class JobContext:
    """The run that is going on, seen from inside the job's code.

    Outside a worker (in a plain call, a shell, a test) it works too: progress and logs go to the
    logger ``django_kue.job`` at DEBUG, ``job`` is ``None`` and nothing is ever cancelled.

    Attributes:
        attempt: which run this is, from 1.
    """

    __slots__ = ("_reporter", "attempt")

    def __init__(self, reporter: Reporter | None = None, attempt: int = 1) -> None:
        self._reporter = reporter
        self.attempt = attempt

    @property
    def job(self) -> Job | None:
        """The running :class:`Job`; ``None`` outside a worker."""
        return self._reporter.job() if self._reporter else None

    @property
    def headers(self) -> Mapping[str, Any]:
        """What middleware sent along when the job was enqueued."""
        return self._reporter.headers if self._reporter else {}

    @property
    def is_cancelled(self) -> bool:
        """True once the job was cancelled or removed, or another worker has it: time to stop."""
        return self._reporter is not None and self._reporter.is_cancelled

    def raise_if_cancelled(self) -> None:
        """Raise :class:`~django_kue.errors.JobCancelled` if :attr:`is_cancelled`."""
        if self.is_cancelled:
            raise JobCancelled("the job was cancelled")

    def progress(self, done: float, total: float = 100, data: Any = None) -> None:
        """Report how far the job is; this never blocks the job's code.

        Args:
            done: how much is done, 0 to ``total``; more than that counts as all.
            total: how much there is to do; 0 counts as done.
            data: anything that JSON can hold, shown with the progress.

        Raises:
            TypeError: they aren't numbers.
            ValueError: ``total`` is negative, or ``data`` can't be stored or is larger than
                ``KUE["MAX_PROGRESS_DATA"]``.

        >>> for i, row in enumerate(rows, 1):
        ...     current_job().progress(i, len(rows))
        """
        percent = _percent(done, total)
        encoded = b"null" if data is None else codecs.dumps(data)
        if len(encoded) > settings.MAX_PROGRESS_DATA:
            raise ValueError(
                f"progress data has {len(encoded)} bytes, more than MAX_PROGRESS_DATA allows; "
                "keep large data elsewhere and pass its id"
            )
        if self._reporter is None:
            logger.debug("progress %g %%", percent)
        else:
            self._reporter.progressed(b"[%s,%s]" % (json.dumps(percent).encode(), encoded), percent, data)

    def log(self, message: str, *args: Any) -> None:
        """Write a line to the job's log; ``%``-style arguments as in ``logging``. Never blocks; arguments
        that don't fit the message are appended to it.

        >>> current_job().log("resized %s to %d px", name, width)
        """
        text = str(message)
        if args:
            try:
                text %= args
            except (TypeError, ValueError):  # a mistake in a log line is no reason to fail
                text = f"{text} {args!r}"
        if self._reporter is None:
            logger.debug("%s", text)
        else:
            self._reporter.logged(text)


_current: ContextVar[JobContext | None] = ContextVar("django_kue_job", default=None)


def _percent(done: float, total: float) -> float:
    try:
        if total == 0:
            return 100.0
        if not total > 0:
            raise ValueError(f"progress(done, total): total is at least 0, not {total!r:.80}")
        return round(min(100.0, max(0.0, 100 * done / total)), 2)
    except (TypeError, OverflowError) as error:
        raise TypeError(f"progress(done, total) takes numbers, not {done!r:.80} and {total!r:.80}") from error


_detached = JobContext()


def current_job() -> JobContext:
    """The context of the job that's running here; outside a worker one that only logs."""
    return _current.get() or _detached


enter: Callable[[JobContext], Any] = _current.set


def leave() -> None:
    """No job runs here any more."""
    _current.set(None)
