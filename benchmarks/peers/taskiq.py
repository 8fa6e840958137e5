"""Taskiq: ``python -m benchmarks.peers.taskiq VERB …``; also the module of its broker and tasks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import redis
import uvloop
from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from benchmarks import work
from benchmarks.peers.driver import PROCESSES, Peer, Worker, redis_url, start_django

MODULE = "benchmarks.peers.taskiq"
start_django()

# "0": jobs that were enqueued before the first worker started aren't skipped.
# No socket timeout: redis-py's default would end a worker that was frozen for longer.
broker = RedisStreamBroker(url=redis_url(), consumer_id="0", socket_timeout=None)
source = ListRedisScheduleSource(redis_url())
scheduler = TaskiqScheduler(broker, [source])


async def stamp(enqueued_at: float) -> None:
    work.stamp(enqueued_at)


async def late(due_at: float) -> None:
    work.late(due_at)


# Coroutines where Taskiq's users would write coroutines: plain functions go through a thread pool.
FUNCTIONS = {"noop": work.noop_async, "io": work.io_async, "cpu": work.cpu, "stamp": stamp, "late": late}
TASKS = {kind: broker.register_task(function, task_name=kind) for kind, function in FUNCTIONS.items()}


async def _enqueue(kind: str, count: int) -> float:
    await broker.startup()
    add = TASKS[kind].kiq
    begin = time.perf_counter()
    for _ in range(count):
        await add(*work.arguments(kind))
    seconds = time.perf_counter() - begin
    await broker.shutdown()
    return seconds


def enqueue(kind: str, count: int) -> float:
    return uvloop.run(_enqueue(kind, count))


async def _enqueue_late(due: list[float]) -> float:
    await broker.startup()
    add = TASKS["late"].schedule_by_time
    begin = time.perf_counter()
    for at in due:
        await add(source, datetime.fromtimestamp(at, UTC), at)
    seconds = time.perf_counter() - begin
    await broker.shutdown()
    return seconds


def enqueue_late(due: list[float]) -> float:
    return uvloop.run(_enqueue_late(due))


def worker(kind: str, slots: int | None) -> Worker:
    jobs = f"--max-async-tasks {slots // PROCESSES}" if slots else "--max-async-tasks 100"
    commands = [f"taskiq worker {MODULE}:broker --workers {PROCESSES} {jobs} --log-level WARNING"]
    if kind == "late":  # by default the scheduler learns of new jobs once a minute
        commands.append(f"taskiq scheduler {MODULE}:scheduler --update-interval 1 --log-level WARNING")
    return Worker(commands)


def left() -> int:
    client = redis.Redis.from_url(redis_url())
    groups = client.xinfo_groups("taskiq") if client.exists("taskiq") else []
    scheduled = sum(1 for _ in client.scan_iter("schedule:data:*", count=10_000))
    return scheduled + sum(group["lag"] + group["pending"] for group in groups)


PEER = Peer(
    name="Taskiq",
    package="taskiq",
    guarantee="at least once",
    on_kill=(
        "Nothing: its unacknowledged jobs are claimed by another worker after 10 min. So is every job that "
        "takes longer than that: it runs a second time."
    ),
    notes=(
        "RedisStreamBroker, uvloop, no result backend; jobs are coroutines. The stream keeps jobs that have "
        "run: trimming it by maxlen could drop waiting ones. It has no bulk call. "
        "Delayed jobs need its scheduler, which here looks for them once a second."
    ),
    enqueue=enqueue,
    enqueue_bulk=None,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
