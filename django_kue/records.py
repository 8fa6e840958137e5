"""The stored text of a job: ``head|name|options arguments``.

The head is a comma-separated list of one-letter tokens and is empty for a plain job, so that a
waiting job costs little memory and the scripts read what they need with one pattern:

====  =======================================================================
p     priority, left out when 0
m     runs that failed, or ended by being cancelled
s     seat: only the waiting list entry ``key~seat`` is this job's, no other
c     crashes: how often its run killed its process
z     suspect: how often a process or worker that had it died without a known culprit
y     a suspect whose run has started
n     parked: how often a worker put it aside because it couldn't run it
e     Unix ms after which it's not worth starting
u     ``hash:mode`` of the unique key; mode is the states that hold it (``wda``…) or ``t``
k     hashes of the search keys, joined by ``+``
t     name of the schedule whose tick it is
b     it came through an outbox: when it's removed, its id is remembered for a while
q     ms to keep the finished job, if ``@job`` or ``.using()`` says so and the outcome doesn't
o     byte length of the options' JSON, which precedes the arguments
v     version of this format, left out when 1
====  =======================================================================

In the options' JSON, ``h`` holds the job's headers, which is what middleware sends along, if anything.

Arguments are empty (none), a JSON list (positional), or a JSON object with ``a`` and ``k``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self, overload

from django_kue import codecs, ids
from django_kue.priorities import HIGHEST, LOWEST

VERSION = 1
HEADERS = "h"  # the headers' name among the options


class UnreadableRecord(ValueError):
    """The stored text is not a job that this release can read."""


class NewerRecord(UnreadableRecord):
    """The stored text was written by a newer release; it's left for a worker that can read it.

    ``head`` is the part that every release can read.
    """

    def __init__(self, message: str, head: Mapping[str, str]) -> None:
        super().__init__(message)
        self.head = head


class NewJob(NamedTuple):
    """A job on its way into the store. Times are whole milliseconds.

    The fields in which the jobs of one call may differ come first.
    """

    key: bytes
    name: str
    arguments: bytes = b""
    unique: str = ""  # hash of the key, 22 URL-safe characters
    search: tuple[str, ...] = ()  # hashes
    priority: int = 0
    options: Mapping[str, Any] = {}  # those that differ from the definition; never modified
    delay: int | None = None  # from now …
    run_at: int | None = None  # … or at this Unix time
    expires: int | None = None  # counted from when it's due
    keep: int | None = None  # counted from when it's finished; None: the queue's retention
    unique_mode: str = "wda"  # letters of the states that hold it, or "t" with unique_for
    unique_for: int = 0

    def encode(self) -> bytes:
        """The record to store."""
        if self.options or self.unique or self.search or self.keep is not None:
            return self._with_head()
        return _beginning(self.name, self.priority) + self.arguments

    def _with_head(self, *tokens: str) -> bytes:
        head = [*tokens]
        if self.priority:
            head.append(f"p{self.priority}")
        if self.unique:
            head.append(f"u{self.unique}:{self.unique_mode}")
        if self.search:
            head.append("k" + "+".join(self.search))
        if self.keep is not None:
            head.append(f"q{self.keep}")
        options = b""
        if self.options:
            options = codecs.dumps(dict(self.options))
            head.append(f"o{len(options)}")
        return b"%s|%s|%s%s" % (",".join(head).encode(), self.name.encode(), options, self.arguments)

    @property
    def is_plain(self) -> bool:
        """Whether the script can store it without having to decide anything."""
        return not (self.unique or self.search or self.expires or self.delay or self.run_at is not None)

    def terms(self) -> dict[str, int]:
        """What's needed to store it besides its record; only what isn't the default."""
        return {name: value for name in _TERMS if (value := getattr(self, name)) != _DEFAULTS[name]}

    def later(self, ms: int) -> Self:
        """The job as of ``ms`` milliseconds after its enqueue, from which its delay and expiry count."""
        if self.run_at is None:
            due = self.delay or 0
        else:
            due = max(0, self.run_at - ids.created_ms(self.key.decode()))
        overdue = max(0, ms - due)
        return self._replace(
            delay=self.delay and max(0, self.delay - ms),
            expires=self.expires and max(1, self.expires - overdue),
        )


class Alike(Sequence[NewJob]):
    """New jobs that differ only in their keys and arguments, as in most calls. Individual jobs are only made
    if something asks for them, which storing them doesn't."""

    def __init__(self, template: NewJob, keys: list[bytes], arguments: list[bytes]) -> None:
        """``template``: a job without key and arguments."""
        self.template, self.keys, self.arguments = template, keys, arguments

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> NewJob: ...
    @overload
    def __getitem__(self, index: slice) -> Alike: ...
    def __getitem__(self, index: int | slice) -> NewJob | Alike:
        if isinstance(index, slice):
            return Alike(self.template, self.keys[index], self.arguments[index])
        return self.template._replace(key=self.keys[index], arguments=self.arguments[index])

    def __iter__(self) -> Iterator[NewJob]:
        make, name, common = type(self.template)._make, self.template.name, self.template[3:]
        for key, arguments in zip(self.keys, self.arguments, strict=True):
            yield make((key, name, arguments, *common))

    def encode(self) -> list[bytes]:
        """The records to store."""
        beginning = self.template.encode()
        return [beginning + text for text in self.arguments]


class OutboxJob(NewJob):
    """A new job from an outbox: it may be sent any number of times, by any process, and is stored once."""

    __slots__ = ()
    is_plain = False  # the script has to check whether it knows the job

    def encode(self) -> bytes:
        return self._with_head("b1")

    @classmethod
    def restored(cls, key: bytes, text: bytes, terms: Mapping[str, int]) -> OutboxJob:
        """Restore a job from what an outbox kept: its encoded text and its terms.

        Raises:
            NewerRecord: a newer release wrote it.
            UnreadableRecord: it isn't a job at all.
        """
        record = decode(text)
        if not isinstance(terms, Mapping):
            raise UnreadableRecord(f"not a job's terms: {terms!r:.60}")
        if unknown := {*record.head} - {*"bpukqo"} or {*terms} - {*_TERMS}:
            raise NewerRecord(f"this release doesn't know {', '.join(sorted(unknown))}", record.head)
        unique, _, mode = record.head.get("u", ":wda").partition(":")
        try:
            job = cls(
                key, record.name, record.arguments, priority=int(record.head.get("p", 0)),
                options=codecs.loads(record.options, fetch=False) if record.options else {},
                keep=int(record.head["q"]) if "q" in record.head else None,
                unique=unique, unique_mode=mode,
                search=tuple(record.head["k"].split("+")) if "k" in record.head else (),
                **terms,
            )  # fmt: skip
            _check_restored(job, record.options)
        except (ValueError, TypeError) as error:
            raise UnreadableRecord(f"not a job's record, {error}: {text[:60]!r}") from error
        return job


def _check_restored(job: OutboxJob, options: bytes) -> None:
    """Check what was written into the table, so that it doesn't fail when it's sent together with others.

    Raises:
        ValueError, TypeError: it would fail; the message says what's wrong with it.
    """
    if not ids.is_key(job.key):
        raise ValueError(f"{job.key[:60]!r} isn't a job's key")
    if not job.name:
        raise ValueError("it names no function")
    if not LOWEST <= job.priority <= HIGHEST:
        raise ValueError(f"{job.priority} isn't a valid priority")
    for name in (*_TERMS, "keep"):
        if (value := getattr(job, name)) != _DEFAULTS[name] and not _is_ms(value):
            raise ValueError(f"its {name} is {value!r:.60}")
    hashes = [job.unique, *job.search] if job.unique else job.search
    if not all(_HASH.fullmatch(one) for one in hashes) or not _MODE.fullmatch(job.unique_mode):
        raise ValueError("it has a damaged unique or search key")
    if not isinstance(job.options, dict):
        raise TypeError("its options aren't an object")
    if codecs.refers_to_models(options):  # an older release accepted them in headers
        raise ValueError("its headers hold a model instance, which can't travel there")
    job.encode()


def _is_ms(value: object) -> bool:
    """Whether it's a number of milliseconds that Redis counts exactly, as its scripts only have floats."""
    return type(value) is int and 0 <= value < 2**53


_HASH = re.compile(r"[A-Za-z0-9_-]{22}")
_MODE = re.compile(r"t|[wdacfx]+")


def of_schedule(record: bytes, name: str) -> bytes:
    """The record, marked as a tick of a schedule."""
    return b"t%b%b%b" % (name.encode(), b"" if record.startswith(b"|") else b",", record)


_TERMS = ("delay", "run_at", "expires", "unique_for")
_DEFAULTS = NewJob._field_defaults


@dataclass(slots=True)
class Record:
    """A stored record, taken apart; its JSON is still text.

    Don't modify it: it's not frozen only because each run makes one, and would pay a microsecond for that.
    """

    head: Mapping[str, str]
    name: str
    options: bytes
    arguments: bytes


UNREADABLE = Record({}, "(unreadable)", b"", b"")  # in place of one that can't be read


@lru_cache(maxsize=1024)
def _beginning(name: str, priority: int) -> bytes:
    """The part of a record before the arguments, for most jobs."""
    return f"{f'p{priority}' if priority else ''}|{name}|".encode()


_NO_HEAD: Mapping[str, str] = {}


def decode(text: bytes) -> Record:
    """Take a stored record apart.

    Raises:
        NewerRecord: it was written by a newer release.
        UnreadableRecord: it isn't a job's record at all.
    """
    try:
        head_text, name, rest = text.split(b"|", 2)
        if not head_text:
            return Record(_NO_HEAD, name.decode(), b"", rest)
        head = {token[0]: token[1:] for token in head_text.decode().split(",")}
        if int(head.get("v", 1)) > VERSION:
            raise NewerRecord(f"format {head['v']}; this release reads up to {VERSION}", head)
        size = int(head.get("o", 0))
        return Record(head, name.decode(), rest[:size], rest[size:])
    except NewerRecord:
        raise
    except (ValueError, IndexError) as error:
        raise UnreadableRecord(f"not a job's record: {text[:60]!r}") from error


def encode_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Arguments as stored. Raises :class:`~django_kue.codecs.CodecError` for those that can't be."""
    if kwargs:
        return codecs.dumps({"a": list(args), "k": dict(kwargs)} if args else {"k": dict(kwargs)})
    return codecs.dumps(args) if args else b""


def decode_arguments(text: bytes, *, fetch: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``(args, kwargs)`` from what :func:`encode_arguments` made; ``fetch`` as in ``codecs.loads``."""
    if not text:
        return (), {}
    value = codecs.loads(text, fetch=fetch)
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict) and value.keys() <= {"a", "k"}:
        args, kwargs = value.get("a", []), value.get("k", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return tuple(args), kwargs
    raise UnreadableRecord(f"not a job's arguments: {text[:60]!r}")
