"""Events: what happens to jobs, heard in any process, as long as somebody listens. At most once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async

from django_kue import codecs, ids, registry, signals
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist, StoreUnavailable
from django_kue.jobs import Job, JobError, ended, failure_of
from django_kue.queue import Queue
from django_kue.rows import FOREIGN, attempts_of, moment
from django_kue.states import State
from django_kue.store import AsyncSubscription, Subscription, aask, asend, ask, moves, reads, send

logger = logging.getLogger("django_kue")

RENEW = 3.0  # seconds; a listener that's gone is forgotten after three of these

_STATES = {
    "enqueued": State.WAITING, "promoted": State.WAITING, "started": State.ACTIVE, "progressed": State.ACTIVE,
    "retrying": State.DELAYED, "failed": State.FAILED, "completed": State.COMPLETED,
    "cancelled": State.CANCELLED, "removed": State.CANCELLED, "stalled": State.WAITING,
}  # fmt: skip
_LAST = {"completed", "failed", "cancelled", "removed"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    ``job`` is a reference: its id, queue, name and new state, without arguments; ``None`` for what
    concerns the queue (paused, resumed). A removed job is in no state any more; its reference says
    ``cancelled``, the state of jobs that won't run. A model instance in a result stays a
    :class:`~django_kue.codecs.ModelReference`: whoever needs it calls its ``fetch()``.
    """

    name: str  # as the signal's, without job_
    job: Job | None
    queue: str
    at: datetime
    data: dict[str, Any]  # result, error, progress and data, delay: as fits


def listen(queue: str | None = None) -> Iterator[Event]:
    """The events of a queue (or of all declared ones) from now on, for ever.

    >>> for event in listen("email"):  # doctest: +SKIP
    ...     print(event.name, event.job.id)
    """
    queues = [queue] if queue else list(settings.queues)
    while True:
        try:
            with _listening(queues) as told:
                while True:
                    for item in told(RENEW):
                        if event := _event(item):
                            yield event
        except StoreUnavailable:
            time.sleep(0.5)  # what is missed meanwhile is missed: at most once


def send_as_signals(event: Event) -> None:
    """Send an event from another process as the signal of its name; ``exception`` is the stored error."""
    sender = registry.get(event.job.name) if event.job else None
    kwargs = {("exception" if name == "error" else name): value for name, value in event.data.items()}
    if event.job:
        kwargs["job"] = event.job
    else:
        kwargs["queue"] = Queue(event.queue)
    signals.emit(signals.BY_EVENT[event.name], sender, **kwargs)


# ── one job ──


def of_job(job: Job, timeout: float | None) -> Iterator[Event]:
    """See :meth:`Job.events`."""
    deadline = _deadline(timeout)
    with _listening([job.queue]) as told:
        while time.monotonic() < deadline and not job.refresh().is_finished:
            for item in told(_left(deadline)):
                if item.is_of(job):
                    if event := _event(item):
                        yield event
                    deadline = _deadline(timeout)  # others' events don't count
                    if item.name in _LAST:
                        return


async def aof_job(job: Job, timeout: float | None) -> AsyncIterator[Event]:
    """See :meth:`Job.aevents`."""
    deadline = _deadline(timeout)
    async with _alistening([job.queue]) as told:
        while time.monotonic() < deadline and not (await job.arefresh()).is_finished:
            again = time.monotonic() + _left(deadline)
            while time.monotonic() < again:
                for item in await told(again - time.monotonic()):
                    if item.is_of(job):
                        if event := _event(item):
                            yield event
                        deadline = _deadline(timeout)
                        if item.name in _LAST:
                            return


def wait_for(job: Job, timeout: float | None) -> Any:
    """See :meth:`Job.wait`."""
    deadline = _deadline(timeout)
    while True:
        try:
            return _succeeded(_wait_once(job, deadline)).result
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


async def await_for(job: Job, timeout: float | None) -> Any:
    """See :meth:`Job.await_result`."""
    deadline = _deadline(timeout)
    while True:
        try:
            job = _succeeded(await _await_once(job, deadline))
            break
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.1)
    if codecs.refers_to_models(job._result):
        return await sync_to_async(lambda: job.result)()
    return job.result


def _wait_once(job: Job, deadline: float) -> Job:
    """The job as it ended. It's read again every ``RENEW`` seconds: an event may have been missed."""
    with _listening([job.queue]) as told:
        while not (job := _now(job)).is_finished:
            _check_time(job, deadline)
            for item in told(_left(deadline)):
                if item.ends(job):
                    return _ended_by(item, job)
    return job


async def _await_once(job: Job, deadline: float) -> Job:
    async with _alistening([job.queue]) as told:
        while not (job := await _anow(job)).is_finished:
            _check_time(job, deadline)
            again = time.monotonic() + _left(deadline)
            while time.monotonic() < again:
                for item in await told(again - time.monotonic()):
                    if item.ends(job):
                        return _ended_by(item, job)
    return job


def _now(job: Job) -> Job:
    """The job as it is; one that wasn't kept, as it ended, for some seconds after that."""
    try:
        return job.refresh()
    except JobDoesNotExist:
        outcome = ask(reads.farewell(job.queue, job.key))
        if not outcome:
            raise
        return ended(job, outcome)


async def _anow(job: Job) -> Job:
    try:
        return await job.arefresh()
    except JobDoesNotExist:
        outcome = await aask(reads.farewell(job.queue, job.key))
        if not outcome:
            raise
        return ended(job, outcome)


def _succeeded(job: Job) -> Job:
    if job.state is not State.COMPLETED:
        raise failure_of(job)
    return job


def _check_time(job: Job, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError(f"{job.id} is still {job.state}")


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout


def _left(deadline: float) -> float:
    """For how many seconds to listen before the job is read again."""
    return min(RENEW, max(0.0, deadline - time.monotonic()))


# ── listening ──


class _Item(NamedTuple):
    """An event as it was told; its data are read when somebody wants them."""

    queue: str
    at: datetime
    name: str
    key: str
    function: str
    text: str

    def is_of(self, job: Job) -> bool:
        return f"{self.queue}.{self.key}" == job.id

    def ends(self, job: Job) -> bool:
        return self.name in _LAST and self.is_of(job)


@contextmanager
def _listening(queues: Sequence[str]) -> Iterator[Callable[[float], Iterator[_Item]]]:
    """Subscribed, and the scripts told so; gives ``told(seconds)``, to be called again and again."""
    subscription = Subscription(queues)
    renewed = 0.0

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW / 2:
            renewed = time.monotonic()
            send(*_announcements(queues))

    def told(seconds: float) -> Iterator[_Item]:
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
async def _alistening(queues: Sequence[str]) -> AsyncIterator[Callable[[float], Awaitable[list[_Item]]]]:
    """As :func:`_listening`; ``await told(seconds)`` gives the items of one message, or none."""
    subscription = AsyncSubscription(queues)
    renewed = 0.0

    async def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW / 2:
            renewed = time.monotonic()
            await asend(*_announcements(queues))

    async def told(seconds: float) -> list[_Item]:
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


# ── reading what was told ──


def _items(queue: str, message: bytes) -> Iterator[_Item]:
    """A message's items. What can't be read is logged and left out, and nothing else."""
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
                yield _Item(queue, at, name, key, function, text)
            case _:
                logger.warning("an event of %s can't be read: %.200r", queue, item)


def _event(item: _Item) -> Event | None:
    try:
        data = _data_of(item)
        return Event(item.name, _reference(item, data) if item.key else None, item.queue, item.at, data)
    except FOREIGN:
        logger.warning("an event of %s can't be read: %.200r", item.queue, item[2:])
        return None


def _reference(item: _Item, data: dict[str, Any]) -> Job:
    return Job(
        id=f"{item.queue}.{item.key}", queue=item.queue, name=item.function, state=_state(item, data),
        priority=0, attempts_made=0, attempts=attempts_of(item.function, item.queue, {}),
        created_at=moment(ids.created_ms(item.key)), _options={},
    )  # fmt: skip


def _state(item: _Item, data: dict[str, Any]) -> State:
    if item.name == "retrying" and not data["delay"]:
        return State.WAITING
    if item.name == "enqueued" and item.text == "d":
        return State.DELAYED
    return _STATES[item.name]


def _data_of(item: _Item) -> dict[str, Any]:
    name, text = item.name, item.text
    if name == "completed":
        return {"result": codecs.loads(text.encode(), fetch=False) if text else None}
    if name == "progressed":
        percent, data = json.loads(text)
        return {"progress": percent, "data": data}
    if name == "retrying":
        data = json.loads(text)
        return {"delay": data["delay"], "error": JobError.from_text(str(data["error"]).encode())}
    if name != "enqueued" and text:
        return {"error": JobError.from_text(text.encode())}
    return {}


def _ended_by(item: _Item, job: Job) -> Job:
    """A job that was waited for, as its last event tells."""
    if item.name == "removed":
        raise JobDoesNotExist(f"{job.id} was removed while it was waited for")
    text = item.text.encode()
    if item.name == "completed":
        return replace(job, state=State.COMPLETED, _result=text)
    return replace(job, state=_STATES[item.name], error=JobError.from_text(text))


__all__ = ["Event", "listen", "send_as_signals"]
