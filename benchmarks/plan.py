"""Which workloads there are, for which peers, with how many jobs, in how many rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import workloads
from benchmarks.drivers import Driver
from benchmarks.peers import NAMES
from benchmarks.workloads import Values

KUE = Driver("kue")
LIMIT = Driver("limit")
PEERS = tuple(Driver(name) for name in NAMES)


@dataclass(frozen=True)
class Workload:
    """A function of ``workloads.py``, and what it's run with.

    ``fewer``: how many jobs slow peers get, so that a run ends. ``rounds``: the most that it's run, where
    fewer are as good as five.
    """

    name: str
    run: Callable[[Driver, int], Values]
    jobs: int
    drivers: tuple[Driver, ...] = PEERS
    fewer: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 100

    def jobs_for(self, driver: Driver) -> int:
        return self.fewer.get(driver.name, self.jobs)


RECEIVERS = Driver("kue", "kue", {"BENCH_RECEIVERS": "1"})
QUEUES = Driver("kue", "kue", {"BENCH_QUEUES": "30"})
FSYNC = Driver("kue", "kue", redis=("--appendonly", "yes", "--appendfsync", "always"))

PLAIN = Driver("plain")
FEWER = {"rq": 2_000, "celery": 5_000, "taskiq": 10_000, "kue-js": 10_000}
ONLY_KUE = (KUE,)

WORKLOADS = (
    Workload("drain", workloads.drain, 20_000, (*PEERS, LIMIT), FEWER),
    Workload("receivers", workloads.drain, 20_000, (RECEIVERS,)),
    Workload("coroutines", workloads.drain_coroutines, 20_000, ONLY_KUE),
    Workload("fsync", workloads.drain, 20_000, (FSYNC,)),
    Workload("queues", workloads.drain, 20_000, (QUEUES,)),
    Workload("enqueue", workloads.enqueue_one, 5_000),
    Workload("bulk", workloads.enqueue_bulk, 20_000, fewer={"rq": 5_000}),
    Workload("latency", workloads.latency, 600, rounds=3),
    Workload("io", workloads.io, 2_000, rounds=3),
    Workload("cpu", workloads.cpu, 400, rounds=3),
    Workload("plain", workloads.cpu_plain, 400, (PLAIN,), rounds=3),
    Workload("bytes", workloads.bytes_waiting, 20_000, rounds=1),
    Workload("idle", workloads.idle, 200, rounds=2),
    Workload("late", workloads.late, 20_000, ONLY_KUE, rounds=3),
    Workload("late-few", workloads.late, 2_000, rounds=1),
    Workload("backlog", workloads.backlog, 1_000_000, ONLY_KUE, rounds=3),
)
