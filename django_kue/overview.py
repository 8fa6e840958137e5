"""All queues at a glance: what `manage.py kue stats` and the doctor look at, in two round trips."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django_kue.conf import settings
from django_kue.errors import StoreError
from django_kue.jobs import Job
from django_kue.moments import moment
from django_kue.queue import _oldest
from django_kue.states import State
from django_kue.store import Call, ask, reads, send
from django_kue.workers import Worker, WorkerState, workers_in


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """A queue's numbers, all taken at one moment."""

    name: str
    is_declared: bool  # in KUE["QUEUES"]
    counts: Mapping[str, int]  # all six states
    paused_since: datetime | None
    oldest_waiting: float | None  # seconds that the longest waiting job has been ready; None if none waits
    totals: Mapping[str, int]  # all-time counts of jobs: completed, failed, cancelled; also parked, work_ms
    per_minute: float  # runs that completed or failed in the last minute, estimated
    workers: tuple[str, ...]  # ids of the running workers that serve it

    @property
    def work_time(self) -> float:
        """Seconds that its jobs have ever run, in total."""
        return self.totals.get("work_ms", 0) / 1000


@dataclass(frozen=True, slots=True)
class Overview:
    """Queues that are declared or ever had jobs, by name, and every worker."""

    queues: tuple[QueueOverview, ...]
    workers: tuple[Worker, ...]
    others: int = 0  # further queues that exist, but weren't read


def overview(names: Collection[str] | None = None, most: int | None = None) -> Overview:
    """The state of all workers, and of all queues or those among ``names`` that exist.

    ``most``: how many queues at most; the declared ones are chosen first, then others by name.
    """
    registry = ask(reads.registry())
    chosen = _chosen(registry, names, most)
    calls = [call for name in chosen for call in _calls(name)]
    return _overview(registry, chosen, send(*calls) if calls else [])


class Readable(NamedTuple):
    """An overview of the queues that can be read, and why the others can't."""

    overview: Overview
    broken: Mapping[str, StoreError]


def readable() -> Readable:
    """Like :func:`overview`, but a queue whose keys aren't of the types that django-kue writes is left out.

    Raises:
        StoreUnavailable: Redis is away.
    """
    try:
        return Readable(overview(), {})
    except StoreError:
        broken, known = {}, _known(ask(reads.registry()))
        for name in sorted(known):
            try:
                send(*_calls(name))
            except StoreError as error:
                broken[name] = error
        return Readable(overview(known - broken.keys()), broken)


class Sight(NamedTuple):
    """What :meth:`Watch.look` saw."""

    overview: Overview
    running: Sequence[Job]  # the longest running first
    busy_share: float | None  # how full all workers were, 0 to 1; None if there was none


class Watch:
    """Looks at everything again and again, in one round trip each time. A new queue is seen one look late.

    Args:
        most: how many queues to look at, as in :func:`overview`.
        running: how many running jobs of each queue to show: those that were claimed first.

    >>> Watch(most=100, running=10).look().busy_share
    0.25
    """

    def __init__(self, *, most: int, running: int) -> None:
        self._most = most
        self._running = running
        self._names: list[str] | None = None

    def look(self) -> Sight:
        """The state of everything now.

        Raises:
            StoreUnavailable: Redis is away.
        """
        if self._names is None:
            self._names = _chosen(ask(reads.registry()), None, self._most)
        names = self._names
        calls = [call for name in names for call in _calls(name)]
        pages = [reads.page(name, State.ACTIVE, 0, self._running, newest_first=False) for name in names]
        registry, load, *replies = send(reads.registry(), reads.load_now(), *calls, *pages)
        self._names = _chosen(registry, None, self._most)
        jobs = [
            Job.from_row(name, row)
            for name, rows in zip(names, replies[len(calls) :], strict=True)
            for row in rows
        ]
        jobs.sort(key=lambda job: job.started_at or job.created_at)
        return Sight(_overview(registry, names, replies[: len(calls)]), jobs, load)


def _known(registry: reads.Registry) -> set[str]:
    return {*settings.queues, *registry.queues}


def _chosen(registry: reads.Registry, names: Collection[str] | None, most: int | None) -> list[str]:
    known = _known(registry)
    found = sorted(known if names is None else known.intersection(names))
    if most is None:
        return found
    return sorted(sorted(found, key=lambda name: name not in settings.queues)[:most])


def _calls(name: str) -> tuple[Call[Any], ...]:
    return reads.counts(name), reads.facts(name, 2), reads.oldest(name)


def _overview(registry: reads.Registry, names: Sequence[str], replies: Sequence[Any]) -> Overview:
    """``replies``: those to the calls of each queue."""
    workers = tuple(workers_in(registry))
    triples = zip(replies[0::3], replies[1::3], replies[2::3], strict=True)
    queues = [_queue(name, *triple, workers) for name, triple in zip(names, triples, strict=True)]
    return Overview(tuple(queues), workers, len(_known(registry)) - len(names))


def _queue(
    name: str, counts: dict[str, int], facts: reads.Facts, oldest: reads.Oldest, workers: tuple[Worker, ...]
) -> QueueOverview:
    since = facts.paused_since_ms
    return QueueOverview(
        name=name,
        is_declared=name in settings.queues,
        counts=counts,
        paused_since=None if since is None else moment(since),
        oldest_waiting=_oldest(oldest),
        totals=facts.totals,
        per_minute=_per_minute(facts),
        workers=tuple(
            worker.id for worker in workers if name in worker.queues and worker.state is WorkerState.RUNNING
        ),
    )


def _per_minute(facts: reads.Facts) -> float:
    """A sliding window over the counters of whole minutes: this one's, and a share of the last one's."""
    minute, elapsed = divmod(facts.now_ms, 60_000)
    this, last = (
        facts.minutes.get(f"co{number}", 0) + facts.minutes.get(f"fa{number}", 0)
        for number in (minute, minute - 1)
    )
    return this + last * (1 - elapsed / 60_000)
