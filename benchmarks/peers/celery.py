"""Celery: ``python -m benchmarks.peers.celery VERB …``; also the module of its app."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from celery import Celery

from benchmarks import work
from benchmarks.peers.driver import PROCESSES, Peer, Worker, redis_url, seconds_for, seconds_of

app = Celery("shop", broker=redis_url(), set_as_current=True)  # its Django fixup calls django.setup()
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_disable_rate_limits=True,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
)
TASKS = {
    kind: app.task(getattr(work, kind), name=f"shop.{kind}", typing=False)
    for kind in ("noop", "io", "cpu", "stamp", "late")
}


def enqueue(kind: str, count: int) -> float:
    connect()
    return seconds_of(TASKS[kind].delay, kind, count)


def enqueue_late(due: list[float]) -> float:
    connect()
    add = TASKS["late"].apply_async
    times = [(datetime.fromtimestamp(at, UTC), (at,)) for at in due]
    return seconds_for(lambda: [add(args, eta=at) for at, args in times])


def connect() -> None:
    with app.producer_pool.acquire(block=True) as producer:
        producer.connection.ensure_connection()


def worker(kind: str, slots: int | None) -> Worker:
    # Many short jobs are fetched ahead; if each takes long, a process mustn't hold another's share.
    ahead = {"io": 2, "cpu": 4}.get(kind, 128)
    pool = f"threads -c {slots // PROCESSES}" if slots else "solo -c 1"
    command = (
        f"celery -A benchmarks.peers.celery worker -P {pool} --prefetch-multiplier {ahead}"
        " -l WARNING --without-gossip --without-mingle --without-heartbeat"
    )
    return Worker([f"{command} -n shop{number}@%h" for number in range(PROCESSES)])


def left() -> int:
    client = redis.Redis.from_url(redis_url())
    return client.llen("celery") + client.hlen("unacked")


PEER = Peer(
    name="Celery",
    package="celery",
    guarantee="at least once",
    on_kill=(
        "Nothing, as configured here (task_acks_late), but its jobs wait for the visibility timeout of 1 h; "
        "by default a job is acknowledged before it runs, and running jobs are lost."
    ),
    notes=(
        "No result backend, no events, no remote control. Two solo workers ran twice as many no-op jobs a "
        "second as one with -P prefork -c 2 or -P threads -c 2, whose main process is the bottleneck, and "
        "a quarter more than two with -P threads -c 1. Threads for I/O. "
        "It has no bulk call: group() sends jobs one by one, and took just as long."
    ),
    enqueue=enqueue,
    enqueue_bulk=None,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
