"""Following one job: its events, and the wait for its end. The methods of :class:`Job` lead here."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from django_kue import codecs
from django_kue.errors import JobDoesNotExist, JobFailed, StoreError, StoreUnavailable
from django_kue.events import LAST, RENEW, STATES, Event, Told, alistening, event_of, listening
from django_kue.jobs import Job
from django_kue.kinds import number_of_seconds
from django_kue.rows import error_of, fields_of_outcome, result_of
from django_kue.states import State
from django_kue.store import aask, asend, ask, reads, send
from django_kue.workers import WorkerState, workers_in

LAST_WORD = 0.1  # seconds by which the event of an end may come later than a reply that shows the end

# ── its events ──


def of_job(job: Job, timeout: float | timedelta | None) -> Iterator[Event]:
    """See :meth:`Job.events`."""
    deadline = _deadline(timeout)
    job = job.refresh()  # for a dropped duplicate it's the first job, whose events are published
    if is_over := job.is_finished:  # it has no more events
        return
    with listening([job.queue]) as told:
        while not is_over and time.monotonic() < deadline:
            is_over = _is_over(job)
            for item in told(LAST_WORD if is_over else _left(deadline)):
                if item.is_of(job):
                    if event := event_of(item):
                        yield event
                    deadline = _deadline(timeout)  # other jobs' events don't count
                    if item.name in LAST:
                        return


async def aof_job(job: Job, timeout: float | timedelta | None) -> AsyncIterator[Event]:
    """See :meth:`Job.aevents`."""
    deadline = _deadline(timeout)
    job = await job.arefresh()
    if is_over := job.is_finished:
        return
    async with alistening([job.queue]) as told:
        while not is_over and time.monotonic() < deadline:
            is_over = await _ais_over(job)
            again = time.monotonic() + (LAST_WORD if is_over else _left(deadline))
            while time.monotonic() < again:
                for item in await told(again - time.monotonic()):
                    if item.is_of(job):
                        if event := event_of(item):
                            yield event
                        deadline = _deadline(timeout)
                        if item.name in LAST:
                            return


def _is_over(job: Job) -> bool:
    """Whether it's finished, or gone."""
    try:
        return job.refresh().is_finished
    except JobDoesNotExist:
        return True


async def _ais_over(job: Job) -> bool:
    try:
        return (await job.arefresh()).is_finished
    except JobDoesNotExist:
        return True


# ── its end ──


def wait_for(job: Job, timeout: float | timedelta | None) -> Any:
    """See :meth:`Job.wait`."""
    deadline = _deadline(timeout)
    while True:
        try:
            return _succeeded(_wait_once(job, deadline)).result
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


async def await_for(job: Job, timeout: float | timedelta | None) -> Any:
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
    """The job as it ended. It's read again every ``RENEW`` seconds: an event may have been missed. An event
    has only the outcome; if the job didn't complete, the rest is read, which says why."""
    with listening([job.queue]) as told:
        while not (job := _now(job)).is_finished:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{job.id} is still {job.state}{_why_it_waits(job)}")
            for item in told(_left(deadline)):
                if item.ends(job):
                    ended = _ended_by(item, job)
                    if ended.state is not State.COMPLETED:
                        with suppress(JobDoesNotExist, StoreUnavailable):
                            ended = _as_read(ended, job.refresh())
                    return ended
    return job


async def _await_once(job: Job, deadline: float) -> Job:
    async with alistening([job.queue]) as told:
        while not (job := await _anow(job)).is_finished:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{job.id} is still {job.state}{await _awhy_it_waits(job)}")
            again = time.monotonic() + _left(deadline)
            while time.monotonic() < again:
                for item in await told(again - time.monotonic()):
                    if item.ends(job):
                        ended = _ended_by(item, job)
                        if ended.state is not State.COMPLETED:
                            with suppress(JobDoesNotExist, StoreUnavailable):
                                ended = _as_read(ended, await job.arefresh())
                        return ended
    return job


def _now(job: Job) -> Job:
    """The job as it is; for some seconds after its end, a job that wasn't kept, as it ended."""
    try:
        return job.refresh()
    except JobDoesNotExist:
        outcome = ask(reads.farewell(job.queue, job.key))
        if not outcome:
            raise
        return _ended(job, outcome)


async def _anow(job: Job) -> Job:
    try:
        return await job.arefresh()
    except JobDoesNotExist:
        outcome = await aask(reads.farewell(job.queue, job.key))
        if not outcome:
            raise
        return _ended(job, outcome)


def _succeeded(job: Job) -> Job:
    if job.state is not State.COMPLETED:
        raise _failure_of(job)
    return job


def _why_it_waits(job: Job) -> str:
    """What a timeout's message says about why the job still waits, as far as that can be seen."""
    with suppress(StoreError, StoreUnavailable):
        return _reason(job, *send(reads.registry(), reads.facts(job.queue)))
    return ""


async def _awhy_it_waits(job: Job) -> str:
    with suppress(StoreError, StoreUnavailable):
        return _reason(job, *await asend(reads.registry(), reads.facts(job.queue)))
    return ""


def _reason(job: Job, registry: reads.Registry, facts: reads.Facts) -> str:
    if job.state is not State.WAITING:
        return ""
    if facts.paused_since_ms is not None:
        return f": its queue {job.queue} is paused"
    serving = [one for one in workers_in(registry) if job.queue in one.queues]
    if all(one.state is WorkerState.LOST for one in serving):
        return f": no runworker serves its queue {job.queue}"
    return ""


def _ended_by(item: Told, job: Job) -> Job:
    """A job as it ended, by its last event."""
    if item.name == "removed":
        raise JobDoesNotExist(f"{job.id} was removed during the wait")
    text, where = item.text.encode(), (item.queue, item.key)
    if item.name == "completed":
        return replace(job, state=State.COMPLETED, _result=result_of(text, *where))
    return replace(job, state=STATES[item.name], error=error_of(text, *where))


def _as_read(ended: Job, now: Job) -> Job:
    """The job as it's stored, unless its state has changed meanwhile."""
    return now if now.state is ended.state else ended


def _failure_of(job: Job) -> JobFailed:
    """The exception for a wait whose job didn't complete."""
    what = f"{job.id} {'was cancelled' if job.state is State.CANCELLED else 'failed'}"
    return JobFailed(f"{what}: {job.error}" if job.error else what, job)


def _ended(job: Job, outcome: bytes) -> Job:
    """A job as it ended, by its stored outcome."""
    state = {b"c": State.COMPLETED, b"f": State.FAILED}.get(outcome[:1], State.CANCELLED)
    return replace(job, state=state, **fields_of_outcome(outcome, job.queue, job.key))


# ── time ──


def _deadline(timeout: float | timedelta | None) -> float:
    """When a timeout is up, by ``time.monotonic()``.

    Raises:
        TypeError, ValueError: it isn't a timeout. With a NaN, the wait would loop without a pause.
    """
    if timeout is None:
        return math.inf
    return time.monotonic() + number_of_seconds("timeout", timeout)


def _left(deadline: float) -> float:
    """For how many seconds to listen before the job is read again."""
    return min(RENEW, max(0.0, deadline - time.monotonic()))
