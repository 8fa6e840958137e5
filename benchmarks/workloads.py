"""What is measured: a function for each workload. It takes a driver and a number of jobs, and returns values.

A workload begins with a fresh Redis and, if it runs jobs, with a fresh worker that has already run a few.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import tally
from benchmarks.drivers import Driver
from benchmarks.measuring import ROOT, Failed, Server, Worker
from benchmarks.work import IO_SECONDS

Values = dict[str, float]
WARM_UP = 200
SLOTS = 100
GAP = 0.015  # seconds between jobs that each find an idle worker
SETTLE = 1.0  # seconds after which a worker without jobs is idle
WATCH = 5.0
SPREAD = 4.0
EARLY = 0.0005  # seconds: due times are whole milliseconds
RECORDING = ("stamp", "late")


@contextmanager
def working(
    driver: Driver, kind: str, *options: str, warm_up: int = WARM_UP
) -> Iterator[tuple[Server, Worker]]:
    """A server and a worker that has run its first jobs."""
    with driver.server() as server:
        worker = driver.work(server, kind, *options)
        try:
            if kind == "late":
                driver.enqueue(server, kind, warm_up, "--spread", "0.1")
            else:
                driver.fill(server, kind, warm_up)
            if kind in RECORDING:
                server.tally.wait_recorded(warm_up, patience=30)
                server.tally.forget_recorded()
            else:
                server.tally.wait(warm_up, patience=30)
            yield server, worker
        except Failed as failure:
            raise Failed(f"{failure}\n{worker.log()[-2000:]}".strip()) from failure
        finally:
            worker.stop()
            server.tally.close()


# ── Draining ──────────────────────────────────────────────────────────────────────────────────────


def drain(driver: Driver, jobs: int) -> Values:
    with working(driver, "noop") as (server, worker):
        return drained(driver, server, worker, "noop", jobs) | {"pss": worker.memory()}


def drain_coroutines(driver: Driver, jobs: int) -> Values:
    with working(driver, "noop_async") as (server, worker):
        return drained(driver, server, worker, "noop_async", jobs)


def io(driver: Driver, jobs: int) -> Values:
    with working(driver, "io", "--slots", str(SLOTS)) as (server, worker):
        values = drained(driver, server, worker, "io", jobs)
        return values | {"times_ideal": values["seconds"] / (jobs * IO_SECONDS / SLOTS)}


def cpu(driver: Driver, jobs: int) -> Values:
    with working(driver, "cpu", warm_up=20) as (server, worker):
        return drained(driver, server, worker, "cpu", jobs)


def cpu_plain(driver: Driver, jobs: int) -> Values:
    """The CPU-bound jobs' loop in one plain process, and in two at once: what two cores can do."""
    (one,) = _spin(jobs, 1)
    return {"seconds": one, "seconds_two": max(_spin(jobs // 2, 2))}


def _spin(times: int, processes: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.work", str(times)]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return [float(process.communicate()[0]) for process in running]


def drained(driver: Driver, server: Server, worker: Worker, kind: str, jobs: int) -> Values:
    """Run jobs that are waiting when the worker is released: timed from there to the end of the last one."""
    before = server.tally.counted()
    with worker.frozen():
        driver.fill(server, kind, jobs)
        cpu = worker.cpu() + server.cpu()
        begin = time.perf_counter()
    server.tally.wait(before + jobs)
    seconds = time.perf_counter() - begin
    cpu = worker.cpu() + server.cpu() - cpu
    _check_nothing_left(driver, server)
    if server.tally.counted() != before + jobs:
        raise Failed(f"{server.tally.counted() - before} runs of {jobs} jobs")
    return {"rate": jobs / seconds, "seconds": seconds, "cpu_rate": jobs / max(cpu, 0.01)}


def _check_nothing_left(driver: Driver, server: Server) -> None:
    """By the peer's own account; the last acknowledgements may still be on their way."""
    for _ in range(5):
        left = driver.left(server)
        if left == 0:
            return
    raise Failed(f"{left} jobs are left after all have run")


# ── Enqueueing ────────────────────────────────────────────────────────────────────────────────────


def enqueue_one(driver: Driver, jobs: int) -> Values:
    with driver.server() as server:
        return {"rate": jobs / driver.enqueue(server, "noop", jobs)}


def enqueue_bulk(driver: Driver, jobs: int) -> Values:
    with driver.server() as server:
        return {"rate": jobs / driver.enqueue(server, "noop", jobs, "--bulk")}


def bytes_waiting(driver: Driver, jobs: int) -> Values:
    with driver.server() as server:
        driver.fill(server, "noop", 1)  # scripts and queue names don't belong to a job
        before = server.used_memory()
        driver.fill(server, "noop", jobs)
        return {"bytes": (server.used_memory() - before) / jobs}


# ── A worker without much to do ───────────────────────────────────────────────────────────────────


def idle(driver: Driver, jobs: int) -> Values:
    """What a worker uses that has run some jobs and now has none."""
    with working(driver, "noop", warm_up=jobs) as (server, worker):
        time.sleep(SETTLE)
        cpu = worker.cpu()
        commands, sent = server.commands(WATCH)
        return {
            "pss": worker.memory(),
            "commands": commands / WATCH,
            "sent": sent / WATCH,
            "cpu_percent": 100 * (worker.cpu() - cpu) / WATCH,
        }


def latency(driver: Driver, jobs: int) -> Values:
    """From the enqueue call to the job's first line, one job at a time."""
    with working(driver, "stamp", warm_up=50) as (server, _):
        time.sleep(SETTLE)
        driver.enqueue(server, "stamp", jobs, BENCH_GAP=str(GAP))
        server.tally.wait_recorded(jobs)
        return _percentiles(tally.delays(server.tally.folder))


def late(driver: Driver, jobs: int) -> Values:
    """How late delayed jobs start."""
    with working(driver, "late", warm_up=50) as (server, _):
        lead = _seconds_to_enqueue(driver, jobs)
        driver.enqueue(server, "late", jobs, "--spread", str(SPREAD), BENCH_LEAD=str(lead))
        server.tally.wait_recorded(jobs)
        delays = tally.delays(server.tally.folder)
        if len(delays) != jobs:
            raise Failed(f"{len(delays)} runs of {jobs} jobs")
        return _percentiles(delays) | {"early": sum(delay < -EARLY for delay in delays)}


def _seconds_to_enqueue(driver: Driver, jobs: int) -> float:
    """How many seconds are enough to enqueue them all before the first is due."""
    with driver.server() as server:
        sample = max(50, jobs // 20)
        seconds = driver.enqueue(server, "late", sample, "--spread", str(SPREAD))
    return max(1.0, 1.5 * seconds * jobs / sample)


def _percentiles(delays: list[float]) -> Values:
    """In milliseconds."""
    ordered = sorted(delays)
    return {
        "p50": 1000 * ordered[len(ordered) // 2],
        "p99": 1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    }


# ── A backlog ─────────────────────────────────────────────────────────────────────────────────────


def backlog(driver: Driver, jobs: int) -> Values:
    """The same work with a tenth of the jobs waiting, and with all of them."""
    part = jobs // 10
    few = _filled_and_drained(driver, [part], part)
    many = _filled_and_drained(driver, [part, jobs - 2 * part, part], part)
    return {
        "enqueue_empty": few["enqueue"],
        "enqueue_full": many["enqueue"],
        "drain_few": few["drain"],
        "drain_many": many["drain"],
        "bytes_few": few["bytes"],
        "bytes_many": many["bytes"],
        "drain_all": many["drain_all"],
    }


def _filled_and_drained(driver: Driver, parts: list[int], first: int) -> Values:
    """How fast the last part is enqueued, and how fast the first jobs then run.

    The first fifth of those isn't measured: a worker that has just started needs it to get up to speed.
    """
    jobs, steady, measured = sum(parts), first // 5, first * 7 // 10
    with driver.server() as server:
        driver.fill(server, "noop", 1)
        memory = server.used_memory()
        seconds = [driver.fill(server, "noop", part) for part in parts][-1]
        values = {"enqueue": parts[-1] / seconds, "bytes": (server.used_memory() - memory) / jobs}
        worker = driver.work(server, "noop")
        try:
            begin = _reached(server, steady)
            middle = _reached(server, steady + measured)
            end = _reached(server, jobs + 1)
            _check_nothing_left(driver, server)
        finally:
            worker.stop()
            server.tally.close()
        return values | {
            "drain": measured / (middle - begin),
            "drain_all": (jobs + 1 - steady) / (end - begin),
        }


def _reached(server: Server, jobs: int) -> float:
    server.tally.wait(jobs)
    return time.perf_counter()
