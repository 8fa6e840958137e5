"""What a store method returns: a script, where it runs, its arguments, and how to read the reply.

A call says *what*; a transport says *how*. So nothing is written twice for sync and async.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from django_kue import keys
from django_kue.conf import settings
from django_kue.scripts import Script, load

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request to Redis and the meaning of its reply."""

    script: Script
    queue: str | None  # None: the keys that aren't a queue's
    arguments: Sequence[bytes]
    read: Callable[[Any], T]

    @property
    def keys(self) -> list[bytes]:
        return _keys(settings.PREFIX, self.queue, self.script.name)

    def packed(self) -> bytes:
        """The whole command in Redis's protocol, by the script's digest."""
        count, head = _packed_head(settings.PREFIX, self.queue, self.script.name)
        arguments = self.arguments
        parts = [b"*%d\r\n%b" % (count + len(arguments), head)]
        parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
        return b"".join(parts)

    def packed_source(self) -> bytes:
        """The same with the script's text, for a server that doesn't know the digest."""
        return pack(b"EVAL", self.script.source, b"%d" % len(self.keys), *self.keys, *self.arguments)


def call(
    name: str,
    queue: str | None,
    *arguments: bytes | str | int,
    read: Callable[[Any], T] = lambda reply: reply,
) -> Call[T]:
    """A call of ``scripts/<name>.lua``; texts and numbers are encoded."""
    encoded = [argument if type(argument) is bytes else str(argument).encode() for argument in arguments]
    return Call(load(name), queue, encoded, read)


def pack(*words: bytes) -> bytes:
    """A command in Redis's protocol."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


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
    return len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
