"""Kinds of options: how the values of ``@job`` and ``.using()`` are read. See ``options.py``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django_kue import kinds
from django_kue.backoff import LONGEST, Backoff
from django_kue.ids import QUEUE_NAME
from django_kue.kinds import FLAG, Advice, Kind
from django_kue.moments import EPOCH, moment
from django_kue.states import State

BackoffFunction = Callable[[int], float]  # the number of the run that failed → seconds


def _read_queue(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not QUEUE_NAME.fullmatch(value):
        raise ValueError
    return value


def _read_backoff(value: Any) -> Backoff | BackoffFunction | None:
    if callable(value) and not isinstance(value, type):
        function: BackoffFunction = value
        return function
    return Backoff.of(value)


_END_OF_TIME = moment(2**42)  # an id has 42 bits for it


def _read_run_at(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError
    if value.utcoffset() is None:
        raise Advice("It has no time zone: use django.utils.timezone.make_aware(…) or datetime.now(UTC) + ….")
    if not EPOCH <= value < _END_OF_TIME:
        raise ValueError
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or "\x00" in value:
        raise ValueError
    return str(value)


def _read_argument_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Advice(f"Write ({value!r},).")
    if not isinstance(value, list | tuple):
        raise TypeError
    if not all(isinstance(name, str) and name.isidentifier() for name in value):
        raise ValueError
    return tuple(dict.fromkeys(value))


def _read_unique(value: Any) -> bool | str:
    return value if isinstance(value, bool) else _read_text(value)


def _read_unique_for(value: Any) -> tuple[State, ...] | float:
    if isinstance(value, str):
        raise Advice(f"Write ({value!r},).")
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            raise ValueError
        return tuple(state for state in State if state in {State(item) for item in value})
    seconds: float = SOME_SECONDS.read(value)
    return seconds


def _read_exceptions(value: Any) -> tuple[type[Exception], ...]:
    classes = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
    if not all(isinstance(item, type) and issubclass(item, Exception) for item in classes):
        raise TypeError
    return classes


_STORED_NAME = re.compile(r"[^\s|,\x00-\x1f\x7f]{1,200}")


def _read_name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not _STORED_NAME.fullmatch(value):
        raise ValueError
    return value


def _read_aliases(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Advice(f"Write ({value!r},).")
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(_read_name(name) for name in value)


SECONDS = kinds.seconds(0, LONGEST, 60)
SOME_SECONDS = kinds.seconds(0.001, LONGEST, 60)
QUEUE = Kind(
    "name", "a queue's name: 1 to 40 letters, digits, _ and -", 'Write for example "email".', _read_queue
)
BACKOFF = Kind(
    "seconds, `Backoff`, function or `None`",
    "None, seconds from 0 to ten years, a django_kue.Backoff, or a function from the attempt to seconds",
    "Write for example 10, or Backoff.exponential(2, max=600).",
    _read_backoff,
)
RUN_AT = Kind(
    "aware `datetime`",
    f"a datetime with a time zone, from 1970 until {_END_OF_TIME:%Y-%m-%d %H:%M} UTC",
    "Write for example datetime.now(UTC) + timedelta(hours=1).",
    _read_run_at,
)
TEXT = Kind("text", "text", 'Write for example "Receipt {order_id}".', _read_text)
ARGUMENT_NAMES = Kind(
    "names of arguments",
    "a tuple of names of the function's arguments",
    'Write for example ("order_id",).',
    _read_argument_names,
)
UNIQUE = Kind(
    "bool or text",
    "True, False, or text with names of arguments in braces",
    'Write for example True, or "sync-{account_id}".',
    _read_unique,
)
UNIQUE_FOR = Kind(
    "states or seconds",
    "a tuple of states, or seconds (a number or a timedelta) above 0",
    'Write for example ("waiting", "delayed", "active"), or 60.',
    _read_unique_for,
)
EXCEPTIONS = Kind(
    "exception classes",
    "a tuple of exception classes",
    "Write for example (ConnectionError, TimeoutError).",
    _read_exceptions,
)
BOOL = FLAG._replace(title="bool", advice="Write for example True.")
ON_COMMIT = Kind(
    "bool or alias",
    "True, False, or an alias in DATABASES",
    "Write False to send the job at once.",
    kinds.read_flag_or_alias,
)
NAME = Kind(
    "text",
    "1 to 200 characters without spaces, commas and |",
    'Write for example "shop.send_receipt".',
    _read_name,
)
NAMES = Kind("names", "a tuple of old names", 'Write for example ("shop.jobs.old_name",).', _read_aliases)
