"""What the tests of schedules do by hand: a scheduler without its thread, and times that have passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django_kue import ids
from django_kue.worker.scheduling import Scheduler
from tests.conftest import redis_client

QUEUES = ("default", "email", "other")


def at_once(telling: Callable[[], None]) -> None:
    telling()


def scheduler(*queues: str) -> Scheduler:
    """A worker's scheduler, that ticks when it's told to."""
    return Scheduler(queues or QUEUES, at_once)


def tick(*queues: str) -> None:
    """What a worker that starts now does first: declare, and fire what's due."""
    scheduler(*queues).tick()


def now_ms() -> int:
    seconds, micros = redis_client().time()
    return int(seconds * 1000 + micros // 1000)


def set_next(name: str, ms: int, queue: str = "default") -> None:
    """As if the schedule's next tick had been this one, and nobody had been there since."""
    assert redis_client().zadd(f"kue:{{{queue}}}:sz", {name: ms}, xx=True, ch=True) == 1


def next_ms(name: str, queue: str = "default") -> int | None:
    score = redis_client().zscore(f"kue:{{{queue}}}:sz", name)
    return None if score is None else int(score)


def ticks_of(queue: str = "default") -> list[int]:
    """The times of a queue's jobs, which are those of their ticks."""
    return sorted(ids.created_ms(key.decode()) for key in redis_client().hkeys(f"kue:{{{queue}}}:d"))


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def record_of(name: str, queue: str = "default") -> Any:
    return redis_client().hget(f"kue:{{{queue}}}:sc", name)
