"""Events: what happens to jobs, heard in any process, as long as somebody listens. At most once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django_kue import codecs, ids, registry, signals
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist, JobFailed, StoreUnavailable
from django_kue.jobs import Job, JobError, _attempts, ended, failure_of, moment
from django_kue.states import State
from django_kue.store import Subscription, ask, moves, reads, send

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
    """Something that happened. ``job`` is a reference: its id, queue, name and new state, without
    arguments; ``None`` for what concerns the queue (paused, resumed)."""

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
            with _listening(queues) as events:
                while True:
                    yield from events(RENEW)
        except StoreUnavailable:
            time.sleep(0.5)  # what is missed meanwhile is missed: at most once


def send_as_signals(event: Event) -> None:
    """Send an event from another process as the signal of its name; ``exception`` is the stored error."""
    sender = registry.get(event.job.name) if event.job else None
    kwargs = {("exception" if name == "error" else name): value for name, value in event.data.items()}
    if event.job:
        kwargs["job"] = event.job
    else:
        kwargs["queue"] = event.queue
    signals.emit(signals.BY_EVENT[event.name], sender, **kwargs)


def of_job(job: Job, timeout: float | None) -> Iterator[Event]:
    """See :meth:`Job.events`."""
    deadline = _deadline(timeout)
    with _listening([job.queue]) as events:
        while time.monotonic() < deadline and not job.refresh().is_finished:
            for event in events(min(RENEW, max(0.0, deadline - time.monotonic()))):
                if event.job and event.job.id == job.id:
                    yield event
                    deadline = _deadline(timeout)
                    if event.name in _LAST:
                        return
                if time.monotonic() >= deadline:  # others' events don't count
                    break


def wait_for(job: Job, timeout: float | None) -> Any:
    """See :meth:`Job.wait`."""
    deadline = _deadline(timeout)
    while True:
        try:
            return _wait_once(job, deadline)
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _wait_once(job: Job, deadline: float) -> Any:
    with _listening([job.queue]) as events:
        job = _now(job)
        while not job.is_finished:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{job.id} is still {job.state}")
            for event in events(min(RENEW, left)):
                if event.job and event.job.id == job.id and event.name in _LAST:
                    return _result_of(event)
                if time.monotonic() >= deadline:
                    break
            job = _now(job)  # an event may have been missed
    if job.state is not State.COMPLETED:
        raise failure_of(job)
    return job.result


def _now(job: Job) -> Job:
    """The job as it is; one that wasn't kept, as it ended, for some seconds after that."""
    try:
        return job.refresh()
    except JobDoesNotExist:
        outcome = ask(reads.farewell(job.queue, job.key))
        if not outcome:
            raise
        return ended(job, outcome)


def _result_of(event: Event) -> Any:
    assert event.job is not None
    if event.name == "removed":
        raise JobDoesNotExist(f"{event.job.id} was removed while it was waited for")
    if event.name != "completed":
        error: JobError | None = event.data.get("error")
        job = replace(event.job, error=error)
        raise JobFailed(str(failure_of(job)), job)
    return event.data.get("result")


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout


@contextmanager
def _listening(queues: Sequence[str]) -> Iterator[Any]:
    """Subscribed, and the scripts told so; gives ``events(seconds)``, to be called again and again."""
    subscription = Subscription(queues)
    renewed = 0.0

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW / 2:
            renewed = time.monotonic()
            send(*[moves.listen(queue, int(3 * RENEW * 1000)) for queue in queues])

    def events(seconds: float) -> Iterator[Event]:
        renew()
        for queue, message in subscription.messages(seconds):
            yield from _events_in(queue, message)
            renew()

    try:
        renew()
        yield events
    finally:
        subscription.close()


def _events_in(queue: str, message: bytes) -> Iterator[Event]:
    try:
        at, items = json.loads(message)
        events = [_event(queue, moment(at), *item) for item in items]
    except (ValueError, TypeError, LookupError):
        logger.warning("a message on the events channel of %s can't be read: %.200r", queue, message)
        return
    yield from events


def _event(queue: str, at: datetime, name: str, key: str, function: str, text: str) -> Event:
    data = _data_of(name, text)
    if not key:
        return Event(name, None, queue, at, data)
    state = State.WAITING if name == "retrying" and not data["delay"] else _STATES[name]
    return Event(name, _reference(queue, key, function, state), queue, at, data)


def _reference(queue: str, key: str, function: str, state: State) -> Job:
    return Job(
        id=f"{queue}.{key}", queue=queue, name=function, state=state, priority=0, attempts_made=0,
        attempts=_attempts(function, queue, {}), created_at=moment(ids.created_ms(key)), _options={},
    )  # fmt: skip


def _data_of(name: str, text: str) -> dict[str, Any]:
    if name == "completed":
        return {"result": codecs.loads(text.encode()) if text else None}
    if name == "progressed":
        percent, data = json.loads(text)
        return {"progress": percent, "data": data}
    if name == "retrying":
        data = json.loads(text)
        return {"delay": data["delay"], "error": JobError.from_text(data["error"].encode())}
    if text:
        return {"error": JobError.from_text(text.encode())}
    return {}


__all__ = ["Event", "listen", "send_as_signals"]
