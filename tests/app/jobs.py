"""Jobs of the test project, for workers that run in processes of their own.

They leave marks in Redis lists, so that tests see what really ran.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from django_kue import Backoff, Discard, Retry, current_job, get_queue, job


def mark(name: str, value: Any) -> int:
    """Leave a mark that outlives this process; how many of this name there are now."""
    client = redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])
    count = int(client.rpush(f"mark:{name}", str(value)))
    client.close()
    return count


@job
def noop(*args: Any) -> None:
    """Nothing."""


@job
def count_active(seconds: float) -> int:
    """How many jobs of its queue workers hold."""
    time.sleep(seconds)
    return get_queue("other").counts()["active"]


@job
def tell_thread() -> str:
    return threading.current_thread().name


@job
def add(a: int, b: int = 2) -> int:
    return a + b


@job
def leave(name: str, value: Any) -> None:
    mark(name, value)


@job
def nap(seconds: float, name: str = "nap") -> str:
    mark(name, "start")
    time.sleep(seconds)
    mark(name, "end")
    return "rested"


@job
def hold(name: str) -> None:
    """Until :func:`let_go`."""
    mark(name, "start")
    client = redis.Redis.from_url(os.environ["KUE_TEST_REDIS"], socket_timeout=None)
    client.blpop(f"let-go:{name}", 60)
    client.close()
    mark(name, "end")


def let_go(name: str) -> None:
    """End the run of :func:`hold`, or its next one."""
    client = redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])
    client.rpush(f"let-go:{name}", "")
    client.close()


@job
async def anap(seconds: float, name: str = "anap") -> str:
    mark(name, "start")
    await asyncio.sleep(seconds)
    mark(name, "end")
    return "rested"


@job
def fail(message: str = "no") -> None:
    raise ValueError(message)


@job(attempts=3)
def fail_twice(name: str) -> int:
    context = current_job()
    mark(name, context.attempt)
    if context.attempt < 3:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


@job(attempts=5, backoff=Backoff.fixed(0.05))
def retry_then_discard(name: str) -> None:
    attempt = current_job().attempt
    mark(name, attempt)
    if attempt == 1:
        raise Retry(delay=0.01)
    raise Discard("enough")


@job
def progress(steps: int, pause: float = 0.0) -> str:
    context = current_job()
    for step in range(1, steps + 1):
        context.progress(step, steps, data={"step": step})
        context.log("step %d of %d", step, steps)
        time.sleep(pause)
    return "done"


@job(timeout=0.5)
def overlong(seconds: float, name: str) -> None:
    mark(name, "start")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    mark(name, "end")


@job(timeout=0.5)
def stubborn(name: str) -> None:
    """Swallows everything and spins."""
    mark(name, "start")
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def telling_backoff(attempt: int) -> float:
    """A project's own backoff function that tells which process asked it."""
    mark("backoff", os.getpid())
    return 0.01


def hanging_backoff(attempt: int) -> float:
    while True:
        with suppress(BaseException):
            time.sleep(1)


@job(timeout=0.3, attempts=2, backoff=hanging_backoff)
def with_hanging_backoff() -> int:
    return current_job().attempt


@job(timeout=0.3, attempts=2, backoff=telling_backoff)
def stubborn_with_own_backoff(name: str) -> None:
    """Spins on, whatever is raised."""
    stubborn.function(name)


@job
def exit_process(code: int, name: str = "exit") -> None:
    mark(name, "start")
    os._exit(code)


@job
def kill_self(number: int, name: str = "kill") -> None:
    mark(name, "start")
    os.kill(os.getpid(), number)
    time.sleep(5)


@job
def raise_base(name: str) -> None:
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
    }[name]


@job
def until_cancelled(seconds: float, name: str) -> None:
    mark(name, "start")
    context = current_job()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if context.is_cancelled:
            mark(name, "cancelled")
        context.raise_if_cancelled()
        time.sleep(0.01)
    mark(name, "end")


@job
def stamp() -> float:
    """When it ran."""
    return time.time()


from tests.app import abuse, classified, failpoints, receivers  # noqa: E402, F401 - they take mark() from here


@job(attempts=1, title="Climb to {door}")
def climb(door: str) -> str:
    """Up to 40 %, then as the file ``door`` says: it waits while there's none."""
    path = Path(door)
    current_job().progress(40)
    current_job().log("in front of %s", path.name)
    while not path.exists() or (text := path.read_text()) not in ("open", "shut"):
        time.sleep(0.02)
    if text == "shut":
        raise RuntimeError("the door is shut")
    current_job().progress(100)
    return "up"


if short := os.environ.get("KUE_TEST_SHORT"):
    from django_kue.worker import served

    # Seconds: what's short is short too where the machine has much else to do, and interrupts it.
    served.SHORT = float(short)
