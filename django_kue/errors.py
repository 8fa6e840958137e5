"""Everything that django-kue raises, and the two exceptions that a job raises to end its run."""

from __future__ import annotations

from datetime import timedelta


class KueError(Exception):
    """The base of every error that django-kue raises."""


class EnqueueError(KueError):
    """A job couldn't be enqueued; the message says why.

    Attributes:
        may_be_stored: True when Redis didn't answer, so that the job may be there all the same. False
            when it certainly isn't.
        stored: how many of the first jobs of an ``enqueue_many`` are certainly stored; 0 unless
            there were more than 1,000.
        is_committed: True when the transaction that the job waited for is committed: the error is raised
            where ``atomic()`` ends, and what was done there is kept.
    """

    def __init__(self, message: str, *, may_be_stored: bool = False, stored: int = 0) -> None:
        super().__init__(message)
        self.may_be_stored = may_be_stored
        self.stored = stored
        self.is_committed = False

    def __str__(self) -> str:
        prefix = "The transaction is committed, and holds. " if self.is_committed else ""
        return prefix + super().__str__()


class JobDoesNotExist(KueError):
    """No job has this id: it never existed, was removed, or is no longer kept."""


class IllegalTransition(KueError):
    """The job's state doesn't allow what was asked; nothing was changed."""


class JobFailed(KueError):
    """Raised by :meth:`Job.wait` when the job ended as failed or cancelled.

    ``job`` is the finished :class:`~django_kue.Job`; ``job.error`` says what happened.
    """

    def __init__(self, message: str, job: object = None) -> None:
        super().__init__(message)
        self.job = job


class JobTimeout(KueError):
    """A run took longer than the job's ``timeout`` and was stopped. Raised inside its code."""

    def __str__(self) -> str:
        return super().__str__() or "the run took longer than its timeout"


class JobExpired(KueError):
    """The job waited longer than its ``expires`` allows and was never started."""


class JobCrashed(KueError):
    """The process that ran the job died: by a signal, an exit, or for lack of memory."""


class JobCancelled(KueError):
    """Raised inside a job by :meth:`JobContext.raise_if_cancelled`."""


class Retry(KueError):
    """Raised inside a job: end this attempt and try again.

    It uses up an attempt; if none is left, the job fails.

    Args:
        delay: seconds (or a ``timedelta``) to wait, at most ten years; ``None`` uses the job's own backoff.

    >>> raise Retry(delay=30)
    Traceback (most recent call last):
    django_kue.errors.Retry: retry in 30 s
    """

    def __init__(self, message: str = "", *, delay: float | timedelta | None = None) -> None:
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int | float)):
            raise TypeError(f"Retry(delay=…) takes seconds or a timedelta, not {delay!r:.80}")
        if delay is not None and not 0 <= delay < 1e308:  # no NaN, and a float
            raise ValueError(f"Retry(delay=…) takes seconds ≥ 0, not {delay!r:.80}")
        self.delay = delay
        super().__init__(message or ("retry" if delay is None else f"retry in {delay:g} s"))


class Discard(KueError):
    """Raised inside a job: fail it at once, however many attempts are left.

    >>> raise Discard("the order was deleted")
    Traceback (most recent call last):
    django_kue.errors.Discard: the order was deleted
    """


class ScheduleError(KueError):
    """A schedule can't be made or changed as requested; the message says why, and nothing was changed."""


class ScheduleDoesNotExist(KueError):
    """No schedule has this name."""


class StoreUnavailable(KueError):
    """Redis can't be reached, or refuses work for now. Trying again later may succeed.

    ``may_be_applied`` is False if it's certain that nothing was changed: Redis refused, or wasn't reached.
    ``is_partial``: it's about one node of a Cluster, and queues on others can be used. ``is_silent``: no
    answer came in time.
    """

    def __init__(
        self, message: str, *, may_be_applied: bool = True, is_partial: bool = False, is_silent: bool = False
    ) -> None:
        super().__init__(message)
        self.may_be_applied = may_be_applied
        self.is_partial = is_partial
        self.is_silent = is_silent


class StoreError(KueError):
    """Redis understood a call and refused it for good: foreign data under our keys, a right that the Redis
    user lacks, or a defect.

    ``is_forbidden``: the user lacks a right.
    """

    def __init__(self, message: str, *, is_forbidden: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden
