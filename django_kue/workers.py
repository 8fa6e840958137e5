"""Workers as people see them: frozen records of what each said about itself at its last heartbeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import Any

from asgiref.sync import sync_to_async

from django_kue.conf import settings
from django_kue.moments import moment
from django_kue.rows import FOREIGN
from django_kue.store import ask, reads

MOST = 2**63  # more than any number that a worker reports
PATIENCE = 6.0  # seconds; a worker announces itself every two


class WorkerState(StrEnum):
    """The state of a worker."""

    RUNNING = "running"
    STOPPING = "stopping"  # it takes no new jobs
    LOST = "lost"  # silent for too long: killed, cut off, or its machine is down


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a worker."""

    pid: int
    jobs: tuple[str, ...]  # ids of the jobs that it runs now
    done: int  # runs that ended in it
    memory: int | None = None  # resident bytes; None if that can't be known (it needs Linux)
    busy: int = 0  # jobs that it runs now
    slots: int = 0  # jobs that it can run at once: threads and coroutines


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as it was at its last heartbeat.

    >>> [worker.id for worker in workers() if worker.state == "lost"]
    []
    """

    id: str
    state: WorkerState
    host: str
    pid: int
    version: str  # of django-kue
    queues: tuple[str, ...]
    threads: int  # functions that a process runs at once
    coroutines: int  # coroutine functions that a process runs at once
    started_at: datetime | None
    seen_at: datetime  # its last heartbeat, by Redis's clock
    done: int  # runs that ended since it was started
    processes: tuple[Process, ...]
    supervisor_memory: int | None = None  # resident bytes of the process that watches the others

    @property
    def memory(self) -> int | None:
        """Resident bytes of all its processes and their supervisor; ``None`` if that can't be known.

        Memory that they share after a fork is counted for each.
        """
        parts = [self.supervisor_memory, *(process.memory for process in self.processes)]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    @property
    def busy(self) -> int:
        """How many jobs it runs now."""
        return sum(process.busy for process in self.processes)

    @property
    def slots(self) -> int:
        """How many jobs it can run at once: functions on its threads, and coroutine functions."""
        return sum(process.slots for process in self.processes)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs that it runs now."""
        return tuple(chain.from_iterable(process.jobs for process in self.processes))

    def stop(self) -> None:
        """Ask it to stop, as SIGTERM does: within 2 s it stops taking jobs, and it ends when the running
        ones are done, or are handed back after its shutdown timeout.

        Raises:
            LookupError: it's gone already.
        """
        found = ask(reads.registry(order_to=self.id, order="stop"))
        if self.id not in found.workers:
            raise LookupError(f"There's no worker {self.id} any more.")

    async def astop(self) -> None:
        """The twin of :meth:`stop`."""
        await sync_to_async(self.stop, thread_sensitive=False)()

    def __str__(self) -> str:
        return self.id


def workers() -> list[Worker]:
    """Every worker that runs, or was lost within the last hour, in the order in which they were started."""
    return workers_in(ask(reads.registry()))


async def aworkers() -> list[Worker]:
    """The twin of :func:`workers`."""
    return await sync_to_async(workers, thread_sensitive=False)()


def workers_in(registry: reads.Registry) -> list[Worker]:
    """The workers of a registry that was read already."""
    now, pulses = registry.now_ms, registry.pulses
    found = [_worker(name, text, pulses.get(name, 0), now) for name, text in registry.workers.items()]
    return sorted(found, key=lambda worker: (worker.started_at or worker.seen_at, worker.id))


def _worker(id: str, text: bytes, pulse_ms: int, now_ms: int) -> Worker:
    is_lost = now_ms - pulse_ms > 1000 * max(PATIENCE, settings.LEASE)
    seen_at = _seen_at(pulse_ms)
    try:
        return _portrait(id, json.loads(text), seen_at, is_lost)
    except (*FOREIGN, AttributeError):  # no worker wrote this; it's listed all the same
        return _portrait(id, {}, seen_at, is_lost)


def _seen_at(pulse_ms: int) -> datetime:
    try:
        return moment(pulse_ms)
    except OverflowError:  # no worker wrote this pulse
        return moment(0)


def _portrait(id: str, said: Mapping[str, Any], seen_at: datetime, is_lost: bool) -> Worker:
    started_at = said.get("started_at")
    state = WorkerState.STOPPING if said.get("state") == "stopping" else WorkerState.RUNNING
    return Worker(
        id=id,
        state=WorkerState.LOST if is_lost else state,
        host=str(said.get("host", "?")),
        pid=_number(said.get("pid", 0)),
        version=str(said.get("version", "?")),
        queues=tuple(map(str, said.get("queues", ()))),
        threads=_number(said.get("threads", 0)),
        coroutines=_number(said.get("coroutines", 0)),
        started_at=None if started_at is None else datetime.fromtimestamp(float(started_at), UTC),
        seen_at=seen_at,
        done=_number(said.get("done", 0)),
        processes=tuple(_process(process) for process in said.get("processes", ())),
        supervisor_memory=_whole(said.get("memory")),
    )


def _process(said: Mapping[str, Any]) -> Process:
    jobs = tuple(map(str, said.get("jobs", ())))
    return Process(
        pid=_number(said.get("pid", 0)),
        jobs=jobs,
        done=_number(said.get("done", 0)),
        memory=_whole(said.get("memory")),
        busy=_number(said.get("busy", len(jobs))),
        slots=_number(said.get("slots", 0)),
    )


def _whole(said: Any) -> int | None:
    return None if said is None else _number(said)


def _number(said: Any) -> int:
    number = int(said)
    if abs(number) > MOST:
        raise OverflowError("no worker counts so far")
    return number
