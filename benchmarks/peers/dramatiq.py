"""Dramatiq: ``python -m benchmarks.peers.dramatiq VERB …``; also the module of its broker and actors."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import work
from benchmarks.peers.driver import PROCESSES, Peer, Worker, redis_url, seconds_for, seconds_of, start_django

start_django()

broker = RedisBroker(url=redis_url())
dramatiq.set_broker(broker)
# By default, twice as many jobs as threads are fetched ahead; a process that has them sleeps for ≥ 5 ms.
PREFETCH = 200
ACTORS = {
    kind: dramatiq.actor(getattr(work, kind), actor_name=kind)
    for kind in ("noop", "io", "cpu", "stamp", "late")
}


def enqueue(kind: str, count: int) -> float:
    broker.client.ping()
    return seconds_of(ACTORS[kind].send, kind, count)


def enqueue_late(due: list[float]) -> float:
    broker.client.ping()
    add = ACTORS["late"].send_with_options

    def send() -> None:
        for at in due:
            add(args=(at,), delay=max(0, round((at - time.time()) * 1000)))

    return seconds_for(send)


def worker(kind: str, slots: int | None) -> Worker:
    threads = slots // PROCESSES if slots else 8
    # A process mustn't hold another's share if each job takes long.
    environ = {} if kind == "cpu" else {"dramatiq_queue_prefetch": str(PREFETCH)}
    command = f"dramatiq benchmarks.peers.dramatiq --processes {PROCESSES} --threads {threads} --skip-logging"
    return Worker([command], environ)


def left() -> int:
    return sum(broker.client.hlen(f"dramatiq:default{suffix}.msgs") for suffix in ("", ".DQ"))


PEER = Peer(
    name="Dramatiq",
    package="dramatiq",
    guarantee="at least once",
    on_kill=(
        "Nothing: its unacknowledged jobs are put back once its last heartbeat is 60 s old, "
        "by one in a thousand of the others' commands, at random."
    ),
    notes=(
        "The default middleware, no results. It has no bulk call: group() and the broker send jobs one by "
        "one. It polls, 5 ms after a job and up to 1 s apart if there have been none for a while, so its "
        "latency grows with the time without jobs. dramatiq_worker_timeout=100 limits that, at the price of "
        "nine times as many commands."
    ),
    enqueue=enqueue,
    enqueue_bulk=None,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
