"""From a call to a stored job: bind, check, encode, send; after the commit when there's a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from django_kue import codecs, ids, records, signals
from django_kue.codecs import CodecError
from django_kue.conf import QueueSettings, settings
from django_kue.errors import EnqueueError, StoreUnavailable
from django_kue.handover import asubmit, submit
from django_kue.jobs import Job
from django_kue.options import UNSET, Options, effective
from django_kue.records import NewJob
from django_kue.states import State
from django_kue.store import asend, moves, reads, send

if TYPE_CHECKING:
    from django_kue.decorators import Item, JobFunction

    Definition = JobFunction[Any, Any]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]

_LETTERS = {  # of the states that hold a unique key, in a record's head
    State.WAITING: "w",
    State.DELAYED: "d",
    State.ACTIVE: "a",
    State.COMPLETED: "c",
    State.FAILED: "f",
    State.CANCELLED: "x",
}


def enqueue(definition: Definition, calls: Sequence[Call], *, is_many: bool = False) -> list[Job]:
    """Send one job a call, or have them sent at the commit. See :meth:`JobFunction.enqueue`."""
    jobs = _prepare(definition, calls, is_many)
    if _is_deferred(definition, jobs):
        return _handles(definition, jobs)
    keys = submit(definition.options.queue, jobs)
    firsts = _firsts(definition, jobs, keys)
    with _duplicates_read(len(jobs)):
        pages = send(*firsts) if firsts else []
    accepted = _accepted(definition, jobs, keys, pages)
    if signals.job_enqueued.receivers:
        _announce(definition, jobs, accepted)
    return accepted


async def aenqueue(definition: Definition, calls: Sequence[Call], *, is_many: bool = False) -> list[Job]:
    """The twin of :func:`enqueue`. Signal receivers run in a thread."""
    jobs = _prepare(definition, calls, is_many)
    if _is_deferred(definition, jobs):
        return _handles(definition, jobs)
    keys = await asubmit(definition.options.queue, jobs)
    firsts = _firsts(definition, jobs, keys)
    with _duplicates_read(len(jobs)):
        pages = await asend(*firsts) if firsts else []
    accepted = _accepted(definition, jobs, keys, pages)
    if signals.job_enqueued.receivers:
        await sync_to_async(_announce)(definition, jobs, accepted)
    return accepted


def calls(name: str, items: Iterable[Item]) -> list[Call]:
    """The calls that ``enqueue_many``'s items stand for."""
    return [_call(name, index, item) for index, item in enumerate(items)]


def _call(name: str, index: int, item: object) -> Call:
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, Mapping):
        return (), item
    raise EnqueueError(
        f"{name}: item {index} is {item!r:.80}; each is a tuple of positional or a dict of keyword "
        "arguments, for one argument write (value,)"
    )


# -- making the records ----------------------------------------------------------------------------


def _prepare(definition: Definition, calls: Sequence[Call], is_many: bool) -> list[NewJob]:
    common = _common(definition)
    jobs = []
    for index, (key, (args, kwargs)) in enumerate(zip(ids.new_keys(len(calls)), calls, strict=True)):
        try:
            jobs.append(_new_job(definition, key, args, kwargs, common))
        except EnqueueError as error:
            if is_many:
                raise EnqueueError(f"item {index}: {error}") from error
            raise
    return jobs


def _common(definition: Definition) -> dict[str, Any]:
    """What's the same for all jobs of a call to ``enqueue_many``."""
    options = definition.options
    common = {
        "name": definition.name,
        "priority": effective(options, "priority", _queue(definition)),
        "options": definition.stored,
        "delay": _ms(options.delay),
        "run_at": None if options.run_at is None else round(options.run_at.timestamp() * 1000),
        "expires": _ms(options.expires),
        "keep": None if options.keep is UNSET else _ms(options.keep),
    }
    return common | _unique_hold(options) if options.unique else common


def _queue(definition: Definition) -> QueueSettings:
    try:
        return settings.queue(definition.options.queue)
    except LookupError as error:
        raise EnqueueError(f"{definition.name}: {error}") from error


def _unique_hold(options: Options) -> dict[str, Any]:
    if isinstance(options.unique_for, tuple):
        return {"unique_mode": "".join(_LETTERS[state] for state in options.unique_for)}
    return {"unique_mode": "t", "unique_for": _ms(options.unique_for)}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _new_job(
    definition: Definition,
    key: bytes,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    common: dict[str, Any],
) -> NewJob:
    try:
        definition.signature.check(args, kwargs)
    except TypeError as error:
        raise EnqueueError(f"{definition.name}: {error}; it takes {definition.signature}") from error
    arguments = _encode(definition, args, kwargs)
    options = definition.options
    if not options.unique and not options.search_keys:
        return NewJob(key=key, arguments=arguments, **common)
    values = definition.signature.bound(args, kwargs)
    try:
        unique = _unique_hash(definition, values) if options.unique else ""
        search = tuple(codecs.search_hash(name, values[name]) for name in options.search_keys)
    except CodecError as error:  # the given arguments passed, so that it's a default
        raise EnqueueError(f"{definition.name}: a default argument can't be compared: {error}") from error
    return NewJob(key=key, arguments=arguments, unique=unique, search=search, **common)


def _encode(definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    try:
        arguments = records.encode_arguments(args, kwargs)
    except CodecError as error:
        argument = definition.signature.argument_at(error.path)
        raise EnqueueError(f"{definition.name}: argument {argument}: {error.reason}") from error
    if len(arguments) > settings.MAX_ARGUMENTS:
        raise _too_large(definition, len(arguments), definition.signature.given(args, kwargs))
    return arguments


def _too_large(definition: Definition, size: int, values: Mapping[str, Any]) -> EnqueueError:
    largest = max(values, key=lambda name: len(codecs.dumps(values[name])))
    return EnqueueError(
        f"{definition.name}: argument {largest!r} is too large: together the arguments are {size} "
        f'bytes of JSON, KUE["MAX_ARGUMENTS"] is {settings.MAX_ARGUMENTS}; store it in a database or file '
        "and pass its id"
    )


def _unique_hash(definition: Definition, values: Mapping[str, Any]) -> str:
    if definition.options.unique is True:
        return codecs.digest([definition.name, dict(values)])
    template = definition.unique_template
    assert template is not None  # a text is given by the decorator, which made it
    return codecs.digest([template.text, [values[name] for name in template.fields]])


# -- sending ---------------------------------------------------------------------------------------


def _is_deferred(definition: Definition, jobs: list[NewJob]) -> bool:
    """True when the jobs will be sent at the commit of the transaction that's open in this thread."""
    alias = _open_transaction(definition.options.on_commit)
    if alias is None:
        return False
    # Not robust: when Redis is away at the commit, whoever commits is told.
    transaction.on_commit(partial(_send_after_commit, definition, jobs), using=alias)
    return True


def _open_transaction(on_commit: bool | str) -> str | None:
    """The alias of the database whose transaction is open. No connection is made to find out."""
    if on_commit is False:
        return None
    alias = DEFAULT_DB_ALIAS if on_commit is True else on_commit
    if alias not in connections.settings:
        raise ImproperlyConfigured(f"on_commit={on_commit!r}: there's no such database in DATABASES")
    for connection in connections.all(initialized_only=True):
        if connection.alias == alias and connection.in_atomic_block:
            return alias
    return None


def _send_after_commit(definition: Definition, jobs: list[NewJob]) -> None:
    keys = submit(definition.options.queue, jobs, is_forwarded=True)
    if signals.job_enqueued.receivers:
        _announce(definition, jobs, _accepted(definition, jobs, keys, []))


def _handles(definition: Definition, jobs: list[NewJob]) -> list[Job]:
    return [Job.enqueued(definition.options.queue, job.key, job) for job in jobs]


def _firsts(definition: Definition, jobs: list[NewJob], keys: list[bytes]) -> list[Any]:
    """Calls that read the jobs which keep duplicates out: most often none."""
    held = [key for job, key in zip(jobs, keys, strict=True) if key != job.key]
    return [
        reads.rows(definition.options.queue, held[first : first + moves.BULK])
        for first in range(0, len(held), moves.BULK)
    ]


@contextmanager
def _duplicates_read(count: int) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        what = "A job is" if count == 1 else f"All {count} jobs are stored, or were"
        raise EnqueueError(f"{what} there already, but couldn't be read. {error}", stored=count) from error


def _accepted(
    definition: Definition, jobs: list[NewJob], keys: list[bytes], pages: list[list[reads.Row]]
) -> list[Job]:
    """The jobs as they are in Redis: for a dropped duplicate that's the first job, read in ``pages``."""
    name = definition.options.queue
    firsts = {row.key: Job.from_row(name, row) for page in pages for row in page}
    # A first job that's gone since leaves a handle with its id: there's no such job any more.
    return [
        firsts.get(key.decode()) or Job.enqueued(name, key, job) for job, key in zip(jobs, keys, strict=True)
    ]


def _announce(definition: Definition, jobs: list[NewJob], accepted: list[Job]) -> None:
    for new, job in zip(jobs, accepted, strict=True):
        if job.key == new.key.decode():
            signals.emit(signals.job_enqueued, definition.original, job=job)
