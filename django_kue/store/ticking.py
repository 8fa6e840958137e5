"""Schedules in Redis: what reads them, fires their ticks and changes them; each returns a :class:`Call`."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from django_kue.records import NewJob, of_schedule
from django_kue.store.calls import Call, call


class Stored(NamedTuple):
    """A schedule as stored."""

    name: str
    record: bytes  # as schedules/record.py has it
    next_ms: int | None
    ticked: list[bytes]  # its last ticks, newest first: scripts/lib/ticked.lua


class All(NamedTuple):
    now_ms: int
    schedules: list[Stored]


def schedules(queue: str, *names: str | bytes) -> Call[All]:
    """Schedules of a queue: those that are named, or all. Foreign names that aren't text are left out."""

    def read(reply: list[Any]) -> All:
        now, *flat = reply
        rows = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        found = [(_text(name), record, next_ms, ticked) for name, record, next_ms, ticked in rows]
        return All(now, [Stored(name, record, _ms(ms), ticked) for name, record, ms, ticked in found if name])

    return call("schedules", queue, *names, read=read)


class Due(NamedTuple):
    now_ms: int
    coming_ms: int | None  # the earliest future tick
    schedules: list[Stored]  # those whose tick has come, without their last ticks


def due(queue: str, most: int = 100) -> Call[Due]:
    """Schedules whose tick has come, at most ``most``."""

    def read(reply: list[Any]) -> Due:
        now, coming, *flat = reply
        rows = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
        found = [(_text(name), record, tick) for name, record, tick in rows]
        return Due(
            now, _ms(coming), [Stored(name, record, _ms(ms), []) for name, record, ms in found if name]
        )

    return call("due", queue, most, read=read)


class Fired(NamedTuple):
    """What became of a tick, in the terms of ``scripts/fire.lua``."""

    fate: str
    key: bytes  # of the job, or of the one that keeps it out
    next_ms: int | None  # the schedule's next tick as of now


def fire(
    queue: str,
    name: str,
    version: str,
    job: NewJob | None,
    *,
    tick: int,
    expected: int = 0,
    next_ms: int | None = None,
    is_now: bool = False,
    missed: tuple[int, int] = (0, 0),
) -> Call[Fired]:
    """Fire a tick, if the schedule is still as it was read.

    Args:
        job: the tick's job; ``None``: the tick is missed, and nothing is fired.
        is_now: whether somebody asked for a run between the ticks.
        missed: the newest of the ticks that are left out, and how many there are.
    """
    words: tuple[bytes | str | int, ...] = ("", "", 0, "", 0)
    if job is not None:
        record = of_schedule(job.encode(), name)
        words = (job.key, record, job.priority, job.expires or "", job.unique_for)
    return call(
        "fire", queue, name, version, expected, tick, _word(next_ms), *words, "n" if is_now else "",
        *missed, read=lambda reply: Fired(reply[0].decode(), reply[1], _ms(reply[2])),
    )  # fmt: skip


KEEP, OFF = "", "-"


def put(queue: str, name: str, version: str, record: bytes, next_ms: int | str = KEEP) -> Call[bool]:
    """Make, change or delete (no ``record``) a schedule; replies False if it's no longer as it was read.

    Args:
        version: that of the record that was read, "" if there was none.
        next_ms: its next tick; :data:`KEEP` leaves that as it is, :data:`OFF` removes it.
    """
    return call("schedule_put", queue, name, version, record, next_ms, read=bool)


HOLD = 10_000  # ms for which a name is held; whoever takes longer to make a schedule takes it back


def claim(name: str, maker: str) -> Call[bool]:
    """Hold the name of a schedule that's being made, across all queues; replies False if another holds it."""
    return call("schedule_claim", None, name, maker, HOLD, read=bool)


def made(name: str, maker: str) -> Call[bool]:
    """Let the name go; replies False if this maker no longer held it."""
    return call("schedule_made", None, name, maker, read=bool)


def seen(queue: str, digests: Mapping[str, str]) -> Call[Any]:
    """Note that a worker declares these schedules (name → digest)."""
    return call("schedule_seen", queue, *[word for pair in digests.items() for word in pair])


def scheduled(queue: str = "") -> Call[list[str]]:
    """The queues that have or had schedules; ``queue`` joins them."""
    return call("scheduled", None, queue, read=lambda reply: sorted(filter(None, map(_text, reply))))


def _ms(score: bytes) -> int | None:
    """A score as ms; ``None`` if there is none, or it's not finite, which is foreign data."""
    return int(float(score)) if score and isfinite(float(score)) else None


def _word(ms: int | None) -> int | str:
    return "" if ms is None else ms


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""
