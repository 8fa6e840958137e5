"""The outbox: a table beside the project's own, for jobs on their way from a transaction to Redis.

A job is written into it in the transaction that enqueues it. After the commit, the process that committed
sends it and deletes its row; if that doesn't happen, a worker relays it. It may be sent twice: the store
knows a job that came through an outbox by its key, even for a while after it's gone.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, Error, connections, router
from django.db.models import F, Q, QuerySet

from django_kue import registry, signals
from django_kue.commits import own_transaction
from django_kue.conf import settings
from django_kue.errors import EnqueueError, StoreError, StoreUnavailable
from django_kue.handover import submit
from django_kue.jobs import Job
from django_kue.models import Outbox, UtcNow
from django_kue.options import UNSET, Options
from django_kue.records import NewJob, OutboxJob, UnreadableRecord

logger = logging.getLogger("django_kue")

YOUNG = timedelta(seconds=1)  # rows that the process that committed them is about to send
BATCH = 500  # rows that are relayed in one transaction
BACKOFF = 60  # seconds: the longest pause between two tries with a row that can't be sent
SILENT = 5.0  # seconds for which this process doesn't ask Redis again, after it didn't take a job


# ── where there is one ────────────────────────────────────────────────────────────────────────────


def alias_of(options: Options) -> str | None:
    """The database whose outbox jobs with these options go through; ``None`` if there's none."""
    if options.on_commit is False:
        return None
    said = options.outbox
    if said is UNSET:
        said = _said_by_settings(options.queue)
    if not said:
        return None
    return options.on_commit if isinstance(options.on_commit, str) else _alias(said)


def is_passed_by(options: Options) -> bool:
    """Whether the settings ask for an outbox, but ``on_commit=False`` silently makes jobs bypass it."""
    if options.on_commit is not False or options.outbox is not UNSET:
        return False
    return bool(_said_by_settings(options.queue))


def declared() -> set[str]:
    """Databases whose outbox the settings, or a ``@job``, use."""
    said = [settings.OUTBOX, *(queue.outbox for queue in settings.queues.values())]
    by_settings = {_alias(one) for one in said if one}
    return by_settings | {alias for job in registry.functions() if (alias := alias_of(job.options))}


def possible() -> set[str]:
    """Databases whose outbox may hold jobs: those that are declared, and any other that could have its
    table, since a ``.using(outbox=…)`` is seen nowhere but where it's called. No connection is made.

    Replicas are left out, as far as the project says which they are: by a router that doesn't allow the table
    there, or by ``TEST["MIRROR"]``.
    """
    return declared() | {alias for alias, made in connections.settings.items() if _may_have_one(alias, made)}


def is_there(alias: str) -> bool:
    """Whether a database has the outbox's table.

    Raises:
        django.db.Error: it can't be asked.
    """
    return Outbox._meta.db_table in connections[alias].introspection.table_names()


def is_due(alias: str) -> bool:
    """Whether a database has an outbox that holds something to relay. Nothing is locked or changed.

    Raises:
        django.db.Error: it can't be asked.
    """
    return is_there(alias) and aged(alias).filter(_DUE).exists()


def _may_have_one(alias: str, made: Mapping[str, Any]) -> bool:
    if made["ENGINE"] == "django.db.backends.dummy" or made["TEST"]["MIRROR"]:
        return False
    return router.allow_migrate_model(alias, Outbox)


def _said_by_settings(queue: str) -> bool | str:
    said = settings.queue_or_default(queue).outbox
    return settings.OUTBOX if said is None else said


def _alias(said: bool | str) -> str:
    alias = said if isinstance(said, str) else DEFAULT_DB_ALIAS
    if alias not in connections.settings:
        raise ImproperlyConfigured(f"OUTBOX names {alias!r}: there's no such database in DATABASES")
    return alias


# ── enqueueing ────────────────────────────────────────────────────────────────────────────────────


def write(alias: str, queue: str, jobs: Sequence[NewJob]) -> None:
    """Put jobs into the outbox, in the transaction that's open, or else in one of their own. (With autocommit
    off, one is always open, and it's up to the project to commit it.)

    Raises:
        EnqueueError: the database doesn't take them.
    """
    rows = [Outbox(key=job.key.decode(), queue=queue, record=job.encode(), terms=job.terms()) for job in jobs]
    try:
        Outbox.objects.using(alias).bulk_create(rows, batch_size=BATCH)
    except Error as error:  # also InterfaceError: the server has closed the connection
        raise EnqueueError(
            f"The outbox of database {alias!r} didn't take the job: {error}. Is its table there? "
            f"manage.py migrate django_kue --database {alias}"
        ) from error


def deliver(alias: str, queue: str, jobs: Sequence[NewJob], written_at: float) -> None:
    """Send committed jobs, and delete their rows. What goes wrong is logged, and a worker relays the rest.

    Args:
        written_at: by ``time.monotonic()``.
    """
    if silence.holds():
        return
    elapsed = int(time.monotonic() - written_at) * 1000  # in whole seconds: usually none
    try:
        _send(queue, [job.later(elapsed) for job in jobs])
        _clear(alias, jobs)
    except EnqueueError as error:
        _hold_back(queue, error)
    except Error as error:  # also InterfaceError: the server has closed the connection
        logger.warning("Sent, but not cleared from the outbox of %s; a worker will: %s", alias, error)


def keep(alias: str, queue: str, jobs: Sequence[NewJob], error: EnqueueError) -> None:
    """Put jobs into the outbox that were sent outside a transaction, and that Redis didn't take.

    Raises:
        EnqueueError: the database doesn't take them either.
    """
    _hold_back(queue, error)
    write(alias, queue, jobs[error.stored :])


class _Silence:
    """Keeps requests from each waiting for a Redis that's away, since there's the outbox."""

    _until = 0.0

    def begin(self, error: Exception) -> None:
        if self.holds():
            return
        self._until = time.monotonic() + SILENT
        logger.warning("Jobs stay in the outbox till Redis is back, and a worker relays them: %s", error)

    def holds(self) -> bool:
        return time.monotonic() < self._until

    def check(self) -> None:
        if self.holds():
            raise EnqueueError("Redis was away a moment ago, and isn't asked again just yet.")

    def end(self) -> None:
        self._until = 0.0


silence = _Silence()


def _hold_back(queue: str, error: EnqueueError) -> None:
    """Leave jobs in the outbox: those of all queues while Redis is away, else only those that it refused."""
    if isinstance(error.__cause__, StoreUnavailable):
        silence.begin(error)
    else:
        logger.warning("Jobs of queue %s stay in the outbox, and a worker relays them: %s", queue, error)


def forget(**kwargs: Any) -> None:
    """Forget what was learned about Redis, which doesn't hold for another one."""
    if kwargs.get("setting") in (None, "KUE", "CACHES"):
        silence.end()


setting_changed.connect(forget, dispatch_uid="django_kue.outbox")


def _send(queue: str, jobs: Sequence[NewJob]) -> None:
    keys = submit(queue, jobs, is_forwarded=True)
    if not signals.job_enqueued.receivers:
        return
    for job, key in zip(jobs, keys, strict=True):
        if key == job.key:  # neither sent before nor a duplicate
            signals.emit(signals.job_enqueued, registry.get(job.name), job=Job.of_new(queue, job))


def _clear(alias: str, jobs: Sequence[NewJob]) -> None:
    for first in range(0, len(jobs), BATCH):
        keys = [job.key.decode() for job in jobs[first : first + BATCH]]
        Outbox.objects.using(alias).filter(key__in=keys).delete()


# ── relaying ──────────────────────────────────────────────────────────────────────────────────────


class Relayed(NamedTuple):
    """What became of a batch."""

    sent: int
    errors: dict[int, str]  # rows that can't be sent, by primary key

    @property
    def is_full(self) -> bool:
        """There may be more."""
        return self.sent + len(self.errors) >= BATCH


def relay(alias: str, only: Iterable[int] | None = None) -> Relayed:
    """Send a batch of rows, oldest first, and delete them. Those that can't be sent stay, with the reason.

    If the database can skip rows that another relay has locked, each row is sent by one relay; otherwise two
    may send the same row, which does no harm.

    Args:
        only: primary keys of rows to send now, at most :data:`BATCH`; by default those that are due: not so
            young that the process that committed them is about to send them, and not tried in vain a moment
            ago.

    Raises:
        EnqueueError: Redis is away; the rows stay as they are.
        django.db.Error: the database is away, or has no outbox.
    """
    can_lock = connections[alias].features.has_select_for_update_skip_locked
    with own_transaction(alias, is_atomic=can_lock):
        rows = aged(alias)
        rows = rows.filter(_DUE) if only is None else rows.filter(pk__in=[*only])
        if can_lock:
            rows = rows.select_for_update(skip_locked=True)
        found = list(rows.order_by("pk")[:BATCH])
        errors = _send_rows(found)
        _settle(alias, found, errors)
    return Relayed(len(found) - len(errors), errors)


def aged(alias: str) -> QuerySet[Any]:
    """The rows of a database's outbox, each with its ``age`` by the database's own clock."""
    return Outbox.objects.using(alias).annotate(age=UtcNow() - F("created_at"))


def job_in(row: Outbox) -> OutboxJob:
    """The job that a row holds.

    Raises:
        UnreadableRecord: it isn't one, or a newer release wrote it.
    """
    return OutboxJob.restored(row.key.encode(), bytes(row.record), row.terms)


def name_in(row: Outbox) -> str:
    """The function of the job that a row holds, for people."""
    try:
        return job_in(row).name
    except UnreadableRecord:
        return "(unreadable)"


_NOT_AT_IT = Q(created_at__lte=UtcNow() - YOUNG) | Q(
    created_at__gt=UtcNow() + YOUNG
)  # its clock was set back
_DUE = _NOT_AT_IT & (Q(retry_at=None) | Q(retry_at__lte=UtcNow()))


def _send_rows(rows: Sequence[Any]) -> dict[int, str]:
    """Send each queue's rows in order. Returns what's wrong with those that can't be sent."""
    errors: dict[int, str] = {}
    jobs: dict[str, dict[int, OutboxJob]] = defaultdict(dict)
    for row in rows:
        try:
            jobs[row.queue][row.pk] = job_in(row).later(max(0, int(row.age.total_seconds() * 1000)))
        except UnreadableRecord as error:
            errors[row.pk] = str(error)
    for queue, by_row in jobs.items():
        errors |= _send_queue(queue, by_row)
    return errors


def _send_queue(queue: str, jobs: dict[int, OutboxJob]) -> dict[int, str]:
    try:
        settings.queue(queue)
        _send(queue, [*jobs.values()])
    except LookupError as error:
        return dict.fromkeys(jobs, str(error))
    except EnqueueError as error:
        if not isinstance(error.__cause__, StoreError):  # Redis is away
            raise
        if len(jobs) == 1:
            return dict.fromkeys(jobs, str(error))
        return {pk: text for one in jobs for pk, text in _send_queue(queue, {one: jobs[one]}).items()}
    return {}


def _settle(alias: str, rows: Sequence[Any], errors: dict[int, str]) -> None:
    table = Outbox.objects.using(alias)
    sent = [row.pk for row in rows if row.pk not in errors]
    # For many rows, MariaDB would rather scan the table, and wait for those that another relay has locked.
    groups = [[pk] for pk in sent] if connections[alias].vendor == "mysql" else [sent]
    for pks in groups:
        table.filter(pk__in=pks).delete()
    for row in rows:
        if row.pk in errors:
            pause = timedelta(seconds=min(BACKOFF, 2 ** min(row.attempts, 10)))
            table.filter(pk=row.pk).update(
                attempts=F("attempts") + 1, retry_at=UtcNow() + pause, error=errors[row.pk]
            )
