"""Calls, as the store's functions return them: a script, its queue, its arguments, and how to read the reply.

A call says *what*; a transport says *how*. So nothing is written twice for sync and async.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from django_kue import keys
from django_kue.conf import settings
from django_kue.scripts import Script, load

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Call(NamedTuple, Generic[T_co]):
    """One request to Redis and the meaning of its reply."""

    script: Script
    queue: str | None  # None: the keys that belong to no queue
    arguments: Sequence[bytes]
    read: Callable[[Any], T_co]

    @property
    def keys(self) -> list[bytes]:
        return _keys(settings.PREFIX, self.queue, self.script.name)

    def packed(self) -> bytes:
        """The whole command in Redis's protocol, with the script's digest."""
        count, head = _packed_head(settings.PREFIX, self.queue, self.script.name)
        return b"*%d%b%b\r\n" % (count + len(self.arguments), head, _joined(self.arguments))

    def packed_source(self) -> bytes:
        """The same with the script's text, for a server that doesn't know the digest."""
        return pack(b"EVAL", self.script.source, b"%d" % len(self.keys), *self.keys, *self.arguments)


def call(
    name: str,
    queue: str | None,
    *arguments: bytes | str | int,
    rest: Sequence[bytes] = (),
    read: Callable[[Any], T] = lambda reply: reply,
) -> Call[T]:
    """A call of ``scripts/<name>.lua``; texts and numbers are encoded, before the ``rest``."""
    encoded = [argument if type(argument) is bytes else str(argument).encode() for argument in arguments]
    return Call(load(name), queue, [*encoded, *rest], read)


@cache
def packed_beginning(prefix: str, queue: str, name: str, words: int) -> bytes:
    """The beginning of a packed call of ``scripts/<name>.lua`` with this many arguments."""
    count, head = _packed_head(prefix, queue, name)
    return b"*%d%b" % (count + words, head)


def pack(*words: bytes) -> bytes:
    """A command in Redis's protocol."""
    return b"*%d%b\r\n" % (len(words), _joined(words))


class _Between(dict[int, bytes]):
    """What's between two words, by the length of the second. Formatting it each time takes twice as long."""

    def __missing__(self, length: int) -> bytes:
        return b"\r\n$%d\r\n" % length


BETWEEN = _Between({length: b"\r\n$%d\r\n" % length for length in range(1024)})


def _joined(words: Sequence[bytes]) -> bytes:
    """Words as they follow their number in a command, without the end of the last."""
    parts: list[bytes] = []
    for word in words:
        parts.append(BETWEEN[len(word)])
        parts.append(word)
    return b"".join(parts)


@cache
def _keys(prefix: str, queue: str | None, name: str) -> list[bytes]:
    script = load(name)
    if queue is None:
        return [keys.of_all(prefix, key).encode() for key in script.keys]
    return [keys.of_queue(prefix, queue, key).encode() for key in script.keys]


@cache
def _packed_head(prefix: str, queue: str | None, name: str) -> tuple[int, bytes]:
    names = _keys(prefix, queue, name)
    words = [b"EVALSHA", load(name).digest, b"%d" % len(names), *names]
    return len(words), _joined(words)
