"""Events: what happens to jobs, seen by any process while it listens. Each is delivered at most once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django_kue import codecs, ids, registry, signals
from django_kue.conf import settings
from django_kue.errors import StoreUnavailable
from django_kue.jobs import Job
from django_kue.moments import moment
from django_kue.queue import Queue, aget_queue, get_queue
from django_kue.rows import FOREIGN, attempts_of, error_of, progress_of, result_of
from django_kue.states import State
from django_kue.store import asend, asubscribe, moves, send, subscribe

logger = logging.getLogger("django_kue")

RENEW = 3.0  # seconds; a listener that's gone is forgotten after three of these

STATES = {
    "enqueued": State.WAITING, "promoted": State.WAITING, "started": State.ACTIVE, "progressed": State.ACTIVE,
    "retrying": State.DELAYED, "failed": State.FAILED, "completed": State.COMPLETED,
    "cancelled": State.CANCELLED, "removed": State.CANCELLED, "stalled": State.WAITING,
}  # fmt: skip
LAST = frozenset({"completed", "failed", "cancelled", "removed"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    ``job`` is a reference: the job's id, queue, name and new state, without arguments; ``None`` for what
    concerns the queue (paused, resumed). A removed job is in no state any more; its reference says
    ``cancelled``, the state of jobs that won't run. A model instance in a result stays a
    :class:`~django_kue.codecs.ModelReference`: call its ``fetch()`` if you need it.
    """

    name: str  #: as the signal's, without ``job_``
    job: Job | None
    queue: str
    at: datetime
    data: dict[str, Any]  #: result, error, progress and data, or delay, depending on the event


def listen(queue: str | None = None) -> Iterator[Event]:
    """The events of a queue (or of all declared queues) from now on, for ever.

    Raises:
        LookupError: at once, when the queue isn't declared and never had jobs.

    >>> for event in listen("email"):
    ...     print(event.name, event.job and event.job.id)  # a queue's own events have no job
    enqueued email.AY3w8kR2Sx6mTn0pQv4zWg
    paused None
    """
    return _all_of(list(settings.queues) if queue is None else [get_queue(queue).name])


def _all_of(queues: list[str]) -> Iterator[Event]:
    while True:
        try:
            with listening(queues) as told:
                while True:
                    for item in told(RENEW):
                        if event := event_of(item):
                            yield event
        except StoreUnavailable:
            time.sleep(0.5)  # what happens meanwhile is missed: at most once


async def alisten(queue: str | None = None) -> AsyncIterator[Event]:
    """The twin of :func:`listen`; it looks for the queue when it's first asked for an event. It can be
    cancelled, and uses no thread."""
    queues = list(settings.queues) if queue is None else [(await aget_queue(queue)).name]
    while True:
        try:
            async with alistening(queues) as told:
                while True:
                    for item in await told(RENEW):
                        if event := event_of(item):
                            yield event
        except StoreUnavailable:
            await asyncio.sleep(0.5)


def watch(queue: str) -> Iterator[Event | None]:
    """Like :func:`listen`, for callers with other things to do: it also yields ``None``, first when it has
    begun to listen, and then at least every three seconds.

    Raises:
        LookupError: at once, when the queue isn't declared and never had jobs.
        StoreUnavailable: Redis went away. What happens until somebody watches again is missed.
    """
    return heard(get_queue(queue).name)


async def awatch(queue: str) -> AsyncIterator[Event | None]:
    """The twin of :func:`watch`; it looks for the queue when it's first asked for an event. It can be
    cancelled, and uses no thread."""
    async with aclosing(aheard((await aget_queue(queue)).name)) as events:
        async for event in events:
            yield event


def heard(queue: str) -> Generator[Event | None, None, None]:
    """What :func:`watch` yields, for a queue that's known to exist."""
    with listening([queue]) as told:
        while True:
            yield None
            for item in told(RENEW):
                if event := event_of(item):
                    yield event


async def aheard(queue: str) -> AsyncGenerator[Event | None, None]:
    """The twin of :func:`heard`."""
    async with alistening([queue]) as told:
        while True:
            yield None
            for item in await told(RENEW):
                if event := event_of(item):
                    yield event


def send_as_signals(event: Event) -> None:
    """Send an event from another process as the signal of its name; ``exception`` is the stored error."""
    sender = registry.get(event.job.name) if event.job else None
    kwargs = {("exception" if name == "error" else name): value for name, value in event.data.items()}
    if event.job:
        kwargs["job"] = event.job
    else:
        kwargs["queue"] = Queue(event.queue)
    signals.emit(signals.BY_EVENT[event.name], sender, **kwargs)


# ── listening ──


class Told(NamedTuple):
    """An event as it was published; its data is decoded only if somebody wants it."""

    queue: str
    at: datetime
    name: str
    key: str
    function: str
    text: str

    def is_of(self, job: Job) -> bool:
        return f"{self.queue}.{self.key}" == job.id

    def ends(self, job: Job) -> bool:
        return self.name in LAST and self.is_of(job)


@contextmanager
def listening(queues: Sequence[str]) -> Iterator[Callable[[float], Iterator[Told]]]:
    """Subscribe, and let the scripts know; yields ``told(seconds)``, to be called again and again."""
    subscription = subscribe(queues)
    renewed = 0.0

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW / 2:
            renewed = time.monotonic()
            send(*_announcements(queues))

    def told(seconds: float) -> Iterator[Told]:
        renew()
        for queue, message in subscription.messages(seconds):
            yield from _items(queue, message)
            renew()

    try:
        renew()
        yield told
    finally:
        subscription.close()


@asynccontextmanager
async def alistening(queues: Sequence[str]) -> AsyncIterator[Callable[[float], Awaitable[list[Told]]]]:
    """Like :func:`listening`; ``await told(seconds)`` returns the items of one message, or none."""
    subscription = asubscribe(queues)
    renewed = 0.0

    async def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW / 2:
            renewed = time.monotonic()
            await asend(*_announcements(queues))

    async def told(seconds: float) -> list[Told]:
        await renew()
        heard = await subscription.message(seconds)
        return list(_items(*heard)) if heard else []

    try:
        await subscription.open()
        await renew()
        yield told
    finally:
        await subscription.close()


def _announcements(queues: Sequence[str]) -> list[Any]:
    return [moves.listen(queue, int(3 * RENEW * 1000)) for queue in queues]


# ── reading what was published ──


def _items(queue: str, message: bytes) -> Iterator[Told]:
    """A message's items. Those that can't be read, and no others, are logged and left out."""
    try:
        told_at, items = json.loads(message)
        at = moment(told_at)
        if not isinstance(items, list):
            raise TypeError("not a list")
    except FOREIGN:
        logger.warning("a message on the events channel of %s can't be read: %.200r", queue, message)
        return
    for item in items:
        match item:
            case [str(name), str(key), str(function), str(text)]:
                yield Told(queue, at, name, key, function, text)
            case _:
                logger.warning("an event of %s can't be read: %.200r", queue, item)


def event_of(item: Told) -> Event | None:
    try:
        data = _data_of(item)
        return Event(item.name, _reference(item, data) if item.key else None, item.queue, item.at, data)
    except FOREIGN:
        logger.warning("an event of %s can't be read: %.200r", item.queue, item[2:])
        return None


def _reference(item: Told, data: dict[str, Any]) -> Job:
    return Job(
        id=f"{item.queue}.{item.key}", queue=item.queue, name=item.function, state=_state(item, data),
        priority=0, attempts_made=0, attempts=attempts_of(item.function, item.queue, {}),
        created_at=moment(ids.created_ms(item.key)), _options={},
    )  # fmt: skip


def _state(item: Told, data: dict[str, Any]) -> State:
    if item.name == "retrying" and not data["delay"]:
        return State.WAITING
    if item.name == "enqueued" and item.text == "d":
        return State.DELAYED
    return STATES[item.name]


def _data_of(item: Told) -> dict[str, Any]:
    name, text, where = item.name, item.text.encode(), (item.queue, item.key)
    if name == "completed":
        return {"result": codecs.loads(result_of(text, *where), fetch=False) if text else None}
    if name == "progressed":
        percent, data = progress_of(text, *where)
        return {"progress": percent, "data": data}
    if name == "retrying":
        data = json.loads(text)
        return {"delay": data["delay"], "error": error_of(str(data["error"]).encode(), *where)}
    if name != "enqueued" and text:
        return {"error": error_of(text, *where)}
    return {}


__all__ = ["Event", "alisten", "awatch", "listen", "send_as_signals", "watch"]
