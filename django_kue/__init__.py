"""A priority job queue for Django over Redis, after Kue.

>>> from django_kue import job
>>> @job(queue="email", attempts=5)
... def send_receipt(order_id: int) -> str: ...
>>> receipt = send_receipt.enqueue(17)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from django_kue import schedules
    from django_kue.backoff import Backoff
    from django_kue.context import JobContext, current_job
    from django_kue.decorators import job, schedule
    from django_kue.errors import (
        Discard,
        EnqueueError,
        IllegalTransition,
        JobCancelled,
        JobCrashed,
        JobDoesNotExist,
        JobExpired,
        JobFailed,
        JobTimeout,
        KueError,
        Retry,
        ScheduleDoesNotExist,
        ScheduleError,
        StoreError,
        StoreUnavailable,
    )
    from django_kue.jobs import Job
    from django_kue.queue import Queue, aget_queue, aqueues, get_queue, queues

_HOMES = {
    "backoff": ("Backoff",),
    "context": ("JobContext", "current_job"),
    "decorators": ("job", "schedule"),
    "errors": (
        "Discard", "EnqueueError", "IllegalTransition", "JobCancelled", "JobCrashed", "JobDoesNotExist",
        "JobExpired", "JobFailed", "JobTimeout", "KueError", "Retry", "ScheduleDoesNotExist", "ScheduleError",
        "StoreError", "StoreUnavailable",
    ),
    "jobs": ("Job",),
    "queue": ("Queue", "aget_queue", "aqueues", "get_queue", "queues"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    # defining jobs
    "job", "Backoff", "Retry", "Discard",
    # inside a job
    "current_job", "JobContext",
    # jobs and queues
    "Job", "Queue", "get_queue", "aget_queue", "queues", "aqueues",
    # schedules
    "schedule", "schedules",
    # errors
    "KueError", "EnqueueError", "IllegalTransition", "JobCancelled", "JobCrashed", "JobDoesNotExist",
    "JobExpired", "JobFailed", "JobTimeout", "ScheduleError", "ScheduleDoesNotExist", "StoreError",
    "StoreUnavailable",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are loaded at first use: importing an installed app must not need the settings."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django.core.exceptions import AppRegistryNotReady  # pytest's plugin imports nothing of Django

    try:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    except AppRegistryNotReady as error:
        raise AppRegistryNotReady(
            f"{__name__}.{name} needs Django's apps: import it in an app's jobs.py or views.py, not in its "
            "__init__.py or apps.py, nor in the settings; a script calls django.setup() first"
        ) from error
    globals()[name] = value
    return value
