"""The stored text of a job: ``head|name|options arguments``.

The head is a comma-separated list of one-letter tokens and is empty for a plain job, so that a
waiting job costs little memory and the scripts read what they need with one pattern:

====  =======================================================================
p     priority, left out when 0
m     runs that ended in failure
s     seat: the entry ``key~seat`` of a waiting list is this job's, no other is
c     crashes: how often its run killed its process
z     suspect: how often it was in the hands of a worker that died with nobody to blame
y     a suspect whose run has started
n     parked: the last worker that saw it doesn't know its function
e     Unix ms after which it's not worth starting
u     ``hash:mode`` of the unique key; mode is the states that hold it (``wda``…) or ``t``
k     ``+``-joined hashes of the search keys
q     ms the finished job is kept, when ``@job`` or ``.using()`` says so: holds where no run's outcome says it
o     byte length of the options' JSON, which precedes the arguments
v     version of this format, left out when 1
====  =======================================================================

Arguments are empty (none), a JSON list (positional), or an object with ``a`` and ``k``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_kue import codecs

VERSION = 1


class UnreadableRecord(ValueError):
    """The stored text is not a job that this release can read."""


class NewerRecord(UnreadableRecord):
    """The stored text was written by a newer release; it's left for one that can read it."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job on its way into the store. Times are whole milliseconds."""

    key: bytes
    name: str
    arguments: bytes = b""
    priority: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # what differs from the definition
    delay: int | None = None  # from now …
    run_at: int | None = None  # … or at this Unix time
    expires: int | None = None  # after it's due
    unique: str = ""  # hash of the key, 22 URL-safe characters
    unique_mode: str = "wda"  # letters of the states that hold it, or "t" with unique_for
    unique_for: int = 0
    search: tuple[str, ...] = ()  # hashes
    keep: int | None = None  # once it's finished; None: the queue's retention

    def encode(self) -> bytes:
        """The record to store."""
        head = []
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
        """True when storing it takes no decision by the script."""
        return not (self.unique or self.search or self.expires or self.delay or self.run_at is not None)


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record, taken apart; its JSON is still text."""

    head: Mapping[str, str]
    name: str
    options: bytes
    arguments: bytes


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
            raise NewerRecord(f"format {head['v']}; this release reads up to {VERSION}")
        size = int(head.get("o", 0))
        return Record(head, name.decode(), rest[:size], rest[size:])
    except NewerRecord:
        raise
    except (ValueError, IndexError) as error:
        raise UnreadableRecord(f"not a job's record: {text[:60]!r}") from error


def encode_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Arguments as stored. Raises :class:`~django_kue.codecs.CodecError` for what can't be."""
    if kwargs:
        return codecs.dumps({"a": list(args), "k": dict(kwargs)} if args else {"k": dict(kwargs)})
    return codecs.dumps(list(args)) if args else b""


def decode_arguments(text: bytes, *, fetch: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``(args, kwargs)`` from what :func:`encode_arguments` made; ``fetch`` as in ``codecs.loads``."""
    if not text:
        return (), {}
    value = codecs.loads(text, fetch=fetch)
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict) and value.keys() <= {"a", "k"}:
        return tuple(value.get("a", ())), value.get("k", {})
    raise UnreadableRecord(f"not a job's arguments: {text[:60]!r}")
