"""The fast path that most calls of ``enqueue()`` take: one job that's sent at once and needs no decisions.

It stores the same as the slow path (``enqueueing.py`` with ``batch.py``) in a third of the time. Everything
else takes the slow path: middleware, an open transaction, an outbox, encryption, a delay, a unique key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.signals import setting_changed

from django_kue import batch, commits, encryption, ids, outbox, signals
from django_kue.handover import submit_one
from django_kue.jobs import Job
from django_kue.middleware import chain
from django_kue.records import NewJob

if TYPE_CHECKING:
    from django_kue.decorators import JobFunction

    Definition = JobFunction[Any, Any]


class _Form(NamedTuple):
    """What all jobs of a definition have in common."""

    queue: str
    on_commit: bool | str
    priority: bytes
    beginning: bytes  # of their records: everything before the arguments
    template: NewJob


def enqueue(definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job | None:
    """Send a job; ``None`` if it has to take the slow path, in which case nothing was done.

    Raises:
        EnqueueError: as for :meth:`JobFunction.enqueue`.
    """
    if chain().enqueue:
        return None
    form = _form(definition)
    if form is None or commits.open_transaction(form.on_commit) is not None:
        return None
    arguments = batch.checked(definition, args, kwargs)
    key = ids.new_key()
    submit_one(form.queue, key, form.beginning + arguments, form.priority)
    job = Job.enqueued(form.queue, key, arguments, form.template)
    if signals.job_enqueued.receivers:
        signals.emit(signals.job_enqueued, definition.original, job=job)
    return job


@lru_cache(maxsize=1024)
def _form(definition: Definition) -> _Form | None:
    """The form for a definition's jobs; ``None`` if they need decisions."""
    options, template = definition.options, batch.template(definition)
    takes_none = template.is_plain and not (options.unique or options.search_keys)
    if not takes_none or outbox.alias_of(options) is not None or encryption.is_on(options.queue):
        return None
    return _Form(options.queue, options.on_commit, b"%d" % template.priority, template.encode(), template)


def _forget(**kwargs: Any) -> None:
    _form.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.single")
