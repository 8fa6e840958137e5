"""The workers: are there any, are they all there, and do they run the same release?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from django_kue.doctor.findings import Finding, Level
from django_kue.overview import Overview
from django_kue.words import many, span
from django_kue.workers import Worker, WorkerState


def examine(seen: Overview) -> list[Finding]:
    """Findings about the workers."""
    living = [worker for worker in seen.workers if worker.state is not WorkerState.LOST]
    lost = [worker for worker in seen.workers if worker.state is WorkerState.LOST]
    return [*_living(living), *_lost(lost, bool(living)), *_releases(living)]


def _living(living: Sequence[Worker]) -> Iterator[Finding]:
    if living:
        processes = sum(len(worker.processes) for worker in living)
        busy = sum(len(worker.jobs) for worker in living)
        yield Finding(
            Level.OK,
            "worker.running",
            f"{many(len(living), 'worker')} with {many(processes, 'process', 'processes')}, "
            f"running {many(busy, 'job')}.",
        )
    else:
        yield Finding(Level.INFO, "worker.none", "No worker is running.", "Start one: manage.py runworker")


def _lost(lost: Sequence[Worker], are_others: bool) -> Iterator[Finding]:
    heirs = "Other workers take" if are_others else "The next worker takes"
    for worker in lost:
        silent = (datetime.now(UTC) - worker.seen_at).total_seconds()
        yield Finding(
            Level.WARNING,
            "worker.lost",
            f"Worker {worker.id} was last heard of {span(max(0, silent))} ago, and didn't say goodbye.",
            f"{heirs} over its jobs. Find out on host {worker.host} why process {worker.pid} "
            "ended: killed, out of memory, or cut off? It leaves this list after an hour.",
        )


def _releases(living: Sequence[Worker]) -> Iterator[Finding]:
    releases = sorted({worker.version for worker in living})
    if len(releases) > 1:
        yield Finding(
            Level.WARNING,
            "worker.releases",
            f"Workers run different releases of django-kue: {', '.join(releases)}.",
            "During a deployment that's normal. Afterwards, restart those that run the older one "
            "(manage.py kue workers --stop ID, and your process manager starts them again).",
        )
