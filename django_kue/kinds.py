"""Kinds of settings: how a value that people wrote is read, and what the message says if it's wrong."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django_kue import ticks
from django_kue.backoff import Backoff
from django_kue.priorities import HIGHEST, LOWEST, PRIORITIES, priority_number
from django_kue.ticks import CATCH_UP, Cron, Every

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60
KIB, MIB = 1024, 1024 * 1024


class Rate(NamedTuple):
    """At most ``count`` starts in any ``period_ms`` milliseconds."""

    count: int  # type: ignore[assignment]  # nobody needs tuple.count here
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


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def read_flag_or_alias(value: Any) -> bool | str:
    if not isinstance(value, bool | str):
        raise TypeError
    if value == "":
        raise ValueError
    return value


def _read_redis(value: Any) -> str:
    """An alias, "embedded", or a URL; :func:`~django_kue.conf.alias_problem` says whether an alias exists."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    if "://" in value:
        _check_url(value)
    return value


def _check_url(url: str) -> None:
    """Find what the Redis client would silently ignore, such as a database that isn't a number."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise Advice(f"The URL must begin with {listed(f'{scheme}://' for scheme in SCHEMES)}.")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise Advice(
            "Its port isn't valid; special characters in a password must be quoted (%23 for #)."
        ) from error
    if scheme == "unix":
        if parts.hostname or not parts.path.startswith("/"):
            raise Advice("Write the socket's whole path: unix:///run/redis/redis.sock.")
    elif not re.fullmatch(r"/?[0-9]*", parts.path):
        raise Advice("What follows the port must be the number of a database, such as /0.")


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


def _read_keys(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, list | tuple):
        raise TypeError
    if not value:  # an environment variable that's empty must not switch encryption off
        raise Advice("The list is empty: give a key, or leave the setting out if nothing is to be encrypted.")
    keys = tuple(key.decode() if isinstance(key, bytes) else key for key in value)
    for key in keys:
        if not isinstance(key, str) or len(urlsafe_b64decode(key)) != 32:
            raise ValueError
    return keys


_SHA256 = re.compile(r"[0-9a-f]{64}")


def _read_tokens(value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise TypeError
    tokens = {user: (found,) if isinstance(found, str) else tuple(found) for user, found in value.items()}
    for user, digests in tokens.items():
        if not isinstance(user, str) or not user or not digests:
            raise ValueError
        if not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests):
            raise ValueError
    return MappingProxyType(tokens)


_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _read_paths(value: Any, words: tuple[str, ...] = ()) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Advice(f"Write [{value!r}].")
    if not isinstance(value, list | tuple):
        raise TypeError
    if not all(isinstance(path, str) and (path in words or _PATH.fullmatch(path)) for path in value):
        raise ValueError
    return tuple(dict.fromkeys(value))


def _read_rate(value: Any) -> Rate:
    match = re.fullmatch(r"([0-9]{1,7})/([smh])", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError
    return Rate(int(match[1]), {"s": 1000, "m": MINUTE * 1000, "h": HOUR * 1000}[match[2]])


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip():
        raise ValueError
    return value


def _read_cron(value: Any) -> str:
    text = _read_text(value)
    try:
        Cron.of(text, "UTC")
    except ValueError as error:
        raise Advice(f"{error}.") from error
    return text


def _read_zone(value: Any) -> str:
    text = _read_text(value)
    try:
        ticks.read_zone(text)
    except ValueError as error:
        raise Advice(f"{error}.") from error
    return text


def _read_interval(value: Any) -> timedelta | float:
    Every.of(value)
    interval: timedelta | float = value
    return interval


def _read_catch_up(value: Any) -> str:
    if value not in CATCH_UP:
        raise ValueError
    return str(value)


def _read_args(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(value)


def _read_kwargs(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return dict(value)


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


_EVER = 1e12  # seconds


def whole_number(what: str, value: object, low: int, high: int | None = None) -> int:
    """An argument of a public method, checked.

    Raises:
        TypeError: it isn't a whole number.
        ValueError: it's out of range.
    """
    expected = f"{what} is a whole number" + (
        f", {low} or more" if high is None else f" from {low} to {high}"
    )
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{expected}, not {value!r:.80}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{expected}, not {value!r:.80}")
    return value


def number_of_seconds(what: str, value: object) -> float:
    """Like :func:`whole_number`, for seconds or a ``timedelta``, at most some 30,000 years."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} is a number of seconds or a timedelta, not {value!r:.80}")
    if seconds != seconds:  # a NaN; math.isnan() can't take a very large int
        raise ValueError(f"{what} is a number of seconds or a timedelta, not NaN")
    return float(max(-_EVER, min(seconds, _EVER)))


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
KEYS = Kind(
    "list of keys",
    "a list of one or more Fernet keys, each 32 bytes in URL-safe base64",
    'Make one: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())", '
    "and read it from the environment.",
    _read_keys,
    lambda keys: "none" if not keys else f"({len(keys)}, not shown)",
)
TOKENS = Kind(
    "dict of hashes",
    "a dict from names of users to SHA-256 hashes of tokens, 64 hexadecimal digits each, or lists of them",
    'Make a token and its hash: python -c "import hashlib, secrets; token = secrets.token_urlsafe(32); '
    'print(token, hashlib.sha256(token.encode()).hexdigest())". Only the hash goes into the settings.',
    _read_tokens,
    lambda tokens: "none" if not tokens else f"({len(tokens)}, not shown)",
)
SECRET = (KEYS, TOKENS)  # kinds whose values appear in no message
PATHS = Kind(
    "list of dotted paths",
    "a list of dotted paths to classes",
    'Write for example ["shop.middleware.Timed"].',
    _read_paths,
    lambda paths: repr(list(paths)),
)
CONTEXT = Kind(
    "list of names",
    'a list of "language", "timezone" and dotted paths to context variables',
    'Write for example ["language", "timezone", "shop.tenants.current_tenant"].',
    lambda value: _read_paths(value, ("language", "timezone")),
    lambda paths: repr(list(paths)),
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
FLAG = Kind("`True` or `False`", "True or False", "Write True or False.", _read_flag)
OUTBOX = Kind(
    "`True`, `False` or alias",
    "True, False, or an alias in DATABASES",
    "Write True for the database of the transaction.",
    read_flag_or_alias,
)
SIZE = whole("bytes", 1, 64 * MIB, 256 * KIB, show_bytes)
KEPT = whole("whole number", 0, 10_000_000, 1000)
AGE = seconds(0, 3650 * DAY, 7 * DAY)
JOB_NAME = Kind(
    "name", "the name of a function that's a job", 'Write for example "shop.jobs.weekly_report".', _read_text
)
CRON = Kind("cron expression", "a cron expression", 'Write for example "30 2 * * mon".', _read_cron)
INTERVAL = Kind(
    "seconds",
    "seconds (a number or a timedelta) from one to ten years",
    "Write for example 300, or timedelta(minutes=5).",
    _read_interval,
)
ZONE = Kind("name", "the name of a time zone", 'Write for example "Europe/Berlin".', _read_zone)
CATCHING_UP = Kind(
    listed(f'`"{word}"`' for word in CATCH_UP),
    listed(map(repr, CATCH_UP)),
    'Write for example "last".',
    _read_catch_up,
)
ARGS = Kind("list", "a list of positional arguments", 'Write for example ["north"].', _read_args)
KWARGS = Kind("dict", "a dict of arguments by name", 'Write for example {"region": "north"}.', _read_kwargs)
NAME = Kind("name", "text", 'Write for example "email".', _read_text)
