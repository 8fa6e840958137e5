"""Which job a log line is about: a filter for Django's ``LOGGING``, and a processor for structlog.

Both add the running job's ``job_id``, ``job_name`` (its function's name), ``queue`` and ``attempt``. The
worker's own lines about jobs have them under the same names.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from django_kue.context import current_job
from django_kue.words import one_line

NOTHING = "-"
FACTS = ("job_id", "job_name", "queue", "attempt")

__all__ = ["JobFilter", "add_job"]


class JobFilter(logging.Filter):
    """Adds the running job's facts to each log record. It lets every record pass.

    Args:
        nothing: the value when no job is running.

    >>> LOGGING["filters"] = {"job": {"()": "django_kue.logging.JobFilter"}}
    >>> LOGGING["formatters"]["plain"] = {
    ...     "format": "{levelname} {job_id} {message}", "style": "{"
    ... }
    """

    def __init__(self, nothing: Any = NOTHING) -> None:
        super().__init__()
        self._nothing = dict.fromkeys(FACTS, nothing)

    def filter(self, record: logging.LogRecord) -> bool:
        own = vars(record)
        for name, value in (_facts() or self._nothing).items():
            if own.get(name, NOTHING) == NOTHING:  # a worker's line about a job has that job's facts already
                own[name] = value
        return True


def add_job(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor for structlog: adds the running job's facts to an event, unless it has them.

    >>> structlog.configure(processors=[add_job, structlog.processors.JSONRenderer()])
    """
    for name, value in _facts().items():
        event.setdefault(name, value)
    return event


def _facts() -> dict[str, Any]:
    context = current_job()
    reporter = context._reporter
    if reporter is None:
        return {}
    return {
        "job_id": one_line(reporter.id),  # foreign data may run, but mustn't forge lines
        "job_name": one_line(reporter.name),
        "queue": reporter.queue,
        "attempt": context.attempt,
    }
