"""Kinds of settings: how a value that people wrote is read, and what they're told when it's wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django_kue.backoff import Backoff
from django_kue.priorities import HIGHEST, LOWEST, PRIORITIES, priority_number

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60
KIB, MIB = 1024, 1024 * 1024


class Rate(NamedTuple):
    """At most ``count`` starts in any ``period_ms`` milliseconds."""

    count: int  # type: ignore[assignment]  # nobody counts in it, as tuple.count does
    period_ms: int


class Advice(ValueError):
    """What to write instead of a wrong value, where the kind's own advice doesn't fit it."""


class Problem(NamedTuple):
    """One thing that's wrong in the settings, in words for the person who wrote them."""

    path: str  # KUE["QUEUES"]["email"]["RATE"]
    expected: str
    found: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path} must be {self.expected}; found {self.found}. {self.hint}"


class Kind(NamedTuple):
    """A kind of value. ``read`` returns what the code uses, or raises ValueError or TypeError."""

    title: str  # the reference's column
    expected: str
    advice: str  # what to write
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = repr  # a value, for people


def _number(value: Any, low: float, high: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError
    return value


def whole(title: str, low: int, high: int, example: int, show: Callable[[Any], str] = repr) -> Kind:
    def read(value: Any) -> int:
        if not isinstance(value, int):
            raise TypeError
        return int(_number(value, low, high))

    return Kind(title, f"a whole number from {low} to {high}", f"Write for example {example}.", read, show)


def seconds(low: float, high: float, example: float) -> Kind:
    def read(value: Any) -> Any:
        return _number(value.total_seconds() if isinstance(value, timedelta) else value, low, high)

    expected = f"seconds (a number or a timedelta) from {low:g} to {high}"
    return Kind("seconds", expected, f"Write for example {example:g}.", read, show_seconds)


def optional(kind: Kind) -> Kind:
    return kind._replace(
        title=f"{kind.title}, or `None`",
        expected=f"None or {kind.expected}",
        read=lambda value: None if value is None else kind.read(value),
        show=lambda value: repr(value) if value is None else kind.show(value),
    )


def _read_redis(value: Any) -> str:
    """An alias, "embedded", or a URL; :func:`~django_kue.conf.alias_problem` says whether an alias exists."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    if "://" in value:
        _check_url(value)
    return value


def _check_url(url: str) -> None:
    """Find what the Redis client would pass over, such as a database's name that isn't a number."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise Advice(f"The URL must begin with {listed(f'{scheme}://' for scheme in SCHEMES)}.")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise Advice(
            "Its port isn't one; a password's special characters must be quoted (%23 for #)."
        ) from error
    if scheme == "unix":
        if parts.hostname or not parts.path.startswith("/"):
            raise Advice("Write the socket's whole path: unix:///run/redis/redis.sock.")
    elif not re.fullmatch(r"/?[0-9]*", parts.path):
        raise Advice("What follows the port is a database's number, such as /0.")


def _read_prefix(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 60:
        raise ValueError
    if not value.isprintable() or re.search(r"[{}\s]", value):
        raise ValueError
    return value


def _read_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Advice(f"Write [{value!r}].")
    if not isinstance(value, list | tuple | set | frozenset):
        raise TypeError
    if not all(isinstance(name, str) and name for name in value):
        raise ValueError
    return tuple(sorted({name.lower() for name in value}))


def _read_rate(value: Any) -> Rate:
    match = re.fullmatch(r"([0-9]{1,7})/([smh])", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError
    return Rate(int(match[1]), {"s": 1000, "m": MINUTE * 1000, "h": HOUR * 1000}[match[2]])


def show_bytes(size: int) -> str:
    """``262144`` as ``262144 (256 KiB)``."""
    return f"{size} ({size // KIB} KiB)" if size >= KIB else str(size)


def show_seconds(value: float) -> str:
    """``604800`` as ``604800 (7 days)``."""
    return f"{value:.0f} ({value / DAY:g} days)" if value >= DAY else f"{value:g}"


def hide_password(address: object) -> str:
    """``repr`` of a value, without the passwords of the URLs in it."""
    text = re.sub(r"(://[^:/@]*:).*@", r"\1***@", repr(address))
    return re.sub(r"(password=)[^&'\"]*", r"\1***", text)


def listed(names: Iterable[object]) -> str:
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} or {last}" if most else last


REDIS = Kind(
    'alias, URL or `"embedded"`',
    'an alias in CACHES, a URL, or "embedded"',
    'Write for example "default", "redis://127.0.0.1:6379/0", or "embedded" for development.',
    _read_redis,
    hide_password,
)
PREFIX = Kind(
    "text",
    "1 to 60 printable characters without spaces, { and }",
    'Write for example "kue" or "shop:kue".',
    _read_prefix,
)
NAMES = Kind(
    "list of names",
    "a list of names",
    'Write for example ["password", "token"].',
    _read_names,
    lambda names: ", ".join(names),
)
PRIORITY = Kind(
    "whole number or name",
    f"a whole number from {LOWEST} to {HIGHEST}, or {listed(map(repr, PRIORITIES))}",
    'Write for example 10 or "high".',
    priority_number,
)
BACKOFF = Kind(
    "seconds, `Backoff` or `None`",
    "None, seconds from 0 to ten years, or a django_kue.Backoff",
    "Write for example 10, or Backoff.exponential(2, max=600).",
    Backoff.of,
)
RATE = Kind(
    "text, or `None`",
    'None or text such as "5/s", "100/m" or "1000/h"',
    'Write for example "100/m" for at most 100 starts in any minute.',
    lambda value: None if value is None else _read_rate(value),
)
SIZE = whole("bytes", 1, 64 * MIB, 256 * KIB, show_bytes)
KEPT = whole("whole number", 0, 10_000_000, 1000)
AGE = seconds(0, 3650 * DAY, 7 * DAY)
