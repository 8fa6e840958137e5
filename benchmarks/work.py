"""What the benchmarks' jobs do, the same for every Python peer: each registers these functions.

A job's *kind* says which: ``noop``, ``io``, ``cpu``, ``stamp`` or ``late``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from benchmarks import tally

IO_SECONDS = 0.010
CPU_STEPS = 100_000  # ≈ 5 ms of one core; how long it really takes is measured in each run


def noop(number: int, word: str, fraction: float) -> None:
    tally.count()


def io() -> None:
    time.sleep(IO_SECONDS)
    tally.count()


async def io_async() -> None:
    await asyncio.sleep(IO_SECONDS)
    tally.count()


async def noop_async(number: int, word: str, fraction: float) -> None:
    tally.count()


def cpu() -> None:
    spin()
    tally.count()


def spin() -> int:
    total = 0
    for step in range(CPU_STEPS):
        total += step * step & 7
    return total


def stamp(enqueued_at: float) -> None:
    tally.record(time.time() - enqueued_at)


def late(due_at: float) -> None:
    tally.record(time.time() - due_at)


def arguments(kind: str) -> tuple[Any, ...]:
    """A new job's arguments, made at the enqueue call; ``late`` gets its due time instead.

    ``BENCH_GAP``: seconds to wait before each ``stamp`` job, so that it finds the worker idle.
    """
    if kind in ("noop", "noop_async"):
        return (1, "two", 3.0)
    if kind == "stamp":
        time.sleep(float(os.environ.get("BENCH_GAP", "0")))
        return (time.time(),)
    return ()


def seconds_of_spins(times: int) -> float:
    """How long this many CPU-bound jobs take without any queue."""
    begin = time.perf_counter()
    for _ in range(times):
        spin()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(seconds_of_spins(int(sys.argv[1])))
