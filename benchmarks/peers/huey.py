"""Huey: ``python -m benchmarks.peers.huey VERB …``; also the module of its instance and tasks."""

from __future__ import annotations

from datetime import UTC, datetime

from huey import RedisHuey

from benchmarks import work
from benchmarks.peers.driver import PROCESSES, Peer, Worker, redis_url, seconds_for, seconds_of, start_django

start_django()

huey = RedisHuey("shop", url=redis_url(), results=False)
TASKS = {kind: huey.task(name=kind)(getattr(work, kind)) for kind in ("noop", "io", "cpu", "stamp", "late")}


def enqueue(kind: str, count: int) -> float:
    huey.storage.conn.ping()
    return seconds_of(TASKS[kind], kind, count)


def enqueue_late(due: list[float]) -> float:
    huey.storage.conn.ping()
    add = TASKS["late"].schedule
    times = [(datetime.fromtimestamp(at, UTC), (at,)) for at in due]
    return seconds_for(lambda: [add(args, eta=at) for at, args in times])


def worker(kind: str, slots: int | None) -> Worker:
    command = "huey_consumer benchmarks.peers.huey.huey -q -n"
    if slots:  # a process for each would take 8 MB per slot
        return Worker([f"{command} -k thread -w {slots // PROCESSES}"] * PROCESSES)
    return Worker([f"{command} -k process -w {PROCESSES}"])


def left() -> int:
    return huey.storage.queue_size() + huey.storage.schedule_size()


PEER = Peer(
    name="Huey",
    package="huey",
    guarantee="at most once",
    on_kill="The jobs that it's running or has just taken are lost: they leave Redis before they run.",
    notes=(
        "It offers nothing better than at most once. No results. Redis doesn't know which jobs are running. "
        "It has no bulk call: map() enqueues one by one. Delayed jobs are moved once a second. "
        "Four processes, two consumers with threads, and PriorityRedisHuey were equally fast with no-op "
        "jobs, within the spread; for I/O, two consumers with threads ran a third more than 100 processes."
    ),
    enqueue=enqueue,
    enqueue_bulk=None,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
