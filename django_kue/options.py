"""The options of ``@job`` and ``.using()``: what they are, where they're allowed, and which take effect.

The fields of :class:`Options` are the only table; errors and ``docs/reference/options.md`` are made from it.
"""

# ruff: noqa: RUF009 - option() returns a field

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, TypedDict

from django_kue import kinds, option_kinds
from django_kue.backoff import LONGEST, Backoff
from django_kue.conf import DEFAULT_QUEUE, QueueSettings
from django_kue.kinds import Advice, Kind
from django_kue.option_kinds import BackoffFunction
from django_kue.signatures import shortened
from django_kue.states import State


class Unset(Enum):
    """The value of an option that wasn't given, for options where ``None`` means something."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


def _of_queue(name: str) -> Kind:
    """The kind of an option that queues have, too: it takes the same values as there."""
    [row] = [row for row in dataclasses.fields(QueueSettings) if row.name == name]
    kind: Kind = row.metadata["kind"]
    return kind


# ── The table ─────────────────────────────────────────────────────────────────────────────────────

DECORATOR, USING = "@job", ".using()"
BOTH = (DECORATOR, USING)


def option(default: Any, kind: Kind, doc: str, *places: str) -> Any:
    """A row of the table."""
    metadata = {"kind": kind, "doc": doc, "places": places or BOTH}
    return dataclasses.field(default_factory=lambda: default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options as read: priority names are numbers, times are seconds. ``UNSET`` leaves it to the queue."""

    queue: str = option(
        DEFAULT_QUEUE,
        option_kinds.QUEUE,
        'The queue, which has to be declared in `KUE["QUEUES"]`. The default is `"default"`.',
    )
    priority: int | Unset = option(
        UNSET, _of_queue("priority"), "Higher runs sooner; first in, first out within one priority."
    )
    attempts: int | Unset = option(UNSET, _of_queue("attempts"), "How often the job may run in total.")
    backoff: Backoff | BackoffFunction | Unset | None = option(
        UNSET,
        option_kinds.BACKOFF,
        "The wait before the next attempt; `None` retries at once. A function gets the number of the run "
        "that failed; it's allowed only on the decorator, since code is never stored.",
    )
    delay: float | None = option(
        None, option_kinds.SECONDS, "Seconds or a `timedelta` before the job may run.", USING
    )
    run_at: datetime | None = option(None, option_kinds.RUN_AT, "The time from which the job may run.", USING)
    timeout: float | Unset | None = option(
        UNSET,
        _of_queue("timeout"),
        "Seconds that a run may take; then its code is stopped, and the attempt fails with `JobTimeout`. "
        "`None` sets no limit.",
    )
    expires: float | None = option(
        None,
        kinds.optional(option_kinds.SOME_SECONDS),
        "Seconds, from when the job is due, after which it isn't worth starting any more.",
    )
    title: str | None = option(
        None,
        option_kinds.TEXT,
        "What people see in lists. On the decorator it's a template with plain argument names, "
        "`\"Receipt {order_id}\"`; in `.using()` it's taken literally. It's cut after 200 characters.",
    )
    search_keys: tuple[str, ...] = option(
        (),
        option_kinds.ARGUMENT_NAMES,
        "Arguments by which jobs can be found: `get_queue(…).find(order_id=17)`.",
    )
    unique: bool | str = option(
        False,
        option_kinds.UNIQUE,
        "Only one such job at a time in its queue: `True` for the same function and arguments, or on the "
        "decorator a template as for `title`. A second enqueue returns the first job.",
    )
    unique_for: tuple[State, ...] | float = option(
        (State.DELAYED, State.WAITING, State.ACTIVE),
        option_kinds.UNIQUE_FOR,
        "How long the first job keeps others out: while it's in one of these states (by default waiting, "
        "delayed or active), or for this many seconds.",
    )
    retry_on: tuple[type[Exception], ...] | None = option(
        None, option_kinds.EXCEPTIONS, "If you give it, any other exception fails the job at once.", DECORATOR
    )
    discard_on: tuple[type[Exception], ...] = option(
        (),
        option_kinds.EXCEPTIONS,
        "These exceptions fail the job at once; they take precedence over `retry_on`.",
        DECORATOR,
    )
    keep: float | Unset = option(
        UNSET, option_kinds.SECONDS, "Seconds for which the finished job is kept; 0 removes it at once."
    )
    takes_context: bool = option(
        False,
        option_kinds.BOOL,
        "The function's first parameter, named `context`, gets the `JobContext`.",
        DECORATOR,
    )
    on_commit: bool | str = option(
        True,
        option_kinds.ON_COMMIT,
        "Inside `atomic()`, the job is sent after the commit. `False` sends it at once; an alias names the "
        "database whose transaction counts.",
    )
    outbox: bool | str | Unset = option(
        UNSET,
        kinds.OUTBOX,
        "Inside `atomic()`, the job is written into the outbox, in the same transaction, so that it can't be "
        "lost between commit and Redis. `True` uses the database of `on_commit`; an alias names one.",
    )
    api: bool = option(
        False,
        option_kinds.BOOL,
        "Whether [the JSON API](../how-to/api.md) may enqueue it. Otherwise no request from outside can.",
        DECORATOR,
    )
    cron: str | None = option(
        None,
        kinds.CRON,
        'A schedule: it runs without arguments at these times, `"*/5 * * * *"`, in the project\'s time zone. '
        "For several schedules, or arguments, use `@schedule`.",
        DECORATOR,
    )
    every: timedelta | float | None = option(
        None,
        kinds.INTERVAL,
        "A schedule: it runs without arguments at this interval, in seconds or as a `timedelta`.",
        DECORATOR,
    )
    name: str | None = option(
        None, option_kinds.NAME, "The stored name, instead of `module.function`.", DECORATOR
    )
    aliases: tuple[str, ...] = option(
        (), option_kinds.NAMES, "Old names, under which stored jobs still run.", DECORATOR
    )


TABLE: Mapping[str, dataclasses.Field[Any]] = {row.name: row for row in dataclasses.fields(Options)}

Seconds = float | timedelta
States = tuple[str, ...] | list[str] | Sequence[State] | Set[str]  # no Sequence[str]: a str is one
Exceptions = type[Exception] | Sequence[type[Exception]] | Set[type[Exception]]


class UsingOptions(TypedDict, total=False):
    """What ``.using()`` takes, for type checkers. A test compares it with the table."""

    queue: str
    priority: int | str
    attempts: int
    backoff: Backoff | Seconds | None
    delay: Seconds
    run_at: datetime
    timeout: Seconds | None
    expires: Seconds | None
    title: str
    search_keys: tuple[str, ...] | list[str]
    unique: bool
    unique_for: States | Seconds
    keep: Seconds
    on_commit: bool | str
    outbox: bool | str


class JobOptions(TypedDict, total=False):
    """What ``@job`` takes, except ``takes_context``, which changes the function's type."""

    queue: str
    priority: int | str
    attempts: int
    backoff: Backoff | Seconds | BackoffFunction | None
    timeout: Seconds | None
    expires: Seconds | None
    title: str
    search_keys: tuple[str, ...] | list[str]
    unique: bool | str
    unique_for: States | Seconds
    retry_on: Exceptions
    discard_on: Exceptions
    keep: Seconds
    on_commit: bool | str
    outbox: bool | str
    api: bool
    cron: str
    every: Seconds
    name: str
    aliases: tuple[str, ...] | list[str]


def read(given: Mapping[str, Any], place: str, base: Options | None = None) -> Options:
    """Options as people gave them, checked, on top of ``base``.

    Args:
        place: :data:`DECORATOR` or :data:`USING`: some options belong to only one of them.

    Raises:
        TypeError: an unknown option, one that doesn't belong here, or a value of the wrong type.
        ValueError: a value out of range, or two options that contradict each other.
    """
    values = {name: _read_one(name, value, place) for name, value in given.items()}
    if {"delay", "run_at"} <= values.keys():
        raise ValueError(f"{place}: delay and run_at exclude each other; give one of them")
    if "delay" in values or "run_at" in values:  # a later call decides when, whatever an earlier one said
        values = {"delay": None, "run_at": None, **values}
    before = base or Options()
    outbox, on_commit = values.get("outbox"), values.get("on_commit")
    if on_commit and "outbox" not in values and isinstance(before.outbox, str):
        outbox = before.outbox
    if outbox:
        values["on_commit"] = _transaction_of(outbox, on_commit, before, place)
    options = dataclasses.replace(before, **values)
    if options.cron is not None and options.every is not None:
        raise ValueError(f"{place}: cron and every exclude each other; give one of them")
    if "unique_for" in values and not options.unique:
        raise ValueError(f"{place}: unique_for says how long unique lasts; give unique, too")
    return options


def is_option(name: str, place: str) -> bool:
    """Whether there's an option of this name in this place."""
    return name in TABLE and place in TABLE[name].metadata["places"]


def _transaction_of(
    outbox: bool | str, on_commit: bool | str | None, base: Options, place: str
) -> bool | str:
    """``on_commit`` for an outbox: the transaction that counts is the one in the outbox's database."""
    if on_commit is False:
        raise ValueError(
            f"{place}: on_commit=False sends at once, an outbox keeps jobs until the commit; give one of them"
        )
    if isinstance(outbox, str) and isinstance(on_commit, str) and outbox != on_commit:
        raise ValueError(f"{place}: outbox and on_commit name two databases, {outbox!r} and {on_commit!r}")
    if isinstance(outbox, str):
        return outbox
    return on_commit or base.on_commit or True


def _read_one(name: str, value: Any, place: str) -> Any:
    row = TABLE.get(name)
    if row is None:
        raise TypeError(f"{place} has no option {name!r}.{_did_you_mean(name, place)}")
    if not is_option(name, place):
        [other] = row.metadata["places"]
        raise TypeError(f"{name} is an option of {other}, not of {place}")
    kind: Kind = row.metadata["kind"]
    if place == USING:
        kind = _IN_USING.get(name, kind)
    try:
        return kind.read(value)
    except (TypeError, ValueError) as error:
        advice = str(error) if isinstance(error, Advice) else kind.advice
        message = f"{place}: {name} must be {kind.expected}; found {value!r:.80}. {advice}"
        wrong = TypeError if isinstance(error, TypeError) else ValueError
        raise wrong(message) from error


# These accept less in .using() than in the decorator: functions and templates belong to the definition.
_IN_USING: Mapping[str, Kind] = {
    "backoff": _of_queue("backoff"),
    "unique": option_kinds.BOOL._replace(advice="A template goes onto the decorator."),
    "title": option_kinds.TEXT._replace(
        advice='Write for example "Receipt 17".', read=lambda value: shortened(option_kinds.TEXT.read(value))
    ),
}


def _did_you_mean(name: str, place: str) -> str:
    known = [other for other, row in TABLE.items() if place in row.metadata["places"]]
    close = get_close_matches(name, known, 1)
    return f" Did you mean {close[0]!r}?" if close else f" It takes {', '.join(known)}."


# ── What a record stores, and what applies when it runs ───────────────────────────────────────────

# The others are in a record's head, or matter only while the job is enqueued.
STORED = ("title", "attempts", "backoff", "timeout", "keep")


def to_store(options: Options, definition: Options) -> dict[str, Any]:
    """What a job's record must say because it differs from its function's definition, as plain data."""
    changed = {
        name: getattr(options, name) for name in STORED if getattr(options, name) != getattr(definition, name)
    }
    if isinstance(changed.get("backoff"), Backoff):
        changed["backoff"] = changed["backoff"].as_json()
    return changed


@dataclass(frozen=True, slots=True)
class RunRules:
    """What applies to the runs of one job. Times are seconds."""

    attempts: int
    backoff: Backoff | BackoffFunction | None
    timeout: float | None
    keep: float | None  # None: the queue's retention decides
    retry_on: tuple[type[Exception], ...] | None
    discard_on: tuple[type[Exception], ...]

    def delay_after(self, attempt: int) -> float:
        """Seconds to wait after run number ``attempt`` (from 1) has failed.

        Raises:
            TypeError, ValueError: the job's own backoff function didn't return a number of seconds.
        """
        if self.backoff is None:
            return 0.0
        if isinstance(self.backoff, Backoff):
            return self.backoff.delay(attempt)
        found = self.backoff(attempt)
        seconds = found.total_seconds() if isinstance(found, timedelta) else found
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"the backoff function returned {found!r:.80} for attempt {attempt}, not seconds")
        if not seconds >= 0 or math.isinf(seconds):
            raise ValueError(
                f"the backoff function returned {found!r:.80} for attempt {attempt}; seconds are ≥ 0"
            )
        return min(float(seconds), LONGEST)

    def may_retry(self, exception: BaseException) -> bool:
        """Whether ``discard_on`` and ``retry_on`` allow another attempt after this exception."""
        if isinstance(exception, self.discard_on):
            return False
        return self.retry_on is None or isinstance(exception, self.retry_on)


def rules(definition: Options, stored: Mapping[str, Any], queue: QueueSettings) -> RunRules:
    """What applies: the record beats the definition, which beats the queue's setting.

    Raises:
        ValueError: the record says something impossible: it's corrupt.
    """
    own = {name: _read_stored(name, value) for name, value in stored.items() if name in STORED}
    held = {
        name: own[name] if name in own else effective(definition, name, queue)
        for name in ("attempts", "backoff", "timeout", "keep")
    }
    return RunRules(**held, retry_on=definition.retry_on, discard_on=definition.discard_on)


def effective(definition: Options, name: str, queue: QueueSettings) -> Any:
    """An option's value for a definition's jobs: its own, or the queue's. ``keep`` may be ``None``."""
    value = getattr(definition, name)
    return getattr(queue, name, None) if value is UNSET else value


def _read_stored(name: str, value: Any) -> Any:
    if name == "backoff" and value is not None:
        return Backoff.from_json(value)
    try:
        return _read_one(name, value, USING)
    except TypeError as error:
        raise ValueError(f"not a stored option: {error}") from error
