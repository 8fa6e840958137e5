"""RQ: ``python -m benchmarks.peers.rq VERB …``; also the module that its workers read their settings from."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
import rq

from benchmarks import work
from benchmarks.peers.driver import PROCESSES, Peer, Worker, redis_url, seconds_for, seconds_of, start_django

start_django()

# A job that a killed worker held only runs again if it has retries. No results are kept.
OPTIONS = {"result_ttl": 0, "retry": rq.Retry(max=3)}
QUEUE = "default"
REDIS_URL = redis_url()  # read by `rq -c`, like Django's start above
BULK = 1_000
IO_PROCESSES = 16  # a process runs one job at a time; with these, RQ's own work keeps two cores busy


def queue() -> rq.Queue:
    connection = redis.Redis.from_url(REDIS_URL)
    connection.ping()
    return rq.Queue(QUEUE, connection=connection)


def enqueue(kind: str, count: int) -> float:
    add, function = queue().enqueue, getattr(work, kind)
    return seconds_of(lambda *args: add(function, args=args, **OPTIONS), kind, count)


def enqueue_bulk(kind: str, count: int) -> float:
    target, function = queue(), getattr(work, kind)

    def add() -> None:
        for begin in range(0, count, BULK):
            target.enqueue_many(
                [
                    rq.Queue.prepare_data(function, args=work.arguments(kind), **OPTIONS)
                    for _ in range(begin, min(begin + BULK, count))
                ]
            )

    return seconds_for(add)


def enqueue_late(due: list[float]) -> float:
    add = queue().enqueue_at
    times = [(datetime.fromtimestamp(at, UTC), (at,)) for at in due]
    return seconds_for(lambda: [add(at, work.late, args=args, **OPTIONS) for at, args in times])


def worker(kind: str, slots: int | None) -> Worker:
    processes = min(slots, IO_PROCESSES) if slots else PROCESSES
    command = (
        f"rq worker-pool {QUEUE} -n {processes} -w rq.worker.SimpleWorker -l WARNING -c benchmarks.peers.rq"
    )
    return Worker([command])


def left() -> int:
    target = queue()
    elsewhere = (target.started_job_registry, target.scheduled_job_registry, target.deferred_job_registry)
    return (
        target.count
        + target.connection.llen(target.intermediate_queue_key)
        + sum(registry.get_job_count(cleanup=False) for registry in elsewhere)
    )


PEER = Peer(
    name="RQ",
    package="rq",
    guarantee="at least once",
    on_kill=(
        "Nothing, as configured here (Retry): the job runs again when its registry entry has expired, "
        "minutes later; by default it's kept as failed and not run again."
    ),
    notes=(
        "SimpleWorker, which doesn't fork for each job; no results. A process runs one job at a time: "
        f"for I/O there are {IO_PROCESSES} processes. Delayed jobs are moved once a second, up to 1 s early."
    ),
    enqueue=enqueue,
    enqueue_bulk=enqueue_bulk,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
