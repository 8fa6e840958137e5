"""The jobs of one enqueue call, from arguments to records: bind, check, encode, seal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed

from django_kue import codecs, encryption, ids, records, signals
from django_kue.codecs import CodecError
from django_kue.conf import QueueSettings, settings
from django_kue.errors import EnqueueError
from django_kue.jobs import Job
from django_kue.options import UNSET, USING, Options, effective, is_option
from django_kue.records import NewJob
from django_kue.states import State
from django_kue.store import moves, reads

if TYPE_CHECKING:
    from django_kue.decorators import JobFunction

    Definition = JobFunction[Any, Any]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
Hashes = tuple[str, tuple[str, ...]]  # the hash of a job's unique key, or "", and those of its search keys

MAX_HEADERS = 4096  # bytes that each job carries

_LETTERS = {  # of the states that hold a unique key, in a record's head
    State.WAITING: "w",
    State.DELAYED: "d",
    State.ACTIVE: "a",
    State.COMPLETED: "c",
    State.FAILED: "f",
    State.CANCELLED: "x",
}


class Batch:
    """The jobs of one call. All are checked first, so that one wrong job keeps all of them out; the rest is
    done when they're sent: if there are many, while Redis stores the previous ones.

    Little is kept of each job, and no objects that the garbage collector would have to look at.
    """

    def __init__(
        self,
        definition: Definition,
        calls: Iterable[Call],
        *,
        is_many: bool,
        kind: type[NewJob] = NewJob,
        headers: Mapping[str, Any] | None = None,
        keys: list[bytes] | None = None,
    ) -> None:
        """``headers``: what middleware sends along with each job; ``keys``: the jobs' keys, if not new ones.

        Raises:
            EnqueueError: the function can't be called like that, or its arguments can't be stored. With
                several calls (``is_many``), the message names the first that's wrong.
        """
        self.definition = definition
        self.queue = definition.options.queue
        self._arguments: list[bytes] = []
        self._hashes: list[Hashes] = []  # empty, or one for each job
        self._check(calls, is_many)
        self._keys = keys or ids.new_keys(len(self._arguments))
        self._template = template(definition)
        if headers:
            options = {**definition.stored, records.HEADERS: _checked_headers(definition, headers)}
            self._template = self._template._replace(options=options)
        if encryption.is_on(self.queue):
            self._template = self._template._replace(arguments=codecs.SEAL)
        self._kind = kind
        self.handles: list[Job] = []  # of the jobs made so far

    def _check(self, calls: Iterable[Call], is_many: bool) -> None:
        definition, add = self.definition, self._arguments.append
        is_plain = not (definition.options.unique or definition.options.search_keys)
        index = 0
        try:
            for args, kwargs in calls:
                add(checked(definition, args, kwargs))
                if not is_plain:
                    self._hashes.append(_hashes(definition, args, kwargs))
                index += 1
        except EnqueueError as error:
            if is_many:
                raise EnqueueError(f"item {index}: {error}") from error
            raise

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, part: slice) -> Sequence[NewJob]:
        """The next jobs; also makes their handles. Each part must be asked for once, in order."""
        keys, arguments = self._keys[part], self._arguments[part]
        self._add_handles(keys, arguments)
        if settings.ENCRYPTION_KEYS:
            arguments = [self._sealed(*own) for own in zip(keys, arguments, strict=True)]
        jobs = records.Alike(self._kind._make(self._template)._replace(arguments=b""), keys, arguments)
        if not self._hashes:
            return jobs
        hashes = zip(jobs, self._hashes[part], strict=True)
        return [job._replace(unique=unique, search=search) for job, (unique, search) in hashes]

    def _add_handles(self, keys: list[bytes], arguments: list[bytes]) -> None:
        queue, template = self.queue, self._template
        self.handles += [Job.enqueued(queue, *own, template) for own in zip(keys, arguments, strict=True)]

    def _sealed(self, key: bytes, arguments: bytes) -> bytes:
        where = self.queue, key.decode(), self.definition.name
        return encryption.seal(arguments, encryption.ARGUMENTS, *where)

    def firsts(self, keys: list[bytes]) -> list[Any]:
        """Calls that read the first jobs, which keep duplicates out; usually there are none."""
        if keys == self._keys:
            return []
        held = [key for own, key in zip(self._keys, keys, strict=True) if key != own]
        return [
            reads.rows(self.queue, held[first : first + moves.BULK])
            for first in range(0, len(held), moves.BULK)
        ]

    def lead_to(self, keys: list[bytes], pages: list[list[reads.Row]]) -> None:
        """Replace the handles of dropped duplicates by those of the first jobs, read in ``pages``."""
        firsts = {row.key: Job.from_row(self.queue, row) for page in pages for row in page}
        for index, (own, key) in enumerate(zip(self._keys, keys, strict=True)):
            if key != own:
                # If the first job has gone since, the handle has its id, though there's no such job any more.
                self.handles[index] = firsts.get(key.decode()) or Job.enqueued(
                    self.queue, key, self._arguments[index], self._template
                )

    def announce(self, keys: list[bytes]) -> None:
        """Tell receivers of the jobs that are new."""
        for own, key, job in zip(self._keys, keys, self.handles, strict=True):
            if key == own:
                signals.emit(signals.job_enqueued, self.definition.original, job=job)


@lru_cache(maxsize=1024)
def template(definition: Definition) -> NewJob:
    """What all jobs of a definition have in common: a job without key, arguments and hashes."""
    options = definition.options
    unique_mode, unique_for = _unique_hold(options)
    return NewJob(
        key=b"",
        name=definition.name,
        priority=effective(options, "priority", _queue(definition)),
        options=definition.stored,
        delay=_ms(options.delay),
        run_at=None if options.run_at is None else round(options.run_at.timestamp() * 1000),
        expires=_ms(options.expires),
        keep=None if options.keep is UNSET else _ms(options.keep),
        unique_mode=unique_mode,
        unique_for=unique_for,
    )


def _forget(**kwargs: Any) -> None:
    template.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.batch")


def _queue(definition: Definition) -> QueueSettings:
    try:
        return settings.queue(definition.options.queue)
    except LookupError as error:
        raise EnqueueError(f"{definition.name}: {error}") from error


def _unique_hold(options: Options) -> tuple[str, int]:
    if isinstance(options.unique_for, tuple):
        return "".join(_LETTERS[state] for state in options.unique_for), 0
    return "t", round(options.unique_for * 1000)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def checked(definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments as stored, after checking that the function can be called with them.

    Raises:
        EnqueueError: it can't, or they can't be stored.
    """
    try:
        definition.signature.check(args, kwargs)
    except TypeError as error:
        advice = _advice(definition, kwargs)
        raise EnqueueError(f"{definition.name}: {error}; it takes {definition.signature}{advice}") from error
    return _encode(definition, args, kwargs)


def _advice(definition: Definition, kwargs: Mapping[str, Any]) -> str:
    """How to give options, if some were given as arguments."""
    signature = definition.signature
    misplaced = [name for name in kwargs if name not in signature.names and is_option(name, USING)]
    if not misplaced or signature.takes_any_keyword:
        return ""
    given = ", ".join(f"{name}=…" for name in misplaced)
    return f". Options go into .using({given}).enqueue(…)"


def _checked_headers(definition: Definition, headers: Mapping[str, Any]) -> dict[str, Any]:
    """What middleware sends along, if it can be stored."""
    try:
        text = codecs.dumps(dict(headers))
    except CodecError as error:
        where = codecs.render_path(error.path)
        raise EnqueueError(f"{definition.name}: headers{where}: {error.reason}") from error
    if codecs.refers_to_models(text):
        raise EnqueueError(
            f"{definition.name}: a model instance can't travel in headers or in the context, which are read "
            "without asking a database. Send its primary key"
        )
    if len(text) > MAX_HEADERS:
        raise EnqueueError(
            f"{definition.name}: the headers are {len(text)} bytes of JSON, {MAX_HEADERS} at most; send an id"
        )
    return dict(headers)


def _hashes(definition: Definition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashes:
    options = definition.options
    values = definition.signature.bound(args, kwargs)
    try:
        key = encryption.hash_keys(options.queue)[0]
        unique = _unique_hash(definition, values, key) if options.unique else ""
        return unique, tuple(codecs.search_hash(name, values[name], key) for name in options.search_keys)
    except CodecError as error:  # the given arguments passed, so it must be a default
        raise EnqueueError(f"{definition.name}: a default argument can't be compared: {error}") from error


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


def _unique_hash(definition: Definition, values: Mapping[str, Any], key: bytes) -> str:
    if definition.options.unique is True:
        return codecs.digest([definition.name, dict(values)], key)
    template = definition.unique_template
    assert template is not None  # the decorator made it if ``unique`` is a text
    return codecs.digest([template.text, [values[name] for name in template.fields]], key)
