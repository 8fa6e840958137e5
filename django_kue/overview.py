"""All queues at a glance: what `manage.py kue stats` and the doctor look at, in two round trips."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django_kue.conf import settings
from django_kue.queue import _oldest
from django_kue.store import ask, reads, send
from django_kue.workers import Worker, WorkerState, workers_in


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """A queue's numbers, all of one moment."""

    name: str
    is_declared: bool  # in KUE["QUEUES"]
    counts: Mapping[str, int]  # all six states
    paused_since: datetime | None
    oldest_waiting: float | None  # seconds that the longest waiting job has been ready; None: none waits
    per_minute: float  # runs that completed or failed in the last minute, estimated
    workers: tuple[str, ...]  # ids of the running workers that serve it


@dataclass(frozen=True, slots=True)
class Overview:
    """Queues that are declared or ever had jobs, by name, and every worker."""

    queues: tuple[QueueOverview, ...]
    workers: tuple[Worker, ...]
    others: int = 0  # queues that there are besides, which weren't asked for


def overview(names: Collection[str] | None = None) -> Overview:
    """How all queues and workers are; of the queues those with these ``names``, as far as there are any."""
    registry = ask(reads.registry())
    workers = tuple(workers_in(registry))
    known = {*settings.queues, *registry.queues}
    names = sorted(known if names is None else known.intersection(names))
    calls = [
        call for name in names for call in (reads.counts(name), reads.facts(name, 2), reads.oldest(name))
    ]
    replies = send(*calls) if calls else []
    triples = zip(replies[0::3], replies[1::3], replies[2::3], strict=True)
    queues = [_queue(name, *triple, workers) for name, triple in zip(names, triples, strict=True)]
    return Overview(tuple(queues), workers, len(known) - len(names))


def _queue(
    name: str, counts: dict[str, int], facts: reads.Facts, oldest: reads.Oldest, workers: tuple[Worker, ...]
) -> QueueOverview:
    since = facts.paused_since_ms
    return QueueOverview(
        name=name,
        is_declared=name in settings.queues,
        counts=counts,
        paused_since=None if since is None else datetime.fromtimestamp(since / 1000, UTC),
        oldest_waiting=_oldest(oldest),
        per_minute=_per_minute(facts),
        workers=tuple(
            worker.id for worker in workers if name in worker.queues and worker.state is WorkerState.RUNNING
        ),
    )


def _per_minute(facts: reads.Facts) -> float:
    """A sliding window over the counters of whole minutes: this one's, and the last one's share."""
    minute, elapsed = divmod(facts.now_ms, 60_000)
    this, last = (
        facts.minutes.get(f"co{number}", 0) + facts.minutes.get(f"fa{number}", 0)
        for number in (minute, minute - 1)
    )
    return this + last * (1 - elapsed / 60_000)
