"""From a call to stored jobs: at once, after the commit if there's a transaction, and through the outbox if
one is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed

from django_kue import commits, outbox, signals, single
from django_kue.batch import Batch, Call
from django_kue.errors import EnqueueError, StoreUnavailable
from django_kue.handover import NewJobs, asubmit, submit
from django_kue.jobs import Job
from django_kue.middleware import Order, around_aenqueue, around_enqueue, chain
from django_kue.records import NewJob, OutboxJob
from django_kue.store import asend, send

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_kue.decorators import Item, JobFunction

    Definition = JobFunction[Any, Any]

# Called once jobs are sent and announced, or wait for a commit: in tests, which then run them.
after: Callable[[], None] | None = None


def enqueue_one(definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
    """Send one job, or have it sent at the commit. See :meth:`JobFunction.enqueue`."""
    job = single.enqueue(definition, args, kwargs)
    if job is None:
        [job] = enqueue(definition, [(args, kwargs)])
    elif after is not None:
        after()
    return job


def enqueue(
    definition: Definition,
    calls: Iterable[Call],
    *,
    is_many: bool = False,
    headers: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Send one job per call, or have them sent at the commit. See :meth:`JobFunction.enqueue_many`."""
    if not chain().enqueue:
        return _enqueue(definition, calls, is_many, headers)
    return around_enqueue(
        Order(definition, list(calls), dict(headers or {})),
        lambda order: _enqueue(order.function, _calls(order, is_many), is_many, order.headers),
    )


async def aenqueue(definition: Definition, calls: Iterable[Call], *, is_many: bool = False) -> list[Job]:
    """The twin of :func:`enqueue`. Signal receivers run in a thread."""
    if not chain().aenqueue:
        return await _aenqueue(definition, calls, is_many, None)
    return await around_aenqueue(
        Order(definition, list(calls)),
        lambda order: _aenqueue(order.function, _calls(order, is_many), is_many, order.headers),
    )


def _calls(order: Order, is_many: bool) -> list[Call]:
    """The calls as middleware left them: it can't turn a single one into none or several."""
    if not is_many and len(order.calls) != 1:
        raise EnqueueError(
            f"{order.function.name}: a middleware turned one job into {len(order.calls)}. A hook may "
            "change the call, but how many there are is up to the caller"
        )
    return order.calls


def _enqueue(
    definition: Definition, calls: Iterable[Call], is_many: bool, headers: Mapping[str, Any] | None
) -> list[Job]:
    way = _way(definition)
    batch = Batch(definition, calls, is_many=is_many, kind=way.kind, headers=headers)
    if not _is_deferred(way, batch):
        _send(way, batch)
    if after is not None:
        after()
    return batch.handles


async def _aenqueue(
    definition: Definition, calls: Iterable[Call], is_many: bool, headers: Mapping[str, Any] | None
) -> list[Job]:
    way = _way(definition)
    batch = Batch(definition, calls, is_many=is_many, kind=way.kind, headers=headers)
    is_deferred = sync_to_async(_is_deferred) if commits.is_waited_for() else None
    if not (await is_deferred(way, batch) if is_deferred else _is_deferred(way, batch)):
        await _asend(way, batch)
    if after is not None:
        await sync_to_async(after)()
    return batch.handles


def enqueue_under(
    key: bytes, definition: Definition, call: Call, send_it: Callable[[str, NewJob], list[Job]]
) -> list[Job]:
    """Make one job under a given key, inside the project's middleware, and let ``send_it`` send it to Redis
    at once: it gets the queue and the job, and returns what became of it.

    Raises:
        EnqueueError: as :func:`enqueue`; or a middleware turned it into none or several.
    """

    def make(order: Order) -> list[Job]:
        if len(order.calls) != 1:
            raise EnqueueError(
                f"{definition.name}: a middleware turned a schedule's one job into {len(order.calls)}"
            )
        batch = Batch(order.function, order.calls, is_many=False, headers=order.headers, keys=[key])
        return send_it(batch.queue, batch[:][0])

    return around_enqueue(Order(definition, [call]), make)


def calls(name: str, items: Iterable[Item]) -> Iterator[Call]:
    """The calls that ``enqueue_many``'s items stand for.

    Raises:
        EnqueueError: it's a single item, or not a collection of items.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise EnqueueError(
            f"{name}: enqueue_many takes a list, or other iterable, of tuples and dicts, not {items!r:.80}. "
            "For one job write [(value,)], for an async generator [item async for item in …]"
        )
    return (_call(name, index, item) for index, item in enumerate(items))


_NO_KWARGS: Mapping[str, Any] = {}  # one for all calls: nobody changes it


def _call(name: str, index: int, item: object) -> Call:
    if isinstance(item, tuple):
        return item, _NO_KWARGS
    if isinstance(item, Mapping):
        return (), item
    raise EnqueueError(
        f"{name}: item {index} is {item!r:.80}; each is a tuple of positional or a dict of keyword "
        "arguments; for one argument write (value,)"
    )


class _Way(NamedTuple):
    """How a definition's jobs get to Redis."""

    on_commit: bool | str  # the database whose commit they wait for
    outbox: str | None  # the database whose outbox they go through, while its transaction is open
    kind: type[NewJob]


@lru_cache(maxsize=1024)
def _way(definition: Definition) -> _Way:
    box = outbox.alias_of(definition.options)
    if box is None:
        return _Way(definition.options.on_commit, None, NewJob)
    return _Way(definition.options.on_commit, box, OutboxJob)


def _forget(**kwargs: Any) -> None:
    _way.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.enqueueing")


# -- at once ---------------------------------------------------------------------------------------


def _send(way: _Way, batch: Batch) -> None:
    """Send the jobs to Redis or, if it doesn't take them, to the outbox that they use."""
    jobs = _to_send(way, batch)
    try:
        if way.outbox is not None:
            outbox.silence.check()
        keys = submit(batch.queue, jobs)
    except EnqueueError as error:
        if way.outbox is None:
            raise
        outbox.keep(way.outbox, batch.queue, jobs[:], error)
        return
    if firsts := batch.firsts(keys):
        with _duplicates_read(len(batch)):
            batch.lead_to(keys, send(*firsts))
    if signals.job_enqueued.receivers:
        batch.announce(keys)


async def _asend(way: _Way, batch: Batch) -> None:
    """The twin of :func:`_send`."""
    jobs = _to_send(way, batch)
    try:
        if way.outbox is not None:
            outbox.silence.check()
        keys = await asubmit(batch.queue, jobs)
    except EnqueueError as error:
        if way.outbox is None:
            raise
        await sync_to_async(outbox.keep)(way.outbox, batch.queue, jobs[:], error)
        return
    if firsts := batch.firsts(keys):
        with _duplicates_read(len(batch)):
            batch.lead_to(keys, await asend(*firsts))
    if signals.job_enqueued.receivers:
        await sync_to_async(batch.announce)(keys)


def _to_send(way: _Way, batch: Batch) -> NewJobs:
    """The jobs; with an outbox, all are made now, since it keeps those that Redis doesn't take."""
    return batch if way.outbox is None else batch[:]


@contextmanager
def _duplicates_read(count: int) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        what = "A job is" if count == 1 else f"All {count} jobs are stored, or were"
        raise EnqueueError(f"{what} there already, but couldn't be read. {error}", stored=count) from error


# -- after the commit ------------------------------------------------------------------------------


def _is_deferred(way: _Way, batch: Batch) -> bool:
    """True when the jobs will be sent at the commit of the transaction that's open in this thread.

    If the outbox is in another database than that of ``on_commit``, a transaction open there comes first.
    """
    if way.outbox is not None and (connection := commits.open_transaction(way.outbox)):
        _send_at_commit(connection, batch, box=way.outbox)
    elif connection := commits.open_transaction(way.on_commit):
        if not commits.is_told(connection):
            raise EnqueueError(_unknown_commit(batch, connection.alias))
        _send_at_commit(connection, batch)
    else:
        return False
    return True


def _send_at_commit(connection: BaseDatabaseWrapper, batch: Batch, *, box: str | None = None) -> None:
    jobs = batch[:]
    if box is not None:
        outbox.write(box, batch.queue, jobs)
        if not commits.is_told(connection):
            return  # a worker relays them
    commit = commits.Commit(connection)
    commit.then(partial(_send_after_commit, batch, jobs, commit=commit, box=box, written_at=time.monotonic()))


def _unknown_commit(batch: Batch, alias: str) -> str:
    return (
        f"{batch.definition.name}: autocommit of database {alias!r} is off, so there's no telling when the "
        "transaction is committed. Use an outbox (outbox=True), from which a worker then sends the job, or "
        "on_commit=False, to send it at once"
    )


def _send_after_commit(
    batch: Batch, jobs: Sequence[NewJob], *, commit: commits.Commit, box: str | None, written_at: float
) -> None:
    """``box``: the database in whose outbox they are; ``written_at``: since when, by ``time.monotonic()``."""
    if box is not None:
        outbox.deliver(box, batch.queue, jobs, written_at)
    else:
        try:
            commit.check(batch.queue)
            _send_committed(batch, jobs)
        except EnqueueError as error:
            commit.fail(batch.queue, error)
    if after is not None:
        after()


def _send_committed(batch: Batch, jobs: Sequence[NewJob]) -> None:
    """Send jobs that are in no outbox; if they have one, in another database, it takes what Redis doesn't."""
    box = _way(batch.definition).outbox
    try:
        if box is not None:
            outbox.silence.check()
        keys = submit(batch.queue, jobs, is_forwarded=True)
    except EnqueueError as error:
        if box is None:
            raise
        outbox.keep(box, batch.queue, jobs, error)
        return
    if signals.job_enqueued.receivers:
        batch.announce(keys)
