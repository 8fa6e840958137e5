"""Where schedules are stored: finds one among the queues, and changes it if it's still as it was read."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from django_kue import ids, ticks
from django_kue.errors import ScheduleDoesNotExist, ScheduleError
from django_kue.schedules.record import Record, Unreadable, decode
from django_kue.store import ask, reads, send, ticking
from django_kue.store.ticking import KEEP, OFF, Stored
from django_kue.ticks import Rule

logger = logging.getLogger("django_kue")

TRIES = 20  # at changing a schedule that others change, too


class Place(NamedTuple):
    """A schedule, and where it's stored."""

    queue: str
    now_ms: int  # Redis's, when it was read
    stored: Stored
    record: Record

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def last_ms(self) -> int:
        """Its last tick, up to which nothing is fired again; 0 if a wrong clock noted it."""
        last = self.record.ms("l") or 0
        return 0 if last > self.now_ms + ticks.CORRECTION else last


def every_place(queues: Iterable[str] | None = None) -> list[Place]:
    """All schedules of some queues, or of all queues; unreadable ones are left out, and logged."""
    names = ask(ticking.scheduled()) if queues is None else list(queues)
    if not names:
        return []
    replies = send(*[ticking.schedules(queue) for queue in names])
    return [place for queue, reply in zip(names, replies, strict=True) for place in _read(queue, reply)]


def places_of(name: str) -> list[Place]:
    """Where a schedule is stored: in one queue, except while it moves. Where it's on comes first."""
    queues = ask(ticking.scheduled())
    if not queues:
        return []
    replies = send(*[ticking.schedules(queue, name) for queue in queues])
    found = [place for queue, reply in zip(queues, replies, strict=True) for place in _read(queue, reply)]
    return sorted(found, key=lambda place: "m" in place.record.head)


def place_of(name: str) -> Place:
    """The first of :func:`places_of`. Raises ScheduleDoesNotExist."""
    found = places_of(name) if ids.is_schedule_name(name) else []
    if not found:
        raise ScheduleDoesNotExist(
            f"No schedule is called {name!r}; manage.py kue schedules lists all schedules."
        )
    return found[0]


def _read(queue: str, reply: ticking.All) -> list[Place]:
    found = []
    for stored in reply.schedules:
        try:
            found.append(Place(queue, reply.now_ms, stored, decode(stored.record)))
        except Unreadable as error:
            logger.warning("schedule %r of queue %s is left alone: %s", stored.name, queue, error)
    return found


def add(queue: str, name: str, record: Record, next_ms: int | str) -> bool:
    """Store a new schedule; False if there's one with this name in the queue."""
    send(ticking.scheduled(queue), reads.registry(queue))  # first: workers must find what's stored
    return ask(ticking.put(queue, name, "", record.encode(), next_ms))


def add_first(queue: str, name: str, record: Record, next_ms: int | str) -> bool:
    """Store a new schedule; False if a queue has one with this name, or somebody else creates one."""
    maker = secrets.token_hex(8)
    if not ask(ticking.claim(name, maker)):
        return False
    is_added = not places_of(name) and add(queue, name, record, next_ms)
    if not ask(ticking.made(name, maker)) and is_added:  # it took so long that another may have been made
        ask(ticking.put(queue, name, "1", b"", OFF))
        return False
    return is_added


def put(place: Place, record: Record | None, next_ms: int | str = KEEP) -> bool:
    """Change a schedule, or delete it (``None``); False if it was changed since it was read."""
    text = b"" if record is None else record.encode()
    return ask(ticking.put(place.queue, place.name, place.record.version, text, next_ms))


def change(name: str, changed: Callable[[Place], tuple[Record | None, int | str] | None]) -> None:
    """Change a schedule, even if others do so at the same time.

    Args:
        changed: returns what to put in place of what's stored, or ``None`` to change nothing.

    Raises:
        ScheduleDoesNotExist: there's no schedule with this name.
        ScheduleError: others keep changing it.
    """
    for _ in range(TRIES):
        place = place_of(name)
        wanted = changed(place)
        if wanted is None or put(place, *wanted):
            return
    raise ScheduleError(f"{name!r} keeps being changed by others; try again")


def next_of(rule: Rule, place: Place) -> int | str:
    """The first tick of a rule from now on that wasn't fired, in the form that :func:`put` takes."""
    return word(rule.after(max(place.now_ms, place.last_ms)))


def word(next_ms: int | None) -> int | str:
    return OFF if next_ms is None else next_ms


def rules_equal(one: Rule, other: Rule) -> bool:
    return ticks.encode(one) == ticks.encode(other)
