"""django-kue: ``python -m benchmarks.peers.kue VERB …``. It also knows the kind ``noop_async``."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.shop.kue_settings"

from benchmarks import work
from benchmarks.peers.driver import Peer, Worker, seconds_for, seconds_of, start_django

PROCESSES = 2  # runworker's default here: one for each core


def jobs() -> Any:
    """The project's jobs, with an open connection: connecting isn't measured."""
    start_django()
    from benchmarks.shop import jobs
    from django_kue import get_queue

    get_queue("default").counts()
    return jobs


def enqueue(kind: str, count: int) -> float:
    return seconds_of(getattr(jobs(), kind).enqueue, kind, count)


def enqueue_bulk(kind: str, count: int) -> float:
    add = getattr(jobs(), kind).enqueue_many
    return seconds_for(lambda: add([work.arguments(kind) for _ in range(count)]))


def enqueue_late(due: list[float]) -> float:
    using = jobs().late.using
    times = [(datetime.fromtimestamp(at, UTC), at) for at in due]
    return seconds_for(lambda: [using(run_at=moment).enqueue(at) for moment, at in times])


def worker(kind: str, slots: int | None) -> Worker:
    options = f" --coroutines {slots // PROCESSES}" if slots else ""
    return Worker([f"python benchmarks/shop/manage.py runworker{options}"])


def left() -> int:
    start_django()
    from django_kue import get_queue

    counts = get_queue("default").counts()
    return counts["waiting"] + counts["delayed"] + counts["active"]


PEER = Peer(
    name="django-kue",
    package="django-kue",
    guarantee="at least once",
    on_kill=(
        "Nothing: its jobs run again elsewhere, at once if its supervisor is alive, "
        "otherwise when their lease of 10 s has run out."
    ),
    notes="",
    enqueue=enqueue,
    enqueue_bulk=enqueue_bulk,
    enqueue_late=enqueue_late,
    worker=worker,
    left=left,
)

if __name__ == "__main__":
    PEER.main()
