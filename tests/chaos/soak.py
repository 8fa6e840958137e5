"""``python -m tests.chaos.soak``: a long life without faults. Nothing may grow.

Three workers on one Redis: a steady one; one whose processes are replaced every so many jobs; and one whose
jobs each leak a mebibyte, contained by ``--max-memory``. Every few seconds memory, descriptors and threads of
all processes are measured, and memory, connections and keys of Redis. What is larger in the last quarter of
the time than in the second is a leak. (The first is for warming up.)
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from tests.chaos.judge import Evidence, unexplained_runs
from tests.chaos.ledger import Ledger
from tests.chaos.stage import Server, Worker
from tests.proxy import Proxy

LEAKS, LIMIT = 10_000, 250  # jobs that leak a MiB each; what their worker's processes may grow to, in MiB
BETWEEN_LOOKS = 100  # MiB: a process looks at its size every 5 ms, and these jobs take less than one
RATE = 80  # other jobs a second
EVERY = 2.0  # seconds between measurements
# What counts as growth: a share, and so much of its unit that's nothing.
ALLOWED = {"MiB": (0.05, 4.0), "descriptors": (0.0, 2.0), "threads": (0.0, 1.0), "clients": (0.0, 2.0)}
ALLOWED["keys"] = (0.05, 20.0)  # measurements by time, and senders' numbers for ten minutes

Series = dict[tuple[str, str], list[float]]  # who, unit → what was measured


class Growth(NamedTuple):
    """A series, and what it was in the second and in the last quarter."""

    who: str
    unit: str
    before: float
    after: float

    @property
    def is_leak(self) -> bool:
        share, much = ALLOWED[self.unit]
        return self.after > self.before * (1 + share) + much

    def __str__(self) -> str:
        return f"{self.who + ', ' + self.unit:44} {self.before:8.1f} → {self.after:8.1f}"


def growths(series: Series) -> Iterator[Growth]:
    for (who, unit), values in series.items():
        quarter = len(values) // 4
        if quarter:
            yield Growth(who, unit, median(values[quarter : 2 * quarter]), median(values[-quarter:]))


class Soak:
    """The stage, and what was measured on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "redis")
        self.server.start("--appendfsync", "everysec")
        self.door = Proxy(self.server.port)
        environment = {
            "KUE_CHAOS_LEDGER": str(folder / "ledger"), "KUE_CHAOS_KEEP": "little",
            "KUE_TEST_REDIS": f"redis://127.0.0.1:{self.server.port}/0",
        }  # fmt: skip
        os.environ.update(environment, DJANGO_SETTINGS_MODULE="tests.chaos.settings")
        self.workers = [
            Worker(name, None, environment, "--processes", "1", *options.split())
            for name, options in (
                ("steady", "--queues default,long"),
                ("recycled", "--queues default,long --max-jobs 500"),
                ("leaking", f"--queues leaky --max-memory {LIMIT}"),
            )
        ]
        self.series: Series = {}
        self.largest = 0.0  # MiB of a process of the leaking worker
        self.seen: set[int] = set()  # processes of the workers whose processes are replaced

    def measure(self) -> None:
        for worker in self.workers:
            supervisor, *children = worker.pids()
            self._measure_processes(f"{worker.name}, supervisor", [supervisor])
            largest = self._measure_processes(f"{worker.name}, processes", children)
            if worker.name == "leaking":
                self.largest = max(self.largest, largest)
            if worker.name != "steady":
                self.seen.update(children)
        client = self.server.client
        info = client.info()
        self._note("Redis", "MiB", info["used_memory"] / 2**20)
        self._note("Redis", "clients", info["connected_clients"])
        self._note("Redis", "keys", client.dbsize())
        client.close()

    def _measure_processes(self, who: str, pids: list[int]) -> float:
        """Of all together the largest, in each respect; its memory."""
        found = []
        for pid in pids:
            try:
                process = psutil.Process(pid)
                found.append((process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()))
            except psutil.Error:  # it has just been replaced
                continue
        if not found:
            return 0.0
        for unit, values in zip(("MiB", "descriptors", "threads"), zip(*found, strict=True), strict=True):
            if not (unit == "MiB" and who == "leaking, processes"):  # those grow, and are replaced
                self._note(who, unit, max(values))
        return float(max(found)[0])

    def _note(self, who: str, unit: str, value: float) -> None:
        self.series.setdefault((who, unit), []).append(value)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.door.__exit__(None, None, None)
        self.server.kill()


def soak(folder: Path, minutes: float, seed: int) -> tuple[list[str], Soak]:
    stage = Soak(folder)
    try:
        import django

        django.setup()
        for worker in stage.workers:
            worker.process.wait_started(60)
        return _run(stage, minutes, seed), stage
    finally:
        stage.close()


def _run(stage: Soak, minutes: float, seed: int) -> list[str]:
    from django_kue import get_queue
    from django_kue.audit import audit
    from tests.app import abuse
    from tests.chaos.finals import unfinished
    from tests.chaos.producer import PLAIN, Producer

    queues = [get_queue(name) for name in ("default", "long", "leaky")]
    source = Producer(
        str(stage.folder / "ledger"),
        goal=int(RATE * minutes * 60),
        seconds=minutes * 60,
        seed=seed,
        mix=PLAIN,
    )
    abuse.grow.using(queue="leaky").enqueue_many([(1,)] * LEAKS)
    source.start()
    while source.is_alive():
        stage.measure()
        time.sleep(EVERY)
    deadline = time.monotonic() + 120
    while any(unfinished(queue) for queue in queues) and time.monotonic() < deadline:
        stage.measure()
        time.sleep(EVERY)
    findings = [
        f"{queue.name}: {unfinished(queue)} jobs are left over" for queue in queues if unfinished(queue)
    ]
    findings += [f"{worker.name} didn't stop well" for worker in stage.workers if worker.process.stop(40)]
    findings += [
        f"the keys of {queue.name} are not well: {text}" for queue in queues for text in audit(queue.name)
    ]
    return findings + _of_ledger(stage) + _of_series(stage)


def _of_ledger(stage: Soak) -> list[str]:
    """Without faults every job runs to its end, and no run is repeated."""
    ledger = Ledger.read(stage.folder / "ledger")
    ended = {run.number for run in ledger.all_runs if run.end is not None}
    findings = [f"job {number} never ran" for number in ledger.enqueued if number not in ended]
    return findings + list(unexplained_runs(Evidence(ledger, [], [], lease=10.0)))


def _of_series(stage: Soak) -> list[str]:
    findings = [f"it grows: {growth}" for growth in growths(stage.series) if growth.is_leak]
    if stage.largest > LIMIT + BETWEEN_LOOKS:
        findings.append(f"a process that leaks grew to {stage.largest:.0f} MiB, its limit was {LIMIT}")
    return findings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="kue-soak-"))
    findings, stage = soak(folder, options.minutes, options.seed)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"soak: {options.minutes:g} minutes, {len(stage.seen)} processes were seen that are replaced")
    print(f"  {LEAKS} jobs leaked a MiB each: the largest process had {stage.largest:.0f} MiB, limit {LIMIT}")
    for growth in growths(stage.series):
        print(f"  {growth}")
    for finding in findings[:20]:
        print(f"  ✗ {finding}")
    print(f"  {len(findings)} findings" if findings else "  ✓ nothing grows")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
