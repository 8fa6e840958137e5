"""What a job costs, counted instead of timed: the same on a busy machine as on an idle one.

`python -m pytest tests/test_cost.py -s` shows what was counted beside what `cost.json` has. What has become
dearer fails here. When that's on purpose, or when something has become cheaper, count anew with

    KUE_TEST_COST=write python -m pytest tests/test_cost.py

which writes `cost.json`, and say why in the commit.

The code is a client's and a worker's own, driven by hand in one thread. Its clock goes on by a microsecond
whenever it's looked at, so that nothing depends on how long things take. The jobs do nothing, and nobody
listens to signals or events.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest
import redis
from django.dispatch import Signal

import django_kue
from django_kue import signals
from django_kue.store import moves, transport
from django_kue.worker.board import Board
from django_kue.worker.fetch import Fetcher
from django_kue.worker.options import WorkerOptions
from tests.app.jobs import noop
from tests.conftest import redis_client

TABLE = Path(__file__).with_name("cost.json")  # workload → what's counted → its parts → number a job
IS_COUNTED_ANEW = os.environ.get("KUE_TEST_COST") == "write"

# The share by which each may exceed the table. What remains of time is in Redis: a rescue now and then.
SLACK = {
    "bytecodes": 0.08, "functions": 0.08,
    "commands": 0.02, "scripts": 0.02, "bytes": 0.02,
    "memory": 0.05,
}  # fmt: skip
LARGEST_WAITING = 150  # bytes, whatever the table says

SINGLES = 128
MANY = 1000
TURN, TURNS = 128, 10
REPEATS = 3
WAITING = 20_000

# Another Python has other bytecodes; without these two, code in Python does their work.
PYTHON = (3, 11)
IN_C = ("hiredis", "orjson")

Parts = dict[str, float]
Workload = Callable[[], AbstractContextManager[tuple[Callable[[], None], int]]]


# ── workloads: each gives what's to be counted, warmed up, and how many jobs that is ──────────────


@contextmanager
def enqueue() -> Iterator[tuple[Callable[[], None], int]]:
    """One at a time, asleep while Redis works: how often somebody looks for a reply isn't counted."""

    def work() -> None:
        for _ in range(SINGLES):
            noop.enqueue()

    with mock.patch.object(transport, "AWAKE", 0.0):
        work()
        yield work, SINGLES


@contextmanager
def enqueue_many() -> Iterator[tuple[Callable[[], None], int]]:
    """A thousand with one call."""

    def work() -> None:
        noop.enqueue_many([()] * MANY)

    work()
    yield work, MANY


@contextmanager
def run() -> Iterator[tuple[Callable[[], None], int]]:
    """From the claim until the end is told, by the thread that fetches, in turns of 128."""
    options = WorkerOptions(queues=("default",), threads=8)
    board = Board(options.queues, 1 + options.threads + options.coroutines)
    fetcher = Fetcher(moves.owner("cost"), options, board)
    fetcher.leadership.take()
    fetcher.crew.buffer.idle = 1  # as if a thread slept, ready to lead should a job be long
    # More than are run, so that the last turn is as the others.
    noop.enqueue_many([()] * (TURN * TURNS * (REPEATS + 2)))
    try:
        _drain(fetcher, TURN * 4)
        yield lambda: _drain(fetcher, TURN * TURNS), TURN * TURNS
    finally:
        fetcher._end()
        board.close()


def _drain(fetcher: Fetcher, jobs: int) -> None:
    until = fetcher.done_count + jobs
    crew = fetcher.crew
    slot = crew.threads.slots[-1]
    for _ in range(jobs):
        fetcher._round(slot)
        while (item := crew.buffer.pop()) is not None:  # at first it isn't known how short the jobs are
            crew.threads.work(slot, item)
        if fetcher.done_count >= until:
            return
    raise AssertionError(f"{until - fetcher.done_count} of {jobs} jobs are left over")


WORKLOADS: list[Workload] = [enqueue, enqueue_many, run]


# ── counting ──────────────────────────────────────────────────────────────────────────────────────


def python_of(workload: Workload) -> tuple[Parts, Parts]:
    """Bytecodes and calls of functions a job, by file."""
    bytecodes: Counter[str] = Counter()
    functions: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = _shown(frame.f_code.co_filename)
        if event == "opcode":
            bytecodes[file] += 1
        elif event == "call":
            if not file:
                return None
            functions[file] += 1
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
        return trace

    with workload() as (work, jobs):
        gc.collect()
        gc.disable()  # what it finalizes is none of ours
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)
            gc.enable()
    return _a_job(bytecodes, jobs), _a_job(functions, jobs)


@cache
def _shown(filename: str) -> str:
    """A file of django-kue, or whose else the code is; nothing for what isn't counted."""
    path = Path(filename)
    ours = Path(django_kue.__file__).parent
    if path.is_relative_to(ours):
        return str(path.relative_to(ours))
    if path.is_relative_to(Path(__file__).parent):
        return ""
    if path.is_relative_to(Path(redis.__file__).parent):
        return ""  # its releases don't make us fail
    _, is_installed, within = filename.partition("site-packages" + os.sep)
    return within.split(os.sep)[0] if is_installed else "Python's own"


def redis_of(workload: Workload) -> tuple[Parts, Parts, Parts]:
    """Commands, calls of scripts, and bytes on the wire a job. The least of some repetitions: in the others
    a rescue or another rarity was due."""
    with workload() as (work, jobs):
        counted = [_redis_of(work) for _ in range(REPEATS)]
    commands = min((commands for commands, _ in counted), key=lambda counts: counts.total())
    wire = min((wire for _, wire in counted), key=lambda counts: counts.total())
    scripts = Counter({name: commands[name] for name in ("eval", "evalsha") if commands[name]})
    return _a_job(commands, jobs), _a_job(scripts, jobs), _a_job(wire, jobs)


def _redis_of(work: Callable[[], None]) -> tuple[Counter[str], Counter[str]]:
    before_all, before = _redis_counts(), _redis_counts()
    work()
    after = _redis_counts()
    commands = after[0] - before[0]
    wire = after[1] - before[1] - (before[1] - before_all[1])  # without what asking takes
    del commands["info"]
    return commands, wire


def _redis_counts() -> tuple[Counter[str], Counter[str]]:
    stats, commands = (redis_client().info(section) for section in ("stats", "commandstats"))
    calls = Counter({name.removeprefix("cmdstat_"): told["calls"] for name, told in commands.items()})
    wire = Counter({"in": stats["total_net_input_bytes"], "out": stats["total_net_output_bytes"]})
    return calls, wire


def memory_of_waiting() -> Parts:
    """Bytes of Redis's memory for a job that waits."""
    noop.enqueue_many([()] * MANY)
    redis_client().flushall()
    before = _settled_memory()
    noop.enqueue_many([()] * WAITING)
    return {"used": (_settled_memory() - before) / WAITING}


def _settled_memory() -> int:
    """Once tables that grew have been moved, and what was freed on the side is free."""
    seen: list[int] = []
    while len(seen) < 4 or (len(set(seen[-4:])) > 1 and len(seen) < 100):
        time.sleep(0.05)
        seen.append(redis_client().info("memory")["used_memory"])
    return seen[-1]


def _a_job(counts: Counter[str], jobs: int) -> Parts:
    return {part: number / jobs for part, number in counts.most_common()}


# ── the table ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, dict[str, Parts]]]:
    """What's in the file; what's counted anew goes there at the end."""
    told = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    yield told
    if IS_COUNTED_ANEW:
        workloads = [
            f' "{workload}": {{\n'
            + ",\n".join(f'  "{what}": {json.dumps(parts)}' for what, parts in sorted(whats.items()))
            + "\n }"
            for workload, whats in sorted(told.items())
        ]
        TABLE.write_text("{\n" + ",\n".join(workloads) + "\n}\n")


@pytest.fixture
def compare(table: dict[str, dict[str, Parts]]) -> Callable[..., None]:
    """Fails when one of what was counted for a workload is more than the table and its slack allow."""

    def compare(workload: str, **counted: Parts) -> None:
        complaints = []
        for what, now in counted.items():
            was = table.get(workload, {}).get(what, {})
            new, old = sum(now.values()), sum(was.values())
            is_cheaper = new < old * (1 - SLACK[what])
            shown = f"{workload:>12}  {what:9} {new:9.4g} a job, {old:9.4g} in cost.json"
            print(shown, "and so cheaper now: count anew" if is_cheaper else "")  # noqa: T201
            if IS_COUNTED_ANEW:
                table.setdefault(workload, {})[what] = {part: float(f"{n:.4g}") for part, n in now.items()}
            elif new > old * (1 + SLACK[what]):
                complaints.append(_complaint(workload, what, was, now))
        if complaints:
            pytest.fail("\n".join([*complaints, REMEDY]), pytrace=False)

    return compare


REMEDY = (
    "If it's worth that, `KUE_TEST_COST=write python -m pytest tests/test_cost.py` writes it into "
    "tests/cost.json; say in the commit why."
)


def _complaint(workload: str, what: str, was: Parts, now: Parts) -> str:
    """What grew, from what to what; of its parts those that grew most."""
    grown = [part for part in now if now[part] > was.get(part, 0.0) * 1.001]
    grown.sort(key=lambda part: was.get(part, 0.0) - now[part])
    lines = [f"    {part}: from {was.get(part, 0.0):.4g} to {now[part]:.4g}" for part in grown[:8]]
    old, new = sum(was.values()), sum(now.values())
    head = f"{workload}: {what} a job went from {old:.4g} to {new:.4g}, more than {SLACK[what]:.0%} up:"
    return "\n".join([head, *lines])


# ── the tests ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Calls a function in a thread that nothing was done in before, under a clock of its own."""
    for signal in vars(signals).values():
        if isinstance(signal, Signal):
            monkeypatch.setattr(signal, "receivers", [])
    with ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr(time, "monotonic", itertools.count(time.monotonic(), 1e-6).__next__)
        yield lambda function: thread.submit(function).result()
        monkeypatch.undo()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_job_takes_no_more_python_than_before(workload: Workload, alone: Any, compare: Any) -> None:
    if sys.version_info[:2] != PYTHON:
        pytest.skip("bytecodes are known for Python {}.{}".format(*PYTHON))
    if missing := [name for name in IN_C if importlib.util.find_spec(name) is None]:
        pytest.skip(f"bytecodes are known with {' and '.join(IN_C)}; there's no {' or '.join(missing)}")
    bytecodes, functions = alone(lambda: python_of(workload))
    compare(workload.__name__, bytecodes=bytecodes, functions=functions)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_job_takes_no_more_of_redis_than_before(workload: Workload, alone: Any, compare: Any) -> None:
    commands, scripts, wire = alone(lambda: redis_of(workload))
    compare(workload.__name__, commands=commands, scripts=scripts, bytes=wire)


def test_a_waiting_job_takes_no_more_memory_than_before(compare: Any) -> None:
    memory = memory_of_waiting()
    compare("waiting", memory=memory)
    assert memory["used"] <= LARGEST_WAITING
